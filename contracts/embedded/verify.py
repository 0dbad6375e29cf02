"""Execute a chain again from its genesis, and see whether the same blocks come out.

Everything is computed from the genesis file and the raw blocks: transactions, signatures, state,
receipts, headers. What the producer says about them is only compared.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from eth.abc import BlockAPI, BlockHeaderAPI
from eth_utils.exceptions import ValidationError

from . import genesis as genesis_file
from . import shallow_json
from .errors import BlockRejected, GenesisInvalid, NoChainHere, SourceUnreachable
from .genesis import Genesis
from .machine import ZeroFeeChain, create_chain, decode_block, deep_calls, why_not_ours
from .store import FILE_NAME, named_errors, open_copy

REQUEST_SECONDS = 30.0
BLOCKS_PER_REQUEST = 50
MAX_ANSWER_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Verification:
    """A chain that was executed again without a difference."""

    chain_id: int
    blocks: int
    """Genesis not counted: also the head's number."""
    transactions: int
    genesis_hash: str
    head_hash: str
    head_time: int
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class RawBlock:
    """A block as a producer hands it out: its RLP and the hash it is said to have."""

    raw: bytes
    hash: bytes | None = None


def reexecute(genesis: Genesis, blocks: Iterable[RawBlock]) -> Verification:
    """Execute ``blocks`` (genesis first) on a chain made from ``genesis``.

    Raises :class:`BlockRejected` at the first that does not follow.
    """
    with deep_calls():
        return _reexecuted(genesis, blocks)


def _reexecuted(genesis: Genesis, blocks: Iterable[RawBlock]) -> Verification:
    chain = create_chain(genesis)
    first = chain.get_canonical_head()
    transactions = 0
    for number, raw in enumerate(blocks):
        block = _decoded(number, raw)
        if number == 0:
            _require_equal(0, first.hash, block.hash)
        else:
            _import(chain, number, block)
            transactions += len(block.transactions)
    return _verified(genesis, first, chain.get_canonical_head(), transactions)


def verify_directory(directory: Path) -> Verification:
    """Verify the chain in a directory, also while its producer runs.

    Raises :class:`BlockRejected`, :class:`NoChainHere`, :class:`StoreCorrupted`.
    """
    genesis = genesis_file.read(directory)
    if not (directory / FILE_NAME).exists():
        raise NoChainHere(directory)
    store = open_copy(directory)
    try:
        with named_errors():
            return reexecute(genesis, (RawBlock(b.raw, b.hash) for b in store.blocks()))
    finally:
        store.close()


def verify_endpoint(url: str, genesis: Genesis | None = None, last: int | None = None) -> Verification:
    """Verify the chain an embedded producer serves at ``url``, up to the block ``last`` or its head of now.

    Without ``genesis`` the endpoint's own is taken: compare the genesis hash in the result with
    the one you know. Raises :class:`BlockRejected` or :class:`SourceUnreachable`.
    """
    source = _Endpoint(url)
    return reexecute(genesis or source.genesis(), source.blocks(last))


def _decoded(number: int, raw: RawBlock) -> BlockAPI:
    try:
        block = decode_block(raw.raw)
    except ValueError as error:
        raise BlockRejected(number, "a block in RLP", str(error)) from error
    if raw.hash is not None:
        _require_equal(number, raw.hash, block.hash)
    return block


def _import(chain: ZeroFeeChain, number: int, block: BlockAPI) -> None:
    parent = chain.get_canonical_head()
    if block.header.parent_hash != parent.hash:
        raise BlockRejected(number, f"parent {parent.hex_hash}", f"parent 0x{block.header.parent_hash.hex()}")
    if problem := why_not_ours(block.header, parent):
        raise BlockRejected(number, *problem)
    _require_chain_id(chain, number, block)
    try:
        chain.import_block(block)
    except (ValidationError, ValueError) as error:
        raise BlockRejected(number, "what the rules give", " ".join(str(error).split())) from error
    _require_equal(number, chain.get_canonical_head().hash, block.hash)


def _require_chain_id(chain: ZeroFeeChain, number: int, block: BlockAPI) -> None:
    """Check what py-evm leaves to whoever accepts a transaction."""
    for transaction in block.transactions:
        if transaction.chain_id != chain.chain_id:
            raise BlockRejected(
                number,
                f"transactions signed for chain {chain.chain_id}",
                f"0x{transaction.hash.hex()} for chain {transaction.chain_id}",
            )


def _require_equal(number: int, expected: bytes, observed: bytes) -> None:
    if expected != observed:
        raise BlockRejected(number, f"hash 0x{expected.hex()}", f"hash 0x{observed.hex()}")


def _verified(
    genesis: Genesis, first: BlockHeaderAPI, head: BlockHeaderAPI, transactions: int
) -> Verification:
    return Verification(
        chain_id=genesis.chain_id,
        blocks=head.block_number,
        transactions=transactions,
        genesis_hash=first.hex_hash,
        head_hash=head.hex_hash,
        head_time=head.timestamp,
    )


class _Endpoint:
    """The few questions a verification asks over JSON-RPC."""

    def __init__(self, url: str) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise SourceUnreachable(url, "it is no http or https address")
        self._url = url

    def genesis(self) -> Genesis:
        """Ask for the genesis file's content."""
        try:
            return genesis_file.from_json(self._ask([("sealtrace_genesis", [])])[0])
        except GenesisInvalid as error:
            raise SourceUnreachable(self._url, str(error)) from error

    def blocks(self, last: int | None = None) -> Iterator[RawBlock]:
        """Ask for every block up to ``last`` or the head of now, a few per request."""
        head = self._number(self._ask([("eth_blockNumber", [])])[0]) if last is None else last
        for first in range(0, head + 1, BLOCKS_PER_REQUEST):
            numbers = range(first, min(first + BLOCKS_PER_REQUEST, head + 1))
            answers = self._ask([("debug_getRawBlock", [hex(n)]) for n in numbers])
            yield from (RawBlock(self._bytes(answer)) for answer in answers)

    def _ask(self, questions: list[tuple[str, list[object]]]) -> list[Any]:
        batch = [
            {"jsonrpc": "2.0", "id": i, "method": method, "params": given}
            for i, (method, given) in enumerate(questions)
        ]
        answers = self._post(batch)
        if not isinstance(answers, list) or len(answers) != len(batch):
            raise SourceUnreachable(self._url, "it does not answer batches")
        return [self._result(i, answer) for i, answer in enumerate(answers)]

    def _post(self, batch: list[dict[str, object]]) -> object:
        import httpx

        try:
            with httpx.stream("POST", self._url, json=batch, timeout=REQUEST_SECONDS) as response:
                response.raise_for_status()
                return shallow_json.loads(self._limited(response.iter_bytes()))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise SourceUnreachable(self._url, str(error) or type(error).__name__) from error

    def _limited(self, parts: Iterator[bytes]) -> bytes:
        body = bytearray()
        for part in parts:
            body += part
            if len(body) > MAX_ANSWER_BYTES:
                raise SourceUnreachable(self._url, f"an answer is over {MAX_ANSWER_BYTES} bytes")
        return bytes(body)

    def _result(self, identity: int, answer: object) -> Any:
        if not isinstance(answer, dict) or answer.get("id") != identity:
            raise SourceUnreachable(self._url, "its answers do not fit the questions")
        if "result" not in answer:
            raise SourceUnreachable(self._url, f"it answered {answer.get('error')}")
        return answer["result"]

    def _number(self, value: object) -> int:
        try:
            return int(str(value), 16)
        except ValueError as error:
            raise SourceUnreachable(self._url, f"its head number is {value!r}") from error

    def _bytes(self, value: object) -> bytes:
        try:
            return bytes.fromhex(str(value).removeprefix("0x"))
        except ValueError as error:
            raise SourceUnreachable(self._url, "a raw block is not hex") from error
