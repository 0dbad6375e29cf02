"""What npm brings, and when it has to bring it again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sealtrace.contracts import compiler


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    pinned = {
        "": {},
        "node_modules/tool": {"version": "1.0.0"},
        "node_modules/@x/tool-here": {"version": "1.0.0", "os": ["linux"], "optional": True},
        "node_modules/@x/tool-elsewhere": {"version": "1.0.0", "os": ["win32"], "optional": True},
    }
    (tmp_path / "package-lock.json").write_text(json.dumps({"packages": pinned}))
    for name in ("tool", "@x/tool-here"):
        provide(tmp_path, name, "1.0.0")
    return tmp_path


def provide(packages: Path, name: str, version: str) -> None:
    place = packages / "node_modules" / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "package.json").write_text(json.dumps({"version": version}))


def test_a_package_for_another_platform_is_not_missing(packages: Path) -> None:
    assert compiler._installed(packages)


@pytest.mark.parametrize("name", ["tool", "@x/tool-here"])
def test_another_version_than_the_pinned_one_is_replaced(packages: Path, name: str) -> None:
    provide(packages, name, "2.0.0")
    assert not compiler._installed(packages)


def test_a_package_for_all_platforms_is_missing_where_it_is_not_there(packages: Path) -> None:
    (packages / "node_modules" / "tool" / "package.json").unlink()
    assert not compiler._installed(packages)


def test_a_platform_without_anvil_is_told_so(packages: Path) -> None:
    assert compiler.anvil(packages) is None
