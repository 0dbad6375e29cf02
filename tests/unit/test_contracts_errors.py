"""Every refusal of the contracts has a name, its values, and a sentence that says what to do."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from sealtrace.contracts import abi
from sealtrace.contracts.errors import ERROR_HELP, Reverted
from sealtrace.contracts.governance import ProposalStatus
from sealtrace.contracts.reverts import read_revert
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.outcome import Blame, Denial
from sealtrace.protocol.records import (
    AlgorithmStatus,
    DataClass,
    DatasetStatus,
    GrantStatus,
    NodeStatus,
    ReviewStatus,
)

DECLARED = sorted({error.name for error in abi.errors().values()})
OUR_OWN = {"Error", "Panic", "Unexplained"}


@pytest.mark.parametrize("name", DECLARED)
def test_every_error_of_the_contracts_says_what_to_do(name):
    assert ERROR_HELP[name].endswith(".")
    assert len(ERROR_HELP[name]) > 15


def test_no_help_is_for_an_error_that_does_not_exist():
    assert set(ERROR_HELP) == set(DECLARED) | OUR_OWN


def revert(signature: str, types: list[str], values: list[object]) -> bytes:
    return keccak(signature.encode())[:4] + encode(types, values)


def test_a_refusal_is_read_with_its_values_in_words():
    data = revert("NodeNotActive(address,uint8)", ["address", "uint8"], ["0x" + "Ab" * 20, 2])
    found = read_revert(data, "TaskLedger")
    assert found.name == "NodeNotActive"
    assert found.values == {"node": "0x" + "ab" * 20, "status": 2}
    assert found.contract == "NodeRegistry"  # which declares it, reached through the one called
    assert "status suspended" in str(found)
    assert ERROR_HELP["NodeNotActive"] in str(found)


@pytest.mark.parametrize("denial", [denial for denial in Denial if denial.seen_on_chain])
def test_a_denied_start_gives_its_reason(denial):
    found = read_revert(
        revert("Denied(bytes32,uint8)", ["bytes32", "uint8"], [b"\1" * 32, denial]), "TaskLedger"
    )
    assert found.denial is denial
    assert denial.name.lower() in str(found)


def test_an_inactive_party_is_a_denial_too_and_others_are_none():
    party = read_revert(revert("PartyNotActive(bytes32)", ["bytes32"], [b"\1" * 32]), "TaskLedger")
    other = read_revert(revert("UnknownTask(bytes32)", ["bytes32"], [b"\1" * 32]), "TaskLedger")
    assert (party.denial, other.denial) == (Denial.PARTY_NOT_ACTIVE, None)


def test_words_and_panics_are_read():
    words = read_revert(bytes.fromhex("08c379a0") + encode(["string"], ["no such luck"]), "X")
    panic = read_revert(bytes.fromhex("4e487b71") + encode(["uint256"], [0x11]), "X")
    assert (words.name, words.values) == ("Error", {"words": "no such luck"})
    assert (panic.name, panic.values) == ("Panic", {"code": 0x11})


@given(st.binary(max_size=200))
def test_whatever_comes_back_is_read_without_a_fault(data):
    assert isinstance(read_revert(data, "TaskLedger"), Reverted)


@given(st.sampled_from(sorted(abi.errors())), st.binary(max_size=64))
def test_a_known_selector_with_other_data_is_read_without_a_fault(selector, body):
    assert isinstance(read_revert(selector + body, "TaskLedger"), Reverted)


def test_the_enums_of_the_contracts_are_the_protocols():
    """Solidity's sources are the witness: same names, same order, same numbers."""
    import re

    source = (abi.ARTIFACTS.parent / "src" / "Types.sol").read_text()
    declared = {
        name: [word.strip() for word in body.split(",")]
        for name, body in re.findall(r"enum (\w+) \{([^}]*)\}", source)
    }
    ours = {
        "NodeStatus": NodeStatus,
        "DatasetStatus": DatasetStatus,
        "DataClass": DataClass,
        "AlgorithmStatus": AlgorithmStatus,
        "GrantStatus": GrantStatus,
        "TaskStatus": TaskState,
        "Blame": Blame,
        "ProposalStatus": ProposalStatus,
        "ReviewStatus": ReviewStatus,
    }
    assert set(declared) == {*ours, "Denial"}
    for name, enum in ours.items():
        assert [_camel(each.name) for each in enum] == declared[name]
    on_chain = [_camel(denial.name) for denial in Denial if denial.seen_on_chain]
    assert ["None", *on_chain] == declared["Denial"]


def _camel(name: str) -> str:
    return "".join(word.title() for word in name.split("_"))
