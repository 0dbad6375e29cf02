"""An operator reads what each protection promises before saying yes: at the grant, and at the task."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from sealtrace.node import cli
from sealtrace.protocol.records import Protection
from sealtrace.protocol.security import SECURITY, in_words

SEMI2K = Protection.MPC_SEMI2K_TRUSTED_FIRST_PARTY
ID = "0x" + "11" * 32
GRANT: dict[str, Any] = {
    "id": ID,
    "status": "active",
    "protections": ["MPC_ABY3", SEMI2K.name],
    "security": in_words(Protection.MPC_ABY3 | SEMI2K),
}
TASK: dict[str, Any] = {
    "id": ID,
    "stage": "waiting",
    "approval": "wanted",
    "protections": ["PSI_RR22"],
    "security": in_words(Protection.PSI_RR22),
    "over": False,
}


class Node:
    """An operator's acts, each answered with the same grant or task."""

    def __init__(self, over: bool) -> None:
        self.over = over

    def issue_grant(self, *_: object) -> dict[str, Any]:
        return GRANT

    def grants(self) -> list[dict[str, Any]]:
        return [GRANT]

    def tasks(self, **_: object) -> list[dict[str, Any]]:
        return [TASK | {"over": self.over}]

    def approve(self, _: object) -> dict[str, Any]:
        return TASK


def said(monkeypatch: pytest.MonkeyPatch, *arguments: str, over: bool = False) -> str:
    monkeypatch.setattr(cli, "_operations", lambda directory: Node(over))
    done = CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


ISSUE = ("grant", "issue", "--dataset", ID, "--algorithm", ID, "--requester", "0x" + "22" * 20)
ISSUE += ("--purpose", "study", "--protection", "MPC_ABY3")


@pytest.mark.parametrize("command", [ISSUE, ("grant", "list")], ids=["issued", "listed"])
def test_a_grant_is_shown_with_the_promise_of_each_protection_it_accepts(monkeypatch, command):
    shown = said(monkeypatch, *command)
    for protection in (Protection.MPC_ABY3, SEMI2K):
        assert f"{protection.name}: {SECURITY[protection].words}" in shown
    assert "trusted by all others" in shown


@pytest.mark.parametrize(("command"), [("task", "list"), ("task", "approve", ID)], ids=["listed", "approved"])
def test_a_task_that_waits_is_shown_with_what_protects_it(monkeypatch, command):
    assert SECURITY[Protection.PSI_RR22].words in said(monkeypatch, *command)


def test_a_list_of_tasks_that_are_over_promises_nothing(monkeypatch):
    assert SECURITY[Protection.PSI_RR22].words not in said(monkeypatch, "task", "list", over=True)
