"""What each protection promises is said in one place, of every protection, and wherever one is named."""

from __future__ import annotations

import pytest
from rich.console import Console
from scheduler_fakes import make_spec

from sealtrace.algorithms.bundles import load, shipped
from sealtrace.deploy import documents
from sealtrace.node.engines.job import JobStep
from sealtrace.node.engines.party import _account
from sealtrace.protocol.records import Protection
from sealtrace.protocol.security import SECURITY, UNUSED, among, in_words, of_spec, of_step, sentences
from sealtrace.protocol.spec import PROTECTIONS
from sealtrace.requester.security_words import security_json, security_table

SEMI2K = Protection.MPC_SEMI2K_TRUSTED_FIRST_PARTY
PSI = ("RR22", "KKRT", "ECDH")


def test_everything_that_a_step_can_name_has_words_and_nothing_else_has():
    assert set(SECURITY) == set(PROTECTIONS.values())
    for protection, model in SECURITY.items():
        assert model.protection is protection
        assert all((model.adversary, model.threshold, model.breach, model.source))


def test_a_grant_may_list_what_no_step_can_name_and_that_is_said():
    everything = Protection(0)
    for each in Protection:
        everything |= each
    said = in_words(everything)
    assert list(said) == [each.name for each in Protection]
    assert {name for name, words in said.items() if words == UNUSED} == {
        each.name for each in Protection if each not in SECURITY
    }


def test_two_of_three_in_aby3_and_the_first_in_semi2k_are_what_their_words_turn_on():
    assert "no two of the three that compute" in SECURITY[Protection.MPC_ABY3].words
    assert "trusted by all others" in SECURITY[SEMI2K].words
    assert "can open every input" in SECURITY[SEMI2K].breach
    within = (Protection.TEE_HARDWARE, Protection.TEE_SIMULATED)
    assert all("semi-honest" in each.words for each in SECURITY.values() if each.protection not in within)


def test_an_enclave_without_hardware_is_said_to_hold_against_nobody():
    assert "malicious host" in SECURITY[Protection.TEE_HARDWARE].words
    assert "vendor" in SECURITY[Protection.TEE_HARDWARE].words
    simulated = SECURITY[Protection.TEE_SIMULATED]
    assert simulated.adversary.startswith("none: whoever runs the machine can read every input")
    assert "nothing shows it" in simulated.breach
    assert [among(each) for each in (Protection.TEE_HARDWARE, Protection.TEE_SIMULATED)] == ["1", "1"]


@pytest.mark.parametrize("protocol", PSI)
def test_a_third_party_in_an_alignment_changes_what_is_promised(protocol):
    model = of_step("psi", protocol)
    assert sentences([model], 2)[model.name] == model.words
    assert model.more in sentences([model], 3)[model.name]


def test_how_many_parties_a_protection_takes_comes_from_the_specifications_table():
    assert [among(Protection.MPC_ABY3), among(Protection.MPC_CHEETAH)] == ["3", "2"]
    assert among(SEMI2K) == "2 to 16"


def test_a_plan_shows_what_protects_each_step_to_people_and_to_machines():
    spec = make_spec(3, psi="RR22", mpc="ABY3")
    shown = security_json(spec)
    assert [(each["step"], each["protection"]) for each in shown] == [
        (step, model.name) for step, model in of_spec(spec)
    ]
    console = Console(record=True, width=200)
    console.print(security_table(spec))
    text = console.export_text()
    assert "honest majority" in text
    assert "MPC_ABY3" in text


@pytest.mark.parametrize(("engine", "protocol"), [each for each in PROTECTIONS if each[0] != "tee"])
def test_a_transcript_of_a_shared_step_says_what_its_protocol_promises(engine, protocol):
    bundle = shipped()["psi" if engine == "psi" else "statistics"]
    step = JobStep(
        id="it",
        algorithm=load(bundle).digest,
        bundle=str(bundle),
        engine=engine,
        protocol=protocol,
        inputs=("bank",),
    )
    account = _account(step, 3)
    assert (account["protocol"], account["security"]) == (protocol, of_step(engine, protocol).words)


def test_the_document_gives_every_protection_its_words_and_its_source():
    text = documents.protocols()
    for model in SECURITY.values():
        assert f"## {model.name}" in text
        assert all(words in text for words in (model.threshold, model.breach, model.source))
