"""Executing an embedded chain again from its genesis, up to the last block of an audit."""

from __future__ import annotations

from pathlib import Path

from sealtrace.auditor.case import Execution, ProofProblem
from sealtrace.protocol.identifiers import hex32
from sealtrace.protocol.records import BlockRef


class CannotExecute(RuntimeError):
    """Blocks cannot be executed here: install sealtrace[chain], name a genesis file that can be read, or
    leave out --reexecute."""


def execute_again(url: str, last: BlockRef, genesis: Path | None = None) -> Execution:
    """Execute every block up to ``last`` again, on a chain made from ``genesis`` or from what the endpoint
    says is its genesis.

    An endpoint that is no embedded chain's does not give the blocks: that is told, and is no error.

    Raises:
        CannotExecute: the libraries are missing, or the genesis file is none.
    """
    try:
        from sealtrace.contracts.embedded import genesis as genesis_file
        from sealtrace.contracts.embedded.errors import BlockRejected, EmbeddedChainError, SourceUnreachable
        from sealtrace.contracts.embedded.verify import verify_endpoint
    except ImportError as cause:
        raise CannotExecute(f"py-evm is not here ({cause}): pip install 'sealtrace[chain]'") from cause
    try:
        held = genesis_file.read_file(genesis) if genesis else None
    except EmbeddedChainError as cause:
        raise CannotExecute(f"{genesis}: {cause}") from cause
    try:
        found = verify_endpoint(url, held, last.number)
    except BlockRejected as wrong:
        return Execution(why="", problem=ProofProblem(wrong.number, wrong.expected, wrong.observed))
    except SourceUnreachable as cause:
        return Execution(why=f"the endpoint does not hand out its blocks to be executed again: {cause}")
    problem = None
    if (found.blocks, found.head_hash) != (last.number, last.hash):
        observed = f"block {found.blocks} with hash {found.head_hash}"
        problem = ProofProblem(last.number, f"block {last.number} with hash {last.hash}", observed)
    return Execution("", hex32(found.genesis_hash), found.blocks, found.transactions, problem)
