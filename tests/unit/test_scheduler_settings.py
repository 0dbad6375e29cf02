from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request
from typer.testing import CliRunner

from sealtrace.scheduler.cli import app
from sealtrace.scheduler.errors import BodyTooSlow, SettingsInvalid
from sealtrace.scheduler.limits import Bucket, Buckets, take, whole
from sealtrace.scheduler.settings import ChainSection, Settings, load, save

CHAIN = ChainSection(rpc_url="http://x", chain_id=1, directory="0x" + "12" * 20)
INIT = ["init", "--rpc", "http://x", "--chain-id", "1", "--contracts", CHAIN.directory]


def test_settings_are_read_as_they_were_written(tmp_path):
    settings = Settings(chain=CHAIN, redis_url='redis://:p"\\w@h/1', port=0)
    path = save(tmp_path / "new", settings)
    assert load(tmp_path / "new") == settings
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "chain: Field required"),
        ("colour = 1", "chain: Field required"),
        ("[chain", "Expected"),
        ('port = 70000\n[chain]\nrpc_url="x"\nchain_id=1\ndirectory="0x1"', "chain.directory"),
    ],
)
def test_malformed_settings_are_refused_by_their_place(tmp_path, text, said):
    (tmp_path / "scheduler.toml").write_text(text)
    with pytest.raises(SettingsInvalid, match=said):
        load(tmp_path)


def test_a_setting_that_does_not_exist_is_an_error(tmp_path):
    path = save(tmp_path, Settings(chain=CHAIN))
    path.write_text(path.read_text().replace("presence_s", "presense_s"))
    with pytest.raises(SettingsInvalid, match=r"times\.presense_s"):
        load(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsInvalid, match=r"scheduler\.toml"):
        load(tmp_path)


def test_init_may_be_repeated_but_does_not_overwrite(tmp_path):
    runner = CliRunner()
    for _ in range(2):
        assert runner.invoke(app, [*INIT, "--dir", str(tmp_path)]).exit_code == 0
    other = runner.invoke(app, [*INIT, "--dir", str(tmp_path), "--port", "1"])
    assert isinstance(other.exception, SettingsInvalid)
    assert load(tmp_path).port == 8500


def test_init_refuses_what_would_not_be_read(tmp_path):
    refused = CliRunner().invoke(app, [*INIT, "--dir", str(tmp_path), "--chain-id", "0"])
    assert isinstance(refused.exception, SettingsInvalid)
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_fills_with_time_up_to_its_burst():
    bucket, allowed = take(Bucket(0, 0), 0.5, per_second=1, burst=2)
    assert not allowed
    bucket, allowed = take(bucket, 1.0, per_second=1, burst=2)
    assert allowed
    bucket, _ = take(bucket, 100, per_second=1, burst=2)
    assert bucket.tokens == 1


def test_a_clock_set_back_gives_nothing_away():
    bucket, allowed = take(Bucket(0, 100), 50, per_second=1, burst=2)
    assert (bucket.tokens, allowed) == (0, False)


def test_each_address_has_its_own_bucket():
    buckets = Buckets(0.001, 1, clock=lambda: 0.0)
    assert [buckets.allow(each) for each in ("a", "a", "b")] == [True, False, True]


def test_a_body_that_does_not_end_is_given_up():
    async def begin_and_wait():
        if begun:
            await asyncio.Event().wait()
        begun.append(True)
        return {"type": "http.request", "body": b"{", "more_body": True}

    begun: list[bool] = []
    request = Request({"type": "http", "method": "POST", "headers": []}, begin_and_wait)
    with pytest.raises(BodyTooSlow, match="1 bytes"):
        asyncio.run(whole(request, 100, 0.05))
