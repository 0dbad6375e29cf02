"""The machine with a quicker loop: py-evm's rules, with the plain instructions carried out in place.

py-evm calls four functions for each instruction, and nine instructions of ten only move or combine numbers
on the stack. Those are done here; each other one is handed to py-evm, with stack, memory, gas and place as
they would be. What a failure is called may differ where two apply; that it fails and costs all gas may not.

Producers and readers execute with this loop. A verification executes with py-evm's own, so that every
replay also checks this module.
"""

import operator
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

from eth.exceptions import FullStack, InsufficientStack, InvalidJumpDestination, OutOfGas
from eth.vm import opcode_values as op
from eth.vm.code_stream import CodeStream
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.forks.prague.opcodes import PRAGUE_OPCODES
from eth.vm.forks.prague.state import PragueState

STACK_LIMIT = 1_024
WORD: Final = 2**256 - 1
PLANS_KEPT = 64

Combine = Callable[[int, int], int]


def _shl(shift: int, value: int) -> int:
    return (value << shift) & WORD if shift < 256 else 0


def _shr(shift: int, value: int) -> int:
    return value >> shift if shift < 256 else 0


COMBINE: Final[dict[int, Combine]] = {
    op.ADD: lambda top, below: (top + below) & WORD,
    op.MUL: lambda top, below: (top * below) & WORD,
    op.SUB: lambda top, below: (top - below) & WORD,
    op.DIV: lambda top, below: top // below if below else 0,
    op.MOD: lambda top, below: top % below if below else 0,
    op.LT: lambda top, below: int(top < below),
    op.GT: lambda top, below: int(top > below),
    op.EQ: lambda top, below: int(top == below),
    op.AND: operator.and_,
    op.OR: operator.or_,
    op.XOR: operator.xor,
    op.SHL: _shl,
    op.SHR: _shr,
}
"""What takes two numbers and leaves one."""


def _cost(code: int) -> int:
    instruction: Any = PRAGUE_OPCODES[code]
    return int(instruction.gas_cost)


SINGLE = (
    op.ISZERO, op.NOT, op.POP, op.MLOAD, op.MSTORE, op.JUMP, op.JUMPI, op.JUMPDEST, op.PUSH0, op.CALLDATALOAD,
)  # fmt: skip
FAMILIES = (range(op.PUSH1, op.PUSH32 + 1), range(op.DUP1, op.DUP16 + 1), range(op.SWAP1, op.SWAP16 + 1))
QUICK: Final = frozenset((*COMBINE, *SINGLE, *(code for family in FAMILIES for code in family)))
COSTS: Final = tuple(_cost(code) if code in QUICK else -1 for code in range(256))
"""The gas of each instruction done here, as py-evm has it; -1 for what is left to py-evm."""
_STOP, _PUSH0, _DUP1, _SWAP1 = op.STOP, op.PUSH0, op.DUP1, op.SWAP1
_MLOAD, _MEMORY = op.MLOAD, (op.MLOAD, op.MSTORE)
_JUMP, _JUMPS = op.JUMP, (op.JUMP, op.JUMPI)
_POP, _ISZERO, _NOT, _CALLDATALOAD = op.POP, op.ISZERO, op.NOT, op.CALLDATALOAD
_COMBINE: Final = tuple(COMBINE.get(code) for code in range(256))


@lru_cache(maxsize=PLANS_KEPT)
def plan(code: bytes) -> tuple[frozenset[int], dict[int, int]]:
    """Where a program may jump to, and the number that each of its pushes pushes, by place."""
    destinations, pushed, place = set(), {}, 0
    while place < len(code):
        instruction = code[place]
        if op.PUSH1 <= instruction <= op.PUSH32:
            size = instruction - op.PUSH1 + 1
            pushed[place] = int.from_bytes(code[place + 1 : place + 1 + size].ljust(size, b"\0"))
            place += size
        elif instruction == op.JUMPDEST:
            destinations.add(place)
        place += 1
    return frozenset(destinations), pushed


class QuickCode(CodeStream):
    """A program that carries out its plain instructions as it is read, and gives py-evm the others."""

    __slots__ = ("_computation",)

    def __init__(self, code: bytes, computation: "QuickComputation") -> None:
        super().__init__(code)
        self._computation = computation

    def __iter__(self) -> Iterator[int]:
        """Give the instructions that are py-evm's to do, the rest being done before each."""
        try:
            yield from self._run()
        except IndexError as error:  # of the stack: no other list here is read at a place that may not be
            raise InsufficientStack("an instruction wants more than the stack holds") from error

    def _run(self) -> Iterator[int]:  # long, because a call for each instruction is what it avoids
        code, size = self._raw_code_bytes, len(self._raw_code_bytes)
        destinations, pushed = plan(code)
        computation: Any = self._computation
        stack, memory, meter = computation._stack.values, computation._memory, computation._gas_meter
        given = computation.msg.data_as_bytes
        pop, push = stack.pop, stack.append
        place, gas = self.program_counter, meter.gas_remaining
        while True:
            instruction = code[place] if place < size else _STOP
            cost = COSTS[instruction]
            if cost < 0:
                self.program_counter, meter.gas_remaining = place + 1, gas
                yield instruction
                place, gas = self.program_counter, meter.gas_remaining
                continue
            gas -= cost
            if gas < 0:
                raise OutOfGas(f"Out of gas: {-gas} too little for instruction 0x{instruction:02x}")
            if instruction >= _PUSH0:
                if instruction >= _SWAP1:
                    other = _SWAP1 - instruction - 2
                    stack[-1], stack[other] = stack[other], stack[-1]
                else:
                    if len(stack) >= STACK_LIMIT:
                        raise FullStack("Stack limit reached")
                    if instruction >= _DUP1:
                        push(stack[_DUP1 - instruction - 1])
                    elif instruction == _PUSH0:
                        push(0)
                    else:
                        push(pushed[place])
                        place += instruction - _PUSH0
            elif (combine := _COMBINE[instruction]) is not None:
                top, below = pop(), pop()
                if type(top) is not int:
                    top = int.from_bytes(top)
                if type(below) is not int:
                    below = int.from_bytes(below)
                push(combine(top, below))
            elif instruction in _JUMPS:
                to = pop()
                taken = instruction == _JUMP or _is_true(pop())
                if taken:
                    if type(to) is not int:
                        to = int.from_bytes(to)
                    if to not in destinations:
                        raise InvalidJumpDestination("Invalid Jump Destination")
                    place = to
                    continue
            elif instruction in _MEMORY:
                at = pop()
                if type(at) is not int:
                    at = int.from_bytes(at)
                if at + 32 > len(memory._bytes):
                    meter.gas_remaining = gas
                    computation.extend_memory(at, 32)
                    gas = meter.gas_remaining
                if instruction == _MLOAD:
                    push(int.from_bytes(memory._bytes[at : at + 32]))
                else:
                    value = pop()
                    word = value.to_bytes(32) if type(value) is int else value[-32:].rjust(32, b"\0")
                    memory._bytes[at : at + 32] = word
            elif instruction == _CALLDATALOAD:
                at = pop()
                if type(at) is not int:
                    at = int.from_bytes(at)
                push(int.from_bytes(given[at : at + 32].ljust(32, b"\0")))
            elif instruction == _ISZERO:
                push(int(not _is_true(pop())))
            elif instruction == _POP:
                pop()
            elif instruction == _NOT:
                value = pop()
                push(WORD - (value if type(value) is int else int.from_bytes(value)))
            place += 1


def _is_true(value: Any) -> bool:
    return bool(value if type(value) is int else int.from_bytes(value))


class QuickComputation(PragueComputation):
    """A computation whose program is a :class:`QuickCode`."""

    def __init__(self, state: Any, message: Any, transaction_context: Any) -> None:
        super().__init__(state, message, transaction_context)
        self.code = QuickCode(message.code, self)


class QuickState(PragueState):
    """The state of :class:`QuickVM`."""

    computation_class = QuickComputation


class QuickVM(PragueVM):
    """Prague, with the quicker loop."""

    _state_class = QuickState
