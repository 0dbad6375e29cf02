"""An owner's policy at its node: a file in any spelling, kept as one, told in words."""

from __future__ import annotations

import json

import pytest

from sealtrace.node.policies import PolicyInvalid, policy_of_body, policy_of_file, require_fit
from sealtrace.node.store import GrantRow, Store, open_engine
from sealtrace.protocol.attestation.policy import ENCLAVES, read_policy
from sealtrace.protocol.identifiers import hex32
from sealtrace.protocol.records import Protection

GRANT = hex32(b"\x01" * 32)
POLICY = {
    "platforms": ["tee-simulated"],
    "images": [{"kind": "software", "measurements": {"runtime": "41" * 32}}],
    "max_age_s": 600,
    "max_age_blocks": 50,
}


def test_a_policy_is_read_in_any_spelling_and_has_one_digest(tmp_path):
    spelled = [
        json.dumps(POLICY, indent=4),
        json.dumps(dict(reversed(POLICY.items()))),
        json.dumps(POLICY | {"tcb_statuses": ["UpToDate"], "features": []}),
        policy_of_body(POLICY).text().decode(),
    ]
    digests = set()
    for text in spelled:
        (tmp_path / "policy.json").write_text(text)
        digests.add(policy_of_file(tmp_path / "policy.json").digest())
    assert digests == {policy_of_body(POLICY).digest()}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"platforms": 1, "platforms": 2}', "[" * 100, "{'a': 1}", " " * 70_000]
)
def test_a_file_that_is_no_policy_is_refused_by_name(tmp_path, text):
    (tmp_path / "policy.json").write_text(text)
    with pytest.raises(PolicyInvalid):
        policy_of_file(tmp_path / "policy.json")


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(PolicyInvalid, match="absent"):
        policy_of_file(tmp_path / "absent.json")


@pytest.mark.parametrize("protections", [Protection(0), Protection.PSI_RR22, Protection.MPC_ABY3])
def test_what_runs_in_no_enclave_needs_no_policy(protections):
    require_fit(None, protections)


def test_every_protection_in_an_enclave_is_behind_a_policy():
    assert ENCLAVES == Protection.TEE_HARDWARE | Protection.TEE_SIMULATED
    assert policy_of_body(POLICY).protections == Protection.TEE_SIMULATED


def test_the_store_keeps_a_grant_and_its_policy_together_and_once(tmp_path):
    store = Store(open_engine(f"sqlite:///{tmp_path / 'node.sqlite'}"))
    policy = policy_of_body(POLICY)
    store.keep_grant(GrantRow(GRANT, {}, 1.0), policy)
    store.keep_grant(GrantRow(GRANT, {}, 2.0), policy_of_body(POLICY | {"max_age_s": 1}))
    assert store.policy_of(GRANT) == policy
    assert [row.issued_at for row in store.grants()] == [1.0]
    assert store.policy_of(hex32(b"\x02" * 32)) is None


def test_a_database_from_before_policies_learns_of_them(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'node.sqlite'}")
    Store(engine).keep_grant(GrantRow(GRANT, {}, 1.0))
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE grant_policies")
    reopened = Store(engine)
    assert reopened.policy_of(GRANT) is None
    assert len(reopened.grants()) == 1


def test_what_is_kept_is_canonical(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'node.sqlite'}")
    Store(engine).keep_grant(GrantRow(GRANT, {}, 1.0), policy_of_body(POLICY))
    with engine.connect() as connection:
        text = connection.exec_driver_sql("SELECT text FROM grant_policies").scalar_one()
    assert read_policy(text.encode()) == policy_of_body(POLICY)
