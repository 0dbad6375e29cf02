"""The systemd units: one for each long-running command, and each command exists."""

from __future__ import annotations

import shlex
from configparser import RawConfigParser
from pathlib import Path

import pytest
from typer.main import get_command

from sealtrace.cli import build

UNITS = sorted((Path(__file__).parents[2] / "deploy" / "systemd").glob("*.service"))


def read(unit):
    parser = RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read(unit)
    return parser


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_a_command_that_exists(unit):
    group, name, *options = shlex.split(read(unit)["Service"]["ExecStart"])[1:]
    command = get_command(build(group)).commands[group].commands[name]
    assert options[0] in {each for parameter in command.params for each in parameter.opts}


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_unit_writes_nowhere_but_in_its_directory_and_is_not_root(unit):
    service = read(unit)["Service"]
    assert service["User"].startswith("sealtrace-")
    assert service["ProtectSystem"] == "strict"
    assert shlex.split(service["ExecStart"])[-1] == f"/var/lib/{service['StateDirectory']}"


def test_every_process_of_a_network_has_a_unit():
    parts = {"node-api", "node-worker", "node-watcher", "node-gateway", "scheduler-api", "scheduler-worker"}
    assert {unit.stem.removeprefix("sealtrace-") for unit in UNITS} == parts | {"auditor", "chain"}
