"""How the command ends when it cannot do what it was told."""

from __future__ import annotations

import json
import sys

import pytest

from sealtrace import cli


def ended(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["sealtrace", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


def test_an_error_is_told_with_what_to_do_next(monkeypatch, capsys, tmp_path):
    assert ended(monkeypatch, "node", "doctor", "--dir", tmp_path) == 1
    said = capsys.readouterr().err
    assert said.startswith("BadSettings ")
    assert "node.toml" in said.splitlines()[1]


def test_an_error_in_json_has_the_same_three_parts(monkeypatch, capsys, tmp_path):
    assert ended(monkeypatch, "node", "card", "--dir", tmp_path, "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert said.keys() == {"error", "message", "next"}


@pytest.mark.parametrize("command", ["status", "env", "down"])
def test_asking_after_a_network_that_is_not_there_makes_nothing(monkeypatch, capsys, tmp_path, command):
    assert ended(monkeypatch, "net", command, "--dir", tmp_path / "net") == 1
    assert "sealtrace net up" in capsys.readouterr().err
    assert not (tmp_path / "net").exists()


def test_a_folder_of_statements_that_is_none_is_told_before_the_chain_is_asked(monkeypatch, capsys, tmp_path):
    chain = ["--rpc", "http://127.0.0.1:1", "--chain-id", 1, "--contracts", "0x" + "1" * 40]
    where = ["--out", tmp_path / "out", "--statements", tmp_path / "none"]
    assert ended(monkeypatch, "audit", "run", *chain, *where) == 3
    assert "StatementsUnreadable" in capsys.readouterr().err
