"""Load a bundle from a folder: every byte is read once, digested, and only then used.

Code is executed from the bytes that were digested, never from the folder again, so a file changed in
between changes nothing.
"""

from __future__ import annotations

import io
import os
import re
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, Protocol, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sealtrace.algorithms.functions import Arithmetic, Function, FunctionProgram
from sealtrace.algorithms.importing import LIBRARIES, import_member
from sealtrace.algorithms.output_policy import OutputPolicy
from sealtrace.protocol.bundle import MAX_BYTES, MAX_MEMBERS, BadBundle, Member, PackedBundle, pack
from sealtrace.protocol.canonical import NotCanonical, parse
from sealtrace.protocol.identifiers import Hex32
from sealtrace.protocol.secret_config import Commitments

MANIFEST = "manifest.json"
IGNORED = frozenset({"__pycache__", ".git"})
ROLES = ("party", "requester", "scheduler", "assumption")
"""What every algorithm's disclosure speaks of, at the least."""
TEE_PROTOCOLS = ("HARDWARE", "SIMULATED")
"""How a TEE algorithm may run; ``Protection`` has each as ``TEE_...``."""
SHIPPED = Path(__file__).resolve().parent


class BundleMissing(FileNotFoundError):
    """There is no bundle in this folder; fetch it with ``sealtrace algorithm show``."""


class BundleAltered(ValueError):
    """A bundle's bytes are not those of the digest; fetch it again from its provider."""

    def __init__(self, folder: Path, expected: Hex32, observed: Hex32) -> None:
        super().__init__(f"bundle {folder.name}: digest {observed}, the chain says {expected}")
        self.expected = expected
        self.observed = observed


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class LockedRuntime(_Document):
    """What a TEE algorithm runs on: a Python, and the exact packages that a file of the bundle lists."""

    python: Annotated[str, Field(pattern=r"^3\.[0-9]+$")]
    lock: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}\.txt$")]
    """Lines ``name==version``; empty lines and lines beginning with ``#`` are passed over."""


class Manifest(_Document):
    """A bundle's ``manifest.json``: what it is, what it needs, and who learns what."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    version: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")]
    title: str
    engine: Literal["psi", "mpc", "tee"]
    protocols: list[str]
    entry: str | None = None
    libraries: list[Annotated[str, Field(pattern=r"^[a-z]{1,32}$")]] = Field(default_factory=list)
    arithmetic: Arithmetic | None = None
    function: Function | None = None
    runtime: LockedRuntime | None = None
    seeds: (
        dict[Annotated[str, Field(pattern=r"^[a-z]{1,32}$")], Annotated[int, Field(ge=0, lt=2**32)]] | None
    ) = None
    output_policy: OutputPolicy | None = None
    secret_config: Commitments | None = None
    """Commitments to secret values, by name; the values come to an enclave as an input of kind ``config``."""
    inputs: dict[str, Any]
    params: dict[str, Any]
    outputs: dict[str, Any]
    learns: dict[str, str]

    @model_validator(mode="after")
    def _whole(self) -> Manifest:
        if silent := [role for role in ROLES if not self.learns.get(role)]:
            raise ValueError(f"learns says nothing of {', '.join(silent)}: say it, even if it is nothing")
        if self.engine == "mpc" and self.entry is None:
            raise ValueError("an mpc algorithm names its entry module")
        if why := self._why_no_tee():
            raise ValueError(why)
        if self.function is not None:
            if self.arithmetic is None or self.entry is None:
                raise ValueError("a function needs an entry module and arithmetic")
            if why := self.function.why_out_of_range(self.arithmetic):
                raise ValueError(why)
        return self

    def _why_no_tee(self) -> str | None:
        of_tee: dict[str, Any] = {
            "runtime": self.runtime,
            "seeds": self.seeds,
            "output_policy": self.output_policy,
        }
        if self.engine != "tee":
            of_tee["secret_config"] = self.secret_config
            given = [name for name, each in of_tee.items() if each is not None]
            return f"only a tee algorithm has {', '.join(given)}" if given else None
        if lacking := [name for name, each in {"entry": self.entry, **of_tee}.items() if each is None]:
            return f"a tee algorithm names its {', '.join(lacking)}"
        if self.function is not None or self.arithmetic is not None:
            return "a tee algorithm has no function and no arithmetic: it defines run(inputs, params)"
        if not self.protocols or set(self.protocols) - set(TEE_PROTOCOLS):
            return f"a tee algorithm's protocols are of {', '.join(TEE_PROTOCOLS)}"
        return None

    @property
    def results(self) -> tuple[str, ...]:
        """What a PSI bundle gives the requester: a grant for the bundle allows these and nothing else."""
        found = self.params.get("properties", {}).get("result", {}).get("enum", [])
        return tuple(each for each in found if isinstance(each, str))


class Program(Protocol):
    """What an MPC bundle's entry module defines. All but ``prepare``'s table is public.

    ``held`` is the number of rows of each of the step's inputs, ``rows`` what they make jointly. A program
    that works on shared values of other steps also defines what :mod:`sealtrace.algorithms.values` reads.
    """

    def check(self, params: Mapping[str, Any], inputs: Sequence[str]) -> None:
        """Refuse parameters that make no sense, by ``ValueError`` in words."""

    def columns(self, params: Mapping[str, Any], name: str) -> Sequence[tuple[str, str]]:
        """Return (column, kind) of what is read of input ``name``.

        Kinds are ``category`` and ``number``, and with ``nullable_`` before them where cells may be empty:
        such a number is NaN then, such a category an empty text.
        """

    def rows(self, params: Mapping[str, Any], held: Mapping[str, int]) -> int:
        """Return the joint number of rows; refuse inputs that do not fit together by ``ValueError``."""

    def arithmetic(self, params: Mapping[str, Any], rows: int) -> tuple[str, int]:
        """Return field and fraction bits for so many rows; refuse by ``ValueError`` what would not fit."""

    def arrays(
        self, params: Mapping[str, Any], held: Mapping[str, int]
    ) -> Sequence[tuple[str, str, tuple[int, ...], str]]:
        """Return (array, input, shape, type) of every secret array, in the order of the arguments.

        Types are ``int64`` and ``float64``.
        """

    def prepare(
        self, params: Mapping[str, Any], name: str, table: Mapping[str, Any], held: Mapping[str, int]
    ) -> dict[str, Any]:
        """Turn one owner's columns into its arrays, locally and in the clear.

        Refuses values by ``ValueError``; an attribute ``reason`` is the rule's name.
        """

    def program(self, params: Mapping[str, Any], held: Mapping[str, int]) -> Callable[..., Any]:
        """Return the joint function of all arrays, to be compiled."""

    def outputs(self, params: Mapping[str, Any]) -> Sequence[str]:
        """Return the names of what the joint function returns."""

    def finish(self, params: Mapping[str, Any], rows: int, opened: Mapping[str, Any]) -> dict[str, Any]:
        """Name and scale the opened outputs for the requester."""


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle; its digest covers every byte it will use."""

    folder: Path
    manifest: Manifest
    members: Mapping[str, bytes]
    packed: PackedBundle

    @property
    def digest(self) -> Hex32:
        """What the chain holds for this algorithm."""
        return self.packed.digest

    @cached_property
    def program(self) -> Program:
        """The entry module, or what its ``compute`` makes with the manifest's ``function``.

        It is executed from the digested bytes, as are the modules that it imports.

        Raises:
            BadBundle: the bundle has no entry, or it does not load.
        """
        manifest = self.manifest
        if manifest.engine == "tee":
            raise BadBundle(f"bundle {manifest.name} runs in the sandbox only, not in this process")
        if manifest.function is not None and manifest.arithmetic is not None:
            return FunctionProgram(manifest.function, manifest.arithmetic, self._module)
        return cast(Program, self._module())

    @property
    def pins(self) -> dict[str, str]:
        """The exact packages of a TEE algorithm, by name; other bundles have none.

        Raises:
            BadBundle: the file is not in the bundle, or a line is no ``name==version``.
        """
        runtime = self.manifest.runtime
        if runtime is None:
            return {}
        if runtime.lock not in self.members:
            raise BadBundle(f"bundle {self.manifest.name} has no {runtime.lock}: its runtime names it")
        text = self.members[runtime.lock].decode("utf-8", "replace")
        lines = (line.strip() for line in text.splitlines())
        return dict(_pin(line, runtime.lock) for line in lines if line and not line.startswith("#"))

    def _module(self) -> ModuleType:
        name, entry = self.manifest.name, self.manifest.entry
        if entry is None or entry not in self.members:
            raise BadBundle(f"bundle {name} has no program to run")
        try:
            return import_member(self.digest, name, self.members, entry)
        except Exception as error:
            raise BadBundle(f"bundle {name} does not load: {error}") from error


def load(folder: Path, *, expected: Hex32 | None = None) -> Bundle:
    """Read a bundle from ``folder`` and, where ``expected`` is given, hold it to that digest.

    The libraries that its manifest includes come from the folder where they lie in it (a node's copy is
    whole), else from those that ship with us; their bytes belong to the bundle and to its digest.

    Raises:
        BundleMissing: the folder, its manifest, or a library is not there.
        BadBundle: a symbolic link, a special file, a path that is not clean, a bad manifest.
        BundleAltered: the digest is another.
    """
    members = {member.path: member for member in _members(folder)}
    if MANIFEST not in members:
        raise BundleMissing(f"{folder}: there is no {MANIFEST}")
    try:
        config = parse(members[MANIFEST].content)
        manifest = Manifest.model_validate(config)
    except (NotCanonical, ValidationError) as error:
        raise BadBundle(f"{folder.name}/{MANIFEST}: {error}") from error
    for name in manifest.libraries:
        members |= _library(folder, members, name)
    packed = pack(members.values(), config)
    if expected is not None and packed.digest != expected:
        raise BundleAltered(folder, expected, packed.digest)
    contents = {path: member.content for path, member in members.items()}
    return Bundle(folder, manifest, contents, packed)


def shipped() -> dict[str, Path]:
    """Return the folders of the bundles that ship with this distribution, by name."""
    found = (entry for entry in sorted(SHIPPED.iterdir()) if (entry / MANIFEST).is_file())
    return {entry.name: entry for entry in found}


def located(source: Path) -> Path:
    """The folder of a bundle, given as a folder or as the name of one that ships with us.

    A folder comes first. The path is returned unchanged where it is neither: who reads it will say so.
    """
    return source if source.exists() else shipped().get(str(source), source)


def write(bundle: Bundle, folder: Path) -> None:
    """Write all of a bundle, its libraries included, into a new folder: the bytes that were digested."""
    folder.mkdir()
    with tarfile.open(fileobj=io.BytesIO(bundle.packed.layer), mode="r:") as archive:
        archive.extractall(folder, filter="data")


def _pin(line: str, file: str) -> tuple[str, str]:
    found = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.+!_-]*)", line)
    if found is None:
        raise BadBundle(f"{file}: {line[:80]!r} is no name==version")
    return found[1], found[2]


def _library(folder: Path, members: Mapping[str, Member], name: str) -> dict[str, Member]:
    """What library ``name`` adds to ``members``: nothing where the bundle holds it already."""
    place = f"{LIBRARIES}/{name}"
    if any(path.startswith(f"{place}/") for path in members):
        return {}
    if not (SHIPPED / name).is_dir() or (SHIPPED / name / MANIFEST).exists():
        raise BundleMissing(f"{folder.name}: there is no library {name!r}: put it into {place}")
    found = (Member(f"{place}/{each.path}", each.content) for each in _members(SHIPPED / name))
    return {each.path: each for each in found}


def _members(folder: Path) -> Iterator[Member]:
    if not folder.is_dir():
        raise BundleMissing(f"{folder}: there is no such folder")
    left, count = MAX_BYTES, 0
    for path in _files(folder):
        content, executable = _read(path, left)
        left, count = left - len(content), count + 1
        if count > MAX_MEMBERS:
            raise BadBundle(f"{folder}: more than {MAX_MEMBERS} files")
        yield Member(path.relative_to(folder).as_posix(), content, executable)


def _files(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            if entry.name in IGNORED:
                continue
            if entry.is_symlink():
                raise BadBundle(f"{entry.path}: a bundle has no symbolic links")
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            else:
                yield Path(entry.path)


def _read(path: Path, limit: int) -> tuple[bytes, bool]:
    """Read one regular file without following a link that appeared since it was listed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadBundle(f"{path}: a bundle has regular files only")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise BadBundle(f"{path}: the bundle is larger than {MAX_BYTES} bytes")
    return content, bool(status.st_mode & stat.S_IXUSR)
