"""JSON from strangers, bounded in depth before it is parsed.

py-evm raises Python's recursion limit so far that the parser, which recurses in C, would overflow
its stack and take the process with it.
"""

import json
import re

MAX_DEPTH = 32
"""A batch of ``eth_getLogs`` needs 5, an answer with whole blocks 6."""

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


def loads(body: bytes, max_depth: int = MAX_DEPTH) -> object:
    """Parse JSON; raises :class:`ValueError` when it is none or nested deeper than allowed."""
    depth = 0
    for token in _TOKEN.finditer(body):
        bracket = body[token.start()]
        if bracket in b"[{":
            depth += 1
            if depth > max_depth:
                raise ValueError(f"nested deeper than {max_depth}")
        elif bracket in b"]}":
            depth -= 1
    return json.loads(body, parse_constant=_refuse)


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")
