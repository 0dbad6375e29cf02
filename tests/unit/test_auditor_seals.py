"""Commit seals of QBFT and IBFT 2.0: who sealed a block, who may, and how the validators change."""

from __future__ import annotations

from dataclasses import replace

import pytest
import rlp
from fake_endpoint import block
from hypothesis import given, settings
from hypothesis import strategies as st
from sealed_blocks import IBFT2, KEYS, QBFT, enough, header, of, validators

from sealtrace.auditor.case import ValidatorChange
from sealtrace.auditor.headers import QBFT_MIX, header_rlp, keccak, read_header
from sealtrace.auditor.rlp import MalformedRlp, content, items
from sealtrace.auditor.seals import (
    MAX_PROBLEMS,
    NOT_PINNED,
    NOT_SEALED,
    Follower,
    MalformedSeals,
    ValidatorsInContract,
    on_chain,
    quorum,
    read_sealed,
    signer,
    why_not_sealed,
)
from sealtrace.protocol.identifiers import hex32

BOTH = pytest.mark.parametrize("scheme", [QBFT, IBFT2])
FOUR = validators(4)
STRANGER = of(KEYS[9])

# Real headers, each with three seals of four validators:
# block 7528 of a Besu QBFT network, sealed in round 1 (datachainlab/besu-qbft-elc, elc/src/header.rs), and
REAL_QBFT = bytes.fromhex(
    "f9033fa00af93e70b1c6d3974a88a42eb70bb61adbd523bfac0c83027ba4637c52746a0fa01dcc4de8dec75d7aab85b567b6ccd41"
    "ad312451b948a7413f0a142fd40d4934794ee3353e587cfa91625a1adaef308a726de3803d3a0166ed98eea93ab2b6f6b1a425526"
    "994adc2d675bf9a0d77d600ed1e02d8f77dfa056e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421a05"
    "6e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421b90100"
    + "00"
    * 256
    + "01821d688347b760808"
    "46640618bb90147f90144a00000000000000000000000000000000000000000000000000000000000000000f85494647bfdd19655"
    "e51e69d35454ff3a92f8828e630294a5c8416b9d13417b45b45ada76408f39d1e504ef94b92e91f4dcc9d28503be521afa2a8fbf3"
    "c1acf6094ee3353e587cfa91625a1adaef308a726de3803d3c001f8c9b841bc7633fd65570f610a595086e9a34e5bf6aacfb67b8f"
    "8cd01852e6b285147f046a50577b49378b86723ac9b456ef59ef7ab57cda7139d807f10f58e8cb10c67600b841ad1defc2b0b4a48"
    "158cff24778bb5ba4d9f373c171022ab0a42e37bdb0d4025718434d303a8d94df56ef9ad5219be9f27b2f67179a7fb82d3323dde2"
    "9546f9f701b841e233d3670dd97c715f72b440eeb1ccb1e22c8c23f6ab470c46c99c2d0ee6509f0341a42e0e4569782557e93c381"
    "5e8ca4294043595f69a90f73f135de8ecf41e00a063746963616c2062797a616e74696e65206661756c7420746f6c6572616e6365"
    "880000000000000000"
)
# block 5618555 of an IBFT 2.0 network (foundry-rs/foundry, crates/anvil/core/src/eth/block.rs).
REAL_IBFT2 = bytes.fromhex(
    "f90348a0fbdbd8d2d0ac5f14bd5fa90e547fe6f1d15019c724f8e7b60972d381cd5d9cf8a01dcc4de8dec75d7aab85b567b6ccd41"
    "ad312451b948a7413f0a142fd40d4934794c9577e7945db22e38fc060909f2278c7746b0f9ba05017cfa3b0247e35197215ae8d61"
    "0265ffebc8edca8ea66d6567eb0adecda867a056e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421a05"
    "6e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421b90100"
    + "00"
    * 256
    + "018355bb7b871ffffff"
    "fffffff808462bd0e1ab9014bf90148a00000000000000000000000000000000000000000000000000000000000000000f8549431"
    "9fa8f1bc4e53410e92d10d918659b16540e60a945a573efb304d04c1224cd012313e827eca5dce5d94a9c831c5a268031176ebf5f"
    "3de5051e8cba0dbfe94c9577e7945db22e38fc060909f2278c7746b0f9b808400000000f8c9b841a6946f2d16f68338cbcbd8b117"
    "374ab421128ce422467088456bceba9d70c34106128e6d4564659cf6776c08a4186063c0a05f7cffd695c10cf26a6f301b67f800b"
    "8412b782100c18c35102dc0a37ece1a152544f04ad7dc1868d18a9570f744ace60870f822f53d35e89a2ea9709ccbf1f4a25ee500"
    "3944faa845d02dde0a41d5704601b841d53caebd6c8a82456e85c2806a9e08381f959a31fb94a77e58f00e38ad97b2e0355b8519a"
    "b2122662cbe022f2a4ef7ff16adc0b2d5dcd123181ec79705116db300a063746963616c2062797a616e74696e65206661756c7420"
    "746f6c6572616e6365880000000000000000"
)
REAL = pytest.mark.parametrize(("encoded", "scheme"), [(REAL_QBFT, QBFT), (REAL_IBFT2, IBFT2)])


def follow(pinned, *headers):
    follower = Follower(frozenset(pinned))
    for each in headers:
        follower.take(each)
    return follower.found()


def told(found):
    return [(each.block, each.expected, each.observed) for each in found.problems]


# one block


@REAL
def test_three_of_four_validators_sealed_a_real_block(encoded, scheme):
    block = read_sealed(encoded)
    assert block.scheme == scheme
    assert len(block.validators) == 4
    assert block.vote is None
    assert len({signer(block.message, seal) for seal in block.seals} & set(block.validators)) == 3
    assert why_not_sealed(block, frozenset(block.validators)) is None


def test_what_the_validators_of_the_real_qbft_block_signed_is_the_hash_its_source_names():
    named = "75ea184f58cd3f0ef89032a069df01f07ec524ef3a85cf6d3e424d62130c0a32"
    assert read_sealed(REAL_QBFT).message.hex() == named


@REAL
def test_one_byte_changed_in_a_real_block_takes_the_seals_away(encoded, scheme):
    state = 3 + 33 + 33 + 21 + 1  # the state root, behind three other fields
    altered = encoded[:state] + bytes([encoded[state] ^ 1]) + encoded[state + 1 :]
    block = read_sealed(altered)
    assert why_not_sealed(block, frozenset(block.validators)) is not None


@BOTH
@pytest.mark.parametrize("count", [1, 4, 7])
def test_a_block_sealed_by_two_thirds_is_sealed_and_one_seal_fewer_is_too_few(scheme, count):
    listed = validators(count)
    assert not follow(listed, header(1, scheme, listed)).problems
    assert not follow(listed, header(1, scheme, listed, listed)).problems
    (problem,) = told(follow(listed, header(1, scheme, listed, enough(listed)[:-1])))
    assert problem == (1, f"seals of {quorum(count)} of {count} validators", f"seals of {quorum(count) - 1}")


def test_a_quorum_is_two_thirds_rounded_up():
    assert [quorum(n) for n in (1, 2, 3, 4, 5, 6, 7, 10)] == [1, 2, 2, 3, 4, 4, 5, 7]


@BOTH
def test_a_seal_of_somebody_who_is_no_validator_does_not_count(scheme):
    (problem,) = told(follow(FOUR, header(1, scheme, FOUR, [*FOUR[:3], STRANGER])))
    assert problem[2] == f"seals of {STRANGER}"


@BOTH
def test_a_validator_who_seals_twice_is_noticed(scheme):
    (problem,) = told(follow(FOUR, header(1, scheme, FOUR, [*FOUR[:3], FOUR[0]])))
    assert problem == (1, "one seal of each validator", f"two of {FOUR[0]}")


@BOTH
@pytest.mark.parametrize("bad", [b"", b"\1" * 64, b"\1" * 66, bytes(65), b"\1" * 64 + b"\x1b", b"\xff" * 65])
def test_what_is_no_signature_is_no_seal(scheme, bad):
    (problem,) = told(follow(FOUR, header(1, scheme, FOUR, altered=lambda seals: [*seals, bad])))
    assert problem[1:] == ("seals that recover to an address", "1 that do not")


@BOTH
def test_seals_of_another_block_do_not_serve(scheme):
    other = read_sealed(header(2, scheme, FOUR).encoded).seals
    assert told(follow(FOUR, header(1, scheme, FOUR, altered=lambda _: list(other))))


@BOTH
def test_the_seals_hold_to_the_round_and_the_hash_does_not(scheme):
    first, third = header(1, scheme, FOUR), header(1, scheme, FOUR, round_=2)
    assert first.computed == third.computed
    assert not follow(FOUR, third).problems
    assert read_sealed(first.encoded).message != read_sealed(third.encoded).message


@BOTH
def test_the_hash_on_the_chain_is_neither_that_of_the_header_nor_what_was_signed(scheme):
    made = header(1, scheme, FOUR, round_=1)
    assert made.claimed == made.computed
    assert made.computed not in (hex32(keccak(made.encoded)), hex32(read_sealed(made.encoded).message))


@BOTH
def test_the_genesis_needs_no_seals_but_its_list_must_be_the_pinned_one(scheme):
    assert not follow(FOUR, header(0, scheme, FOUR, [])).problems
    assert told(follow(FOUR[:3], header(0, scheme, FOUR, [])))


# the validators


@BOTH
def test_a_list_that_is_not_the_pinned_one_is_not_believed(scheme):
    theirs = validators(4, first=4)
    found = follow(FOUR, header(1, scheme, theirs))
    (problem,) = told(found)
    assert problem == (1, f"validators {', '.join(FOUR)}", ", ".join(theirs))
    assert found.last == FOUR
    assert found.blocks == 0


@BOTH
def test_a_list_changed_without_a_vote_is_not_believed_however_well_it_is_sealed(scheme):
    five = tuple(sorted([*FOUR, STRANGER]))
    found = follow(FOUR, header(1, scheme, FOUR), header(2, scheme, five, five), header(3, scheme, FOUR))
    assert {block for block, _, _ in told(found)} == {2}
    assert found.blocks == 2
    assert not found.changes


@BOTH
def test_a_voted_change_is_followed_and_recorded(scheme):
    five = tuple(sorted([*FOUR, STRANGER]))
    found = follow(
        FOUR,
        header(1, scheme, FOUR, vote=(STRANGER, True)),
        header(2, scheme, five, vote=(FOUR[0], False)),
        header(3, scheme, tuple(sorted(set(five) - {FOUR[0]}))),
    )
    assert not told(found)
    assert found.changes == (
        ValidatorChange(2, (STRANGER,), ()),
        ValidatorChange(3, (), (FOUR[0],)),
    )
    assert found.last == tuple(sorted(set(five) - {FOUR[0]}))
    assert found.schemes == (scheme,)


@BOTH
def test_after_a_change_the_new_set_must_seal(scheme):
    five = tuple(sorted([*FOUR, STRANGER]))
    voted = header(1, scheme, FOUR, vote=(STRANGER, True))
    (problem,) = told(follow(FOUR, voted, header(2, scheme, five, enough(FOUR))))
    assert problem == (2, "seals of 4 of 5 validators", "seals of 3")


@BOTH
def test_a_vote_changes_nothing_by_itself_and_no_more_than_its_one_address(scheme):
    voted = header(1, scheme, FOUR, vote=(STRANGER, True))
    assert not told(follow(FOUR, voted, header(2, scheme, FOUR)))
    six = tuple(sorted([*FOUR, STRANGER, of(KEYS[8])]))
    assert told(follow(FOUR, voted, header(2, scheme, six)))
    dropped = tuple(sorted({*FOUR, STRANGER} - {FOUR[0]}))
    assert told(follow(FOUR, voted, header(2, scheme, dropped)))
    assert told(follow(FOUR, voted, header(2, scheme, FOUR), header(3, scheme, (*FOUR, STRANGER))))


@BOTH
def test_a_validator_listed_twice_gives_no_smaller_quorum(scheme):
    twice = (*FOUR, FOUR[0])
    assert told(follow(FOUR, header(1, scheme, twice)))[0][1] == "each validator once"


def test_a_chain_that_goes_over_from_ibft2_to_qbft_is_followed():
    found = follow(FOUR, header(1, IBFT2, FOUR), header(2, QBFT, FOUR))
    assert not found.problems
    assert found.schemes == (IBFT2, QBFT)


@BOTH
def test_validators_that_a_contract_names_are_refused_by_name(scheme):
    with pytest.raises(ValidatorsInContract, match="block 7 lists no validators"):
        follow(FOUR, header(7, scheme, (), FOUR))


def test_without_pinned_validators_nothing_is_said_of_seals():
    found = follow((), header(1, QBFT, FOUR, []))
    assert (found.missing, found.sealed, found.problems) == (NOT_PINNED, True, ())


def test_a_chain_without_seals_is_not_sealed_by_anybody():
    plain = replace(header(1, QBFT, FOUR), qbft=False)
    assert follow((), plain).missing == NOT_SEALED


@BOTH
def test_a_block_that_is_not_sealed_among_sealed_ones_is_a_problem(scheme):
    plain = replace(header(2, scheme, FOUR), encoded=header_rlp(_json(2)), qbft=False)
    assert told(follow(FOUR, header(1, scheme, FOUR), plain))[0][:2] == (2, "a block with commit seals")


def test_of_many_blocks_without_seals_the_first_hundred_are_told():
    found = follow(FOUR, *(header(n, QBFT, FOUR, []) for n in range(1, MAX_PROBLEMS + 20)))
    assert len(found.problems) == MAX_PROBLEMS


# what is read


def _json(number):
    return block(number, "0x" + "00" * 32, number)


def _extra(parts):
    return read_header(_json(1) | {"mixHash": QBFT_MIX, "extraData": "0x" + rlp.encode(parts).hex()})


V, A = bytes(32), bytes(20)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [V, [A], [], b""],
        [V, [A], [], b"", [], b""],
        [V[1:], [A], [], b"", []],
        [V, [A[1:]], [], b"", []],
        [V, [A], b"", b"", []],
        [V, [A], b"\1", bytes(4), []],
        [V, [A], [A], b"", []],
        [V, [A], [A, b"\xaa"], b"", []],
        [V, [A], [A[1:], b"\xff"], b"", []],
        [V, [A], [], b"\0\1", []],
        [V, [A], [], b"\1" * 5, []],
        [V, [A], [], b"", [[]]],
        [V, A, [], b"", []],
        V,
    ],
)
def test_extra_data_of_another_kind_is_refused_and_its_block_keeps_the_plain_hash(parts):
    made = _extra(parts)
    with pytest.raises(MalformedSeals):
        read_sealed(made.encoded)
    assert on_chain(made) == made


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(data):
    header_ = read_header(_json(1) | {"mixHash": QBFT_MIX, "extraData": "0x" + data.hex()})
    with pytest.raises(MalformedSeals):
        read_sealed(header_.encoded)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40))
def test_rlp_is_read_in_one_way_only(data):
    try:
        found = [rlp.decode(each) for each in items(data)]
    except (MalformedRlp, rlp.DecodingError):
        return
    assert rlp.encode(found) == data


@pytest.mark.parametrize(
    "text", ["", "80", "c1", "c0c0", "8100", "b800", "b90037", "f800", "c28100", "f90001"]
)
def test_rlp_that_is_no_list_or_not_the_shortest_is_refused(text):
    with pytest.raises(MalformedRlp):
        [content(each) for each in items(bytes.fromhex(text))]


# any history


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_honest_history_is_followed_and_every_forged_block_in_it_is_noticed(data):
    """Validators come and go by votes; a block is sealed by any quorum; one block may be a forger's."""
    scheme = data.draw(st.sampled_from([QBFT, IBFT2]))
    current = first = validators(data.draw(st.integers(1, 7)))
    honest, changes, vote = [], 0, None
    for number in range(1, data.draw(st.integers(2, 8))):
        if vote is not None and data.draw(st.booleans()):
            after = set(current) | {vote[0]} if vote[1] else set(current) - {vote[0]}
            changes += after != set(current)
            current = tuple(sorted(after))
        add = data.draw(st.booleans()) or len(current) == 1
        choice = [each for each in validators(10) if (each in current) is not add]
        vote = (data.draw(st.sampled_from(choice)), add) if choice and data.draw(st.booleans()) else None
        signers = data.draw(st.permutations(current))[
            : data.draw(st.integers(quorum(len(current)), len(current)))
        ]
        honest.append((number, current, signers, vote))
    made = [header(n, scheme, listed, by, vote=vote) for n, listed, by, vote in honest]
    found = follow(first, *made)
    assert not told(found)
    assert (found.blocks, len(found.changes), found.last) == (len(made), changes, current)

    number, listed, by, vote = data.draw(st.sampled_from(honest))
    outsiders = [each for each in validators(10) if each not in listed]
    forged = data.draw(
        st.sampled_from(
            [
                header(number, scheme, listed, by[: quorum(len(listed)) - 1], vote=vote),
                header(number, scheme, listed, [*by[1:], by[1] if len(by) > 1 else by[0], by[0]], vote=vote),
                header(number, scheme, listed, [*by[1:], *outsiders[:1]] if outsiders else [], vote=vote),
                header(number, scheme, tuple(sorted(outsiders)), outsiders, vote=vote)
                if outsiders
                else made[0],
            ]
        )
    )
    if forged != made[number - 1] and forged != made[0]:
        bent = [*made[: number - 1], forged, *made[number:]]
        assert number in {block for block, _, _ in told(follow(first, *bent))}
