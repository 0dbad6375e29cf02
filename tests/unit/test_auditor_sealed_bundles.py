"""Bundles of chains that their validators seal: what the one file proves with and without naming them."""

from __future__ import annotations

import io
import json
import random
from contextlib import redirect_stdout
from pathlib import Path

import coincurve
import pytest
from bundle_story import CONTRACTS, FakeChain, honest, packed
from fake_endpoint import block
from hypothesis import given, settings
from hypothesis import strategies as st
from sealed_blocks import IBFT2, KEYS, QBFT, enough, of, sealed, validators
from test_auditor_bundle import (
    CONTRADICTED,
    PROVED,
    UNPROVED,
    UNREADABLE,
    blocks_of,
    checked,
    members_of,
    rebuilt,
)
from test_auditor_seals import REAL_IBFT2, REAL_QBFT

from sealtrace.auditor import verify_report
from sealtrace.auditor.case import Level
from sealtrace.auditor.reading import read_range
from sealtrace.auditor.seals import read_sealed
from sealtrace.protocol.canonical import canonical

FOUR, STRANGER = validators(4), of(KEYS[9])
FIVE = tuple(sorted([*FOUR, STRANGER]))
BOTH = pytest.mark.parametrize("scheme", [QBFT, IBFT2])


def sealing(scheme, *, short=None, joins=None):
    """Seals block after block by four validators. Block ``short`` has a seal too few; in block ``joins`` a
    fifth is voted in."""

    def seal(made):
        number = int(made["number"], 16)
        listed = FIVE if joins is not None and number > joins else FOUR
        vote = (STRANGER, True) if number == joins else None
        signers = [] if number == 0 else enough(listed)[: -1 if number == short else None]
        return sealed(made, scheme, listed, signers, vote=vote)

    return seal


@pytest.fixture(scope="module", params=[QBFT, IBFT2])
def bundle(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("sealed") / "audit.tar"
    return out, packed(honest(), out, seal=sealing(request.param), validators=FOUR)


def named(path, *who, anchor=None):
    """The exit code, and what was said, where the validators are named."""
    with redirect_stdout(io.StringIO()) as said:
        arguments = [str(path), "--validators", ",".join(who), *(["--anchor", anchor] if anchor else [])]
        code = verify_report.main(arguments)
    return code, said.getvalue()


def report_of(path):
    return json.loads(members_of(path)["report.json"])


def forged(bundle, tmp_path, change):
    members = members_of(bundle[0])
    change(members)
    return rebuilt(members, tmp_path / "forged.tar")


def test_the_report_states_level_three_and_who_seals(bundle):
    proof = report_of(bundle[0])["proof"]
    assert proof["level"] == Level.SEALS_CHECKED == 3
    assert "sealed by two thirds of the validators" in proof["meaning"]
    assert (proof["seals"]["pinned"], proof["seals"]["last"]) == (list(FOUR), list(FOUR))
    assert proof["seals"]["blocks"] == proof["headers"] - 1  # the genesis is not sealed
    assert not any("Commit seals" in line for line in report_of(bundle[0])["not_checked"])


def test_the_validators_prove_a_bundle_without_any_anchor(bundle):
    code, said = named(bundle[0], *FOUR)
    assert code == PROVED, said
    assert "each sealed by two thirds of the validators: of the 4 of block 0" in said
    assert "The validators that you named" in said


def test_an_anchor_proves_a_sealed_bundle_too_and_the_reports_validators_are_taken_on_trust(bundle):
    code, said = checked(*bundle)
    assert code == PROVED, said
    assert "The validators that the report names" in said.split("Taken on trust")[1]


def test_without_either_nothing_is_proved(bundle):
    code, said = checked(bundle[0])
    assert code == UNPROVED
    assert "anybody can make up blocks" in said


def test_other_validators_than_the_reports_are_a_contradiction(bundle):
    code, said = named(bundle[0], *validators(4, first=4))
    assert code == CONTRADICTED
    assert "other validators than those that you named" in said


def test_what_is_no_address_is_not_taken_for_a_validator(bundle):
    code, said = named(bundle[0], "0x12")
    assert code == UNREADABLE
    assert "--validators are addresses" in said


@BOTH
def test_a_report_that_did_not_check_seals_can_have_them_checked(tmp_path, scheme):
    anchor = packed(honest(), tmp_path / "b.tar", seal=sealing(scheme))
    assert report_of(tmp_path / "b.tar")["proof"]["level"] == 2
    assert named(tmp_path / "b.tar", *FOUR)[0] == PROVED
    code, said = named(tmp_path / "b.tar", *validators(4, first=4), anchor=anchor)
    assert code == CONTRADICTED
    assert "it lists other validators" in said
    code, said = checked(tmp_path / "b.tar", anchor)
    assert code == PROVED
    assert "those of validators on blocks" in said.split("Not checked:")[1]


@BOTH
def test_a_change_of_validators_is_followed_to_the_end(tmp_path, scheme):
    packed(honest(), tmp_path / "b.tar", seal=sealing(scheme, joins=30), validators=FOUR)
    report = report_of(tmp_path / "b.tar")
    assert report["proof"]["seals"]["changes"] == [{"added": [STRANGER], "block": 31, "removed": []}]
    assert report["proof"]["seals"]["last"] == list(FIVE)
    code, said = named(tmp_path / "b.tar", *FOUR)
    assert code == PROVED, said
    assert "voted in since (changes: 1)" in said


@BOTH
def test_a_block_with_a_seal_too_few_is_a_finding_and_leaves_level_two(tmp_path, scheme):
    anchor = packed(honest(), tmp_path / "b.tar", seal=sealing(scheme, short=20), validators=FOUR)
    report = report_of(tmp_path / "b.tar")
    (finding,) = report["findings"]
    assert (finding["rule"], finding["object"]) == ("PR-03", "block 20")
    assert f"--validators {','.join(FOUR)}" in finding["recheck"]
    assert report["proof"]["level"] == 2
    code, said = named(tmp_path / "b.tar", *FOUR, anchor=anchor)
    assert code == UNPROVED
    assert "as a finding of the report says itself: block 20: 2 seals, and 3 are needed" in said


def seals_of(entry):
    header, receipts = verify_report.rlp_items(entry, "")
    fields = verify_report.rlp_items(header, "")
    return fields, receipts, verify_report.rlp_items(verify_report.rlp_string(fields[12], ""), "")


def resealed(entry, seals):
    """The same block with other seals: its hash is the same, and its parent's, and its child's."""
    fields, receipts, parts = seals_of(entry)
    parts[4] = verify_report.rlp(b"".join(map(verify_report.rlp, seals)), 0xC0)
    extra = verify_report.rlp(b"".join(parts), 0xC0)
    fields[12] = verify_report.rlp(extra)
    return verify_report.rlp(verify_report.rlp(b"".join(fields), 0xC0) + receipts, 0xC0)


def in_block(number, change):
    def changed(members):
        entries = blocks_of(members["blocks.rlp"])
        seals = [
            verify_report.rlp_string(e, "")
            for e in verify_report.rlp_items(seals_of(entries[number])[2][4], "")
        ]
        entries[number] = resealed(entries[number], change(seals, entries))
        members["blocks.rlp"] = b"".join(entries)

    return changed


FORGED = {
    "a seal dropped": (lambda seals, _: seals[1:], "2 seals, and 3 are needed"),
    "all seals dropped": (lambda *_: [], "0 seals, and 3 are needed"),
    "a seal twice": (lambda seals, _: [*seals, seals[0]], "two seals of one validator"),
    "a seal of no curve point": (lambda seals, _: [*seals, b"\xff" * 65], "a seal that is none"),
    "a seal that is short": (lambda seals, _: [*seals, seals[0][:64]], "a seal that is none"),
    "a seal of a stranger": (
        lambda seals, _: [*seals, KEYS[9].sign_msg_hash(b"\1" * 32).to_bytes()],
        "a seal of somebody who is no validator",
    ),
    "seals of another block": (
        lambda _, entries: [
            verify_report.rlp_string(e, "") for e in verify_report.rlp_items(seals_of(entries[8])[2][4], "")
        ],
        "no validator",
    ),
}


@pytest.mark.parametrize("how", FORGED)
def test_seals_changed_in_a_bundle_are_noticed_though_no_hash_changes(bundle, tmp_path, how):
    change, expected = FORGED[how]
    path = forged(bundle, tmp_path, in_block(7, change))
    for code, said in (named(path, *FOUR), checked(path, bundle[1])):
        assert code == CONTRADICTED, said
        assert f"seals: block 7: {expected}" in said or (expected in said and "block 7" in said)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda seals: seals | {"blocks": 1}, "sealed blocks"),
        (lambda seals: seals | {"pinned": []}, "names no validators"),
        (lambda seals: seals | {"last": seals["last"][1:]}, "the last validators"),
        (lambda seals: seals | {"changes": [1]}, "changes of validators"),
    ],
)
def test_a_report_that_tells_otherwise_of_its_seals_is_contradicted(bundle, tmp_path, change, expected):
    def changed(members):
        report = json.loads(members["report.json"])
        report["proof"]["seals"] = change(report["proof"]["seals"])
        members["report.json"] = canonical(report) + b"\n"

    code, said = checked(forged(bundle, tmp_path, changed), bundle[1])
    assert code == CONTRADICTED
    assert expected in said


def test_validators_named_for_a_chain_that_nobody_seals_are_contradicted(tmp_path):
    anchor = packed(honest(), tmp_path / "b.tar")
    code, said = named(tmp_path / "b.tar", *FOUR, anchor=anchor)
    assert code == CONTRADICTED
    assert "it carries no seals" in said


def test_extra_data_of_another_kind_leave_the_headers_unproved(tmp_path):
    """As legacy IBFT writes them: the same mix hash, and nothing of the rest."""

    def seal(made):
        other = sealed(made, QBFT, FOUR)
        fields = {name: made[name] for name in ("receiptsRoot", "logsBloom", "baseFeePerGas", "mixHash")}
        fields |= {"mixHash": other["mixHash"], "extraData": "0x" + "11" * 40}
        return block(int(made["number"], 16), made["parentHash"], int(made["timestamp"], 16), **fields)

    anchor = packed(honest(), tmp_path / "b.tar", seal=seal)
    code, said = checked(tmp_path / "b.tar", anchor)
    assert code == UNPROVED
    assert "sealed in a way not known here" in said


def test_a_sealed_chain_is_read_to_level_two_when_nobody_is_named():
    """The blocks' hashes are not those of their headers as they stand; they are recomputed all the same."""
    chain = FakeChain(honest(), sealing(QBFT))
    with chain.rpc() as rpc:
        reading = read_range(rpc, list(CONTRACTS), 0, len(chain.blocks) - 1)
    assert reading.proof.level is Level.RECEIPTS_COMPLETE
    assert not reading.proof.chain_problems
    assert "--validators" in reading.proof.reason


def test_a_genesis_alone_is_sealed_by_nobody():
    chain = FakeChain(honest(), sealing(QBFT))
    with chain.rpc() as rpc:
        reading = read_range(rpc, list(CONTRACTS), 0, 0, None, FOUR)
    assert reading.proof.seals.blocks == 0
    assert reading.proof.level < Level.SEALS_CHECKED


# its parts against ours


@pytest.mark.parametrize("encoded", [REAL_QBFT, REAL_IBFT2])
def test_its_own_reader_of_sealed_headers_says_what_ours_says(encoded):
    theirs, ours = verify_report.Sealed(verify_report.rlp_items(encoded, "")), read_sealed(encoded)
    assert verify_report.hexed(theirs.hash) == ours.hash
    assert theirs.message == ours.message
    assert [verify_report.hexed(each) for each in theirs.validators] == list(ours.validators)
    assert theirs.why_not_sealed(set(theirs.validators)) == ""
    assert theirs.why_not_sealed(set(theirs.validators[1:])) != ""


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.integers(1, 2**64), st.integers(0, 64 * 8 + 2))
def test_its_own_recovery_is_that_of_libsecp256k1(message, secret, flipped):
    key = coincurve.PrivateKey(secret.to_bytes(32, "big"))
    signature = bytearray(key.sign_recoverable(message, hasher=None))
    found = verify_report.slow_recovery(message, bytes(signature))
    assert found == key.public_key.format(compressed=False)[1:]
    signature[flipped // 8] ^= 1 << (flipped % 8)
    assert verify_report.slow_recovery(message, bytes(signature)) == verify_report.recover(
        message, bytes(signature)
    )


def test_its_own_recovery_refuses_what_is_no_signature():
    chosen, message = random.Random(3), b"\7" * 32
    zeros, top = bytes(32), verify_report._N.to_bytes(32, "big")
    for r, s, v in [
        (zeros, b"\1" * 32, 0),
        (b"\1" * 32, zeros, 0),
        (top, b"\1" * 32, 0),
        (b"\1" * 32, top, 1),
    ]:
        assert verify_report.slow_recovery(message, r + s + bytes([v])) is None
    assert verify_report.slow_recovery(message, b"\1" * 64 + b"\4") is None
    for _ in range(30):
        random_ = chosen.randbytes(64) + bytes([chosen.randrange(4)])
        assert verify_report.slow_recovery(message, random_) == verify_report.recover(message, random_)


def test_the_page_says_how_validators_are_named():
    text = (Path(__file__).parents[2] / "docs/audit-bundle.md").read_text(encoding="utf-8")
    assert "--validators" in text
