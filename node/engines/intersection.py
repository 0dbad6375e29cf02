"""What the engine finds common to the tokens of a link's parties: files in, files out, many tokens in parts.

Files hold only the beginnings of tokens; every token that is found is whole again afterwards.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from sealtrace.node.engines.errors import BadJob, ProtocolViolated
from sealtrace.node.engines.keys import numbers_at
from sealtrace.node.engines.link import Link, translated
from sealtrace.protocol.keys import TOKEN_BYTES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Tokens = NDArray[np.bytes_]

HEADER = "token"
GIVEN_BYTES = 11
"""What the engine is given of each token. Its time and memory grow with each character of a key; with 88 bits
the chance that two different keys of 10M rows a party meet is 2^-41, about that of its own protocols to err.
Where all parties learn the result they compare whole tokens, so that even then they would notice."""
DIGITS = 15
"""Of so many bytes in base64, unfilled."""
GIVEN = f"S{GIVEN_BYTES}"
PART_ROWS = 1 << 19
"""Tokens of the smaller party in one part, on average: two parts at once need the memory of one of the
engine's own buckets, which it makes twice as large."""
BUCKET_ROWS = PART_ROWS + (PART_ROWS >> 1)
"""The engine's own buckets within a part: one, unless the other party has far more tokens."""
STREAMS = 2
WRITTEN_AT_ONCE = 1 << 16
READ_AT_ONCE = 1 << 22


Another = Callable[[int], Link]
"""Makes one more link among the same parties, by its number."""


def intersect(
    link: Link, another: Another | None, protocol: str, tokens: Tokens, folder: Path, only: int | None
) -> Tokens | None:
    """Return which of ``tokens``, which ascend, all parties of the link have, in that order.

    ``only`` is the job's rank of the only party that learns it; ``None`` is returned to others. With
    ``another`` many tokens are compared in parts, two at a time: the sides of one comparison wait for each
    other much of the time. A part is those tokens that begin alike, as one of the engine's own buckets is
    those whose hashes do, and as with these the parties see how many each has there. The party with fewer
    tokens decides on the number of parts, so that this is never a count of few.

    Raises:
        PeerUnreachable: one was silent.
        ProtocolViolated: the engine gave up, or found something else than tokens.
        BadJob: two tokens are alike to the engine.
    """
    import numpy as np

    counts = _told(link, [len(tokens)])
    parts = max(1, -(-min(map(min, counts)) // PART_ROWS)) if another is not None else 1
    pieces = _split(tokens, parts)
    if parts > 1:
        counts = _told(link, list(map(len, pieces)))
    shared = [at for at, sizes in enumerate(zip(*counts, strict=True)) if 0 not in sizes]
    links = [link, *(another(at) for at in range(1, min(parts, STREAMS)) if another is not None)]
    asked = partial(_ask, protocol, only)
    found = dict(_at_once(links, asked, {at: pieces[at] for at in shared}, folder))
    for each in links:
        each.finish()
    if only not in (None, link.me):
        return None
    common: Tokens = np.concatenate([tokens[:0], *(found[at] for at in shared)])
    return common


def _told(link: Link, counts: list[int]) -> list[list[int]]:
    """Return as many counts from each party as this one tells the others."""
    said = link.gather(counts)
    for each in said:
        if not isinstance(each, list) or len(each) != len(counts):
            raise ProtocolViolated("a peer does not say how many keys it has")
        if not all(isinstance(count, int) and count >= 0 for count in each):
            raise ProtocolViolated("a peer does not say how many keys it has")
    return said


def _split(tokens: Tokens, parts: int) -> list[Tokens]:
    """Return the tokens, which ascend, in parts by their first 8 bytes, the same ones at every party."""
    import numpy as np

    starts = [(at * 2**64 // parts).to_bytes(8, "big") for at in range(1, parts)]
    return np.split(tokens, np.searchsorted(tokens, np.array(starts, dtype=tokens.dtype)))


def _at_once(
    links: Sequence[Link],
    ask: Callable[[Link, Tokens, Path], Tokens],
    pieces: Mapping[int, Tokens],
    folder: Path,
) -> Iterator[tuple[int, Tokens]]:
    """Ask for all pieces by their numbers, each over one of the links, which every party chooses alike.

    Where one fails the others are left to end with the process.
    """
    folder.mkdir(mode=0o700)
    answers: SimpleQueue[tuple[int, Tokens] | BaseException] = SimpleQueue()

    def work(link: Link, numbers: Sequence[int]) -> None:
        try:
            for at in numbers:
                answers.put((at, ask(link, pieces[at], folder / str(at))))
        except BaseException as error:
            answers.put(error)

    numbers = list(pieces)
    for first, link in enumerate(links):
        Thread(target=work, args=(link, numbers[first :: len(links)]), daemon=True).start()
    for _ in numbers:
        answer = answers.get()
        if isinstance(answer, BaseException):
            raise answer
        yield answer


def _ask(protocol: str, only: int | None, link: Link, tokens: Tokens, folder: Path) -> Tokens:
    """Return which of the tokens the engine finds at all parties; none where this one does not learn it."""
    from spu import psi

    folder.mkdir(mode=0o700)
    given, found = folder / "in.csv", folder / "out.csv"
    shortened = _shortened(tokens)
    _write(given, shortened)
    config = psi.PsiExecuteConfig(
        psi.PsiProtocolConfig(
            protocol=psi.parse_protocol(protocol),
            receiver_rank=0 if only is None else link.ranks.index(only),
            bucket_size=BUCKET_ROWS,
            broadcast_result=only is None,
            ecdh_params=psi.EcdhParams(curve=psi.parse_curve_type("CURVE_25519")),
            rr22_params=psi.Rr22Rarams(low_comm_mode=False),
        ),
        psi.InputParams(path=str(given), selected_keys=[HEADER], keys_unique=True),
        psi.OutputParams(path=str(found), disable_alignment=True),  # in the order of the input: ascending
    )
    link.barrier()  # without it the engine aborts now and then
    with translated(link.parties):
        psi.psi_execute(config, link.context)
    if only not in (None, link.me):
        return tokens[:0]
    whole: Tokens = tokens[positions(shortened, _read(found))]
    return whole


def _shortened(tokens: Tokens) -> Tokens:
    """Return what the engine is given of tokens, which ascend; it is no copy.

    Raises:
        BadJob: two of them are given alike, and it would mistake one for the other.
    """
    import numpy as np

    form = np.dtype({"names": ["given"], "formats": [GIVEN], "itemsize": TOKEN_BYTES})
    shortened: Tokens = tokens.view(form)["given"]
    high = numbers_at(tokens, 0)
    near = np.flatnonzero(high[1:] == high[:-1])
    if (shortened[near + 1] == shortened[near]).any():
        raise BadJob(
            "two ids of this party's table stand for the same in this task, by rare chance: ask for it again"
        )
    return shortened


def _write(path: Path, tokens: Tokens) -> None:
    with path.open("wb") as file:
        file.write(HEADER.encode() + b"\n")
        for start in range(0, len(tokens), WRITTEN_AT_ONCE):
            file.write(_lines(tokens[start : start + WRITTEN_AT_ONCE]))


def _lines(tokens: Tokens) -> bytes:
    """Return a line of base64 for each: 12 bytes, of which the last one is zero, make 16 digits."""
    import numpy as np

    filled = np.zeros((len(tokens), GIVEN_BYTES + 1), dtype=np.uint8)
    filled[:, :GIVEN_BYTES] = np.frombuffer(tokens.tobytes(), dtype=np.uint8).reshape(-1, GIVEN_BYTES)
    digits = binascii.b2a_base64(filled.tobytes(), newline=False)
    lines = np.frombuffer(digits, dtype=np.uint8).reshape(-1, DIGITS + 1).copy()
    lines[:, DIGITS] = ord("\n")
    return lines.tobytes()


def _read(path: Path) -> Tokens:
    """Read the engine's output; it writes none where nothing is common.

    Raises:
        ProtocolViolated: there is another line than a token.
    """
    import numpy as np

    found = bytearray()
    if path.exists():
        with path.open("rb") as file:
            file.readline()
            while lines := file.read(READ_AT_ONCE) + file.readline():
                found += _of_lines(lines)
    tokens = np.frombuffer(found, dtype=GIVEN)
    return tokens if bool((tokens[1:] > tokens[:-1]).all()) else np.sort(tokens)


def _of_lines(lines: bytes) -> bytes:
    """Return the beginnings of tokens of whole lines of base64, in quotation marks or not."""
    import numpy as np

    digits = lines.replace(b'"', b"")
    if not digits.endswith(b"\n"):
        digits += b"\n"
    if len(digits) % (DIGITS + 1):
        raise ProtocolViolated("the engine's common rows are no tokens")
    filled = np.frombuffer(digits, dtype=np.uint8).reshape(-1, DIGITS + 1).copy()
    if (filled[:, DIGITS] != ord("\n")).any():
        raise ProtocolViolated("the engine's common rows are no tokens")
    filled[:, DIGITS] = ord("A")
    try:
        whole = binascii.a2b_base64(filled.tobytes(), strict_mode=True)
    except binascii.Error as error:
        raise ProtocolViolated("the engine's common rows are no tokens") from error
    return np.frombuffer(whole, dtype=np.uint8).reshape(-1, GIVEN_BYTES + 1)[:, :GIVEN_BYTES].tobytes()


def positions(mine: Tokens, common: Tokens) -> NDArray[np.int64]:
    """Return where in ``mine`` each of ``common`` stands; both ascend.

    Raises:
        ProtocolViolated: one does not stand there.
    """
    import numpy as np

    high, wanted = numbers_at(mine, 0), numbers_at(common, 0)
    at = np.searchsorted(high, wanted)
    apart = np.flatnonzero(mine[np.minimum(at, len(mine) - 1)] != common)
    while len(apart):  # tokens whose first 8 bytes are equal stand side by side
        at[apart] += 1
        if (at[apart] >= len(mine)).any() or (high[at[apart]] != wanted[apart]).any():
            raise ProtocolViolated("the common rows hold one that this party never gave")
        apart = apart[mine[at[apart]] != common[apart]]
    return at
