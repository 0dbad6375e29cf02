"""The README's commands, and those of deciding together, in one shell, as a new user would type them."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import ROOT, command, left_behind

pytestmark = pytest.mark.timeout(400)
READMES = ("README.md", "README.zh-CN.md")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)


def clean_up(directory: Path) -> None:
    """Whatever the commands left running when one of them failed."""
    down = command("net", "down", "--dir", str(directory / "net"))
    subprocess.run(down, check=False, capture_output=True)
    for each in psutil.process_iter():  # the node that joins is named by a path relative to this one
        with contextlib.suppress(psutil.Error, OSError):
            if Path(each.cwd()).is_relative_to(directory.resolve()):
                each.kill()


def environment() -> dict[str, str]:
    scripts = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": os.pathsep.join([scripts, os.environ["PATH"]]), "COLUMNS": "120"}


def test_the_commands_of_the_readme_do_what_it_says(tmp_path):
    *story, end = blocks("README.md", "sh")
    commands = [*story, *blocks("docs/consortium.md", "sh"), end]
    script = "set -euo pipefail\n" + "\n".join(commands)
    out = tmp_path / "out"
    try:
        with out.open("wb") as file:
            done = subprocess.run(
                ["bash", "-c", script],
                cwd=tmp_path,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=380,
                check=False,
            )
    finally:
        left = left_behind(tmp_path)
        clean_up(tmp_path)
    said = out.read_text(errors="replace")
    assert done.returncode == 0, said[-6000:]
    assert re.search(r"rows\W+301", said), said[-3000:]
    assert left == []


@pytest.mark.parametrize("name", READMES)
def test_every_make_target_that_is_named_exists(name):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|\$ )make ([a-z]+)", (ROOT / name).read_text(encoding="utf-8")))
    assert {"demo", "test"} <= named <= targets


@pytest.mark.parametrize("name", READMES)
def test_every_link_into_the_repository_leads_somewhere(name):
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    missing = [link for link in links if not (ROOT / link).exists()]
    assert missing == []


def test_both_readmes_show_the_same_first_screen():
    first = [blocks(name, "console")[0] for name in READMES]
    assert first[0] == first[1]
    assert "@@" not in first[0]
