"""OpenMined's PSI (Diffie-Hellman on P-256, in C++), where the extra ``bench`` is installed.

Both parties in one process and nothing sent over a network, which flatters it; its one thread does not.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

CHANCE_OF_A_WRONG_MATCH = 1e-9
INSTALL = "pip install 'sealtrace[bench]'"


def installed() -> bool:
    """Whether it is there."""
    return importlib.util.find_spec("private_set_intersection") is not None


def intersect(mine: Sequence[str], theirs: Sequence[str]) -> list[str]:
    """Return which of ``mine`` are among ``theirs``, in their order."""
    import private_set_intersection.python as psi

    client, server = psi.client.CreateWithNewKey(True), psi.server.CreateWithNewKey(True)
    setup = server.CreateSetupMessage(CHANCE_OF_A_WRONG_MATCH, len(mine), theirs, psi.DataStructure.RAW)
    response = server.ProcessRequest(client.CreateRequest(mine))
    return [mine[at] for at in sorted(client.GetIntersection(setup, response))]
