"""The embedded chain's command line, each command a process of its own."""

import json
import sqlite3
import subprocess
import sys

import pytest
import rlp

from sealtrace.contracts.embedded.genesis import Genesis
from sealtrace.contracts.embedded.machine import decode_block
from sealtrace.contracts.embedded.producer import create, open_producer

ACCOUNT = "0x" + "ab" * 20


def run(*arguments):
    command = [sys.executable, "-m", "sealtrace.contracts.embedded", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def directory(tmp_path):
    """A chain of genesis and three empty blocks."""
    create(tmp_path, Genesis(7, 1_700_000_000))
    producer = open_producer(tmp_path)
    for n in range(3):
        producer.mine(1_700_000_100 + n, empty=True)
    producer.close()
    return tmp_path


def test_init_creates_a_genesis_once(tmp_path):
    options = ["init", "--dir", tmp_path / "new", "--chain-id", "9", "--alloc", f"{ACCOUNT}=5"]
    first = run(*options)
    assert first.returncode == 0
    assert first.stdout.startswith("0x")
    assert json.loads((tmp_path / "new" / "genesis.json").read_text())["alloc"] == {ACCOUNT: "5"}
    assert run(*options).stdout == first.stdout
    assert run("init", "--dir", tmp_path / "new").stdout == first.stdout
    other = run("init", "--dir", tmp_path / "new", "--chain-id", "10")
    assert other.returncode == 2
    assert "GenesisMismatch" in other.stderr
    copied = run("init", "--dir", tmp_path / "b", "--genesis", tmp_path / "new" / "genesis.json")
    assert copied.stdout == first.stdout


@pytest.mark.parametrize("alloc", ["0x12", f"{ACCOUNT}=lots", f"{ACCOUNT}=-1"])
def test_an_alloc_that_names_no_address_or_amount_is_refused(tmp_path, alloc):
    done = run("init", "--dir", tmp_path, "--alloc", alloc)
    assert done.returncode == 2
    assert "GenesisInvalid" in done.stderr
    assert not (tmp_path / "genesis.json").exists()


def test_verify_says_the_head_or_the_first_block_that_differs(directory):
    done = run("verify", "--dir", directory, "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert (found["ok"], found["blocks"], found["chain_id"]) == (True, 3, 7)
    assert found["head_hash"] in run("verify", "--dir", directory).stdout
    with sqlite3.connect(directory / "chain.sqlite3") as connection:
        raw = connection.execute("select raw from blocks where number = 2").fetchone()[0]
        block = decode_block(raw)
        forged = block.copy(header=block.header.copy(timestamp=1_800_000_000))
        change = "update blocks set raw = ?, hash = ? where number = 2"
        connection.execute(change, (rlp.encode(forged), forged.hash))
    connection.close()
    done = run("verify", "--dir", directory, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["block"] == 3  # the next one no longer has its parent
    assert "block 3" in run("verify", "--dir", directory).stderr


def test_verify_needs_one_source_that_exists(directory, tmp_path):
    assert run("verify").returncode == 2
    assert run("verify", "--dir", directory, "--rpc", "http://127.0.0.1:1").returncode == 2
    done = run("verify", "--rpc", "http://127.0.0.1:1")
    assert done.returncode == 2
    assert "SourceUnreachable" in done.stderr
    done = run("verify", "--dir", tmp_path / "nowhere")
    assert "NoChainHere" in done.stderr


def test_serve_refuses_what_it_cannot_use(directory, tmp_path):
    done = run("serve", "--dir", directory, "--host", "192.0.2.1", "--port", "0")
    assert done.returncode == 2
    assert "AddressUnusable" in done.stderr
    (tmp_path / "file").write_text("")
    done = run("serve", "--dir", tmp_path / "file" / "x", "--port", "0")
    assert done.returncode == 2
    assert "DirectoryUnusable" in done.stderr
