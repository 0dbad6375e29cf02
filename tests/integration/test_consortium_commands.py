"""The commands of docs/consortium.md, and what they refuse, on a chain of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from chains import Ground, ground
from typer.testing import CliRunner, Result

from sealtrace.contracts.consortium_cli import app
from sealtrace.contracts.keys import KeyFile
from sealtrace.contracts.registrar_cli import app as registrar_app
from sealtrace.protocol.canonical import canonical

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def on() -> Iterator[Ground]:
    with ground("embedded") as made:
        yield made


class Council:
    """Key files and commands over one chain whose registrar is the only member at first."""

    def __init__(self, on: Ground, folder: Path) -> None:
        self.where = ["--rpc", on.url, "--contracts", on.settings.directory]
        self.folder = folder
        self.keys = {"registrar": folder / "registrar.json"}
        KeyFile.create(self.keys["registrar"], private_key=on.key)
        for name in ("bank", "carrier", "stranger"):
            self.keys[name] = folder / f"{name}.json"
            KeyFile.create(self.keys[name])

    def of(self, name: str) -> str:
        return KeyFile.load(self.keys[name]).address

    def proposal(self, name: str, *actions: object) -> str:
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"why": name, "actions": list(actions)}))
        return str(path)

    def says(self, *words: str, by: str | None = None, fails: str | None = None) -> str:
        key = ["--key", str(self.keys[by])] if by else []
        done = CliRunner().invoke(app, [*words, *self.where, *key])
        return _checked(done, fails)

    def registrar_shows(self, node: str) -> str:
        return _checked(CliRunner().invoke(registrar_app, ["show", node, *self.where]), None)

    def registrar(self, *words: str, fails: str | None = None) -> str:
        key = ["--key", str(self.keys["registrar"])]
        return _checked(CliRunner().invoke(registrar_app, [*words, *self.where, *key]), fails)


def _checked(done: Result, fails: str | None) -> str:
    if fails is None:
        assert done.exit_code == 0, f"{done.output} {done.exception!r}"
    else:
        assert done.exit_code != 0
        assert fails in str(done.exception), done.exception
    return done.output


def test_members_decide_together_from_the_command_line(on: Ground, tmp_path: Path) -> None:
    council = Council(on, tmp_path)
    card = {"address": council.of("stranger"), "tls_fingerprint": "0x" + "11" * 32}
    (tmp_path / "card.json").write_bytes(canonical({**card, "encryption_key": "0x" + "22" * 32}))
    grow = council.proposal("grow", {"add-member": council.of("bank")}, {"add-member": council.of("carrier")})
    council.says("propose", grow, by="bank", fails="OnlyMember")
    council.says("execute", grow, by="registrar", fails="UnknownProposal")
    assert "not proposed" in council.says("status", grow)
    assert "Proposed" in council.says("propose", grow, by="registrar")
    assert "MemberAdded" in council.says("execute", grow, by="stranger")

    council.registrar("admit", str(tmp_path / "card.json"), "--roles", "owner", fails="VoteDue")

    admit = council.proposal("admit", {"admit": {"card": "card.json", "roles": ["owner"]}})
    council.says("propose", admit, by="bank")
    assert "1 for, 0 against, 2 needed" in council.says("status", admit)
    council.says("execute", admit, by="bank", fails="ProposalNotPassed")
    council.says("vote", admit, "--no", by="registrar")
    council.says("vote", admit, "--yes", by="carrier")
    council.says("vote", admit, "--yes", by="carrier", fails="ProposalNotOpen")
    told = json.loads(council.says("execute", admit, "--json", by="carrier"))
    assert [event["name"] for event in told["events"]] == ["Executed", "NodeAdmitted"]
    assert "active" in council.registrar_shows(council.of("stranger"))
    shown = json.loads(council.says("show", "--json"))
    assert shown["members"] == [on.account, council.of("bank"), council.of("carrier")]
    assert shown["rules"]["votes_needed"] == 2
    assert [each["status"] for each in shown["proposals"]] == ["executed", "executed"]

    council.says("offer", "registrar", council.of("bank"), by="carrier", fails="NotTheHolder")
    council.says("offer", "registrar", council.of("bank"), by="registrar")
    assert "RoleGranted" in council.says("accept", "registrar", on.account, by="bank")
    assert json.loads(council.says("show", "--json"))["offices"]["registrar"] == [council.of("bank")]


def test_every_action_that_the_page_names_there_is_and_no_other() -> None:
    from sealtrace.contracts.proposals import ACTIONS

    page = (ROOT / "docs" / "consortium.md").read_text()
    listed = re.search(r"The actions: (.*?)\. All of", page, re.S)
    assert listed is not None
    assert re.findall(r"`([a-z-]+)`", listed[1]) == list(ACTIONS)
