"""Import a bundle's modules from its digested bytes: the folder is not looked at again."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType

from sealtrace.protocol.identifiers import Hex32

PREFIX = "sealtrace_bundle_"
SUFFIX = ".py"
LIBRARIES = "libraries"
"""The folder inside a bundle that holds the libraries it includes."""
OWN = "bundle"


class _Members(MetaPathFinder, InspectLoader):
    """Finds a bundle's modules under a package named after its digest: its own in ``bundle``, and beside
    it each library that it includes, so that ``from ..learning import design`` finds it there."""

    def __init__(self, package: str, title: str, members: Mapping[str, bytes]) -> None:
        self.package, self._title, self._members = package, title, members
        found = {path.split("/")[1] for path in members if path.startswith(f"{LIBRARIES}/")}
        self._packages = {package, f"{package}.{OWN}", *(f"{package}.{each}" for each in found)}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in self._packages:
            return ModuleSpec(fullname, self, is_package=True)
        if (file := self._file(fullname)) in self._members:
            return ModuleSpec(fullname, self, origin=f"{self._title}/{file}")
        return None

    def is_package(self, fullname: str) -> bool:
        return fullname in self._packages

    def get_source(self, fullname: str) -> str:
        return "" if fullname in self._packages else self._members[self._file(fullname)].decode("utf-8")

    def get_code(self, fullname: str) -> CodeType:
        where = f"{self._title}/{self._file(fullname)}"
        return self.source_to_code(self.get_source(fullname), where)

    def _file(self, fullname: str) -> str:
        package, _, module = fullname.removeprefix(f"{self.package}.").partition(".")
        return f"{module}{SUFFIX}" if package == OWN else f"{LIBRARIES}/{package}/{module}{SUFFIX}"


def import_member(digest: Hex32, title: str, members: Mapping[str, bytes], entry: str) -> ModuleType:
    """Import module ``entry`` of a bundle; ``from . import other`` finds the modules beside it.

    Raises:
        Exception: whatever the module raises while it is imported.
    """
    package = PREFIX + digest[2:]
    if not any(isinstance(each, _Members) and each.package == package for each in sys.meta_path):
        sys.meta_path.append(_Members(package, title, members))
    return import_module(f"{package}.{OWN}.{entry.removesuffix(SUFFIX)}")
