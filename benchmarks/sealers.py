"""One sealing or opening of a file, as a process of its own: ours, and age's in Rust behind Python (pyrage).

``python sealers.py ours|pyrage seal|open KEY SOURCE TARGET``. The key file is made by ``key``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.sealed_stream import KEY_BYTES, PREFIX_BYTES, Header, seal, unseal

HEADER = Header(*(Hex32("0x" + each * 64) for each in "1234"))


def ours(what: str, key: Path, source: Path, target: Path) -> None:
    """Seal or open in chunks of 1 MiB."""
    with source.open("rb", buffering=0) as reads, target.open("wb", buffering=0) as writes:
        if what == "seal":
            seal(reads, writes, key.read_bytes(), os.urandom(PREFIX_BYTES), HEADER)
        else:
            unseal(reads, writes, key.read_bytes())


def pyrage(what: str, key: Path, source: Path, target: Path) -> None:
    """The same by age, to one X25519 recipient."""
    import pyrage

    identity = pyrage.x25519.Identity.from_str(key.read_text())
    if what == "seal":
        pyrage.encrypt_file(str(source), str(target), [identity.to_public()])
    else:
        pyrage.decrypt_file(str(source), str(target), [identity])


def make_key(side: str, path: Path) -> None:
    """A fresh key of a side."""
    if side == "ours":
        path.write_bytes(os.urandom(KEY_BYTES))
    else:
        import pyrage

        path.write_text(str(pyrage.x25519.Identity.generate()))


if __name__ == "__main__":
    side, what, *paths = sys.argv[1:]
    if what == "key":
        make_key(side, Path(paths[0]))
    else:
        {"ours": ours, "pyrage": pyrage}[side](what, *map(Path, paths))
