"""Acts as files: what is drafted is what is signed and what is submitted, and nothing else passes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from chain_world import ALGORITHM, World, h

from sealtrace.contracts.act_files import ActUnreadable, Drafted, NotSigned, SignedByAnother, read_act
from sealtrace.contracts.signing import MalformedSignature, Place
from sealtrace.protocol.identifiers import Address, UnixSeconds
from sealtrace.protocol.records import TaskTerms
from sealtrace.protocol.spec import TaskSpec


def words(world: World, **changed: Any) -> dict[str, Any]:
    usual = {
        "dataset": world.dataset("alice"),
        "algorithm": ALGORITHM,
        "requester": world.of("lab"),
        "purpose": "overlap study",
        "protections": ["PSI_RR22"],
        "uses": 2,
        "expires_at": world.now + 1000,
    }
    return {"grant": {**usual, **changed}}


def written(folder: Path, content: object) -> Path:
    path = folder / "act.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def drafted(world: World, path: Path, name: str = "alice", serial: int | None = None) -> Drafted:
    act = read_act(path)
    place = Place(world.chain.settings.chain_id, world.chain.addresses[act.contract])
    if act.grant and serial is None:
        serial = world.chain.serial(world.of(name), at=world.chain.head())
    return Drafted.make(act, world.of(name), place, UnixSeconds(world.now + 500), serial)


def again(folder: Path, draft: Drafted) -> Drafted:
    """Through a file, as it is carried about."""
    path = folder / "act.json"
    draft.write(path)
    return Drafted.read(path)


def test_a_grant_is_drafted_signed_and_submitted_by_somebody_else(world: World, tmp_path: Path) -> None:
    day = "2097-01-01T00:00:00Z"
    path = written(tmp_path, words(world, expires_at="@", epsilon=0.5))
    path.write_text(path.read_text().replace("'@'", day))
    draft = again(tmp_path, drafted(world, path))
    with pytest.raises(NotSigned):
        draft.call()
    signed = again(tmp_path, draft.signed_with(world.keys["alice"]))
    done = world.do(signed.call(), "outsider")
    assert (done.value("owner"), done.value("uses")) == (world.of("alice"), 2)
    assert (done.value("epsilon"), done.value("expiresAt")) == (500_000, 4_007_836_800)


def test_a_revocation_is_signed_with_a_wallets_answer(world: World, tmp_path: Path) -> None:
    from eth_account import Account
    from eth_account.messages import encode_typed_data

    path = written(tmp_path, {"revocation": {"grant": world.grants["alice"]}})
    draft = again(tmp_path, drafted(world, path))
    message = encode_typed_data(full_message=json.loads((tmp_path / "act.json").read_text())["typed_data"])
    wallet = Account.from_key(world.keys["alice"]).sign_message(message)
    signed = again(tmp_path, draft.attached("0x" + bytes(wallet.signature).hex()))
    assert world.do(signed.call(), "lab").names == ["GrantRevoked"]


def specified(world: World) -> tuple[dict[str, Any], TaskTerms]:
    """A task of all owners with a specification behind it."""
    grants = {name: world.issue(name, purpose=_purpose()) for name in world.ranks}
    spec = {
        "version": "sealtrace.task/1",
        "nonce": h("nonce"),
        "requester": world.of("lab"),
        "requester_key": h("key lab"),
        "purpose": "overlap study",
        "deadline": world.now + 3600,
        "engine_seconds": 600,
        "parties": list(world.parties),
        "inputs": [
            {"name": n, "party": world.of(n), "dataset": world.dataset(n), "id_column": "id", "columns": []}
            for n in world.ranks
        ],
        "steps": [
            {
                "id": "align",
                "algorithm": ALGORITHM,
                "engine": "psi",
                "protocol": "RR22",
                "inputs": world.ranks,
                "after": [],
                "grants": grants,
                "epsilon": {},
                "params": {},
            }
        ],
    }
    return spec, TaskSpec.model_validate(spec).terms()


def _purpose() -> Any:
    from sealtrace.protocol.spec import purpose_hash

    return purpose_hash("overlap study")


def test_a_party_starts_reports_and_refuses_by_file(world: World, tmp_path: Path) -> None:
    spec, terms = specified(world)
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    world.create(terms)
    told = []
    for act in (
        {"start": {"spec": "spec.json", "input_commitment": h("input")}},
        {"receipt": {"spec": "spec.json", "receipt": h("r"), "result": h("result")}},
    ):
        for name in world.ranks:
            draft = again(tmp_path, drafted(world, written(tmp_path, act), name))
            told += world.do(draft.signed_with(world.keys[name]).call(), "outsider").names
    assert (told.count("TaskStarted"), told.count("TaskFinished"), told[-1]) == (3, 3, "TaskCompleted")


@pytest.mark.parametrize(
    "act", [{"refusal": {"spec": "spec.json", "reason": 40}}, {"approval": {"spec": "spec.json"}}]
)
def test_refusal_and_approval_are_acts_too(world: World, tmp_path: Path, act: dict[str, Any]) -> None:
    spec, terms = specified(world)
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    world.create(terms)
    call = drafted(world, written(tmp_path, act)).signed_with(world.keys["alice"]).call()
    if "refusal" in act:
        assert world.do(call, "outsider").names == ["TaskRefused"]
    else:
        assert world.refused(call, "outsider").name == "AlreadyApproved"
    with pytest.raises(SignedByAnother, match="no party"):
        drafted(world, written(tmp_path, act), "lab").signed_with(world.keys["lab"]).call()


def test_another_key_or_another_signature_is_refused(world: World, tmp_path: Path) -> None:
    draft = drafted(world, written(tmp_path, words(world)))
    with pytest.raises(SignedByAnother, match=world.of("bob")):
        draft.signed_with(world.keys["bob"])
    other = drafted(world, written(tmp_path, words(world, uses=9))).signed_with(world.keys["alice"])
    with pytest.raises(SignedByAnother):
        draft.attached(str(other.file.signature))
    for nonsense in ("0x12", "hello", "0x" + "ff" * 65):
        with pytest.raises(MalformedSignature):
            draft.attached(nonsense)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda d: d["act"]["grant"].update(uses=9), "something else"),
        (lambda d: d["typed_data"]["message"].update(uses=9), "something else"),
        (lambda d: d["typed_data"]["domain"].update(chainId=1), "something else"),
        (lambda d: d.update(serial=5), "something else"),
        (lambda d: d.update(more=1), "more"),
        (lambda d: d.pop("signer"), "signer"),
        (lambda d: d.update(signature="0x12"), "signature"),
    ],
)
def test_a_file_that_was_altered_is_refused(world: World, tmp_path: Path, change: Any, why: str) -> None:
    drafted(world, written(tmp_path, words(world))).write(tmp_path / "act.json")
    content = json.loads((tmp_path / "act.json").read_text())
    change(content)
    (tmp_path / "act.json").write_text(json.dumps(content))
    with pytest.raises(ActUnreadable, match=why):
        Drafted.read(tmp_path / "act.json")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "act.yaml"),
        ("[]", "file"),
        ("{}", "one of grant"),
        ({"grant": {}}, "grant.dataset"),
        ({"revocation": {"grant": "0x12"}}, "revocation.grant"),
        ({"revocation": {"grant": "0x" + "11" * 32}, "approval": {"spec": "x"}}, "one of grant"),
        ({"refusal": {"spec": "spec.json", "reason": 0}}, "refusal.reason"),
        ({"approval": {"spec": "nowhere.json"}}, "No such file"),
        ("approval: {spec: act.yaml}", "act.yaml"),
    ],
)
def test_words_that_are_no_act_are_refused_at_their_place(tmp_path: Path, content: object, why: str) -> None:
    with pytest.raises(ActUnreadable, match=why):
        read_act(written(tmp_path, content))


def test_what_cannot_be_said_is_refused_when_it_is_drafted(world: World, tmp_path: Path) -> None:
    for change, why in (({"protections": ["MAGIC"]}, "no protection"), ({"expires_at": "@"}, "zone")):
        path = written(tmp_path, words(world, **change))
        path.write_text(path.read_text().replace("'@'", "2027-01-01T00:00:00"))
        with pytest.raises(ActUnreadable, match=why):
            drafted(world, path)
    act = read_act(written(tmp_path, words(world)))
    place = Place(1, Address("0x" + "11" * 20))
    with pytest.raises(ActUnreadable, match="serial"):
        Drafted.make(act, world.of("alice"), place, UnixSeconds(9), None)
    (tmp_path / "spec.json").write_text("{}")
    with pytest.raises(ActUnreadable, match="spec"):
        drafted(world, written(tmp_path, {"approval": {"spec": "spec.json"}}))
    with pytest.raises(ActUnreadable, match="longer"):
        read_act(written(tmp_path, "#" * 1_100_000))
