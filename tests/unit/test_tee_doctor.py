"""What the doctor says of a host's sandbox and attested platforms."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sealtrace.node import doctor
from sealtrace.node.engines.errors import SandboxUnavailable
from sealtrace.node.engines.tee import confinement
from sealtrace.node.engines.tee.attesters.discovery import Found, hardware
from sealtrace.node.engines.tee.confinement import HOW_TO_GET, NEEDED, Barrier, Confinement, needed
from sealtrace.node.settings import EngineSection, Limits

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


NO_TEE = [Found(each, available=False, how_to_have_it=how) for each, how in hardware()]


def test_what_concerns_enclaves_is_one_block_in_which_nothing_is_wrong():
    for offer in (ALL, Confinement(frozenset())):
        found = list(doctor.enclaves(["tee/SIMULATED", "tee/HARDWARE"], offer, NO_TEE))
        assert [each.name for each in found] == ["tee tasks", "tee sandbox", "tee platform"]
        assert all(each.ok for each in found)


def test_a_node_takes_no_task_in_an_enclave_unless_its_operator_lists_it():
    found = doctor.tasks(EngineSection().protocols, can_confine=True, has_tee=True)
    assert found.seen == "refused: engine.protocols lists none"
    for name in ("tee/HARDWARE", "tee/SIMULATED", "engine.protocols in node.toml"):
        assert name in found.todo


def test_which_enclaves_a_node_takes_part_in_and_which_it_can_run_is_said():
    both = ["mpc/ABY3", "tee/SIMULATED", "tee/HARDWARE"]
    found = doctor.tasks(both, can_confine=True, has_tee=False)
    assert found.seen == "taken under tee/HARDWARE, tee/SIMULATED"
    assert "the enclave of tee/HARDWARE must be at another node" in found.todo
    assert "whoever runs the enclave's host can read the inputs" in found.todo
    assert "no sandbox here" in doctor.tasks(both, can_confine=False, has_tee=False).todo
    assert doctor.tasks(["tee/HARDWARE"], can_confine=True, has_tee=True).todo == ""


def test_how_long_an_enclave_waits_for_the_owners_is_set_in_seconds():
    assert Limits().enclave_wait_s == 600
    with pytest.raises(ValidationError, match="greater than 0"):
        Limits(enclave_wait_s=0)


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
