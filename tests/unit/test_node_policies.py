"""An owner's policy at its node: a file in any spelling, kept as one, told in words."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from sealtrace.node import cli
from sealtrace.node.engines.tee.measuring import runtime_digest
from sealtrace.node.policies import PolicyInvalid, policy_of_body, policy_of_file, require_fit
from sealtrace.node.policy_templates import comments, template
from sealtrace.node.store import GrantRow, Store, open_engine
from sealtrace.protocol.attestation.evidence import Kind
from sealtrace.protocol.attestation.policy import ENCLAVES, AttestationPolicy, Narrowing, read_policy
from sealtrace.protocol.attestation.words import in_words
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


# --- templates --------------------------------------------------------------------------------------------

RUNTIME = hex32(b"\x05" * 32)


def given(body):
    """The template with its measurements filled in."""
    filled = dict.fromkeys(body["images"][0]["measurements"], "41" * 48)
    return body | {"images": [body["images"][0] | {"measurements": filled}]}


def test_the_template_of_software_is_a_policy_for_this_runtime_alone():
    policy = policy_of_body(template(Kind.SOFTWARE, RUNTIME))
    assert policy.images[0].measurements == {"runtime": RUNTIME[2:]}
    assert policy.runtimes == (RUNTIME,)
    assert policy.protections == Protection.TEE_SIMULATED


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind.is_hardware])
def test_the_template_of_hardware_is_no_policy_until_its_measurements_are_given(kind):
    with pytest.raises(PolicyInvalid, match=r"images\.0\.measurements.*give lower-case hexadecimal"):
        policy_of_body(template(kind, RUNTIME))
    policy = policy_of_body(given(template(kind, RUNTIME)))
    assert policy.protections == Protection.TEE_HARDWARE
    assert (policy.features, policy.tcb_statuses) == ((), ("UpToDate",))


@pytest.mark.parametrize("kind", Kind)
def test_a_template_writes_out_every_field_and_comments_explain_each(kind):
    body = template(kind, RUNTIME)
    assert set(body) == set(AttestationPolicy.model_fields)
    assert set(body["narrowing"]) == set(Narrowing.model_fields)
    assert set(comments()) == set(body) - {"version"} | {f"narrowing.{name}" for name in body["narrowing"]}


def command(*arguments):
    return CliRunner().invoke(cli.app, ["policy", *map(str, arguments)], catch_exceptions=False)


def test_the_command_prints_a_template_that_the_command_takes(tmp_path):
    printed = command("template", "--kind", "software")
    assert "max_age_s: How long ago" in printed.stderr
    (tmp_path / "policy.json").write_text(printed.stdout)
    checked = command("check", tmp_path / "policy.json")
    assert checked.exit_code == 0
    policy = policy_of_file(tmp_path / "policy.json")
    assert policy.digest() in checked.output
    assert policy.runtimes == (runtime_digest(),)
    assert "--protection TEE_SIMULATED" in checked.output
    assert all(sentence in checked.output for sentence in in_words(policy))
    told = json.loads(command("check", tmp_path / "policy.json", "--json").output)
    assert (told["digest"], told["protections"]) == (policy.digest(), ["TEE_SIMULATED"])


def test_a_grant_is_issued_with_the_policy_in_a_file(tmp_path, monkeypatch):
    orders = []

    class Node:
        def issue_grant(self, order, *_):
            orders.append(order)
            return {"id": GRANT}

    monkeypatch.setattr(cli, "_operations", lambda directory: Node())
    (tmp_path / "policy.json").write_text(json.dumps(POLICY, indent=1))
    issue = ["grant", "issue", "--dataset", GRANT, "--algorithm", GRANT, "--requester", "0x" + "22" * 20]
    issue += ["--purpose", "study", "--protection", "tee_simulated"]
    for more, policy in (([], None), (["--policy", str(tmp_path / "policy.json")], policy_of_body(POLICY))):
        done = CliRunner().invoke(cli.app, [*issue, *more], catch_exceptions=False)
        assert done.exit_code == 0
        assert orders.pop().policy == policy


# --- words ------------------------------------------------------------------------------------------------


def test_a_policy_is_told_in_words_that_name_each_thing_it_accepts():
    said = "; ".join(in_words(policy_of_body(POLICY)))
    assert "tee-simulated is accepted" in said
    assert "whoever runs a simulated enclave can read the data" in said
    assert f"image of software is accepted whose runtime is {'41' * 32}" in said
    assert "at most 600 s and 50 blocks old" in said
    assert "any runtime" in said
    assert "all that the algorithm's output policy lets out may leave" in said


SNP = {
    "platforms": ["tee-hardware"],
    "images": [
        {
            "kind": "sev-snp",
            "measurements": {"measurement": "31" * 48},
            "minimum_versions": {"snp": 8},
        }
    ],
}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (SNP, "vmpl is 00, snp is at least 8"),
        (SNP, "AMD's revocation list must come with the certificates"),
        (SNP | {"require_revocation_list": False}, "AMD's revocation list need not come"),
        (SNP | {"tcb_statuses": ["UpToDate", "OutOfDate"]}, "must be UpToDate or OutOfDate"),
        (SNP | {"features": ["smt"]}, "accepted though they weaken a platform: smt"),
        (SNP | {"refused_advisories": ["INTEL-SA-00615"]}, "must not apply: INTEL-SA-00615"),
        (SNP | {"minimum_evaluation": 17}, "at least the number 17"),
        ({"platforms": ["tee-hardware", "tee-simulated"]}, "tee-hardware is accepted, but no image of it"),
        ({"runtimes": [RUNTIME]}, f"the runtime is {RUNTIME}"),
        ({"configs": [RUNTIME]}, f"the configuration is {RUNTIME}"),
        ({"narrowing": {"outputs": ["model"]}}, "only these may leave: model"),
        ({"narrowing": {"outputs": []}}, "only these may leave: none"),
        ({"narrowing": {"max_bytes": 9}}, "at most 9 bytes"),
        ({"narrowing": {"decimals": 0}}, "at most 0 places"),
        ({"narrowing": {"min_group": 5}}, "about at least 5 rows"),
        ({"narrowing": {"min_rows": 6}}, "has at least 6 rows"),
        ({"narrowing": {"metrics": False}}, "no measures are told while an algorithm trains"),
    ],
)
def test_every_field_of_a_policy_is_told(change, sentence):
    told = "; ".join(in_words(policy_of_body(POLICY | change)))
    assert sentence in told
    assert sentence not in "; ".join(in_words(policy_of_body(POLICY)))
