"""What can go wrong with the embedded chain, grouped by whose problem it is."""

from pathlib import Path


class EmbeddedChainError(Exception):
    """Anything the embedded chain reports about itself."""


# The operator's problem: the directory, the disk or the machine.


class PortTaken(EmbeddedChainError):
    """Another process listens where this chain should."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"{host}:{port} is in use by another process; choose another --port "
            "(0 takes a free one) or stop that process"
        )


class AddressUnusable(EmbeddedChainError):
    """The host to listen at does not exist here."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(
            f"cannot listen at {host}:{port}: {reason}; "
            "give --host an address of this machine and --port one this user may open"
        )


class DirectoryLocked(EmbeddedChainError):
    """Another producer holds this directory."""

    def __init__(self, directory: Path, holder: str) -> None:
        super().__init__(
            f"{directory} is held by another producer (process {holder}); two producers would "
            "fork the chain, so stop that one or choose another --dir"
        )


class DirectoryUnusable(EmbeddedChainError):
    """The directory cannot be created, read or written."""

    def __init__(self, directory: Path, reason: str) -> None:
        super().__init__(f"cannot use {directory}: {reason}; choose a --dir this user may read and write")


class NoChainHere(EmbeddedChainError):
    """There is no chain in this directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            f"{directory} holds no chain (no genesis.json); create one with `init --dir "
            f"{directory}` or give the directory of an existing chain"
        )


class GenesisInvalid(EmbeddedChainError):
    """A genesis file that does not say what it must."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"the genesis file is not usable: {problem}; correct it, or copy the file of the "
            "chain you want to join"
        )


class GenesisMismatch(EmbeddedChainError):
    """The genesis asked for is not the one this directory was created with."""

    def __init__(self, what: str, here: object, asked: object) -> None:
        super().__init__(
            f"{what} is {here} in this directory and {asked} was asked for; a chain keeps its "
            "genesis for life, so leave the option out or choose another --dir"
        )


class StoreCorrupted(EmbeddedChainError):
    """The database no longer holds what the chain needs."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"the chain's database is damaged: {problem}; stop the producer, keep the files, and "
            "restore a copy of the directory (then check it with `verify`)"
        )


class StoreUnavailable(EmbeddedChainError):
    """The database cannot be read or written, though nothing says it is damaged."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"the chain's database cannot be used: {problem}; check the disk, the permissions of "
            "the directory, and that no other program has the file open for writing"
        )


class StoreFull(EmbeddedChainError):
    """The disk takes no more."""

    def __init__(self) -> None:
        super().__init__(
            "the disk of the chain's producer is full: nothing of this request was kept; free "
            "space there and send it again"
        )


# The producer's problem: what an auditor holds against it.


class BlockRejected(EmbeddedChainError):
    """A block that does not follow from the blocks before it."""

    def __init__(self, number: int, expected: str, observed: str) -> None:
        self.number = number
        self.expected = expected
        self.observed = observed
        super().__init__(
            f"block {number} does not follow from its parent: expected {expected}, observed "
            f"{observed}; do not rely on this chain from that block on, and compare with a head "
            "another party kept"
        )


class SourceUnreachable(EmbeddedChainError):
    """The endpoint to verify did not answer as an embedded chain does."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(
            f"{url} cannot be verified: {problem}; check the address, and that an embedded chain "
            "(not another kind of endpoint) serves it"
        )


# One transaction's problem: found while building a block, settled by dropping it.


class PoisonTransaction(EmbeddedChainError):
    """A transaction the machine cannot execute at all."""

    def __init__(self, transaction: bytes, cause: Exception) -> None:
        self.transaction = transaction
        self.reason = f"the machine failed on it: {type(cause).__name__}: {cause}"
        super().__init__(
            f"transaction 0x{transaction.hex()} was dropped, {self.reason}; report it with the "
            "raw transaction, and send another"
        )


# The caller's problem: answered over JSON-RPC.

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
SERVER_ERROR = -32000
"""What Ethereum clients answer for a refused transaction or a missing header."""
DISK_FULL = -32003
LIMIT_EXCEEDED = -32005
EXECUTION_REVERTED = 3


class RpcError(EmbeddedChainError):
    """An answer that is an error: code, sentence and, for a revert, its data."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        self.code = code
        self.message = message
        self.data = data
        super().__init__(message)


def invalid_params(problem: str) -> RpcError:
    """Return the answer to parameters that are not what the method takes."""
    return RpcError(INVALID_PARAMS, f"invalid params: {problem}")


def refused(reason: str) -> RpcError:
    """Return the answer to a transaction or call that cannot be taken as it is."""
    return RpcError(SERVER_ERROR, reason)
