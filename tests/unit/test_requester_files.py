from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

import pytest
from scheduler_fakes import LAB, NOW, PARTIES, h

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.protocol.alignment import contradictions, read_alignment
from sealtrace.protocol.canonical import sha256
from sealtrace.protocol.identifiers import UnixSeconds
from sealtrace.protocol.keys import PHONE, PHONE_WORDS, RULES
from sealtrace.requester.directory import ChainSection, Directory, Settings
from sealtrace.requester.drafts import Asker, KnownAlgorithm, read_task, settled, specification
from sealtrace.requester.errors import (
    AlgorithmUnknownHere,
    FileUnwritable,
    GrantNotFound,
    NoDirectory,
    SettingsInvalid,
    SpecInvalid,
)
from sealtrace.requester.known_algorithms import KnownAlgorithms
from sealtrace.requester.task_files import read
from sealtrace.requester.whole_files import write_whole

BOOK = {f"p{index}": each.address for index, each in enumerate(PARTIES)}
TASK = f"""\
purpose: credit risk statistics
deadline: 2h
parties:
  extra: {PARTIES[2].address}
inputs:
  p0: {{dataset: {h(100)}, id: applicant, columns: [amount]}}
  p1: {{dataset: {h(101)}, id: applicant}}
  third: {{party: extra, dataset: {h(102)}, id: applicant}}
steps:
  align:
    algorithm: psi
    protocol: RR22
  stats:
    algorithm: statistics
    protocol: ABY3
    grants: {{p0: {h(9)}}}
    params: {{min_group: 5, share: 0.5, name: "0x12", day: 2026-01-01, no: no}}
"""


def find_algorithm(name):
    if name not in ("psi", "statistics"):
        raise AlgorithmUnknownHere(name)
    return KnownAlgorithm(h(1), "psi") if name == "psi" else KnownAlgorithm(h(2), "mpc")


def granted(dataset, algorithm):
    """A grant is for one dataset and one algorithm."""
    return sha256((dataset + algorithm).encode())


def asker(**changes):
    return Asker(
        **{
            "address": LAB.address,
            "encryption_key": LAB.encryption_key,
            "now": UnixSeconds(NOW),
            "nonce": h(7),
            "book": BOOK,
            "find_algorithm": find_algorithm,
            "find_grant": lambda owner, dataset, algorithm, purpose: granted(dataset, algorithm),
            **changes,
        }
    )


def draft_of(text, **changes):
    return read_task(read(text.encode(), "task.yaml"), asker(**changes))


def refused(text, **changes):
    with pytest.raises(SpecInvalid) as caught:
        read_all(text.encode() if isinstance(text, str) else text, **changes)
    return str(caught.value)


def read_all(text, **changes):
    located = read(text, "task.yaml")
    return specification(read_task(located, asker(**changes)), located)


def test_a_task_in_words_becomes_a_specification():
    draft = draft_of(TASK)
    assert settled(draft)
    spec = specification(draft)
    assert spec.parties == [each.address for each in PARTIES]
    assert (spec.deadline, spec.nonce, spec.requester) == (NOW + 7200, h(7), LAB.address)
    align, stats = spec.steps
    assert (align.engine, align.inputs, align.after) == ("psi", ["p0", "p1", "third"], [])
    assert (stats.engine, stats.after) == ("mpc", ["align"])
    assert stats.grants == {"p0": h(9), "p1": granted(h(101), h(2)), "third": granted(h(102), h(2))}
    assert stats.params == {"min_group": 5, "share": 0.5, "name": "0x12", "day": "2026-01-01", "no": "no"}


FOUR = TASK.replace("  extra: ", f"  fourth: {LAB.address}\n  extra: ").replace(
    "steps:", f"  fourth: {{dataset: {h(103)}, id: applicant}}\nsteps:"
)


def test_of_more_than_three_owners_the_first_three_compute_unless_others_are_named():
    owners = sorted([*(each.address for each in PARTIES), LAB.address])
    assert draft_of(TASK)["compute"] == []
    assert draft_of(FOUR)["compute"] == owners[:3]
    named = draft_of(FOUR + "compute: [fourth, p1, p0]\n")
    assert named["compute"] == sorted([LAB.address, BOOK["p0"], BOOK["p1"]])
    assert draft_of(FOUR)["parties"] == named["parties"] == owners


def test_a_helper_is_a_party_and_results_and_kept_values_are_passed_on():
    text = TASK.replace("  third: ", "  unused: ").replace("party: extra", "party: p0")
    draft = draft_of(text + "compute: [p0, p1, extra]\nresults: [align, stats]\nkeep: {sums: stats.totals}\n")
    assert draft["parties"] == sorted(each.address for each in PARTIES)
    assert (draft["results"], draft["keep"]) == (["align", "stats"], {"sums": "stats.totals"})


def test_a_part_of_a_kept_value_has_neither_id_nor_columns():
    text = TASK.replace(f"dataset: {h(101)}, id: applicant", f"dataset: {h(101)}, part_of: model")
    (part,) = [each for each in draft_of(text)["inputs"] if each["part_of"]]
    assert (part["id_column"], part["columns"], part["part_of"]) == ("", [], "model")


ENCLAVE = f"""\
purpose: credit risk statistics
deadline: 2h
inputs:
  p0: {{dataset: {h(100)}, id: applicant, columns: [amount]}}
  p1: {{dataset: {h(101)}, id: applicant}}
steps:
  train:
    algorithm: trees
    policies: {{p0: {h(901)}, p1: {h(902)}}}
    params: {{mode: train}}
compute: [p2]
"""


def find_enclave_algorithm(name):
    return KnownAlgorithm(h(2), "tee") if name == "trees" else find_algorithm(name)


def test_a_task_in_an_enclave_names_its_party_and_the_policy_of_each_input():
    draft = draft_of(ENCLAVE, find_algorithm=find_enclave_algorithm)
    assert not settled(draft)
    assert draft["compute"] == [BOOK["p2"]]
    assert draft["parties"] == sorted(BOOK.values())
    assert (draft["steps"][0]["engine"], draft["steps"][0]["policies"]) == (
        "tee",
        {"p0": h(901), "p1": h(902)},
    )
    draft["steps"][0]["protocol"] = "SIMULATED"
    assert specification(draft).enclave == BOOK["p2"]


def test_an_enclaves_algorithm_that_is_not_here_is_named_by_its_digest_and_engine():
    text = ENCLAVE.replace("algorithm: trees", f"algorithm: {h(77)}\n    engine: tee")
    assert draft_of(text)["steps"][0]["algorithm"] == h(77)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            f", p1: {h(902)}",
            "",
            "task.yaml:9: steps.train.policies: give the digest of the attestation policy for",
        ),
        (
            f"    policies: {{p0: {h(901)}, p1: {h(902)}}}\n",
            "",
            "task.yaml:7: steps.train.policies: give the di",
        ),
        (
            f"p1: {h(902)}",
            f"p1: {h(902)}, third: {h(9)}",
            "task.yaml:9: steps.train.policies.third: 'third' is no",
        ),
        (
            "compute: [p2]\n",
            "",
            "task.yaml:1: compute: name the one party of the enclave in which train runs",
        ),
        ("[p2]", "[p2, p1]", "task.yaml:11: compute: name the one party of the enclave in which train runs"),
        ("[p2]", "[p1]", "task.yaml:11: compute.0: it brings data: name another party for the enclave"),
        (
            "steps:",
            "steps:\n  align: {algorithm: psi}",
            "task.yaml:8: steps.train: an enclave runs one bundle",
        ),
        (
            "algorithm: trees",
            "algorithm: statistics",
            "task.yaml:9: steps.train.policies.p0: policies are for",
        ),
    ],
)
def test_what_is_wrong_with_a_task_in_an_enclave_is_said_with_its_line(old, new, said):
    assert old in ENCLAVE
    assert said in refused(ENCLAVE.replace(old, new), find_algorithm=find_enclave_algorithm)


def test_a_protocol_may_be_left_open():
    assert not settled(draft_of(TASK.replace("    protocol: ABY3\n", "")))


def test_a_whole_specification_is_taken_as_it_is():
    spec = specification(draft_of(TASK))
    located = read(spec.canonical(), "spec.json")
    assert specification(read_task(located, asker(nonce=h(8)))) == spec


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("purpose: credit", "purpos: credit", "task.yaml:1: purpose: Field required"),
        ("deadline: 2h", "deadline: tomorrow", "task.yaml:2: deadline: give 30m, 2h"),
        ("deadline: 2h", "deadline: 2026-01-01T12:00:00", "task.yaml:2: deadline: give 30m, 2h"),
        ("party: extra", "party: nobody", "task.yaml:8: inputs.third: no party 'nobody'"),
        ("algorithm: psi", "algorithm: regression", "task.yaml:11: steps.align.algorithm: no bundle"),
        ("  p1: {dataset: 0x", "  p1: {dataset: 0y", "task.yaml:7: inputs.p1.dataset: give 0x"),
        ("protocol: RR22", "colour: red", "task.yaml:12: steps.align.colour: Extra inputs"),
        ("protocol: RR22", "protocol: FOO", "task.yaml:10: steps.align: step align: psi knows no protocol"),
        ("protocol: RR22", "inputs: [p9]", "task.yaml:12: steps.align.inputs: there is no input 'p9'"),
        ("    protocol: ABY3", "    protocol: ABY3\n    after: [later]", "task.yaml:13:"),
        ("  stats:", "  align:", "task.yaml:13: 'align' is given twice"),
        ("  stats:", " stats:", "task.yaml:13:"),
        ("purpose: credit", "purpose: &x credit", "task.yaml:1: anchors and aliases are not taken"),
        ("purpose: credit", "purpose: *x", "task.yaml:1: anchors and aliases are not taken"),
        ("deadline: 2h", "deadline: !!python/name:os.system ''", "task.yaml:2: tags such as"),
        ("deadline: 2h", "deadline: true", "task.yaml:2: deadline"),
        (
            "protocol: ABY3",
            "protocol: CHEETAH",
            "task.yaml:13: steps.stats: step stats: CHEETAH runs among exactly 2",
        ),
        (
            "protocol: RR22",
            "params: {key: [{rules: [upper]}]}\n    protocol: RR22",
            "task.yaml:10: steps.align: step align: params.key.0.rules.0: 'upper' is no rule",
        ),
        (
            "protocol: RR22",
            "params: {receivers: [p0]}\n    protocol: RR22",
            "task.yaml:10: steps.align: step align: a later step computes on the aligned rows",
        ),
    ],
)
def test_what_is_wrong_with_a_task_file_is_said_with_its_line(old, new, said):
    assert old in TASK
    assert refused(TASK.replace(old, new, 1)).startswith(said)


@pytest.mark.parametrize(
    "text", ["", "- 1", "just words", "{", "\t", b"\xff", "[" * 40 + "]" * 40, "a" * 300_000]
)
def test_bytes_that_are_no_task_are_refused(text):
    assert "task.yaml" in refused(text)


def test_without_a_grant_the_owner_to_ask_is_named():
    with pytest.raises(GrantNotFound, match=f"step align: {PARTIES[0].address} has no grant"):
        draft_of(TASK, find_grant=lambda *_: None)


def settings(**changes):
    chain = ChainSection(rpc_url="http://x", chain_id=1, directory=LAB.address)
    return Settings(**{"scheduler_url": "http://y", "chain": chain, "parties": BOOK, **changes})


def test_a_directory_is_made_once_and_its_keys_are_private(tmp_path):
    directory = Directory(tmp_path / "lab")
    keys = directory.create(settings())
    assert directory.settings() == settings()
    assert directory.create(settings()).address == keys.address
    assert directory.keys().encryption_key == keys.encryption_key
    for name in ("key.json", "hpke.key", "requester.toml"):
        assert (tmp_path / "lab" / name).stat().st_mode & 0o777 == 0o600
    assert keys.hpke.private_bytes_raw().hex() not in repr(keys)


def test_other_settings_are_not_overwritten(tmp_path):
    directory = Directory(tmp_path)
    directory.create(settings())
    with pytest.raises(SettingsInvalid):
        directory.create(settings(scheduler_url="http://z"))


def test_a_directory_that_is_none_is_refused(tmp_path):
    with pytest.raises(NoDirectory):
        Directory(tmp_path).settings()


@pytest.mark.parametrize("text", ["=", 'scheduler_url = "ftp://x"', 'colour = "red"'])
def test_malformed_settings_are_refused(tmp_path, text):
    (tmp_path / "requester.toml").write_text(text)
    with pytest.raises(SettingsInvalid):
        Directory(tmp_path).settings()


def test_a_key_that_others_may_read_is_not_used(tmp_path):
    directory = Directory(tmp_path)
    directory.create(settings())
    (tmp_path / "hpke.key").chmod(0o644)
    with pytest.raises(NoDirectory, match="others may read"):
        directory.keys()


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_whole(path, b"before")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileUnwritable, match="No space left"):
        write_whole(path, b"after")
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_bundle_is_remembered_by_its_digest(tmp_path):
    directory = Directory(tmp_path)
    directory.create(settings())
    directory.add_bundle(h(3), tmp_path)
    assert directory.bundles() == {h(3): tmp_path}


def test_a_bundle_altered_since_it_was_added_is_no_bundle(tmp_path):
    folder = tmp_path / "psi"
    shutil.copytree(shipped()["psi"], folder, ignore=shutil.ignore_patterns("__pycache__"))
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"0.1.0"', '"0.1.1"'))
    digest = load(folder).digest
    assert KnownAlgorithms({digest: folder}).bundle(digest).manifest.version == "0.1.1"
    (folder / "manifest.json").write_text(text.replace('"0.1.0"', '"0.1.2"'))
    with pytest.raises(AlgorithmUnknownHere):
        KnownAlgorithms({digest: folder}).bundle(digest)


def test_a_damaged_key_is_named(tmp_path):
    directory = Directory(tmp_path)
    directory.create(settings())
    (tmp_path / "hpke.key").write_text("12")
    with pytest.raises(NoDirectory, match=r"hpke\.key"):
        directory.keys()


YAML = re.compile(r"```yaml\n(.*?)```", re.DOTALL)


def test_the_alignments_in_the_documents_are_taken_and_every_rule_is_explained():
    text = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text("utf-8")
    parts = YAML.findall(text.partition("## Alignment")[2])
    steps = [step for each in parts for step in read(each.encode(), "docs").value.values()]
    columns = {"bank": ["id", "phone", "surname"], "registry": ["id", "mobile", "last_name"]}
    assert [step["algorithm"] for step in steps] == ["psi", "psi-join", "psi-sum"]
    load(shipped()["psi-sum"]).program.check(steps.pop()["params"], ["bank", "registry"])
    for step in steps:
        assert [*contradictions(read_alignment(step["params"]), columns, read_later=False)] == []
    for name, words in {**{name: words for name, (_, words) in RULES.items()}, PHONE: PHONE_WORDS}.items():
        assert f"| `{name}` | {words} |" in text


def test_the_task_in_the_documents_is_one():
    text = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text("utf-8")
    example = YAML.findall(text)[0]
    draft = draft_of(example, book={})
    assert [each.get("protocol") for each in draft["steps"]] == [None, "CHEETAH"]
    draft["steps"][0]["protocol"] = "RR22"
    assert specification(draft).steps[1].after == ["align"]
