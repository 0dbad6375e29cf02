"""The accounts library, imported here and nowhere else.

One of its dependencies raises Python's recursion limit to 100,000. JSON of so many brackets then overflows
the C stack of the parser and takes the process with it, so the limit is put back once the import is done.
"""

from __future__ import annotations

import sys

from eth_account import Account
from eth_account.messages import encode_defunct

__all__ = ["RECURSION_LIMIT", "Account", "encode_defunct"]

RECURSION_LIMIT = 1_000
sys.setrecursionlimit(RECURSION_LIMIT)
