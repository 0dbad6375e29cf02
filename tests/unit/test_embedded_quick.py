"""The quicker loop does what py-evm's own does: whatever the program, the same outcome at the same price."""

import pytest
from eth.vm import opcode_values as op
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.opcodes import PRAGUE_OPCODES
from hypothesis import given, settings
from hypothesis import strategies as st

from sealtrace.contracts.embedded.genesis import Genesis
from sealtrace.contracts.embedded.machine import AuditedChain, ZeroFeeChain, create_chain
from sealtrace.contracts.embedded.quick import COMBINE, COSTS, QUICK, QuickVM, plan

CHAIN = create_chain(Genesis(7, 1_700_000_000))
HEADER = CHAIN.create_header_from_parent(CHAIN.get_canonical_head(), timestamp=1_700_000_100)
EDGES = (0, 1, 2, 31, 32, 33, 64, 255, 256, 257, 2**64, 2**255 - 1, 2**255, 2**256 - 32, 2**256 - 1)
WORDS = st.one_of(st.sampled_from(EDGES), st.integers(0, 2**256 - 1))
PUSHES = WORDS.map(lambda number: bytes([op.PUSH32]) + number.to_bytes(32))
SMALL = st.integers(0, 70).map(lambda number: bytes([op.PUSH1, number]))
PLAIN = st.sampled_from(sorted(PRAGUE_OPCODES)).map(lambda code: bytes([code]))
STACKED = st.sampled_from([bytes([code]) for code in (*QUICK, op.MSTORE8, op.SHA3, op.SLOAD, op.GAS)])
PROGRAMS = st.lists(st.one_of(PUSHES, SMALL, SMALL, STACKED, PLAIN), max_size=60).map(b"".join)


def outcome(machine, code, gas=200_000, data=b""):
    """What comes of a call of ``code``: failure or output, gas, stack, memory, logs."""
    vm = CHAIN.get_vm(HEADER)
    vm = machine(
        header=HEADER,
        chaindb=CHAIN.chaindb,
        chain_context=vm.chain_context,
        consensus_context=vm.consensus_context,
    )
    computation = vm.execute_bytecode(
        origin=b"\1" * 20,
        gas_price=0,
        gas=gas,
        to=b"\2" * 20,
        sender=b"\1" * 20,
        value=0,
        data=data,
        code=code,
        code_address=b"\2" * 20,
    )
    if computation.is_error:
        burnt = computation.should_burn_gas
        return "failed", computation.get_gas_remaining(), b"" if burnt else bytes(computation.output)
    return (
        "done",
        computation.get_gas_remaining(),
        bytes(computation.output),
        [int.from_bytes(v) if isinstance(v, bytes) else v for v in computation._stack.values],
        bytes(computation._memory._bytes),
        computation.get_log_entries(),
        computation.get_gas_refund(),
    )


@settings(max_examples=1_500, deadline=None)
@given(PROGRAMS, st.integers(0, 3_000) | st.just(200_000), st.binary(max_size=80))
def test_any_program_has_the_same_outcome_as_in_py_evms_own_loop(code, gas, data):
    assert outcome(QuickVM, code, gas, data) == outcome(PragueVM, code, gas, data)


@pytest.mark.parametrize("code", sorted(COMBINE))
def test_every_pair_of_edges_combines_alike(code):
    for top in EDGES:
        for below in EDGES:
            push = bytes([op.PUSH32])
            program = push + below.to_bytes(32) + push + top.to_bytes(32) + bytes([code])
            assert outcome(QuickVM, program) == outcome(PragueVM, program)


@pytest.mark.parametrize(
    "program",
    [
        "5b600056",  # for ever
        "6004565b5b00",  # into a push's number, then not
        "600456605b00",
        "60055660005b00",
        "6001600757005b600a00",
        "7f5b",  # a push that the program ends in
        "60",
        "5f" * 1024,
        "5f" * 1025,
        "5f" + "80" * 1024,
        "90",
        "8f",
        "50",
        "57",
        "6001" * 15 + "9e",
        "6001" * 16 + "9f",
        "7f" + "ff" * 32 + "51",  # memory beyond all gas
        "60016000526020600020600051",
        "6000600060006000600060025af1",  # calls itself
        "600035602035600051525a",
        "0c",  # no instruction
        "fe",
        "600160005260206000fd",
        "",
    ],
)
@pytest.mark.parametrize("gas", [0, 2, 3, 5, 8, 9, 11, 20, 5_000, 60_000])
def test_programs_at_the_edges_have_the_same_outcome(program, gas):
    code = bytes.fromhex(program)
    assert outcome(QuickVM, code, gas, b"\5" * 40) == outcome(PragueVM, code, gas, b"\5" * 40)


def test_the_price_of_an_instruction_is_py_evms():
    assert all(COSTS[code] == PRAGUE_OPCODES[code].gas_cost for code in QUICK)
    assert all(cost == -1 for code, cost in enumerate(COSTS) if code not in QUICK)


def test_a_jump_destination_inside_a_pushs_number_is_none():
    destinations, pushed = plan(bytes.fromhex("605b5b615b5b5b60"))
    assert destinations == {2, 6}
    assert pushed == {0: 0x5B, 3: 0x5B5B, 7: 0}


def test_producers_execute_quickly_and_audits_with_py_evms_own_loop():
    assert issubclass(ZeroFeeChain.get_vm_class_for_block_number(0), QuickVM)
    assert not issubclass(AuditedChain.get_vm_class_for_block_number(0), QuickVM)
    assert isinstance(CHAIN, AuditedChain)
