"""The parts of the sandbox that need no sandbox: limits, groups, the interpreter, the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sealtrace.node.engines.tee import cgroups, runtime, walls
from sealtrace.node.engines.tee.limits import Limits


@pytest.mark.parametrize("value", [0, -1, 1.5, True, None])
def test_a_limit_that_limits_nothing_is_refused(value):
    with pytest.raises(ValueError, match="memory_bytes"):
        Limits(memory_bytes=value)


# --- control groups

V1 = """31 24 0:26 / {root}/memory rw,relatime - cgroup cgroup rw,memory
32 24 0:27 / {root}/pids rw,relatime - cgroup cgroup rw,pids
33 24 0:28 / {root}/unified rw,relatime - cgroup2 cgroup2 rw
"""
V2 = "33 24 0:28 / {root} rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.fixture
def host(tmp_path):
    """A host's groups as files: folders are made as given, with what each says of its children."""

    def host(mounts, membership, folders):
        root = tmp_path / "groups"
        for folder, control in folders.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / folder / "cgroup.subtree_control").write_text(control)
        (tmp_path / "mountinfo").write_text(mounts.format(root=root))
        (tmp_path / "cgroup").write_text(membership)
        return root, cgroups.find(tmp_path / "mountinfo", tmp_path / "cgroup")

    return host


def test_version_1_groups_are_made_below_our_own(host):
    root, place = host(V1, "4:memory:/mine\n8:pids:/\n0::/\n", {"memory/mine": "", "pids": "", "unified": ""})
    assert place == cgroups.Place(root / "memory/mine", root / "pids", 1)


def test_one_version_1_controller_without_the_other_is_used(host):
    root, place = host(V1, "4:memory:/\n0::/\n", {"memory": "", "unified": ""})
    assert place == cgroups.Place(root / "memory", None, 1)


def test_version_2_groups_are_made_beside_our_leaf_where_the_parent_gives_both(host):
    folders = {"node.service": "memory pids", "node.service/node": ""}
    root, place = host(V2, "0::/node.service/node\n", folders)
    assert place == cgroups.Place(root / "node.service", root / "node.service", 2)


@pytest.mark.parametrize("control", ["", "memory", "cpu pids"])
def test_a_version_2_parent_that_does_not_give_both_is_none(host, control):
    _, place = host(V2, "0::/node.service/node\n", {"node.service": control, "node.service/node": ""})
    assert place == cgroups.Place()


def test_a_group_outside_of_what_is_mounted_is_none(host):
    mounts = "31 24 0:26 /container {root}/memory rw - cgroup cgroup rw,memory\n"
    _, place = host(mounts, "4:memory:/elsewhere\n", {"memory": ""})
    assert place == cgroups.Place()


def test_a_host_without_proc_has_no_groups(tmp_path):
    assert cgroups.find(tmp_path / "absent", tmp_path / "absent") == cgroups.Place()


def test_a_group_whose_limit_cannot_be_set_is_not_there_and_leaves_nothing(tmp_path):
    tmp_path.joinpath("memory").touch()  # no folder can be made in it
    with cgroups.groups(cgroups.Place(tmp_path / "memory", None, 1), 1, 1) as held:
        assert held.memory is None
        assert not held.killed_for_memory()
        assert not held.refused_processes()
    assert list(tmp_path.iterdir()) == [tmp_path / "memory"]


@pytest.mark.parametrize(
    ("version", "file", "text"),
    [(2, "memory.events", "max 3\noom_kill 1\n"), (1, "memory.oom_control", "under_oom 0\noom_kill 2\n")],
)
def test_a_kill_for_memory_is_read_from_the_group(tmp_path, version, file, text):
    held = cgroups.Groups(cgroups.Place(tmp_path, tmp_path, version), tmp_path, tmp_path)
    assert not held.killed_for_memory()
    (tmp_path / file).write_text(text)
    assert held.killed_for_memory()


# --- what is seen inside


def test_our_python_is_bound_where_it_is_with_packages_named_and_nothing_else():
    found = runtime.this_python([Path("/somewhere/site-packages")])
    bound = dict(found.binds)
    assert bound["/somewhere/site-packages"] == "/packages/0"
    assert found.environment["PYTHONPATH"] == "/code:/packages/0"
    assert Path(found.interpreter).is_relative_to(Path(sys.base_prefix).resolve())
    assert found.interpreter in bound
    forbidden = {"/", "/etc", "/home", "/root", "/usr", "/usr/bin", "/var", "/proc", "/sys", sys.prefix}
    assert not forbidden & set(bound)


def test_our_own_packages_are_those_of_the_environment():
    folders = [source for source, target in runtime.this_python().binds if target.startswith("/packages/")]
    assert folders
    assert all(Path(each).name in ("site-packages", "dist-packages") for each in folders)


def _line(**changed):
    given = {
        "code": Path("/bundle"),
        "runtime": runtime.Runtime("/opt/python", (("/opt", "/opt"),)),
        "environment": {"A": "b; c"},
        "tmp_bytes": 4096,
        "descriptors": walls.Descriptors(7, 8, 9, 10),
        "user_namespace": True,
    } | changed
    return walls.options_of(**given)


def test_the_walls_let_nothing_in_to_write_and_no_proc():
    line = _line()
    assert "--proc" not in line
    assert "--dev" not in line
    assert "--bind" not in line
    assert "--" not in line
    assert {"--clearenv", "--die-with-parent", "--new-session", "--as-pid-1", "--disable-userns"} <= set(line)
    assert line[line.index("--cap-drop") + 1] == "ALL"
    assert line.index("--remount-ro") > line.index("--tmpfs")


def test_without_a_user_namespace_or_filter_neither_is_asked_for():
    line = _line(user_namespace=False, descriptors=walls.Descriptors(None, 8, 9, 10))
    assert not {"--unshare-user", "--disable-userns", "--uid", "--seccomp"} & set(line)
    assert {"--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts"} <= set(line)
