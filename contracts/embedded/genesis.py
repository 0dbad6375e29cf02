"""The genesis: what a chain is created with and an auditor rebuilds it from."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NewType

from .errors import DirectoryUnusable, GenesisInvalid, NoChainHere

Wei = NewType("Wei", int)

FILE_NAME = "genesis.json"
DEFAULT_CHAIN_ID = 420_042
DEFAULT_GAS_LIMIT = 60_000_000
"""Half of it (30 million) is what one block may use; see the package's docstring."""
MIN_GAS_LIMIT = 1_000_000
MAX_GAS_LIMIT = 2**63 - 1
MAX_CHAIN_ID = 2**53 - 1
"""What JSON readers of every language keep exact."""
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_WEI = 2**256 - 1
ADDRESS = re.compile(r"0x[0-9a-f]{40}\Z")
FIELDS = {"chainId", "timestamp", "gasLimit", "alloc"}


@dataclass(frozen=True, slots=True)
class Genesis:
    """A chain's first block, as far as it is a choice.

    ``timestamp`` is in unix seconds; ``alloc`` maps lower-case ``0x`` addresses to wei, and may
    be empty because the network asks no fee.
    """

    chain_id: int
    timestamp: int
    gas_limit: int = DEFAULT_GAS_LIMIT
    alloc: Mapping[str, Wei] = field(default_factory=dict)

    @property
    def extra_data(self) -> bytes:
        """The chain id in the header, so that two networks never share a genesis hash."""
        return b"sealtrace:" + str(self.chain_id).encode()


def to_json(genesis: Genesis) -> dict[str, Any]:
    """Return the content of the genesis file; wei are decimal strings."""
    return {
        "chainId": genesis.chain_id,
        "timestamp": genesis.timestamp,
        "gasLimit": genesis.gas_limit,
        "alloc": {account: str(genesis.alloc[account]) for account in sorted(genesis.alloc)},
    }


def from_json(content: object) -> Genesis:
    """Decode the content of a genesis file strictly; raises :class:`GenesisInvalid`."""
    if not isinstance(content, dict) or set(content) != FIELDS:
        raise GenesisInvalid(f"it must be an object with exactly the fields {sorted(FIELDS)}")
    return Genesis(
        chain_id=_whole("chainId", content["chainId"], 1, MAX_CHAIN_ID),
        timestamp=_whole("timestamp", content["timestamp"], 0, 2**63 - 1),
        gas_limit=_whole("gasLimit", content["gasLimit"], MIN_GAS_LIMIT, MAX_GAS_LIMIT),
        alloc=_alloc(content["alloc"]),
    )


def read(directory: Path) -> Genesis:
    """Read the genesis of ``directory``; raises :class:`NoChainHere` or GenesisInvalid."""
    path = directory / FILE_NAME
    if not path.is_file():
        raise NoChainHere(directory)
    return read_file(path)


def read_file(path: Path) -> Genesis:
    """Read a genesis file; raises :class:`GenesisInvalid` or :class:`DirectoryUnusable`."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise GenesisInvalid(f"{path} is larger than {MAX_FILE_BYTES} bytes")
        return from_json(json.loads(path.read_bytes(), object_pairs_hook=_unique))
    except OSError as error:
        raise DirectoryUnusable(path, str(error)) from error
    except (ValueError, RecursionError) as error:
        raise GenesisInvalid(f"{path} is not JSON ({error})") from error


def write(directory: Path, genesis: Genesis) -> None:
    """Write the genesis file so that it is there whole or not at all, even after a crash."""
    draft = directory / f"{FILE_NAME}.new"
    try:
        with draft.open("w") as file:
            json.dump(to_json(genesis), file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(directory / FILE_NAME)
        _sync(directory)
    except OSError as error:
        raise DirectoryUnusable(directory, str(error)) from error


def _sync(directory: Path) -> None:
    """Put the directory's new entry on disk, which syncing the file does not."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise GenesisInvalid("it names a field or an account twice")
    return content


def _whole(name: str, value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise GenesisInvalid(f"{name} must be a whole number from {low} to {high}, not {value!r}")
    return value


def _alloc(content: object) -> dict[str, Wei]:
    if not isinstance(content, dict):
        raise GenesisInvalid("alloc must map addresses to amounts in wei")
    return {_address(account): _wei(account, amount) for account, amount in content.items()}


def _address(text: str) -> str:
    if not ADDRESS.match(text):
        raise GenesisInvalid(f"alloc names {text!r}; write 0x and 40 lower-case hex digits")
    return text


def _wei(account: str, amount: object) -> Wei:
    if not isinstance(amount, str) or not re.fullmatch(r"0|[1-9][0-9]{0,77}", amount):
        raise GenesisInvalid(f"the wei of {account} must be a decimal string, not {amount!r}")
    if int(amount) > MAX_WEI:
        raise GenesisInvalid(f"the wei of {account} do not fit in 256 bits")
    return Wei(int(amount))
