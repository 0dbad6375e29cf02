"""What the doctor says of a host's sandbox and attested platforms."""

from __future__ import annotations

import pytest

from sealtrace.node import doctor
from sealtrace.node.engines.errors import SandboxUnavailable
from sealtrace.node.engines.tee import confinement
from sealtrace.node.engines.tee.attesters.discovery import Found, hardware
from sealtrace.node.engines.tee.confinement import HOW_TO_GET, NEEDED, Barrier, Confinement, needed

ALL = Confinement(frozenset(Barrier), "0.8.0", "0x00", 2, "6.1")


def test_a_host_that_gives_everything_needs_nothing_more():
    found = doctor.sandbox(ALL)
    assert (found.ok, found.todo) == (True, "")
    assert "can be confined" in found.seen


@pytest.mark.parametrize("missing", Barrier)
def test_what_a_host_does_not_give_is_named_with_how_to_get_it(missing):
    found = doctor.sandbox(Confinement(frozenset(Barrier) - {missing}))
    assert missing in found.todo
    assert HOW_TO_GET[missing] in found.todo
    assert ("cannot be confined" in found.seen) is (missing in needed())


def test_a_node_without_a_sandbox_is_not_ill():
    assert doctor.sandbox(Confinement(frozenset())).ok


def test_platforms_that_are_not_here_are_named_with_how_to_get_them():
    found = doctor.platforms([Found(each, available=False, how_to_have_it=how) for each, how in hardware()])
    assert found.ok
    assert "whoever runs this host can read inputs" in found.seen
    for name in ("gramine-sgx", "dstack", "confidential VM"):
        assert name in found.todo


def test_a_platform_that_is_here_is_named_and_that_we_never_tried_it_is_said_plainly():
    (first, *others) = hardware()
    found = doctor.platforms(
        [
            Found(first[0], available=True, how_to_have_it=""),
            *(Found(each, False, how) for each, how in others),
        ]
    )
    assert found.seen == "gramine (not run on TEE hardware by us)"
    assert "For dstack" in found.todo


def test_a_host_without_bubblewrap_and_libseccomp_offers_neither_and_says_what_to_install(monkeypatch):
    def none():
        raise SandboxUnavailable("no library")

    monkeypatch.setattr(confinement, "bubblewrap", lambda: None)
    monkeypatch.setattr(confinement.filter, "digest", none)
    offer = confinement.probe()
    assert offer.missing(NEEDED) == (Barrier.NAMESPACES, Barrier.SECCOMP, Barrier.USER_NAMESPACE)
    with pytest.raises(SandboxUnavailable, match="apt install bubblewrap"):
        offer.require(NEEDED)


def test_a_confinement_has_one_text_in_which_every_barrier_is_said():
    text = ALL.canonical()
    assert text == Confinement(frozenset(reversed(Barrier)), "0.8.0", "0x00", 2, "6.1").canonical()
    for each in Barrier:
        assert f'"{each}":true'.encode() in text


def test_a_policy_that_asks_for_more_than_there_is_refuses():
    lacking = Confinement(frozenset(NEEDED))
    lacking.require(NEEDED)
    with pytest.raises(SandboxUnavailable, match=r"cgroup_memory.*Delegate"):
        lacking.require({*NEEDED, Barrier.CGROUP_MEMORY})


def test_as_root_a_group_that_counts_processes_is_asked_for_too(monkeypatch):
    monkeypatch.setattr(confinement.os, "geteuid", lambda: 1000)
    assert needed() == NEEDED
    monkeypatch.setattr(confinement.os, "geteuid", lambda: 0)
    with pytest.raises(SandboxUnavailable, match="cgroup_processes"):
        Confinement(frozenset(NEEDED)).require(needed())
