"""A set of contracts is one set, and what is on a chain can be proven to be ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from chain_world import World, bare
from eth_account import Account
from eth_hash.auto import keccak

from sealtrace.contracts import abi, compiler
from sealtrace.contracts.abi import GENERATION
from sealtrace.contracts.client import Chain, ChainSettings
from sealtrace.contracts.deployment import Founding, created, deploy_over
from sealtrace.contracts.errors import DeploymentFailed, UnknownBlock, WrongChain, WrongContracts
from sealtrace.contracts.governance import Rules
from sealtrace.contracts.link import Link, number
from sealtrace.contracts.verification import examine
from sealtrace.protocol.identifiers import Address, Hex32, UnixSeconds
from sealtrace.protocol.records import BlockRef


def put(world: World, code: bytes, *, by: str = "outsider", gas: int = 6_000_000) -> Address:
    """Deploy any code."""
    account = Account.from_key(world.keys[by])
    nonce = number(world.link.request("eth_getTransactionCount", world.of(by), "latest"))
    transaction: dict[str, Any] = {
        "type": 2,
        "chainId": world.chain.settings.chain_id,
        "nonce": nonce,
        "value": 0,
        "data": "0x" + code.hex(),
        "gas": gas,
        "maxFeePerGas": 0,
        "maxPriorityFeePerGas": 0,
    }
    world.link.request(
        "eth_sendRawTransaction", "0x" + account.sign_transaction(transaction).raw_transaction.hex()
    )
    return created(world.of(by), nonce)


def returning(code: bytes, storage: Mapping[int, int] | None = None) -> bytes:
    """Creation code that fills ``storage``, returns ``code``, and runs no constructor of ours."""
    stores = (
        b"\x7f" + value.to_bytes(32) + b"\x7f" + slot.to_bytes(32) + b"\x55"
        for slot, value in (storage or {}).items()
    )
    head = b"".join(stores)
    copy = (
        b"\x61"
        + len(code).to_bytes(2)
        + b"\x80\x61"
        + (len(head) + 11).to_bytes(2)
        + bytes.fromhex("3d393df3")
    )
    return head + copy + code


def settings(world: World, **changed: Any) -> ChainSettings:
    given = {"rpc_url": "in process", "chain_id": world.chain.settings.chain_id}
    return ChainSettings(**{**given, "directory": world.chain.settings.directory, **changed})


def test_the_committed_artifacts_are_what_the_sources_compile_to() -> None:
    try:
        artifacts = compiler.compile_all()
    except compiler.CompilerMissing:
        pytest.skip("the compiler is not installed; make contractscheck compares")
    assert compiler.stale(artifacts) == []


def test_every_contract_fits_the_limit_of_all_chains() -> None:
    assert all(len(abi.artifact(name).deployed) <= 24_576 for name in abi.CONTRACTS)


def test_the_directory_names_the_set(world: World) -> None:
    assert set(world.chain.addresses) == set(abi.CONTRACTS)
    assert world.chain.deployed_at > 0


def test_another_chain_is_named_with_both_ids(world: World) -> None:
    with pytest.raises(WrongChain) as caught:
        Chain.over(world.link.w3, settings(world, chain_id=7))
    assert (caught.value.expected, caught.value.observed) == (7, world.chain.settings.chain_id)


@pytest.mark.parametrize("name", [*abi.SEVEN, None])
def test_an_address_that_is_no_directory_is_refused(world: World, name: str | None) -> None:
    address = world.chain.addresses[name] if name else world.of("outsider")
    with pytest.raises(WrongContracts) as caught:
        Chain.over(world.link.w3, settings(world, directory=address))
    assert set(caught.value.wrong) == {"Directory"}


@pytest.mark.parametrize("stranger", ["ledger", "evidence"])
def test_a_directory_refuses_members_of_another_set(world: World, stranger: str) -> None:
    keys, accounts = world.keys, world.of
    other = deploy_over(
        world.link,
        world.chain.settings.chain_id,
        keys["deployer"],
        accounts("registrar"),
        accounts("regulator"),
    )
    pair = {
        "ledger": world.chain.addresses["TaskLedger"],
        "evidence": world.chain.addresses["EvidenceAnchor"],
    }
    pair[stranger] = other.addresses["TaskLedger" if stranger == "ledger" else "EvidenceAnchor"]
    where = put(world, abi.encode_constructor("Directory", (pair["ledger"], pair["evidence"])))
    assert world.link.request("eth_getCode", where, "latest") in ("0x", b"", "0x0")


def test_a_directory_whose_constructor_never_ran_is_found_out(world: World) -> None:
    """Our code with other addresses written into it: it names a ledger of another set."""
    other = deploy_over(
        world.link,
        world.chain.settings.chain_id,
        world.keys["outsider"],
        world.of("outsider"),
        world.of("outsider"),
    )
    where = put(world, forged(world, TaskLedger=other.addresses["TaskLedger"]))
    with pytest.raises(WrongContracts) as caught:
        Chain.over(world.link.w3, settings(world, directory=where))
    assert "GrantRegistry" in caught.value.wrong


def test_a_changed_contract_in_the_set_is_named(world: World) -> None:
    code = bytearray(_live_code(world.link, world.chain.addresses["EvidenceAnchor"]))
    code[-1] ^= 1
    changed = put(world, returning(bytes(code)))
    where = put(world, forged(world, EvidenceAnchor=changed))
    with pytest.raises(WrongContracts) as caught:
        Chain.over(world.link.w3, settings(world, directory=where))
    assert set(caught.value.wrong) == {"EvidenceAnchor"}


def test_verification_proves_how_the_contracts_came_to_be(world: World) -> None:
    found = examine(world.link, world.chain.addresses["Directory"])
    assert found.proven
    assert [each.name for each in found.contracts] == list(abi.CONTRACTS)
    registrar, regulator = world.of("registrar"), world.of("regulator")
    assert found.founding == Founding((registrar,), registrar, regulator, Rules())


def test_verification_finds_a_contract_that_other_code_created(world: World) -> None:
    """The same code, put there by a transaction that could have filled the storage first."""
    where = put(world, forged(world))
    Chain.over(world.link.w3, settings(world, directory=where))  # nothing that a client sees is wrong
    found = examine(world.link, where)
    problems = {each.name: each.problem for each in found.contracts}
    assert not found.proven
    assert "its creation is not in the blocks" in str(problems.pop("Directory"))
    assert set(problems.values()) == {None}


def test_verification_says_when_it_did_not_look_far_enough(world: World) -> None:
    found = examine(world.link, world.chain.addresses["Directory"], look_back=2)
    assert not found.proven
    assert "its creation is not in the blocks" in str(found.contracts[0].problem)


def test_a_refused_deployment_names_the_contract() -> None:
    engine, keys = bare()
    with pytest.raises(DeploymentFailed, match="Consortium"):
        deploy_over(
            _Refusing(engine.link),  # type: ignore[arg-type]
            engine.chain_id,
            keys["deployer"],
            Address("0x" + "11" * 20),
            Address("0x" + "22" * 20),
        )


def test_an_unknown_block_is_named(world: World) -> None:
    with pytest.raises(UnknownBlock, match="0x7fffffff"):
        world.chain.block(0x7FFFFFFF)
    nowhere = BlockRef(0x7FFFFFFF, Hex32("0x" + "11" * 32), UnixSeconds(0))
    with pytest.raises(UnknownBlock):
        world.chain.node(world.of("alice"), at=nowhere)


class _Refusing:
    """A link whose endpoint takes no transaction."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    def attempt(self, method: str, *params: Any) -> Any:
        if method != "eth_sendRawTransaction":
            return self._link.attempt(method, *params)
        from sealtrace.contracts.link import Failure

        return Failure(method, -32000, "sender is not permitted", None)


def forged(world: World, **other: str) -> bytes:
    """Creation code that leaves our directory's code and a generation that its constructor never saw."""
    first = int.from_bytes(keccak(bytes(32)))
    named = world.chain.addresses | other
    storage = {0: 1} | {first + i: int(named[name], 16) for i, name in enumerate(GENERATION)}
    storage[first + len(GENERATION) - 1] |= world.chain.deployed_at << 160
    return returning(_live_code(world.link, world.chain.addresses["Directory"]), storage)


def _live_code(link: Link, where: Address) -> bytes:
    return bytes.fromhex(str(link.request("eth_getCode", where, "latest"))[2:])
