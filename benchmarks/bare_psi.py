"""One party of an alignment on SPU alone: ``python bare_psi.py RANK HOSTS PROTOCOL TABLE FOLDER``.

Prints the number of common rows, and how long the link took to connect: a direct link that finds its peer
not listening yet loses seconds, at random, and a baseline should be the best there could be. The parties wait
for each other before they connect. Nothing but SPU is imported, and nothing is checked.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

RECEIVE_MS = 1_200_000


def main(rank: int, hosts: list[str], protocol: str, table: str, folder: Path) -> None:
    """Intersect by the column ``id`` over a direct link, and leave the common rows in ``folder``."""
    import spu
    from spu import libspu, psi

    quiet = libspu.logging.LogOptions()
    quiet.log_level = libspu.logging.LogLevel.ERROR
    libspu.logging.setup_logging(quiet)
    description = spu.link.Desc()
    description.recv_timeout_ms = RECEIVE_MS
    for at, host in enumerate(hosts):
        description.add_party(str(at), host)
    _meet(rank, len(hosts), folder)
    began = time.perf_counter()
    link = spu.link.create_brpc(description, rank)
    link.barrier()  # without it the engine aborts now and then
    connecting_s = time.perf_counter() - began
    config = psi.PsiExecuteConfig(
        psi.PsiProtocolConfig(
            protocol=psi.parse_protocol(f"PROTOCOL_{protocol}"),
            receiver_rank=0,
            broadcast_result=True,
            ecdh_params=psi.EcdhParams(curve=psi.parse_curve_type("CURVE_25519")),
            rr22_params=psi.Rr22Rarams(low_comm_mode=False),
        ),
        psi.InputParams(path=table, selected_keys=["id"], keys_unique=True),
        psi.OutputParams(path=str(folder / f"out-{rank}.csv"), disable_alignment=True),
    )
    said = psi.psi_execute(config, link)
    link.barrier()
    print(f"common {said.intersection_count} connecting {connecting_s:.3f}", flush=True)


def _meet(rank: int, count: int, folder: Path) -> None:
    """Wait until all parties have come here."""
    (folder / f"here-{rank}").touch()
    while not all((folder / f"here-{each}").exists() for each in range(count)):
        time.sleep(0.002)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2].split(","), *sys.argv[3:5], Path(sys.argv[5]))
    os._exit(0)  # the engine's threads have no clean end
