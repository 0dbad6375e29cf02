"""Bundles of audits, and the one file that checks them: honest, altered, invented and hostile ones."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import subprocess
import sys
import tarfile
from contextlib import redirect_stdout
from pathlib import Path

import msgspec
import pytest
from auditor_story import COMPLETED, OWNERS, Story
from bundle_story import SIGNATURES, FakeChain, honest, packed

from sealtrace.auditor import bundle as bundles
from sealtrace.auditor import evidence, material, verify_report
from sealtrace.auditor.bundle import BundleUnwritable, tar_header
from sealtrace.auditor.headers import keccak, read_receipts, receipts_rlp
from sealtrace.auditor.headers import receipts_root as known_root
from sealtrace.auditor.material import MaterialTooLarge
from sealtrace.contracts.abi import GENERATION
from sealtrace.protocol.canonical import canonical, sha256
from sealtrace.protocol.evidence import MAX_RECORD_BYTES
from sealtrace.protocol.lifecycle import OPEN_STATES, TRANSITIONS, TaskEvent
from sealtrace.protocol.merkle import MerkleTree, leaf_hash
from sealtrace.protocol.outcome import Blame

PROGRAM = Path(verify_report.__file__)
PROVED, CONTRADICTED, UNPROVED, UNREADABLE = range(4)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    out = tmp_path_factory.mktemp("bundle") / "audit.tar"
    return out, packed(honest(), out)


def checked(path, anchor=None):
    """The exit code, and what was said."""
    with redirect_stdout(io.StringIO()) as said:
        code = verify_report.main([str(path), *(["--anchor", anchor] if anchor else [])])
    return code, said.getvalue()


def members_of(path):
    with tarfile.open(path) as archive:
        return {each.name: archive.extractfile(each).read() for each in archive.getmembers()}


def rebuilt(members, out, *, digests=True):
    """A bundle of these members as a forger would make it: digests and sizes fit."""
    given = dict(members)
    manifest = json.loads(given.pop("manifest.json"))
    if digests:
        manifest["members"] = [
            {"name": name, "sha256": sha256(data), "size": len(data)} for name, data in given.items()
        ]
    given = {"manifest.json": canonical(manifest), **given}
    out.write_bytes(
        b"".join(tar_header(n, len(d)) + d + bytes(-len(d) % 512) for n, d in given.items()) + bytes(1024)
    )
    return out


def blocks_of(data):
    """The entries of blocks.rlp, each a header and its receipts, still encoded."""
    found, at = [], 0
    while at < len(data):
        after = verify_report.rlp_head(data, at)[2]
        found.append(data[at:after])
        at = after
    return found


# an honest bundle


def test_an_honest_bundle_is_proved_and_says_what_was_taken_on_trust(bundle):
    code, said = checked(*bundle)
    assert code == PROVED
    assert "the 3 in the report are all there were" in said
    assert "of which 6 are starts" in said
    assert said.count("Merkle root the node put on the chain") == 3
    assert "Taken on trust:\n  - The anchor" in said
    assert "Signatures" in said.split("Not checked:")[1]


def test_without_an_anchor_nothing_is_called_proved(bundle):
    code, said = checked(bundle[0])
    assert code == UNPROVED
    assert "anybody can make up blocks" in said
    assert "Proved:" not in said


def test_another_anchor_is_a_contradiction(bundle):
    code, said = checked(bundle[0], "0x" + "11" * 32)
    assert code == CONTRADICTED
    assert "not the anchor" in said


def test_the_same_audit_gives_the_same_bytes(bundle, tmp_path):
    packed(honest(), tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == bundle[0].read_bytes()


def test_ordinary_tools_open_a_bundle(bundle):
    members = members_of(bundle[0])
    assert list(members)[:3] == ["manifest.json", "report.json", "blocks.rlp"]
    manifest = json.loads(members["manifest.json"])
    assert [each["name"] for each in manifest["members"]] == list(members)[1:]
    assert all(sha256(members[each["name"]]) == each["sha256"] for each in manifest["members"])


@pytest.mark.parametrize("libraries", ["with libraries", "without any"])
def test_the_file_alone_checks_a_bundle_where_sealtrace_is_not_installed(bundle, tmp_path, libraries):
    program = shutil.copy(PROGRAM, tmp_path)
    bare = ["-S"] if libraries == "without any" else []
    python = [sys.executable, "-I", *bare]
    if bare:
        probe = subprocess.run([*python, "-c", "import sealtrace"], capture_output=True, check=False)
        assert probe.returncode == 1
    arguments = [*python, program, str(bundle[0]), "--anchor", bundle[1]]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (PROVED, "")
    assert done.stdout.endswith("as far as said above.\n")


def test_the_file_imports_nothing_but_the_standard_library():
    script = (
        f"import sys, runpy; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_path({str(PROGRAM)!r}, run_name='__main__')\n"
        f"except SystemExit: pass\n"
        f"print({{m.split('.')[0] for m in sys.modules}} - {{'__main__'}} <= sys.stdlib_module_names)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "True"


# its parts against ours


def test_its_own_keccak_is_keccak():
    for size in (0, 1, 135, 136, 137, 271, 272, 600):
        data = bytes(i % 251 for i in range(size))
        assert verify_report.slow_keccak(data) == keccak(data) == verify_report.keccak(data)


def test_its_own_trie_is_the_trie():
    chain = FakeChain(honest())
    (one,) = next(each for each in chain.receipts if each)
    for count in (0, 1, 2, 3, 16, 17, 127, 128, 129, 256, 300):
        receipts = [one | {"cumulativeGasUsed": hex(i)} for i in range(count)]
        encoded = receipts_rlp(read_receipts(receipts))
        assert verify_report.hexed(verify_report.receipts_root(encoded)) == known_root(encoded)


def test_its_own_tree_is_the_log_of_rfc_9162():
    ours, theirs = MerkleTree(), verify_report.Tree()
    for i in range(70):
        assert theirs.root() == verify_report.hexed(ours.root())
        theirs.add(b"record %d" % i)
        ours.extend([leaf_hash(b"record %d" % i)])


def test_it_knows_the_events_and_the_life_of_a_task_as_the_contracts_have_them():
    for text in (verify_report.STEPS | verify_report.OTHERS).values():
        name, kinds = text.rstrip(")").split("(")
        declared = SIGNATURES[name][1]
        marked = [f"{each.type}!" for each in declared.indexed] + [each.type for each in declared.data]
        assert kinds.split(",") == marked
    table = {
        state.name.lower(): {
            event.removeprefix("Task").lower(): after.name.lower()
            for event, after in steps.items()
            if event is not TaskEvent.PROGRESS
        }
        for state, steps in TRANSITIONS.items()
        if steps
    }
    assert table == verify_report.AFTER
    assert verify_report.BLAME_PARTY == Blame.PARTY
    assert all(verify_report.state_at(state.name.lower(), 5, 5) == "expired" for state in OPEN_STATES)
    assert tuple(GENERATION) == verify_report.GENERATION


# alterations


def test_every_member_altered_by_one_byte_is_refused(bundle, tmp_path):
    """Seeded places in every member, in every header and padding of the archive, and its end."""
    whole, chosen = bundle[0].read_bytes(), random.Random(11)
    with tarfile.open(bundle[0]) as archive:
        spans = [(m.name, m.offset, m.offset_data, m.offset_data + m.size) for m in archive.getmembers()]
    spans.append(("the end", len(whole) - 1024, len(whole) - 1024, len(whole)))
    for name, start, data, end in spans:
        places = [chosen.randrange(data, end) for _ in range(25)]
        places += [chosen.randrange(start, data) for _ in range(6)] if data > start else []
        for place in places:
            altered = bytearray(whole)
            altered[place] ^= 1 << chosen.randrange(8)
            (tmp_path / "altered.tar").write_bytes(altered)
            code, said = checked(tmp_path / "altered.tar", bundle[1])
            assert code in (CONTRADICTED, UNREADABLE), (name, place, said)


def test_every_fifth_byte_of_the_manifest_counts(bundle, tmp_path):
    whole = bundle[0].read_bytes()
    for place in range(512, 512 + int(whole[124:135], 8), 5):
        altered = bytearray(whole)
        altered[place] ^= 1
        (tmp_path / "altered.tar").write_bytes(altered)
        assert checked(tmp_path / "altered.tar", bundle[1])[0] in (CONTRADICTED, UNREADABLE), place


@pytest.mark.parametrize("cut", [0, 1, 511, 512, 5_000, -1, -1024, -1025])
def test_a_bundle_that_ends_early_is_refused(bundle, tmp_path, cut):
    (tmp_path / "cut.tar").write_bytes(bundle[0].read_bytes()[:cut])
    assert checked(tmp_path / "cut.tar", bundle[1])[0] == UNREADABLE


def forged(bundle, tmp_path, change):
    """A bundle whose members were changed, and all digests with them."""
    members = members_of(bundle[0])
    change(members)
    return checked(rebuilt(members, tmp_path / "forged.tar"), bundle[1])


def test_a_bundle_made_again_from_the_same_members_is_proved(bundle, tmp_path):
    assert forged(bundle, tmp_path, lambda members: None)[0] == PROVED


def in_blocks(change):
    def changed(members):
        entries = blocks_of(members["blocks.rlp"])
        change(entries)
        members["blocks.rlp"] = b"".join(entries)

    return changed


def with_receipts(entries, change):
    """Change the receipts of the first block that has some."""
    for place, entry in enumerate(entries):
        header, receipts = verify_report.rlp_items(entry, "")
        if receipts != b"\x80":
            entries[place] = verify_report.rlp(header + change(receipts), 0xC0)
            return


BENT = {
    "receipts dropped": (
        in_blocks(lambda e: with_receipts(e, lambda _: b"\x80")),
        "its receipts are not here",
    ),
    "all of a block's receipts dropped": (
        in_blocks(lambda e: with_receipts(e, lambda _: b"\xc0")),
        "do not rebuild the receipts root",
    ),
    "two blocks swapped": (
        in_blocks(lambda e: e.__setitem__(slice(5, 7), [e[6], e[5]])),
        "stands where block 5 belongs",
    ),
    "a block left out": (in_blocks(lambda e: e.pop(5)), "stands where block 5 belongs"),
    "the last block left out": (in_blocks(lambda e: e.pop()), "not the anchor"),
    "a receipt given twice": (
        in_blocks(lambda e: with_receipts(e, lambda r: verify_report.rlp(2 * r[3:], 0xC0))),
        "",
    ),
}


@pytest.mark.parametrize("name", BENT)
def test_blocks_that_were_tampered_with_contradict(bundle, tmp_path, name):
    change, expected = BENT[name]
    code, said = forged(bundle, tmp_path, change)
    assert code == CONTRADICTED if expected else code in (CONTRADICTED, UNREADABLE)
    assert expected in said


def in_report(change):
    def changed(members):
        report = json.loads(members["report.json"])
        change(report)
        members["report.json"] = canonical(report) + b"\n"

    return changed


def completed(report):
    return next(task for task in report["tasks"] if task["id"] == COMPLETED)


def without_the_start(report):
    events = completed(report)["events"]
    events.remove(next(each for each in events if each["event"] == "started"))


def invented_start(report):
    events = completed(report)["events"]
    start = next(each for each in events if each["event"] == "started")
    events.append(start | {"block": 61, "log_index": 0})


def without_a_task(report):
    report["tasks"].remove(completed(report))
    report["counts"]["tasks"] -= 1
    report["counts"]["ran"] -= 1
    del report["counts"]["states"]["completed"]


def first_start(report):
    return next(each for each in completed(report)["events"] if each["event"] == "started")


def step_of(report, event):
    return next(each for task in report["tasks"] for each in task["events"] if each["event"] == event)


FORGED_REPORTS = {
    "a start left out": (without_the_start, "'started' at log"),
    "a start invented": (invented_start, "no 'started' is at log 0 of block 61"),
    "a start of another party": (lambda r: first_start(r).update(who=OWNERS[2]), "the report tells"),
    "a start at another time": (lambda r: first_start(r).update(time=1), "the report tells"),
    "a start of another input": (
        lambda r: first_start(r).update(says="input 0x" + "00" * 32),
        "the report tells",
    ),
    "another reason of a refusal": (
        lambda r: step_of(r, "refused").update(says="reason: grant_expired (33)"),
        "the report tells",
    ),
    "a failure blamed on somebody": (
        lambda r: step_of(r, "failed").update(says=f"engine (2); blame: party (2), {OWNERS[2]}"),
        "the report tells",
    ),
    "a task left out": (without_a_task, f"task {COMPLETED}: missing in the report"),
    "a task told twice": (lambda r: r["tasks"].append(r["tasks"][0]), "twice"),
    "a failure told as a completion": (
        lambda r: r["tasks"][2].update(state="completed"),
        "state: the report says completed, the blocks say failed",
    ),
    "a use of another grant": (
        lambda r: completed(r)["uses"][0].update(grant="0x" + "00" * 32),
        "uses: the report says",
    ),
    "another requester": (lambda r: completed(r).update(requester=OWNERS[0]), "requester"),
    "other sums": (lambda r: r["counts"]["states"].update(completed=2), "tasks by state"),
    "a checkpoint left out": (lambda r: r["annex"]["checkpoints"].pop(), "missing in the report"),
    "a checkpoint invented": (
        lambda r: r["annex"]["checkpoints"].append(r["annex"]["checkpoints"][0] | {"size": 99}),
        "no checkpoint of",
    ),
    "fewer events": (lambda r: r["scope"].update(events=3), "events: the report says 3"),
    "a log that fits where it does not": (
        lambda r: r["annex"]["logs"][0]["sizes_that_fit"].pop(),
        "it is not as anchored",
    ),
    "a log of fewer records": (lambda r: r["annex"]["logs"][0].update(records=2), "the report says 2"),
    "a clean verdict over findings": (
        lambda r: r["findings"].append({"rule": "ST-G01"}),
        "the verdict is 'clean'",
    ),
    "a verdict that clears the screen": (
        lambda r: r["verdict"].update(result="\x1b[2Jclean"),
        "the verdict is '?[2Jclean'",
    ),
    "another chain": (lambda r: r["scope"].update(chain_id=8), "another audit"),
}


@pytest.mark.parametrize("name", FORGED_REPORTS)
def test_a_report_that_says_what_the_chain_does_not_contradicts_it(bundle, tmp_path, name):
    change, expected = FORGED_REPORTS[name]
    code, said = forged(bundle, tmp_path, in_report(change))
    assert code == CONTRADICTED
    assert expected in said


def test_a_log_altered_after_the_audit_contradicts_the_report(bundle, tmp_path):
    def changed(members):
        name = f"logs/{OWNERS[0]}.jsonl"
        members[name] = members[name].replace(b'"removed":4', b'"removed":5', 1)

    code, said = forged(bundle, tmp_path, changed)
    assert code == CONTRADICTED
    assert "the report says that it fits" in said


def test_a_log_altered_before_the_audit_is_a_finding_and_the_bundle_is_proved(tmp_path):
    def spoil(node, text):
        return text.replace(b'"removed":4', b'"removed":5', 1) if node == OWNERS[0] else text

    anchor = packed(honest(), tmp_path / "b.tar", spoil=spoil)
    code, said = checked(tmp_path / "b.tar", anchor)
    assert json.loads(members_of(tmp_path / "b.tar")["report.json"])["verdict"]["result"] == "findings"
    assert code == PROVED, said
    assert f"Log of {OWNERS[0]}: what a finding of rule EV-L01 holds against it" in said


def test_a_log_not_handed_over_is_named(tmp_path):
    anchor = packed(honest(), tmp_path / "b.tar", nodes=OWNERS[:1])
    code, said = checked(tmp_path / "b.tar", anchor)
    assert code == PROVED
    assert f"anchored and not handed over: {OWNERS[1]}, {OWNERS[2]}" in said


def test_a_log_handed_over_in_part_leaves_the_rest_unproved(tmp_path):
    def spoil(node, text):
        return b"".join(text.splitlines(keepends=True)[:-2]) if node == OWNERS[0] else text

    anchor = packed(honest(), tmp_path / "b.tar", spoil=spoil)
    code, said = checked(tmp_path / "b.tar", anchor)
    assert code == UNPROVED
    assert "handed over up to" in said


def test_a_start_that_the_rules_forbid_is_told_by_a_finding_and_the_bundle_is_proved(tmp_path):
    story = honest()
    story.mine().emit("TaskStarted", task=COMPLETED, party=OWNERS[0], inputCommitment="0x" + "11" * 32)
    anchor = packed(story, tmp_path / "b.tar")
    code, said = checked(tmp_path / "b.tar", anchor)
    assert code == PROVED, said
    bent = (tmp_path / "b.tar", anchor)

    def silent(report):
        report["findings"] = [each for each in report["findings"] if each["task"] != COMPLETED]
        report["counts"]["findings"] = len(report["findings"])
        report["verdict"]["result"] = "findings" if report["findings"] else "clean"

    code, said = forged(bent, tmp_path, in_report(silent))
    assert code == CONTRADICTED
    assert "no finding says so" in said


@pytest.mark.parametrize("place", random.Random(9).sample(range(5, 64), 8))
def test_whatever_the_chain_says_against_the_rules_the_findings_tell_and_the_bundle_is_proved(
    tmp_path, place
):
    """An event that never came, and one that came twice: the auditor and the file read the same chain."""
    story = honest()
    again = story.events[place]
    del story.events[place]
    anchor = packed(story, tmp_path / "without.tar")
    code, said = checked(tmp_path / "without.tar", anchor)
    assert code == PROVED, said
    story = honest().mine()
    here = {"block": story.block(), "transaction": story.transaction, "log_index": 0}
    twice = msgspec.structs.replace(again, **here)
    story.events.append(twice)
    anchor = packed(story, tmp_path / "twice.tar")
    code, said = checked(tmp_path / "twice.tar", anchor)
    assert code == PROVED, said


def test_an_endpoint_without_receipts_leaves_a_bundle_that_proves_nothing_of_the_chain(tmp_path):
    story = honest()
    story.mine(30)
    chain = FakeChain(story)
    story.mine(-30)
    known = chain.result
    chain.result = lambda method, params: (
        {"error": {"code": -32601, "message": "none"}}
        if method == "eth_getBlockReceipts"
        else known(method, params)
    )
    anchor = packed(story, tmp_path / "b.tar", chain=chain)
    code, said = checked(tmp_path / "b.tar", anchor)
    assert code == UNPROVED
    assert "claims only proof level 1" in said
    assert "No event of the contracts was left out" not in said
    assert "are all there were" not in said


def test_a_chain_that_does_not_begin_with_the_consortium_is_not_proved_complete(tmp_path):
    story = honest()
    story.events = [each for each in story.events if each.args.get("electorate") != 1]
    anchor = packed(story, tmp_path / "b.tar")
    code, said = checked(tmp_path / "b.tar", anchor)
    assert code == UNPROVED
    assert "no event came before the first block" in said


def test_a_bundle_that_begins_after_the_first_contracts_hides_nothing(tmp_path):
    """Even with a consortium of the forger's own, the directory's announcements begin with the first."""
    story = honest()
    story.events = [each for each in story.events if each.name != "GenerationAnnounced"]
    story.announce(1)
    anchor = packed(story, tmp_path / "b.tar")
    code, said = checked(tmp_path / "b.tar", anchor)
    assert code == CONTRADICTED
    assert "generation 0 of the contracts was not announced here" in said


def test_contracts_that_the_directory_did_not_announce_are_noticed(bundle, tmp_path):
    def changed(members):
        manifest = json.loads(members["manifest.json"])
        manifest["contracts"].pop(0)
        members["manifest.json"] = canonical(manifest)

    code, said = forged(bundle, tmp_path, changed)
    assert code == CONTRADICTED
    assert "not those that the directory announced" in said


# hostile ones: each in a process of its own, whose memory is measured

MEASURED = """
import sys
sys.path.insert(0, sys.argv[1])
import verify_report
code = verify_report.main([sys.argv[2], "--anchor", "0x" + "11" * 32])
status = open("/proc/self/status").read()  # ru_maxrss would begin at the size of the process that forked
print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
sys.exit(code)
"""


def measured(path, tmp_path):
    """Exit code, text, and the process's greatest size in MiB."""
    shutil.copy(PROGRAM, tmp_path)
    arguments = [sys.executable, "-I", "-c", MEASURED, str(tmp_path), str(path)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=240, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    *said, peak = done.stdout.splitlines()
    return done.returncode, "\n".join(said), int(peak)


def sparse(path, *starts, size):
    """A file that begins with ``starts`` and is zeros up to ``size``."""
    with path.open("wb") as stream:
        stream.write(b"".join(starts))
        stream.truncate(size)
    return path


def entry(name, data, size=None):
    size = len(data) if size is None else size
    return tar_header(name, size) + data + bytes(-len(data) % 512)


def manifest_for(bundle, members):
    """The manifest of the honest bundle with other members: names and sizes."""
    manifest = json.loads(members_of(bundle[0])["manifest.json"])
    manifest["members"] = [{"name": n, "sha256": "0x" + "00" * 32, "size": s} for n, s in members]
    return entry("manifest.json", canonical(manifest))


TEN_GB = 10 * 10**9


def zeros(bundle, path):
    return sparse(path, size=TEN_GB)


def zeros_as_manifest(bundle, path):
    return sparse(path, tar_header("manifest.json", 8_589_934_591), size=TEN_GB)


def zeros_as_report(bundle, path):
    size = 8_589_934_591
    return sparse(
        path, manifest_for(bundle, [("report.json", size)]), tar_header("report.json", size), size=TEN_GB
    )


def zeros_as(name, size):
    def made(bundle, path):
        members = members_of(bundle[0])
        known = ["report.json", "blocks.rlp"][: 1 if name == "blocks.rlp" else 2]
        listed = [*((n, len(members[n])) for n in known), (name, size)]
        given = [entry(n, members[n]) for n in known]
        start = [manifest_for(bundle, listed), *given, tar_header(name, size)]
        return sparse(path, *start, size=TEN_GB)

    return made


def first_member(name, data):
    return lambda bundle, path: sparse(path, entry(name, data), size=len(entry(name, data)) + 1024)


def as_report(text):
    def made(bundle, path):
        start = [manifest_for(bundle, [("report.json", len(text))]), entry("report.json", text)]
        return sparse(path, *start, size=sum(map(len, start)) + 1024)

    return made


def as_blocks(text):
    def made(bundle, path):
        report = members_of(bundle[0])["report.json"]
        listed = manifest_for(bundle, [("report.json", len(report)), ("blocks.rlp", len(text))])
        start = [listed, entry("report.json", report), entry("blocks.rlp", text)]
        return sparse(path, *start, size=sum(map(len, start)) + 1024)

    return made


def renamed(name, kind=b"0", link=b""):
    """An archive whose first member has another name or is a link; its checksum fits."""

    def made(bundle, path):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link.decode()
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
            archive.addfile(info)
        return path

    return made


def doubled(bundle, path):
    members = members_of(bundle[0])
    report = members["report.json"]
    listed = manifest_for(bundle, 2 * [("report.json", len(report))])
    start = [listed, *2 * [entry("report.json", report)]]
    return sparse(path, *start, size=sum(map(len, start)) + 1024)


def gzipped(bundle, path):
    import gzip

    path.write_bytes(gzip.compress(bundle[0].read_bytes()))
    return path


def rlp_list_of(item, count):
    return verify_report.rlp(item * count, 0xC0)


MANY_KEYS = b"{" + b",".join(b'"%020d":"%05d"' % (i, i % 99_999) for i in range(1_990_000)) + b"}"

HOSTILE = {
    "10 GB of zeros": (zeros, "a member that no bundle has"),
    "10 GB of zeros as the manifest": (zeros_as_manifest, "more than 8388608"),
    "10 GB of zeros as the report": (zeros_as_report, "more than 67108864"),
    "8 GB of zeros as blocks": (zeros_as("blocks.rlp", 8_589_934_591), "no RLP list"),
    "8 GB of zeros as a log": (zeros_as(f"logs/{OWNERS[0]}.jsonl", 8_589_934_591), "more than 1073741824"),
    "1 GB of zeros as a log": (zeros_as(f"logs/{OWNERS[0]}.jsonl", 1 << 30), "there is no logs/0x2222"),
    "deep JSON": (as_report(b"[" * 900_000), "nested deeper than 64"),
    "deep JSON that closes": (as_report(b'{"a":' * 200_000 + b"1" + b"}" * 200_000), "nested deeper"),
    "bad UTF-8": (as_report(b'{"version":"\xff\xfe"}'), "not UTF-8 at byte"),
    "a key given twice": (as_report(b'{"version":1,"version":2}'), "one key twice"),
    "NaN": (as_report(b'{"version":NaN}'), "NaN is no value"),
    "infinity by digits": (as_report(b'{"version":1e999}'), "without an exact value"),
    "a number of a million digits": (as_report(b'{"version":' + b"9" * 1_000_000 + b"}"), "beyond 2^53"),
    "many values": (as_report(b"[" + b"1," * 3_000_000 + b"1]"), "more than 2000000 values"),
    "many lists": (as_report(b"[" + b"[]," * 1_500_000 + b"[]]"), "1000000 objects and lists"),
    "as many keys as are allowed": (as_report(MANY_KEYS), "version None"),
    "as many values as are allowed": (as_report(b"[" + b'{"a":[]},' * 499_990 + b"1]"), "not a JSON object"),
    "a list for an object": (as_report(b"[]"), "not a JSON object"),
    "a report of nothing": (as_report(b"{}"), "version None"),
    "a deep manifest": (first_member("manifest.json", b"[" * 1_000_000), "nested deeper"),
    "a manifest with blanks": (first_member("manifest.json", b'{"a": 1}'), "canonical form"),
    "a manifest with half a character": (first_member("manifest.json", b'{"a":"\\ud800"}'), "canonical form"),
    "a block of 4 GB": (as_blocks(b"\xfb\xff\xff\xff\xff"), "more than 33554432"),
    "a block of 2^64 bytes": (as_blocks(b"\xff" * 9), "more than 33554432"),
    "a block of many fields": (as_blocks(rlp_list_of(b"\x01", 8_000_000)), "more than 200000 entries"),
    "a block of a list in lists": (as_blocks(b"\xc2\xc1\xc0"), "no header with its receipts"),
    "a path out of the folder": (renamed("../../etc/passwd"), "no bundle has: b'../../etc/passwd'"),
    "an absolute path": (renamed("/etc/passwd"), "no bundle has"),
    "a name with a control sequence": (renamed("\x1b]0;hello\x07"), "no bundle has"),
    "a symbolic link": (renamed("manifest.json", tarfile.SYMTYPE, b"/etc/passwd"), "not a plain file"),
    "a hard link": (renamed("manifest.json", tarfile.LNKTYPE, b"/etc/passwd"), "not a plain file"),
    "a device": (renamed("manifest.json", tarfile.CHRTYPE), "not a plain file"),
    "a folder": (renamed("manifest.json", tarfile.DIRTYPE), ""),
    "a name given twice": (doubled, "not those of a bundle, in their order"),
    "a compressed one": (gzipped, "no bundle has"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_bundle_is_refused_in_bounded_memory(bundle, tmp_path, name):
    make, expected = HOSTILE[name]
    code, said, peak = measured(make(bundle, tmp_path / "hostile.tar"), tmp_path)
    assert code == UNREADABLE, said
    assert expected in said
    assert "\x1b" not in said
    assert peak < (900 if "many" in name else 96), f"{peak} MiB"


def test_reports_and_blocks_of_random_changes_never_crash_the_program(bundle, tmp_path):
    """A value of the report replaced by one of another kind."""
    chosen, members = random.Random(5), members_of(bundle[0])
    strange = [None, True, -1, 1.5, "x", [], {}, [[]], {"a": {}}]

    def places(value, path=()):
        found = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for key, inner in found:
            yield (*path, key)
            yield from places(inner, (*path, key))

    report = json.loads(members["report.json"])
    all_places = [
        p for p in places(report) if p[0] in ("scope", "proof", "counts", "tasks", "annex", "verdict")
    ]
    for path in chosen.sample(all_places, 120):
        changed = json.loads(members["report.json"])
        inner = changed
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = chosen.choice(strange)
        altered = members | {"report.json": canonical(changed) + b"\n"}
        code, _ = checked(rebuilt(altered, tmp_path / "strange.tar"), bundle[1])
        assert code in range(4)


def test_blocks_with_random_bytes_changed_never_crash_the_program(bundle, tmp_path):
    chosen, members = random.Random(6), members_of(bundle[0])
    for _ in range(120):
        blocks = bytearray(members["blocks.rlp"])
        for _ in range(chosen.randrange(1, 4)):
            blocks[chosen.randrange(len(blocks))] = chosen.randrange(256)
        altered = members | {"blocks.rlp": bytes(blocks)}
        code, said = checked(rebuilt(altered, tmp_path / "strange.tar"), bundle[1])
        assert code in (CONTRADICTED, UNREADABLE), said


# the document


def test_the_three_commands_of_the_document_check_a_bundle(bundle, tmp_path):
    text = (Path(__file__).parents[2] / "docs/audit-bundle.md").read_text(encoding="utf-8")
    (commands,) = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert commands.count("\n") == 3
    shutil.copy(PROGRAM, tmp_path)
    shutil.copy(bundle[0], tmp_path)
    (tmp_path / "python3").symlink_to(sys.executable)
    environment = {"ANCHOR": bundle[1], "PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-ec", commands],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (PROVED, "")
    assert '"last":67' in done.stdout


# writing


def test_a_block_that_no_verifier_would_read_is_refused_when_it_is_packed(monkeypatch, tmp_path):
    monkeypatch.setattr("sealtrace.auditor.material.MAX_BLOCK_BYTES", 1_000)
    with pytest.raises(MaterialTooLarge, match="block 0"):
        packed(honest(), tmp_path / "b.tar")


def test_a_report_that_no_verifier_would_read_is_refused_when_it_is_packed(monkeypatch, tmp_path):
    monkeypatch.setattr("sealtrace.auditor.bundle.MAX_REPORT_BYTES", 1_000)
    with pytest.raises(MaterialTooLarge, match="a report of"):
        packed(honest(), tmp_path / "b.tar")
    assert not (tmp_path / "b.tar").exists()


def test_what_is_written_is_never_beyond_what_is_read():
    assert material.MAX_BLOCK_BYTES <= verify_report.MAX_BLOCK
    assert bundles.MAX_REPORT_BYTES <= verify_report.MAX_REPORT
    assert evidence.MAX_LOG_BYTES <= verify_report.MAX_LOG
    assert evidence.MAX_RECORDS <= verify_report.MAX_RECORDS
    assert MAX_RECORD_BYTES == verify_report.MAX_RECORD


def test_a_bundle_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "b.tar").mkdir()
    with pytest.raises(BundleUnwritable):
        packed(Story().found(), tmp_path / "b.tar")
    assert [each.name for each in tmp_path.iterdir() if each.name != "log"] == ["b.tar"]
