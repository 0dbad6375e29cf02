"""How far an auditor's service proves what it reads: the table [proof] of auditor.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

from sealtrace.auditor.jobs import Wanted
from sealtrace.auditor.settings import FILE, ChainTable, SettingsUnusable, create, read_settings

CHAIN = ChainTable(rpc_url="http://x", chain_id=7, directory="0x" + "d1" * 20)
WHO = ["0x" + "a1" * 20, "0x" + "a2" * 20]


def settings_with(folder, text):
    create(folder, CHAIN)
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.write(text)
    return read_settings(folder)


def test_by_default_no_validators_are_known_and_nothing_is_executed_again(tmp_path):
    inquiry = settings_with(tmp_path, "").inquiry(Wanted())
    assert (inquiry.validators, inquiry.reexecute, inquiry.genesis) == ((), False, None)


def test_validators_execution_and_genesis_reach_the_audit(tmp_path):
    text = f'[proof]\nvalidators = {WHO}\nreexecute = true\ngenesis = "g.json"\n'
    inquiry = settings_with(tmp_path, text).inquiry(Wanted())
    assert inquiry.validators == tuple(WHO)
    assert (inquiry.reexecute, inquiry.genesis) == (True, Path("g.json"))


@pytest.mark.parametrize(
    "line", ['validators = ["0x12"]', 'validators = "all"', "reexecute = 1", "level = 3"]
)
def test_a_proof_table_of_another_shape_is_refused(tmp_path, line):
    with pytest.raises(SettingsUnusable):
        settings_with(tmp_path, f"[proof]\n{line}\n")
