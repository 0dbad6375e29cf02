"""A key in a file: never overwritten, never readable by others, never half written."""

from __future__ import annotations

import json
import stat

import pytest
from eth_account import Account

from sealtrace.contracts.errors import KeyExists, KeyUnusable
from sealtrace.contracts.keys import KeyFile

KEY = bytes(range(1, 33))


def test_a_key_comes_back_with_its_address(tmp_path):
    made = KeyFile.create(tmp_path / "key.json")
    assert KeyFile.load(tmp_path / "key.json") == made
    assert Account.from_key(made.private_key).address.lower() == made.address


def test_a_given_key_is_kept(tmp_path):
    assert KeyFile.create(tmp_path / "key.json", private_key=KEY).private_key == KEY


def test_only_the_user_may_read_the_file(tmp_path):
    path = tmp_path / "key.json"
    KeyFile.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    with pytest.raises(KeyUnusable, match="chmod 600"):
        KeyFile.load(path)


def test_a_key_is_never_overwritten(tmp_path):
    made = KeyFile.create(tmp_path / "key.json")
    with pytest.raises(KeyExists):
        KeyFile.create(tmp_path / "key.json")
    assert KeyFile.load(tmp_path / "key.json") == made
    assert [each.name for each in tmp_path.iterdir()] == ["key.json"]


def test_an_encrypted_key_opens_with_its_password_only(tmp_path):
    path = tmp_path / "key.json"
    made = KeyFile.create(path, "correct horse", private_key=KEY)
    assert KEY.hex() not in path.read_text()
    assert KeyFile.load(path, "correct horse") == made
    with pytest.raises(KeyUnusable, match="password"):
        KeyFile.load(path, "wrong")
    with pytest.raises(KeyUnusable, match="encrypted"):
        KeyFile.load(path)


def test_a_key_is_not_shown(tmp_path):
    made = KeyFile.create(tmp_path / "key.json", private_key=KEY)
    assert KEY.hex() not in repr(made)
    assert str(KEY) not in repr(made)


@pytest.mark.parametrize("key", [b"", b"\0" * 32, b"\xff" * 32, b"\1" * 31])
def test_what_is_no_key_is_refused(tmp_path, key):
    with pytest.raises(KeyUnusable):
        KeyFile.create(tmp_path / "key.json", private_key=key)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not json",
        "[]",
        "{}",
        '{"version": "sealtrace.key/1"}',
        '{"version": "sealtrace.key/1", "private_key": "0xzz"}',
        '{"version": 3, "crypto": {}}',
    ],
)
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "key.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(KeyUnusable, match=r"key\.json"):
        KeyFile.load(path, "password")


def test_a_key_under_anothers_address_is_refused(tmp_path):
    path = tmp_path / "key.json"
    KeyFile.create(path)
    content = json.loads(path.read_text()) | {"address": "0x" + "11" * 20}
    path.write_text(json.dumps(content))
    with pytest.raises(KeyUnusable, match="address"):
        KeyFile.load(path)


def test_a_missing_file_and_a_missing_folder_are_named(tmp_path):
    with pytest.raises(KeyUnusable, match="not there"):
        KeyFile.load(tmp_path / "key.json")
    with pytest.raises(KeyUnusable, match="directory"):
        KeyFile.create(tmp_path / "no" / "key.json")
