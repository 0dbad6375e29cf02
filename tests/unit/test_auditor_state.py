"""Storage proofs: walks down a trie against an independent trie, and what a lying endpoint makes of them."""

from __future__ import annotations

import pytest
import rlp
from auditor_story import CHAIN_ID, CONSORTIUM, DIRECTORY, contract, honest
from fake_endpoint import FakeEndpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from trie import HexaryTrie

from sealtrace.auditor.headers import keccak
from sealtrace.auditor.replay import replay
from sealtrace.auditor.state import BadProof, ProvenSlots, proven
from sealtrace.auditor.storage import prove_snapshot
from sealtrace.contracts.abi import GENERATION
from sealtrace.protocol.identifiers import Hex32, hex32

ADDRESSES = {"Directory": DIRECTORY, "Consortium": CONSORTIUM} | {n: contract(n) for n in GENERATION}
EMPTY = keccak(b"\x80")

assert CHAIN_ID  # the story's chain is the one that these contracts are on


def trie_of(pairs):
    trie = HexaryTrie({})
    for key, value in pairs.items():
        trie[keccak(key)] = value
    return trie


def proof_of(trie, key):
    return [rlp.encode(node) for node in trie.get_proof(keccak(key))]


KEYS = st.binary(min_size=1, max_size=4)
PAIRS = st.dictionaries(KEYS, st.binary(min_size=1, max_size=40), max_size=40)


@settings(max_examples=100, deadline=None)
@given(PAIRS, KEYS)
def test_what_a_trie_holds_and_what_it_does_not_is_proven(pairs, other):
    trie = trie_of(pairs)
    for key in (*pairs, other):
        assert proven(trie.root_hash, key, proof_of(trie, key)) == pairs.get(key)


@settings(max_examples=100, deadline=None)
@given(PAIRS.filter(bool), st.data())
def test_a_node_left_out_or_changed_proves_nothing_else(pairs, data):
    """A proof in which one node was altered, or is missing, is refused: it never proves another value."""
    trie, key = trie_of(pairs), data.draw(st.sampled_from(sorted(pairs)))
    proof = proof_of(trie, key)
    place = data.draw(st.integers(0, len(proof) - 1))
    node = bytearray(proof[place])
    node[data.draw(st.integers(0, len(node) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for changed in (
        [*proof[:place], *proof[place + 1 :]],
        [*proof[:place], bytes(node), *proof[place + 1 :]],
    ):
        with pytest.raises(BadProof, match="is missing"):
            proven(trie.root_hash, key, changed)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=3))
def test_nodes_that_are_none_are_refused(nodes):
    with pytest.raises(BadProof):
        proven(keccak(nodes[0]), b"key", nodes) if nodes[0] != b"\x80" else proven(b"", b"key", nodes)


def test_an_empty_trie_holds_nothing():
    assert proven(EMPTY, b"key", []) is None
    assert proven(EMPTY, b"key", [b"\x80"]) is None


@pytest.mark.parametrize(
    "node",
    [
        [b"\x00", b""],  # an extension of no length
        [b"\x40", b"v"],  # a flag that is none
        [b"\x05", b"v"],  # padding that is not zero
        [b"", b"v"],
        [b"a", b"b", b"c"],
    ],
)
def test_nodes_of_no_known_shape_are_refused(node):
    encoded = rlp.encode(node)
    with pytest.raises(BadProof):
        proven(keccak(encoded), b"key", [encoded])


# an endpoint


class State(FakeEndpoint):
    """A state of contracts with some slots, and an endpoint that proves it; ``bend`` changes an answer."""

    def __init__(self, slots, bend=lambda answer: answer):
        self.tries = {address: HexaryTrie({}) for address in ADDRESSES.values()}
        for (address, slot), value in slots.items():
            self.tries[address][keccak(slot.to_bytes(32, "big"))] = rlp.encode(value)
        accounts = {a: rlp.encode([1, 0, trie.root_hash, EMPTY]) for a, trie in self.tries.items()}
        self.accounts = trie_of({bytes.fromhex(a[2:]): account for a, account in accounts.items()})
        self.bend, self.asked = bend, 0

    @property
    def root(self):
        return hex32(self.accounts.root_hash)

    def result(self, method, params):
        assert method == "eth_getProof"
        address, slots, _ = params
        self.asked += 1
        told = [{"proof": _hex(proof_of(self.tries[address], bytes.fromhex(s[2:])))} for s in slots]
        account = _hex(proof_of(self.accounts, bytes.fromhex(address[2:])))
        return self.bend({"result": {"accountProof": account, "storageProof": told}})


def _hex(nodes):
    return ["0x" + node.hex() for node in nodes]


def words(state, wanted, root=None):
    with state.rpc() as rpc:
        slots = ProvenSlots(rpc, 9, root or state.root)
        assert [slots.word(*each) for each in wanted] == [0] * len(wanted)
        slots.fetch()
        assert not slots.fetch()
        return [slots.word(*each) for each in wanted]


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.integers(0, 2**256 - 1), st.integers(1, 2**256 - 1), max_size=12), st.integers(0, 9)
)
def test_slots_are_what_the_state_root_commits_to(held, other):
    state = State({(CONSORTIUM, slot): value for slot, value in held.items()})
    wanted = [(CONSORTIUM, slot) for slot in (*held, other)]
    assert words(state, wanted) == [*held.values(), held.get(other, 0)]


def test_many_slots_are_asked_for_in_few_questions():
    state = State({(CONSORTIUM, slot): slot + 1 for slot in range(250)})
    assert words(state, [(CONSORTIUM, slot) for slot in range(250)]) == list(range(1, 251))
    assert state.asked == 3


def test_a_state_root_that_is_another_proves_nothing():
    with pytest.raises(BadProof):
        words(State({}), [(CONSORTIUM, 1)], Hex32("0x" + "11" * 32))


def other_slots(answer):
    answer["result"]["storageProof"].reverse()
    return answer


def without(name):
    def bend(answer):
        del answer["result"][name]
        return answer

    return bend


def told(name, value):
    def bend(answer):
        answer["result"][name] = value
        return answer

    return bend


LIES = {
    "proofs of other slots": other_slots,
    "no proof of the account": told("accountProof", []),
    "no proofs of slots": told("storageProof", []),
    "a proof of one slot for two": lambda a: told("storageProof", a["result"]["storageProof"][:1])(a),
    "proofs that are no lists": told("storageProof", [{"proof": 1}, {"proof": 2}]),
    "proofs that are no hexadecimal": told("accountProof", ["0xzz"]),
    "proofs that are left out": without("accountProof"),
    "no object": lambda _: {"result": 7},
    "slots that are no objects": told("storageProof", [1, 2]),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_endpoint_whose_proofs_do_not_hold_is_found_out(lie):
    state = State({(CONSORTIUM, 1): 5, (CONSORTIUM, 2): 6}, LIES[lie])
    with pytest.raises(BadProof):
        words(state, [(CONSORTIUM, 1), (CONSORTIUM, 2)])


def test_the_snapshot_of_an_empty_state_holds_nothing_and_each_of_its_slots_is_proven():
    story = honest()
    world, state = replay(story.events), State({})
    with state.rpc() as rpc:
        snapshot, proof = prove_snapshot(rpc, [ADDRESSES], world, story.block(), state.root)
    assert (proof.why, proof.problems, proof.state_root) == ("", (), state.root)
    assert proof.slots > len(world.tasks) + len(world.grants)
    assert snapshot is not None
    assert set(snapshot.tasks.values()) == set(snapshot.grants.values()) == {None}
    assert snapshot.consortium.members == ()
    assert snapshot.generations == ()


@pytest.mark.parametrize(
    ("bend", "problem", "why"),
    [
        (told("accountProof", []), "proofs that lead to the state root", ""),
        (
            lambda _: {"error": {"code": -32601, "message": "no"}},
            "",
            "the endpoint gives no proofs of storage",
        ),
        (lambda _: {}, "", "no proofs of storage could be read (EndpointTalksNonsense)"),
    ],
)
def test_without_proofs_that_hold_there_is_no_proven_snapshot_and_a_reason(bend, problem, why):
    story = honest()
    state = State({}, bend)
    with state.rpc() as rpc:
        snapshot, proof = prove_snapshot(rpc, [ADDRESSES], replay(story.events), story.block(), state.root)
    assert snapshot is None
    assert why in proof.why
    assert bool(proof.problems) is bool(problem)
    assert all(problem in expected for _, expected, _ in proof.problems)


def test_a_slot_that_no_contract_of_ours_would_hold_is_a_problem_and_no_crash():
    story = honest()
    world = replay(story.events)
    nodes = ADDRESSES["NodeRegistry"]
    key = next(iter(world.nodes)).id
    slot = int.from_bytes(keccak(bytes.fromhex(key[2:]).rjust(32, b"\0") + (1).to_bytes(32, "big")), "big")
    state = State({(nodes, slot): 0xEE})  # a status that there is not
    with state.rpc() as rpc:
        snapshot, proof = prove_snapshot(rpc, [ADDRESSES], world, story.block(), state.root)
    assert snapshot is None
    ((_, expected, _),) = proof.problems
    assert expected == "records as our contracts keep them"
