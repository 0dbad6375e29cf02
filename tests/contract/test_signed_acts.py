"""Acts that a party signs and anybody submits: the effect of direct ones, and no signature works twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from chain_world import RESULT, World, h
from eth_account import Account
from eth_account.messages import encode_typed_data

from sealtrace.contracts import calls, signing
from sealtrace.contracts.calls import Call
from sealtrace.contracts.signing import HALF_ORDER, MalformedSignature, Place, Signed, TypedData
from sealtrace.protocol.identifiers import UnixSeconds
from sealtrace.protocol.outcome import Denial
from sealtrace.protocol.records import TaskTerms

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def ledger(world: World) -> Place:
    return Place(world.chain.settings.chain_id, world.chain.addresses["TaskLedger"])


def registry(world: World) -> Place:
    return Place(world.chain.settings.chain_id, world.chain.addresses["GrantRegistry"])


def later(world: World) -> UnixSeconds:
    return UnixSeconds(world.now + 1000)


def by(world: World, name: str, data: TypedData) -> Signed:
    return data.sign(world.keys[name])


def waiting(world: World) -> TaskTerms:
    """A task that alice must approve."""
    terms = world.terms({"alice": world.issue("alice", approval_required=True)})
    world.create(terms)
    return terms


def index(world: World, name: str) -> int:
    return world.ranks.index(name)


# the same effect


def test_an_approval_that_its_party_signed_is_as_good_as_its_own(world: World) -> None:
    direct, relayed = waiting(world), waiting(world)
    told = world.do(calls.approve(direct), "alice").names
    signed = by(world, "alice", signing.approval(ledger(world), relayed, later(world)))
    done = world.do(calls.approve_signed(relayed, index(world, "alice"), signed), "outsider")
    assert done.names == told == ["TaskApproved", "TaskAuthorized"]
    assert done.events[0].args["party"] == world.of("alice")
    again = calls.approve_signed(relayed, index(world, "alice"), signed)
    assert world.refused(again, "outsider").name == "AlreadyApproved"


def test_a_refusal_that_its_party_signed_is_as_good_as_its_own(world: World) -> None:
    terms = waiting(world)
    signed = by(world, "bob", signing.refusal(ledger(world), terms, 40, later(world)))
    other = calls.refuse_signed(terms, index(world, "bob"), 41, signed)
    assert world.refused(other, "outsider").name == "WrongSigner"
    done = world.do(calls.refuse_signed(terms, index(world, "bob"), 40, signed), "outsider")
    assert done.events[0].args["party"] == world.of("bob")
    assert done.events[0].args["reason"] == 40


def test_one_relayer_carries_a_task_through_in_three_transactions(world: World) -> None:
    terms = world.terms()
    task = world.create(terms)
    place, until = ledger(world), later(world)
    starts = [
        (i, h(f"input {n}"), by(world, n, signing.start(place, terms, h(f"input {n}"), until)))
        for i, n in enumerate(world.ranks)
    ]
    started = world.do(calls.start_signed(terms, starts), "outsider")
    assert started.names == ["GrantConsumed", "TaskStarted"] * 3 + ["TaskRunning"]
    assert [e.args["party"] for e in started.events if e.name == "TaskStarted"] == list(world.parties)
    assert [world.uses_left(world.grants[name]) for name in world.ranks] == [2, 2, 2]

    receipts = [
        (
            i,
            h(f"receipt {n}"),
            RESULT,
            by(world, n, signing.receipt(place, terms, h(f"receipt {n}"), RESULT, until)),
        )
        for i, n in enumerate(world.ranks)
    ]
    finished = world.do(calls.finish_signed(terms, receipts), "outsider")
    assert finished.names == ["TaskFinished"] * 3 + ["TaskCompleted"]
    found = world.task(task)
    assert found is not None
    assert (found.agreed, found.finished) == (RESULT[:34], 0b111)
    assert world.refused(calls.start_signed(terms, starts), "outsider").name == "AlreadyStarted"
    assert world.refused(calls.finish_signed(terms, receipts), "outsider").name == "AlreadyFinished"


def test_direct_and_relayed_acts_mix(world: World) -> None:
    terms = world.terms()
    world.create(terms)
    world.do(calls.start(terms, h("input")), world.ranks[0])
    others = [
        (i, h("input"), by(world, n, signing.start(ledger(world), terms, h("input"), later(world))))
        for i, n in enumerate(world.ranks)
        if i
    ]
    assert world.do(calls.start_signed(terms, others), "lab").names[-1] == "TaskRunning"


def test_of_many_signed_starts_all_happen_or_none(world: World) -> None:
    terms = world.terms()
    world.create(terms)
    world.do(calls.revoke_grant(world.grants[world.ranks[2]]), world.ranks[2])
    starts = [
        (i, h("input"), by(world, n, signing.start(ledger(world), terms, h("input"), later(world))))
        for i, n in enumerate(world.ranks)
    ]
    assert world.refused(calls.start_signed(terms, starts), "outsider").denial is Denial.GRANT_REVOKED
    assert world.uses_left(world.grants[world.ranks[0]]) == 3
    assert world.refused(calls.start_signed(terms, []), "outsider").name == "NothingSigned"
    assert world.refused(calls.finish_signed(terms, []), "outsider").name == "NothingSigned"


def test_signed_receipts_that_differ_dispute_the_task(world: World) -> None:
    terms = world.terms()
    world.create(terms)
    world.start_all(terms)
    receipts = []
    for i, name in enumerate(world.ranks):
        result = h("a lie") if i == 1 else RESULT
        said = signing.receipt(ledger(world), terms, h("receipt"), result, later(world))
        receipts.append((i, h("receipt"), result, by(world, name, said)))
    assert world.do(calls.finish_signed(terms, receipts), "outsider").names[-1] == "TaskDisputed"


def test_a_grant_that_its_owner_signed_is_as_good_as_its_own(world: World) -> None:
    alice, terms = world.of("alice"), world.grant_terms("alice", participants=(world.of("bob"),))
    serial = world.chain.serial(alice, at=world.chain.head())
    signed = by(world, "alice", signing.grant(registry(world), terms, serial, later(world)))
    call = calls.issue_grant_signed(alice, terms, signed)
    done = world.do(call, "outsider")
    assert done.names == ["GrantIssued", "GrantParticipant"]
    assert done.value("grant") == world.chain.grant_id(alice, serial, terms)
    assert done.value("owner") == alice
    # the serial has moved on: the same signature issues nothing more
    assert world.refused(call, "outsider").name == "WrongSigner"


def test_a_signed_grant_nobody_submitted_is_made_void(world: World) -> None:
    alice, terms = world.of("alice"), world.grant_terms("alice")
    serial = world.chain.serial(alice, at=world.chain.head())
    signed = by(world, "alice", signing.grant(registry(world), terms, serial, later(world)))
    assert world.do(calls.pass_serial(), "alice").events[0].args == {"owner": alice, "serial": serial}
    assert world.refused(calls.issue_grant_signed(alice, terms, signed), "outsider").name == "WrongSigner"


def test_a_revocation_that_its_owner_signed_is_as_good_as_its_own(world: World) -> None:
    grant = world.grants["alice"]
    data = signing.revocation(registry(world), grant, later(world))
    forged = calls.revoke_grant_signed(grant, by(world, "bob", data))
    assert world.refused(forged, "outsider").name == "WrongSigner"
    call = calls.revoke_grant_signed(grant, by(world, "alice", data))
    assert world.do(call, "outsider").names == ["GrantRevoked"]
    assert world.refused(call, "outsider").name == "GrantAlreadyRevoked"
    other = calls.revoke_grant_signed(h("?"), by(world, "alice", data))
    assert world.refused(other, "outsider").name == "UnknownGrant"


def test_a_suspended_owner_grants_nothing_by_signature_either(world: World) -> None:
    alice, terms = world.of("alice"), world.grant_terms("alice")
    serial = world.chain.serial(alice, at=world.chain.head())
    signed = by(world, "alice", signing.grant(registry(world), terms, serial, later(world)))
    world.do(calls.suspend_node(alice, h("why")), "regulator")
    assert world.refused(calls.issue_grant_signed(alice, terms, signed), "outsider").name == "NodeNotActive"


# forgeries: each of the acts, with one thing wrong

Make = Callable[
    [World, TaskTerms, Place, UnixSeconds], tuple[TypedData, Callable[[TaskTerms, int, Signed], Call]]
]

ACTS: dict[str, Make] = {
    "approval": lambda w, t, p, u: (signing.approval(p, t, u), calls.approve_signed),
    "start": lambda w, t, p, u: (
        signing.start(p, t, h("input"), u),
        lambda terms, i, s: calls.start_signed(terms, [(i, h("input"), s)]),
    ),
    "refusal": lambda w, t, p, u: (
        signing.refusal(p, t, 40, u),
        lambda terms, i, s: calls.refuse_signed(terms, i, 40, s),
    ),
    "receipt": lambda w, t, p, u: (
        signing.receipt(p, t, h("r"), RESULT, u),
        lambda terms, i, s: calls.finish_signed(terms, [(i, h("r"), RESULT, s)]),
    ),
}
STATES = {"approval": "waiting", "refusal": "waiting", "start": "created", "receipt": "running"}


def ready(world: World, act: str) -> TaskTerms:
    if STATES[act] == "waiting":
        return waiting(world)
    terms = world.terms()
    world.create(terms)
    if STATES[act] == "running":
        world.start_all(terms)
    return terms


@pytest.mark.parametrize("act", ACTS)
def test_what_is_signed_for_one_chain_contract_or_task_is_good_for_no_other(world: World, act: str) -> None:
    terms, other = ready(world, act), ready(world, act)
    here, until, i = ledger(world), later(world), index(world, "alice")
    for place, named in (
        (replace(here, chain_id=7), terms),
        (replace(here, contract=world.of("outsider")), terms),
        (here, other),
    ):
        data, submit = ACTS[act](world, named, place, until)
        assert world.refused(submit(terms, i, by(world, "alice", data)), "outsider").name == "WrongSigner"
    data, submit = ACTS[act](world, terms, here, until)
    world.do(submit(terms, i, by(world, "alice", data)), "outsider")


@pytest.mark.parametrize("act", ACTS)
def test_a_party_signs_for_itself_alone(world: World, act: str) -> None:
    terms, until, i = ready(world, act), later(world), index(world, "alice")
    data, submit = ACTS[act](world, terms, ledger(world), until)
    for name in ("bob", "lab", "outsider", "registrar"):
        refusal = world.refused(submit(terms, i, by(world, name, data)), "outsider")
        assert (refusal.name, refusal.values["expected"]) == ("WrongSigner", world.of("alice"))
    signed = by(world, "alice", data)
    assert world.refused(submit(terms, 3, signed), "outsider").name == "NotAParty"
    nobody = Signed(signed.valid_until, b"\0" * 32, b"\0" * 32)
    assert world.refused(submit(terms, i, nobody), "outsider").name == "WrongSigner"


@pytest.mark.parametrize("act", ACTS)
def test_a_signature_is_submitted_until_its_last_second(world: World, act: str) -> None:
    terms, i = ready(world, act), index(world, "alice")
    until = UnixSeconds(world.now + 100)
    data, submit = ACTS[act](world, terms, ledger(world), until)
    signed = by(world, "alice", data)
    stretched = replace(signed, valid_until=UnixSeconds(until + 1))
    assert world.refused(submit(terms, i, stretched), "outsider").name == "WrongSigner"
    world.travel(until)
    done = world.do(submit(terms, i, signed), "outsider")
    assert done.at == until
    late = ready(world, act)
    data, submit = ACTS[act](world, late, ledger(world), UnixSeconds(world.now))
    assert world.refused(submit(late, i, by(world, "alice", data)), "outsider").name == "SignatureLapsed"


@pytest.mark.parametrize("act", ACTS)
def test_a_suspended_party_does_not_act_by_signature_either(world: World, act: str) -> None:
    terms, i = ready(world, act), index(world, "alice")
    data, submit = ACTS[act](world, terms, ledger(world), later(world))
    world.do(calls.suspend_node(world.of("alice"), h("why")), "regulator")
    expected = "PartyNotActive" if act == "start" else "NodeNotActive"
    assert world.refused(submit(terms, i, by(world, "alice", data)), "outsider").name == expected


def test_the_other_form_of_a_signature_is_not_taken(world: World) -> None:
    """The same signature with the complement of s would verify on the curve: it must not count (EIP-2)."""
    terms = waiting(world)
    signed = by(world, "alice", signing.approval(ledger(world), terms, later(world)))
    whole = int.from_bytes(signed.vs)
    s, odd = whole & (1 << 255) - 1, whole >> 255
    assert s <= HALF_ORDER
    with pytest.raises(MalformedSignature, match="lower half"):
        Signed.read(signed.r + (ORDER - s).to_bytes(32) + bytes([28 - odd]), signed.valid_until)
    with pytest.raises(MalformedSignature, match="65 bytes"):
        Signed.read(signed.r + signed.vs, signed.valid_until)


def test_a_wallet_that_takes_the_whole_document_signs_the_same(world: World) -> None:
    terms = waiting(world)
    data = signing.approval(ledger(world), terms, later(world))
    message = encode_typed_data(full_message=data.document())
    found = Account.from_key(world.keys["alice"]).sign_message(message)
    assert Signed.read(bytes(found.signature), data.valid_until) == by(world, "alice", data)
