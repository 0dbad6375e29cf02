"""A party's engine to which few tokens are many: ``python -m engine_in_parts JOBDIR``."""

from __future__ import annotations

import sys

from sealtrace.node.engines import intersection, party
from sealtrace.node.engines.workplace import live

ROWS = 3

if __name__ == "__main__":
    intersection.PART_ROWS = ROWS
    live(sys.argv[1:], party.run)
