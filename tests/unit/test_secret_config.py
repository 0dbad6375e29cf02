"""Secret values of an enclave's algorithm: committed to in its manifest, held to it, opened one by one."""

from __future__ import annotations

import copy
import hashlib
import json
import stat
from pathlib import Path

import pytest
from enclave_fakes import begun, ended, shown, tee_spec
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scheduler_fakes import h
from test_enclave_specification import BANK, CARRIER, SPEC, STEP, refused
from typer.testing import CliRunner

from sealtrace.algorithms.bundles import Manifest, load, shipped
from sealtrace.algorithms.checking import ParamsRefused, check_enclave_step
from sealtrace.algorithms.output_policy import (
    Held,
    OutputPolicy,
    OutputRefused,
    Reason,
    held_of,
    holding,
    passed,
)
from sealtrace.algorithms.template import create
from sealtrace.auditor.cli import app as audit_app
from sealtrace.node.datasets import infer_schema
from sealtrace.node.engines.errors import BadInput, BadJob
from sealtrace.node.engines.job import Timeouts
from sealtrace.node.engines.tee.configs import held_values, read_config
from sealtrace.node.engines.tee.inside.inputs import Inputs
from sealtrace.node.engines.tee.rehearsal import rehearse
from sealtrace.node.engines.tee.tasks import check_enclave_step as vetted
from sealtrace.node.errors import DatasetUnreadable
from sealtrace.node.ports import OwnInput
from sealtrace.node.runner import EngineProcesses, Hosting
from sealtrace.protocol.attestation.appraisal import Stage
from sealtrace.protocol.canonical import canonical
from sealtrace.protocol.fingerprint import BadSalt
from sealtrace.protocol.outcome import Denial
from sealtrace.protocol.secret_config import (
    MAX_VALUES,
    VERSION,
    BadSecretConfig,
    NoSuchValue,
    Secret,
    SecretConfig,
    ValueAltered,
    ValueMissing,
    ValueStray,
    check,
    commit,
    open_value,
    read_secret_config,
    read_value_opening,
    read_values,
    sealed,
    why_not_committed,
)
from sealtrace.protocol.spec import read_spec
from sealtrace.requester.cli import algorithm_app
from sealtrace.requester.errors import ConfigNotTaken, SecretsInBundle, SecretsThere
from sealtrace.requester.secret_configs import seal_values

SALT = bytes(range(32))
PLAIN = {"limit": 0.42, "partner": "north", "steps": [3, 5, 8]}
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False) | st.text()
)
VALUES = st.recursive(
    SCALARS.filter(lambda value: value not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True)
SALTS = st.binary(min_size=32, max_size=32)


def config(values=PLAIN):
    return sealed(values, [(at + 1).to_bytes(32, "big") for at in range(len(values))])


# --- values and their commitments


def test_a_commitment_is_the_hash_of_the_salt_and_the_canonical_value():
    expected = hashlib.sha256(SALT + b'{"a":1,"b":[true,null]}').hexdigest()
    assert commit({"b": [True, None], "a": 1.0}, SALT) == "0x" + expected


@given(VALUES, SALTS, VALUES, SALTS)
def test_a_commitment_is_met_by_its_value_and_salt_alone(value, salt, other, other_salt):
    try:
        one, two = canonical(value), canonical(other)
    except ValueError:  # a lone surrogate
        return
    same = (one, salt) == (two, other_salt)
    assert (commit(value, salt) == commit(other, other_salt)) is same


@pytest.mark.parametrize("salt", [b"", bytes(31), bytes(33)])
def test_a_salt_is_32_bytes(salt):
    with pytest.raises(BadSalt):
        commit(1, salt)
    with pytest.raises(BadSalt):
        sealed({"a": 1}, [salt])


def test_each_value_has_a_salt_of_its_own():
    for salts in ([SALT], [SALT, SALT], [SALT, bytes(32), bytes([1]) * 32]):
        with pytest.raises(BadSalt, match="as many different salts"):
            sealed({"a": 1, "b": 2}, salts)


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=5))
def test_secret_values_are_read_as_they_were_written(values):
    try:
        canonical(values)
    except ValueError:
        return
    made = config(values)
    found = read_secret_config(made.document())
    check(found, made.commitments())
    assert canonical(found.plain()) == canonical(values)
    for name in values:
        opened = read_value_opening(open_value(found, h(1), name).document())
        assert why_not_committed(opened, h(1), made.commitments()) is None


def test_values_are_not_in_what_is_printed_of_them():
    assert "north" not in repr(config())
    assert "0x" not in repr(config())


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"limit,partner\n1,north\n", "not JSON"),
        (b"[]", "valid dictionary"),
        (b'{"limit": "north"}', "Field required"),
        ({"version": "sealtrace.secret-config/2", "values": {}}, "version"),
        ({"version": VERSION, "values": {}}, "values"),
        ({"version": VERSION, "values": {"Limit": {"value": "north", "salt": h(1)}}}, "Limit"),
        ({"version": VERSION, "values": {"limit": {"value": "north", "salt": "north"}}}, "salt"),
        ({"version": VERSION, "values": {"limit": {"value": "north"}}}, "salt"),
        (b'{"version": "sealtrace.secret-config/1", "version": "north"}', "not JSON"),
        (b'{"north": NaN}', "not JSON"),
    ],
)
def test_a_malformed_document_is_refused_without_quoting_a_value(document, words, tmp_path):
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(BadSecretConfig, match=words) as bad:
        read_secret_config(text)
    assert "north" not in str(bad.value)
    (tmp_path / "secrets.json").write_bytes(text)
    with pytest.raises(BadInput, match="config_unfit") as unfit:
        read_config(tmp_path / "secrets.json")
    assert "north" not in str(unfit.value)


def test_a_manifest_commits_to_so_many_values_and_so_many_bytes():
    assert (
        len(config({f"v{at}": at for at in range(MAX_VALUES)}).values) == MAX_VALUES
        if MAX_VALUES < 255
        else True
    )
    values = {f"v{at}": at for at in range(MAX_VALUES + 1)}
    with pytest.raises(BadSecretConfig):
        sealed(values, [at.to_bytes(32, "big") for at in range(len(values))])
    with pytest.raises(BadSecretConfig, match="make them smaller"):
        config({"long": "x" * (1 << 20)})
    deep = json.loads("[" * 62 + "]" * 62)
    with pytest.raises(BadSecretConfig, match="not JSON that everybody reads alike"):
        config({"deep": deep})
    with pytest.raises(BadSecretConfig, match="give an object"):
        read_values(b"[1]")


def test_every_value_is_held_to_its_commitment():
    made = config()
    commitments = made.commitments()
    less = SecretConfig(values={k: v for k, v in made.values.items() if k != "limit"})
    with pytest.raises(ValueMissing, match="secret value limit is missing"):
        check(less, commitments)
    with pytest.raises(ValueStray, match="secret value limit is not in the manifest"):
        check(made, less.commitments())
    for altered in (Secret(value=0.43, salt=made.values["limit"].salt), Secret(value=0.42, salt=h(9))):
        with pytest.raises(ValueAltered, match="secret value limit is not the one") as refusal:
            check(SecretConfig(values={**made.values, "limit": altered}), commitments)
        assert "0.4" not in str(refusal.value)
    swapped = {**made.values, "limit": made.values["partner"], "partner": made.values["limit"]}
    with pytest.raises(ValueAltered):
        check(SecretConfig(values=swapped), commitments)


def test_an_opening_shows_one_value_and_its_salt_and_no_other():
    made = config()
    text = open_value(made, h(1), "limit").document()
    assert json.loads(text) == {
        "algorithm": h(1),
        "name": "limit",
        "value": 0.42,
        "salt": "0x" + "1".zfill(64),
    }
    with pytest.raises(NoSuchValue, match="there are limit, partner, steps"):
        open_value(made, h(1), "other")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"algorithm": h(2)}, "it is of the algorithm"),
        ({"name": "other"}, "commits to no value 'other'"),
        ({"name": "partner"}, "do not give the commitment"),
        ({"value": 0.43}, "do not give the commitment"),
        ({"salt": h(9)}, "do not give the commitment"),
    ],
)
def test_an_opening_of_something_else_does_not_match(change, words):
    opened = open_value(config(), h(1), "limit").model_copy(update=change)
    assert words in why_not_committed(opened, h(1), config().commitments())


# --- the manifest


def manifest(**changes):
    document = json.loads((shipped()["tee-statistics"] / "manifest.json").read_text())
    return Manifest.model_validate({**document, **changes})


def test_only_an_enclaves_algorithm_commits_to_secret_values():
    assert manifest(secret_config=config().commitments()).secret_config == config().commitments()
    statistics = json.loads((shipped()["statistics"] / "manifest.json").read_text())
    with pytest.raises(ValidationError, match="only a tee algorithm has secret_config"):
        Manifest.model_validate({**statistics, "secret_config": {"limit": h(1)}})


@pytest.mark.parametrize(
    "commitments",
    [{}, {"Limit": h(1)}, {"limit": "0x1"}, {"limit": 1}, {f"v{at}": h(1) for at in range(257)}],
)
def test_a_manifest_s_commitments_are_strict(commitments):
    with pytest.raises(ValidationError):
        manifest(secret_config=commitments)


# --- the task


CONFIG = {"name": "secrets", "party": BANK, "dataset": h(30), "kind": "config"}


def with_config(*more, **step):
    inputs = [*SPEC["inputs"], *(more or (CONFIG,))]
    names = [each["name"] for each in inputs]
    asked = {"inputs": names, "grants": {name: h(40 + at) for at, name in enumerate(names)}}
    asked |= {"policies": dict.fromkeys(names, h(8)), **step}
    return copy.deepcopy({**SPEC, "inputs": inputs, "steps": [{**STEP, **asked}]})


def test_secret_values_are_an_input_with_a_grant_like_any_other():
    spec = read_spec(canonical(with_config()))
    assert not spec.input("secrets").is_table
    assert (0, h(30), h(42)) in [(use.party, use.dataset, use.grant) for use in spec.terms().uses]
    assert read_spec(spec.canonical()) == spec


def test_a_specification_without_secret_values_keeps_its_digest():
    spec = read_spec(canonical(SPEC))
    assert b'"kind"' not in spec.canonical()
    said = copy.deepcopy(SPEC)
    said["inputs"][0]["kind"] = "table"
    assert read_spec(canonical(said)).digest() == spec.digest()
    assert read_spec(canonical(with_config())).digest() != spec.digest()


@pytest.mark.parametrize("change", [{"id_column": "id"}, {"columns": ["a"]}, {"part_of": "model"}])
def test_secret_values_have_no_columns(change):
    refused(with_config({**CONFIG, **change}), "a config has no columns")


def test_an_input_is_a_table_or_a_config_and_a_step_takes_one_config():
    refused(with_config({**CONFIG, "kind": "secret"}), "'table' or 'config'")
    again = {**CONFIG, "name": "more", "party": CARRIER, "dataset": h(31)}
    refused(with_config(CONFIG, again), "it takes one config, not 2")


@pytest.mark.parametrize(("engine", "protocol"), [("mpc", "ABY3"), ("psi", "RR22")])
def test_only_an_enclave_takes_secret_values(engine, protocol):
    spec = with_config(engine=engine, protocol=protocol, policies={}, params={})
    refused({**spec, "compute": []}, "'secrets' is a config, which only a step in an enclave takes|one input")


def test_a_requester_is_told_when_secret_values_are_needed_or_not_taken():
    secret = manifest(secret_config={"limit": h(1)}, params={})
    plain = manifest(params={})
    with pytest.raises(ParamsRefused, match="bring its values as an input of kind config"):
        check_enclave_step(secret, "HARDWARE", {}, [])
    with pytest.raises(ParamsRefused, match="leave out the input of kind config"):
        check_enclave_step(plain, "HARDWARE", {}, [], config=True)


@pytest.fixture
def bundle(tmp_path):
    return create("owes", tmp_path, "tee")


@pytest.fixture
def values(tmp_path):
    path = tmp_path / "values.json"
    path.write_text(json.dumps(PLAIN))
    return path


def test_a_node_refuses_a_step_without_the_secret_values_that_its_bundle_has(bundle, values, tmp_path):
    def spec(*, secret):
        document = with_config(algorithm=load(bundle).digest, params={"times": 0.5})
        if not secret:
            document["inputs"].pop()
            for each in ("grants", "policies"):
                document["steps"][0][each].pop("secrets")
            document["steps"][0]["inputs"].remove("secrets")
        return read_spec(canonical(document))

    vetted(spec(secret=False), bundle)
    with pytest.raises(BadJob, match="leave out the input of kind config"):
        vetted(spec(secret=True), bundle)
    seal_values(bundle, values, tmp_path / "secrets.json")
    vetted(spec(secret=True), bundle)
    with pytest.raises(BadJob, match="bring its values as an input of kind config"):
        vetted(spec(secret=False), bundle)
    digest = load(bundle).digest
    engine = EngineProcesses(None, ("tee/SIMULATED",), Timeouts(), tmp_path, 0, Hosting("", ""))
    assert engine.check_steps(spec(secret=True), {digest: bundle}) is None
    assert engine.check_steps(spec(secret=False), {digest: bundle})[0] is Denial.SPEC_MISMATCH


def test_an_owners_node_holds_its_secret_values_to_the_manifest_before_it_starts(bundle, values, tmp_path):
    made, _ = seal_values(bundle, values, tmp_path / "secrets.json")
    spec = read_spec(canonical(with_config(algorithm=made.digest)))

    def problem(path):
        own = OwnInput("secrets", h(30), path, "", ())
        engine = EngineProcesses(None, ("tee/SIMULATED",), Timeouts(), tmp_path, 0, Hosting("", ""))
        return engine.check(own, spec, {made.digest: bundle})

    assert problem(tmp_path / "secrets.json") is None
    assert "config_unfit" in problem(values)
    assert "unreadable" in problem(tmp_path / "gone.json")
    seal_values(create("other", tmp_path, "tee"), values, tmp_path / "other.json")
    assert "secret value limit is not the one" in problem(tmp_path / "other.json")


# --- the enclave


def test_the_algorithm_is_given_the_values_without_their_salts():
    made = config({"b": {"z": 1, "a": 2}, "a": 1e300, "c": 1e16})
    found = held_values(made, manifest(secret_config=made.commitments()))
    assert list(found) == ["a", "b", "c"]
    assert found == {"a": 1e300, "b": {"a": 2, "z": 1}, "c": 1e16}
    assert Inputs({}, {}, config=found).config == found
    assert Inputs({}, {}).config == {}


def out(value, shape, held):
    outputs = {"found": {"shape": shape, "max_bytes": 10_000}}
    policy = OutputPolicy.model_validate({"outputs": outputs, "min_group": 5, "min_rows": 10})
    return passed({"found": value}, policy, frozenset(), held)["found"]


@pytest.mark.parametrize(
    "shape",
    [
        {"kind": "word", "of": ["south"], "public": True},
        {"kind": "id"},
        {"kind": "model", "decimals": 2, "words": ["south"]},
    ],
)
def test_a_secret_text_does_not_leave(shape):
    held = holding(Held((["person-1"],)), {"secrets": PLAIN})
    with pytest.raises(OutputRefused) as refusal:
        out("north", shape, held)
    assert refusal.value.reason is Reason.FREE_TEXT
    assert "north" not in str(refusal.value)


def test_a_list_of_secret_numbers_does_not_leave_and_one_of_them_may():
    numbers = {"kind": "list", "of": {"kind": "number", "decimals": 2}, "max_items": 9}
    held = holding(Held(), {"secrets": {"steps": [3, 5, 8], "deep": {"a": [7.5, 9, 11], "b": 2}}})
    for value in ([3, 5, 8], [1, 7.5, 9, 11], [9, 3, 5, 8, 2]):
        with pytest.raises(OutputRefused) as refusal:
            out(value, numbers, held)
        assert refusal.value.reason is Reason.ROW_IN_OUTPUT
    assert out([3, 8], numbers, held) == [3, 8]


def test_what_was_held_of_tables_is_held_with_secret_values_too():
    square = [["2", "4", "6"], ["4", "7", "8"], ["6", "8", "9"]]
    numbers = {"kind": "list", "of": {"kind": "number", "decimals": 2}, "max_items": 9}
    held = holding(held_of([(["person-1"], list(zip(*square, strict=True)))]), {"secrets": PLAIN})
    for row in ([2, 4, 6], [4, 7, 8], PLAIN["steps"]):
        with pytest.raises(OutputRefused) as refusal:
            out(row, numbers, held)
        assert refusal.value.reason is Reason.ROW_IN_OUTPUT
    assert out("person-1", {"kind": "id"}, held) == "person-1"
    assert out([2, 7, 9], numbers, held) == [2, 7, 9]


# --- the files of their owner


def run(app, *words):
    return CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)


def test_sealing_writes_commitments_into_the_manifest_and_the_values_elsewhere(bundle, values, tmp_path):
    before, secrets = load(bundle), tmp_path / "secrets.json"
    words = ("seal-config", bundle, "--values", values, "--out", secrets)
    told = json.loads(run(algorithm_app, *words, "--json").output)
    after, kept = load(bundle), read_secret_config(secrets.read_bytes())
    assert after.digest == told["digest"] != before.digest
    assert after.manifest.secret_config == kept.commitments() == told["secret_config"]
    assert kept.plain() == PLAIN
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    assert not any(b"north" in content for content in after.members.values())
    assert len({each.salt for each in kept.values.values()}) == len(PLAIN)
    assert after.manifest.model_copy(update={"secret_config": None}) == before.manifest


def test_sealing_again_makes_other_salts_and_another_algorithm(bundle, values, tmp_path):
    first, one = seal_values(bundle, values, tmp_path / "one.json")
    second, two = seal_values(bundle, values, tmp_path / "two.json")
    assert first.digest != second.digest
    assert not set(one.commitments().values()) & set(two.commitments().values())


def test_secrets_are_never_put_inside_the_bundle_nor_over_others(bundle, values, tmp_path):
    before = load(bundle).digest
    (tmp_path / "link").symlink_to(bundle)
    for out in (bundle / "secrets.json", tmp_path / "link" / "secrets.json"):
        with pytest.raises(SecretsInBundle, match="name a place outside"):
            seal_values(bundle, values, out)
    inside = bundle / "values.json"
    inside.write_bytes(values.read_bytes())
    with pytest.raises(SecretsInBundle):
        seal_values(bundle, inside, tmp_path / "secrets.json")
    inside.unlink()
    (tmp_path / "secrets.json").write_text("older")
    with pytest.raises(SecretsThere, match="not overwritten"):
        seal_values(bundle, values, tmp_path / "secrets.json")
    assert (load(bundle).digest, (tmp_path / "secrets.json").read_text()) == (before, "older")


@pytest.mark.parametrize("text", ['{"Limit": 1}', "{}", "[1]", "{", '{"a": 1, "a": 2}'])
def test_values_that_cannot_be_committed_to_change_nothing(bundle, tmp_path, text):
    before = load(bundle).digest
    (tmp_path / "odd.json").write_text(text)
    with pytest.raises(BadSecretConfig):
        seal_values(bundle, tmp_path / "odd.json", tmp_path / "secrets.json")
    assert load(bundle).digest == before
    assert not (tmp_path / "secrets.json").exists()


def test_an_algorithm_on_shares_takes_no_secret_values(values, tmp_path):
    folder = create("overdue", tmp_path)
    with pytest.raises(ConfigNotTaken, match="runs in no enclave"):
        seal_values(folder, values, tmp_path / "secrets.json")
    assert not (tmp_path / "secrets.json").exists()


def test_a_bundle_is_shown_with_what_it_commits_to(bundle, values, tmp_path):
    _, made = seal_values(bundle, values, tmp_path / "secrets.json")
    said = run(algorithm_app, "show", bundle, "--dir", tmp_path).output
    assert f"limit, committed to as {made.commitments()['limit']}" in said


def test_a_bundle_is_not_rehearsed_without_its_secret_values(bundle, values, tmp_path):
    files = {"bank": tmp_path / "owes-trial" / "bank.csv"}
    with pytest.raises(BadJob, match="leave out the input of kind config"):
        rehearse(load(bundle), {}, files, "id", config=values)
    made, _ = seal_values(bundle, values, tmp_path / "secrets.json")
    with pytest.raises(BadJob, match="bring its values"):
        rehearse(made, {}, files, "id")
    with pytest.raises(BadInput, match="config_unfit"):
        rehearse(made, {}, files, "id", config=values)
    altered = json.loads((tmp_path / "secrets.json").read_text())
    altered["values"]["limit"]["value"] = 0.43
    (tmp_path / "altered.json").write_text(json.dumps(altered))
    with pytest.raises(BadInput, match="secret value limit is not the one"):
        rehearse(made, {}, files, "id", config=tmp_path / "altered.json")
    with pytest.raises(BadJob, match="call it otherwise"):
        rehearse(made, {}, {"config": files["bank"]}, "id", config=tmp_path / "secrets.json")


# --- what a node registers


def test_secret_values_are_registered_by_their_names_alone(tmp_path):
    (tmp_path / "secrets.json").write_bytes(config().document())
    schema = infer_schema(tmp_path / "secrets.json")
    assert schema.format == VERSION
    assert [(each.name, each.kind.value) for each in schema.columns] == [
        ("limit", "text"),
        ("partner", "text"),
        ("steps", "text"),
    ]


def test_plain_secret_values_are_not_taken_for_a_table(values):
    with pytest.raises(DatasetUnreadable) as refusal:
        infer_schema(values)
    assert "north" not in str(refusal.value)


def test_a_table_whose_header_begins_with_a_brace_is_still_a_table(tmp_path):
    (tmp_path / "odd.csv").write_text("{id,age\n1,2\n")
    assert [each.name for each in infer_schema(tmp_path / "odd.csv").columns] == ["{id", "age"]


# --- what a regulator checks


@pytest.fixture
def opened(bundle, values, tmp_path):
    made, _ = seal_values(bundle, values, tmp_path / "secrets.json")
    words = (
        "--secrets",
        tmp_path / "secrets.json",
        "--algorithm",
        made.digest,
        "--out",
        tmp_path / "limit.json",
    )
    assert run(algorithm_app, "open-config", "limit", *words).exit_code == 0
    return tmp_path / "limit.json"


def test_a_regulator_holds_an_opening_to_the_bundle(opened, bundle):
    said = run(audit_app, "config", opened, "--bundle", bundle)
    assert said.exit_code == 0
    assert f"limit is 0.42: the manifest of {load(bundle).digest} commits to it" in said.output
    told = json.loads(run(audit_app, "config", opened, "--bundle", bundle, "--json").output)
    assert (told["holds"], told["why"], told["value"]) == (True, None, 0.42)
    assert "north" not in opened.read_text()


def test_an_altered_opening_or_bundle_is_told_by_the_exit_code(opened, bundle, tmp_path):
    lie = read_value_opening(opened.read_bytes()).model_copy(update={"value": 0.43})
    (tmp_path / "lie.json").write_bytes(lie.document())
    said = run(audit_app, "config", tmp_path / "lie.json", "--bundle", bundle)
    assert (said.exit_code, "do not give the commitment" in said.output) == (1, True)
    told = run(audit_app, "config", tmp_path / "lie.json", "--bundle", bundle, "--json")
    assert (told.exit_code, json.loads(told.output)["holds"]) == (1, False)
    (bundle / "program.py").write_text("def run(inputs, params): return {}\n")
    said = run(audit_app, "config", opened, "--bundle", bundle)
    assert (said.exit_code, "it is of the algorithm" in said.output) == (1, True)


def test_what_is_no_opening_is_no_verdict(opened, bundle, tmp_path):
    assert run(audit_app, "config", tmp_path / "secrets.json", "--bundle", bundle).exit_code == 3
    told = run(audit_app, "config", opened, "--bundle", bundle, "--statement", opened, "--json")
    assert (told.exit_code, "holds" in json.loads(told.output)) == (3, False)


def statement(path: Path, algorithm, *, stage=Stage.FINAL):
    spec = tee_spec()
    step = spec.steps[0].model_copy(update={"algorithm": algorithm})
    spec = spec.model_copy(update={"steps": [step]})
    events = begun(spec) if stage is Stage.RELEASE else ended(spec, h(77))
    found = shown(h(1), spec, events, stage=stage, algorithm=algorithm)
    path.write_bytes(found.document())
    return found


def test_a_regulator_holds_the_bundle_to_what_the_enclave_stated(opened, bundle, tmp_path):
    final = statement(tmp_path / "final.json", load(bundle).digest)
    words = ("config", opened, "--bundle", bundle, "--statement", tmp_path / "final.json")
    said = run(audit_app, *words)
    assert (said.exit_code, f"statement {final.digest} says" in said.output) == (0, True)
    statement(tmp_path / "final.json", h(3))
    said = run(audit_app, *words)
    assert (said.exit_code, f"says that {h(3)} ran" in said.output) == (1, True)
    statement(tmp_path / "final.json", load(bundle).digest, stage=Stage.RELEASE)
    said = run(audit_app, *words)
    assert (said.exit_code, "give the last one" in said.output) == (1, True)
