"""Hostile code in the sandbox. The probes (``tee_probes.py``) end by themselves unless they find themselves
inside."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sealtrace.node.engines.errors import (
    BadJob,
    CpuExceeded,
    MemoryExceeded,
    OutputFlood,
    ProcessesExceeded,
    SandboxFailed,
    SandboxUnavailable,
    Stopped,
    TimeExceeded,
)
from sealtrace.node.engines.tee import cgroups, filter, runtime
from sealtrace.node.engines.tee.confinement import NEEDED, Barrier, needed, probe
from sealtrace.node.engines.tee.limits import MIB, Limits
from sealtrace.node.engines.tee.sandbox import Measured, Outcome, run

OFFER = probe()
PROBES = Path(__file__).with_name("tee_probes.py")
NOT_INSIDE = 77
SMALL = Limits(
    memory_bytes=128 * MIB,
    cpu_s=20,
    wall_s=30,
    processes=16,
    output_bytes=MIB,
    log_bytes=4096,
    tmp_bytes=8 * MIB,
)
SYSTEM_PYTHON = Path("/usr/bin/python3")

pytestmark = pytest.mark.skipif(
    bool(OFFER.missing(needed())), reason=f"this host gives no {', '.join(OFFER.missing(needed()))}"
)
counts_memory = pytest.mark.skipif(
    Barrier.CGROUP_MEMORY not in OFFER.barriers, reason="this host lets us make no memory group"
)


@pytest.fixture
def code(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "main.py").write_bytes(PROBES.read_bytes())
    return folder


@pytest.fixture
def tried(code):
    def tried(name, argument=None, *, limits=SMALL, inputs=None, offer=OFFER, **more) -> Outcome:
        found = runtime.this_python([])
        command = found.python("/code/main.py", name, json.dumps(argument))
        return run(Measured(command, code, found), inputs or {}, limits, offer=offer, **more)

    return tried


@pytest.fixture
def found(tried):
    return lambda *arguments, **named: json.loads(tried(*arguments, **named).output)


def ours():
    """Processes that run a probe, anywhere on this host."""
    lines = {}
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = each.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"/code/main.py" in words:
            lines[int(each.parent.name)] = words
    return lines


def running():
    """Those of them that are past bubblewrap."""
    return {pid: words for pid, words in ours().items() if not words[0].endswith(b"bwrap")}


def test_a_probe_outside_the_sandbox_tries_nothing(tmp_path):
    outside = subprocess.run(
        [sys.executable, "-B", PROBES, "environment", "null"], capture_output=True, check=False, cwd=tmp_path
    )
    assert outside.returncode == NOT_INSIDE
    assert b"not in the sandbox" in outside.stderr


def test_there_is_no_network_of_any_kind(found):
    assert set(found("sockets").values()) == {"EPERM"}


def test_files_of_the_host_are_not_there(found, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("42")
    hidden = [
        str(secret),
        "/etc/passwd",
        "/etc/hostname",
        "/root/.bashrc",
        "/usr/bin/bwrap",
        sys.executable + "3",
    ]
    assert found("reads", hidden) == dict.fromkeys(hidden, "ENOENT")


def test_nothing_is_seen_but_the_interpreter_its_libraries_and_the_code(found):
    root, devices, processes = found("seen")
    assert set(root) <= {"code", "dev", "etc", "lib", "lib64", "lib32", "libx32", "proc", "tmp", "usr"} | {
        Path(sys.base_prefix).parts[1]
    }
    assert devices == ["full", "null", "random", "shm", "urandom", "zero"]
    assert set(processes) <= {"cpuinfo", "meminfo"}


def test_nothing_can_be_written_but_tmp(found):
    places = ["/x", "/code/x", "/usr/lib/x", "/dev/x", "/proc/x", "/etc/x", f"{sys.base_prefix}/lib/x"]
    assert set(found("writes", places).values()) <= {"EROFS", "EACCES", "ENOENT"}
    assert found("writes", ["/tmp/x", "/dev/shm/y"]) == {"/tmp/x": None, "/dev/shm/y": None}


def test_processes_of_the_host_and_their_files_are_not_there(found):
    paths = [
        f"/proc/{who}/{what}" for who in ("1", "self", os.getpid()) for what in ("mem", "environ", "maps")
    ]
    paths += [
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/kcore",
        "/proc/keys",
        "/sys/kernel",
    ]
    assert set(found("reads", paths).values()) == {"ENOENT"}


PTRACE_TRACEME, CLONE_NEWUSER, SIGCHLD = 0, 0x10000000, 17
FORBIDDEN = {
    "ptrace": (PTRACE_TRACEME, 0, 0, 0),
    "process_vm_readv": (1, 0, 0, 0, 0, 0),
    "process_vm_writev": (1, 0, 0, 0, 0, 0),
    "mount": (0, 0, 0, 0, 0),
    "umount2": (0, 0),
    "pivot_root": (0, 0),
    "chroot": (0,),
    "fsopen": (0, 0),
    "open_tree": (-1, 0, 0),
    "move_mount": (-1, 0, -1, 0, 0),
    "unshare": (CLONE_NEWUSER,),
    "setns": (-1, 0),
    "clone": (CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0),
    "keyctl": (0, 0, 0, 0, 0),
    "add_key": (0, 0, 0, 0, 0),
    "request_key": (0, 0, 0, 0),
    "io_uring_setup": (0, 0),
    "io_uring_enter": (-1, 0, 0, 0, 0, 0),
    "memfd_create": (0, 0),
    "memfd_secret": (0,),
    "bpf": (0, 0, 0),
    "perf_event_open": (0, 0, -1, -1, 0),
    "userfaultfd": (0,),
    "open_by_handle_at": (-1, 0, 0),
    "name_to_handle_at": (-1, 0, 0, 0, 0),
    "pidfd_open": (1, 0),
    "pidfd_getfd": (-1, 0, 0),
    "init_module": (0, 0, 0),
    "kexec_load": (0, 0, 0, 0),
    "personality": (0xFFFFFFFF,),
    "syslog": (0, 0, 0),
    "setuid": (65534,),
    "sethostname": (0, 0),
    "clock_settime": (0, 0),
    "socketpair": (1, 1, 0, 0),
    "shmget": (0, 0, 0),
    "msgget": (0, 0),
    "seccomp": (0, 0, 0),
    "mknodat": (-1, 0, 0, 0),
    "execveat": (-1, 0, 0, 0, 0),
}


def test_no_system_call_leads_out(found):
    pyseccomp = pytest.importorskip("pyseccomp")
    numbers = {}
    for name, arguments in FORBIDDEN.items():
        number = pyseccomp.resolve_syscall(pyseccomp.system_arch(), name)
        if number >= 0:
            numbers[name] = (number, arguments)
    assert len(numbers) == len(FORBIDDEN)
    assert found("calls", numbers) == dict.fromkeys(numbers, "EPERM")


def test_new_namespaces_cannot_hide_in_the_memory_of_clone3(found):
    pyseccomp = pytest.importorskip("pyseccomp")
    clone3 = pyseccomp.resolve_syscall(pyseccomp.system_arch(), "clone3")
    assert found("calls", {"clone3": (clone3, (0, 0))}) == {"clone3": "ENOSYS"}


def test_a_terminal_cannot_be_typed_into_and_the_death_of_its_parent_not_be_ignored(found):
    pyseccomp = pytest.importorskip("pyseccomp")
    ioctl, prctl = (pyseccomp.resolve_syscall(pyseccomp.system_arch(), name) for name in ("ioctl", "prctl"))
    tiocsti, tiocgwinsz, pr_set_pdeathsig = 0x5412, 0x5413, 1
    numbers = {"type": (ioctl, (1, tiocsti, 0)), "outlive": (prctl, (pr_set_pdeathsig, 0, 0, 0, 0))}
    assert found("calls", numbers) == {"type": "EPERM", "outlive": "EPERM"}
    assert found("calls", {"size": (ioctl, (1, tiocgwinsz, 0))}) == {
        "size": "ENOTTY"
    }  # a read is let through


def test_a_process_outside_cannot_be_signalled(tried, found):
    with subprocess.Popen(["sleep", "60"]) as outside:
        try:
            assert found("signals", outside.pid) == {"one": "ESRCH", "killed": "ESRCH", "others": "ESRCH"}
            assert outside.poll() is None
        finally:
            outside.kill()


def test_descriptors_of_the_node_do_not_leak(found, tmp_path):
    secret = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(secret, True)
    reader, writer = os.pipe()
    os.close(writer)
    try:
        seen = found("descriptors", inputs={"table": reader})
    finally:
        os.close(secret)
        os.close(reader)
    assert secret not in seen
    assert len(seen) == 6  # three standard ones, the input, the output, and a pipe that nobody reads


def test_the_environment_of_the_node_does_not_leak(found, monkeypatch):
    monkeypatch.setenv("SEALTRACE_KEY_PASSWORD", "42")
    assert set(found("environment")) == {
        *("HOME", "TMPDIR", "LANG", "PWD", "PYTHONPATH", "PYTHONHASHSEED", "SEALTRACE_DESCRIPTORS")
    }


def test_an_input_file_cannot_be_changed_in_any_way(found, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    table.chmod(0o600)
    before = table.stat()
    reader = os.open(table, os.O_RDONLY)
    try:
        tried = found("input_file", inputs={"table": reader})
    finally:
        os.close(reader)
    assert None not in tried.values()
    assert tried["again"] == "ENOENT"
    after = table.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_size) == (
        before.st_mode,
        before.st_mtime_ns,
        before.st_size,
    )


@pytest.mark.parametrize("kind", ["folder", "socket", "writable file", "closed", "stream"])
def test_an_input_that_would_be_a_way_out_is_refused(tried, tmp_path, kind):
    one, other = socket.socketpair()
    with one, other:
        made = {
            "folder": lambda: os.open(tmp_path, os.O_RDONLY),
            "socket": lambda: os.dup(one.fileno()),
            "writable file": lambda: os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT),
            "closed": lambda: 999,
            "stream": lambda: 0,
        }[kind]()
        try:
            with pytest.raises(BadJob, match="table"):
                tried("seen", inputs={"table": made})
        finally:
            if made not in (0, 999):
                os.close(made)


@pytest.mark.parametrize("probe", ["forks", "fork_bomb"])
def test_a_fork_bomb_ends_at_the_limit(found, probe):
    seen = found(probe, limits=replace(SMALL, processes=16))
    assert seen["error"] == "EAGAIN"
    assert seen["made"] < 16
    assert ours() == {}


@pytest.mark.skipif(Barrier.CGROUP_PROCESSES not in OFFER.barriers, reason="no group counts processes")
def test_a_command_that_fails_for_want_of_processes_is_told_so(tried):
    with pytest.raises(ProcessesExceeded, match="16"):
        tried("failing_forks", limits=replace(SMALL, processes=16))


def test_a_memory_bomb_ends_at_the_limit(tried):
    with pytest.raises(MemoryExceeded, match=str(128 * MIB)):
        tried("memory")


def test_without_a_memory_group_each_process_still_has_a_limit(tried):
    offer = replace(OFFER, barriers=OFFER.barriers - {Barrier.CGROUP_MEMORY})
    with pytest.raises(MemoryExceeded) as caught:
        tried("memory", offer=offer)
    assert b"MemoryError" in caught.value.log


@counts_memory
def test_many_processes_together_have_one_memory_limit(tried):
    with pytest.raises(MemoryExceeded):
        tried("memory_of_many", 60 * MIB)
    tried("memory_of_many", 4 * MIB)


def test_cpu_time_is_limited(tried):
    with pytest.raises(CpuExceeded):
        tried("spins", limits=replace(SMALL, cpu_s=1))


@pytest.mark.parametrize("name", ["sleeps", "closes_and_sleeps"])
def test_wall_time_is_limited_and_nothing_stays_behind(tried, name):
    began = time.monotonic()
    with pytest.raises(TimeExceeded):
        tried(name, limits=replace(SMALL, wall_s=1))
    assert time.monotonic() - began < 10
    assert ours() == {}


def test_a_run_can_be_stopped(tried):
    began = time.monotonic()
    with pytest.raises(Stopped):
        tried("sleeps", stopped=lambda: time.monotonic() - began > 0.5)
    assert ours() == {}


def test_a_flood_of_output_ends_at_the_limit(tried):
    with pytest.raises(OutputFlood):
        tried("floods")
    assert ours() == {}


def test_a_flood_of_prints_is_dropped_and_does_not_block(tried):
    outcome = tried("chatters", 4 * MIB)
    assert outcome.output == b'"done"'
    assert len(outcome.log) == SMALL.log_bytes


@pytest.mark.parametrize("place", ["/tmp", "/dev/shm"])
def test_what_can_be_written_has_a_quota(found, place):
    filled = found("fills", place)
    assert filled["error"] == "ENOSPC"
    assert filled["written"] <= SMALL.tmp_bytes


def test_a_command_that_fails_is_told_with_what_it_printed(tried):
    with pytest.raises(SandboxFailed) as caught:
        tried("no such probe")
    assert b"KeyError" in caught.value.log
    assert "no such probe" not in str(caught.value)  # it may quote inputs


def test_a_command_that_does_not_exist_is_told(code):
    with pytest.raises(SandboxFailed) as caught:
        run(Measured(["/nowhere"], code, runtime.this_python([])), {}, SMALL, offer=OFFER)
    assert b"/nowhere" in caught.value.log


def test_no_control_group_stays_behind(tried):
    place = cgroups.find()
    tried("seen")
    left = [each for parent in {place.memory, place.pids} - {None} for each in parent.glob("sealtrace-*")]
    assert [each for each in left if f"-{os.getpid()}-" in each.name] == []


NODE = (
    "import sys; from pathlib import Path\n"
    "from sealtrace.node.engines.tee import confinement, runtime\n"
    "from sealtrace.node.engines.tee.sandbox import Measured, run\n"
    "found, offer = runtime.this_python([]), confinement.probe()\n"
    "measured = Measured(found.python('/code/main.py', 'sleeps', 'null'), Path(sys.argv[1]), found)\n"
    "print('starting', flush=True)\n"
    "run(measured, {}, offer=offer)\n"
)


def started(code):
    """A node about to start a run that sleeps."""
    node = subprocess.Popen([sys.executable, "-c", NODE, code], stdout=subprocess.PIPE)
    assert node.stdout.readline() == b"starting\n"
    return node


def test_what_runs_inside_dies_with_the_node_and_its_groups_go_with_the_next_runs(code, tried):
    with started(code) as node:
        _wait(lambda: running() != {})
        node.kill()
    _wait(lambda: ours() == {})

    def gone():
        """Run again; the kernel may be busy with a group for a moment after its last process is gone."""
        tried("seen")
        places = {cgroups.find().memory, cgroups.find().pids} - {None}
        return not any(list(place.glob(f"sealtrace-{node.pid}-*")) for place in places)

    _wait(gone)


@counts_memory
def test_a_node_that_dies_at_any_moment_leaves_nothing_after_the_next_run(code, tried):
    for milliseconds in range(0, 60, 4):
        with started(code) as node:
            time.sleep(milliseconds / 1000)
            node.kill()
    tried("seen")
    _wait(lambda: ours() == {})


def _wait(until, at_most_s=20):
    give_up = time.monotonic() + at_most_s
    while not until():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_a_barrier_that_the_policy_asks_for_is_not_done_without(tried):
    offer = replace(OFFER, barriers=OFFER.barriers - {Barrier.CGROUP_MEMORY})
    with pytest.raises(SandboxUnavailable, match=r"cgroup_memory.*Delegate"):
        tried("seen", offer=offer, required=NEEDED | {Barrier.CGROUP_MEMORY})
    without = tried("seen", offer=offer).confinement
    assert Barrier.CGROUP_MEMORY in without.missing()


@pytest.mark.skipif(os.geteuid() != 0, reason="without user namespaces only root can make the others")
def test_root_can_do_without_user_namespaces_where_the_policy_says_so(code):
    offer = replace(OFFER, barriers=OFFER.barriers - {Barrier.USER_NAMESPACE})
    found = runtime.this_python([])
    measured = Measured(found.python("-c", "import os; print(os.getuid(), os.uname().nodename)"), code, found)
    with pytest.raises(SandboxUnavailable, match="user_namespace"):
        run(measured, {}, SMALL, offer=offer)
    outcome = run(measured, {}, SMALL, offer=offer, required={Barrier.NAMESPACES, Barrier.SECCOMP})
    assert outcome.log == b"0 sealtrace-tee\n"
    assert json.loads(outcome.confinement.canonical())["barriers"]["user_namespace"] is False


def test_the_confinement_of_a_run_names_every_barrier_in_force_or_not(tried):
    said = json.loads(tried("seen").confinement.canonical())
    assert set(said["barriers"]) == {each.value for each in Barrier}
    assert said["seccomp_filter"] == filter.digest()
    assert said["bubblewrap"]
    assert said["barriers"]["ordinary_user"] is (os.geteuid() != 0)


def test_a_measured_command_adds_no_options_to_the_walls(code):
    found = runtime.this_python([])
    with pytest.raises(SandboxFailed) as caught:
        run(Measured(["--bind", "/", "/", found.interpreter], code, found), {}, SMALL, offer=OFFER)
    assert b"--bind" in caught.value.log


def test_inputs_pass_through_files_and_pipes_to_the_output(code, tmp_path):
    (code / "main.py").write_text(
        "import json, os\n"
        "given = json.loads(os.environ['SEALTRACE_DESCRIPTORS'])\n"
        "read = {name: open(n, 'rb').read() for name, n in given['inputs'].items()}\n"
        "open(given['output'], 'wb').write(b''.join(read[name] for name in sorted(read)))\n"
    )
    (tmp_path / "a").write_bytes(b"from a file, ")
    file = os.open(tmp_path / "a", os.O_RDONLY)
    pipe, writer = os.pipe()
    os.write(writer, b"from a pipe")
    os.close(writer)
    found = runtime.this_python([])
    try:
        outcome = run(
            Measured(found.python("/code/main.py"), code, found), {"a": file, "b": pipe}, SMALL, offer=OFFER
        )
    finally:
        os.close(file)
        os.close(pipe)
    assert outcome.output == b"from a file, from a pipe"


def test_a_model_can_be_trained_inside(code):
    pytest.importorskip("sklearn")
    (code / "main.py").write_text(
        "import numpy as np, xgboost\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "x = np.random.default_rng(0).normal(size=(2000, 8)); y = (x[:, 0] > 0).astype(int)\n"
        "models = LogisticRegression(), xgboost.XGBClassifier(n_estimators=5)\n"
        "print(*(model.fit(x, y).score(x, y) > 0.9 for model in models))\n"
    )
    found = runtime.this_python()
    outcome = run(Measured(found.python("/code/main.py"), code, found), {}, Limits(), offer=OFFER)
    assert outcome.log.endswith(b"True True\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="this is the ordinary user's run already")
@pytest.mark.skipif(
    not SYSTEM_PYTHON.exists(), reason="an ordinary user may not read our Python; no other is here"
)
def test_it_works_as_an_ordinary_user_and_says_what_that_user_cannot_have(tmp_path_factory):
    folder = Path("/tmp") / f"sealtrace-probe-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        (folder / "main.py").write_bytes(PROBES.read_bytes())
        said = _as_nobody(folder)
    finally:
        (folder / "main.py").unlink()
        folder.rmdir()
    if isinstance(said, str) and "user_namespace" in said:
        pytest.skip(said)
    found, missing, forks, killed = said
    assert set(found.values()) == {"EPERM"}
    assert Barrier.ORDINARY_USER.value not in missing
    assert Barrier.CGROUP_MEMORY.value in missing
    assert forks["error"] == "EAGAIN"
    assert forks["made"] < 16
    assert killed == "MemoryExceeded"


def _as_nobody(folder):
    """Fork, become nobody, run there: everything is loaded already, for that user may not read our Python."""
    filter.program()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            told = pickle.dumps(_nobodys_runs(folder))
        except BaseException as error:
            told = pickle.dumps(f"{type(error).__name__}: {error}")
        os.write(writer, told)
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        told = file.read()
    os.waitpid(child, 0)
    return pickle.loads(told)


def _nobodys_runs(folder):
    offer = probe()
    found = runtime.program(SYSTEM_PYTHON)
    python = (str(SYSTEM_PYTHON.resolve()), "-I", "-S", "-B", "/code/main.py")

    def go(name):
        return run(Measured((*python, name, "null"), folder, found), {}, SMALL, offer=offer)

    sockets = go("sockets")
    forks = go("forks")
    try:
        go("memory")
        killed = "nothing"
    except SandboxFailed as error:
        killed = type(error).__name__
    missing = [each.value for each in sockets.confinement.missing()]
    return json.loads(sockets.output), missing, json.loads(forks.output), killed
