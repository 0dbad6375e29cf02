"""Proposals as members pass them among themselves: what a file says is what is voted on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sealtrace.contracts import abi, calls
from sealtrace.contracts.acting import CardUnreadable
from sealtrace.contracts.governance import Office, Rules
from sealtrace.contracts.proposals import ACTIONS, ProposalUnreadable, read_proposal
from sealtrace.protocol.canonical import canonical, sha256
from sealtrace.protocol.identifiers import Address
from sealtrace.protocol.records import Role

ADDRESSES = {name: Address(f"0x{i:040x}") for i, name in enumerate(abi.CONTRACTS, start=1)}
WHO, DIGEST = Address("0x" + "ab" * 20), "0x" + "cd" * 32
CARD = {"address": WHO, "tls_fingerprint": DIGEST, "encryption_key": DIGEST}

EVERY_ACTION = {
    "admit": ({"card": "card.json", "roles": ["owner", "compute"]},
              calls.admit(WHO, Role.OWNER | Role.COMPUTE, DIGEST, DIGEST)),
    "retire": (WHO, calls.retire_node(WHO)),
    "suspend": ({"node": WHO, "reason": "unsafe"}, calls.suspend_node(WHO, sha256(b"unsafe"))),
    "reinstate": (WHO, calls.reinstate_node(WHO)),
    "suspend-algorithm": ({"algorithm": DIGEST, "reason": "unsound"},
                          calls.suspend_algorithm(DIGEST, sha256(b"unsound"))),
    "reinstate-algorithm": (DIGEST, calls.reinstate_algorithm(DIGEST)),
    "add-member": (WHO, calls.add_member(WHO)),
    "remove-member": (WHO, calls.remove_member(WHO)),
    "rules": ({"quorum": 66, "voting_hours": 72, "execution_hours": 48, "reviews": 2},
              calls.set_rules(Rules(66, 72 * 3600, 48 * 3600, 2))),
    "appoint": ({"office": "regulator", "account": WHO}, calls.appoint(Office.REGULATOR, WHO)),
    "dismiss": ({"office": "registrar", "account": WHO}, calls.dismiss(Office.REGISTRAR, WHO)),
    "announce": ({"ledger": WHO, "evidence": WHO}, calls.announce(WHO, WHO)),
    "close-ledger": (None, calls.close_ledger()),
    "serve-ledger": (WHO, calls.serve_ledger(WHO)),
}  # fmt: skip


def written(folder: Path, content: object) -> Path:
    (folder / "card.json").write_bytes(canonical(CARD))
    path = folder / "proposal.yaml"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def one(folder: Path, action: object) -> Path:
    return written(folder, {"why": "it is time", "actions": [action]})


@pytest.mark.parametrize("word", ACTIONS)
def test_every_action_becomes_the_call_it_says(tmp_path, word):
    given, call = EVERY_ACTION[word]
    found = read_proposal(one(tmp_path, {word: given}))
    assert found.calls == (call,)
    (action,) = found.actions(ADDRESSES)
    assert (action.target, action.data) == (ADDRESSES[call.contract], call.data())
    assert found.description == sha256(b"it is time")


def test_another_word_another_electorate_or_other_reasons_are_another_proposal(tmp_path):
    usual = {"why": "a", "actions": [{"add-member": WHO}]}
    ids = {
        read_proposal(written(tmp_path, {**usual, **change})).id(ADDRESSES, electorate)
        for change, electorate in (
            ({}, 1),
            ({}, 2),
            ({"why": "b"}, 1),
            ({"actions": [{"remove-member": WHO}]}, 1),
            ({"actions": [{"add-member": WHO}] * 2}, 1),
        )
    }
    assert len(ids) == 5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "proposal.yaml"),
        ("[]", "file"),
        ({"actions": [{"retire": WHO}]}, "why"),
        ({"why": "", "actions": [{"retire": WHO}]}, "why"),
        ({"why": "x", "actions": []}, "actions"),
        ({"why": "x", "actions": ["retire"]}, "actions.0"),
        ({"why": "x", "actions": [{"retire": WHO, "admit": {}}]}, "actions.0"),
        ({"why": "x", "actions": [{"abolish": WHO}]}, "none of admit, retire"),
        ({"why": "x", "actions": [{"retire": WHO}], "more": 1}, "more"),
        ({"why": "x", "actions": [{"retire": "0x12"}]}, "actions.0.retire"),
        ({"why": "x", "actions": [{"suspend": {"node": WHO, "reason": ""}}]}, "suspend.reason"),
        ({"why": "x", "actions": [{"rules": {"quorum": 49}}]}, "actions.0.rules"),
        ({"why": "x", "actions": [{"appoint": {"office": "king", "account": WHO}}]}, "appoint.office"),
        ({"why": "x", "actions": [{"admit": {"card": "card.json", "roles": ["king"]}}]}, "no role"),
        ({"why": "x", "actions": [{"close-ledger": {"now": 1}}]}, "close-ledger"),
        ("why: x\nactions: [{retire: !!python/object:os.system x}]", "proposal.yaml"),
    ],
)
def test_a_file_that_is_no_proposal_is_refused_at_its_place(tmp_path, content, words):
    with pytest.raises(ProposalUnreadable, match=words):
        read_proposal(written(tmp_path, content))


def test_a_file_that_is_not_there_or_too_long_is_refused(tmp_path):
    with pytest.raises(ProposalUnreadable, match="No such file"):
        read_proposal(tmp_path / "nothing.yaml")
    with pytest.raises(ProposalUnreadable, match="longer than"):
        read_proposal(written(tmp_path, "#" * 300_000))


def test_a_card_that_is_none_is_named(tmp_path):
    with pytest.raises(CardUnreadable, match=r"nobody\.json"):
        read_proposal(one(tmp_path, {"admit": {"card": "nobody.json", "roles": ["owner"]}}))
