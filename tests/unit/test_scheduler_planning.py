from __future__ import annotations

from dataclasses import replace

import pytest
from enclave_fakes import tee_document
from scheduler_fakes import ALL, document, h, make_chain, make_spec

from sealtrace.protocol.records import Protection
from sealtrace.scheduler.errors import MalformedRequest, ProtocolUnsuitable, SpecRefused
from sealtrace.scheduler.planning import plan, read_draft, require_suitable

GRANTS = make_chain().grants
SEMI2K = Protection.MPC_SEMI2K_TRUSTED_FIRST_PARTY


def allowing(protections):
    return {id: replace(grant, protections=protections) for id, grant in GRANTS.items()}


def planned(count, grants=GRANTS, **changes):
    return plan(read_draft(document(count, psi=None, mpc=None, **changes)), grants)


@pytest.mark.parametrize(("count", "psi", "mpc"), [(2, "RR22", "CHEETAH"), (3, "ECDH", "ABY3")])
def test_a_draft_gets_the_protocols_that_fit_its_parties(count, psi, mpc):
    assert [step.protocol for step in planned(count).steps] == [psi, mpc]


def test_a_plan_takes_only_what_every_grant_allows():
    grants = allowing(Protection.PSI_RR22 | Protection.MPC_ABY3)
    assert [step.protocol for step in planned(3, grants).steps] == ["RR22", "ABY3"]


def test_a_plan_changes_nothing_but_open_protocols():
    draft = document(3, psi="RR22", mpc=None)
    spec = plan(read_draft(draft), GRANTS).model_dump(mode="json")
    assert spec["steps"][1].pop("protocol") == "ABY3"
    assert spec == draft


def test_the_same_draft_gives_the_same_specification():
    assert planned(3).digest() == planned(3).digest()


def test_no_plan_is_made_where_the_grants_allow_nothing_that_fits():
    with pytest.raises(ProtocolUnsuitable, match="step stats: the grants allow none of ABY3"):
        planned(3, allowing(Protection.PSI_RR22 | Protection.MPC_CHEETAH))


def test_no_plan_is_made_under_a_grant_nobody_issued():
    with pytest.raises(ProtocolUnsuitable):
        planned(3, {})


@pytest.mark.parametrize(("count", "protocol"), [(2, "ABY3"), (3, "CHEETAH")])
def test_a_protocol_that_does_not_fit_the_number_of_parties_is_refused(count, protocol):
    with pytest.raises(ProtocolUnsuitable, match=f"{protocol} runs among exactly"):
        require_suitable(make_spec(count, mpc=protocol), GRANTS)


def test_a_protocol_that_trusts_one_party_needs_every_grant_to_name_it():
    spec = make_spec(3, mpc="SEMI2K")
    require_suitable(spec, allowing(ALL | SEMI2K))
    one_does_not = {**allowing(ALL | SEMI2K), h(2000): GRANTS[h(2000)]}
    with pytest.raises(ProtocolUnsuitable, match="trusts one party"):
        require_suitable(spec, one_does_not)


def test_a_draft_with_an_unknown_word_is_refused_by_its_place():
    with pytest.raises(MalformedRequest, match="parties"):
        read_draft({**document(3), "parties": 3})
    with pytest.raises(MalformedRequest, match="colour"):
        read_draft({**document(3), "colour": "red"})


def test_a_draft_that_contradicts_itself_is_refused():
    draft = document(3, psi=None)
    draft["parties"].reverse()
    with pytest.raises(SpecRefused, match="ascending"):
        plan(read_draft(draft), GRANTS)


def test_a_draft_with_a_protocol_nobody_knows_is_refused():
    with pytest.raises(SpecRefused, match="knows no protocol 'FOO'"):
        plan(read_draft(document(3, mpc="FOO")), GRANTS)


# Enclaves

HARDWARE, SIMULATED = Protection.TEE_HARDWARE, Protection.TEE_SIMULATED


def enclave(first, second, protocol=None):
    """The protocol of a task in an enclave whose two owners' grants allow this."""
    allowed = {h(2000): first, h(2001): second}
    grants = {id: replace(GRANTS[id], protections=each) for id, each in allowed.items()}
    return plan(read_draft(tee_document(protocol)), grants).steps[0].protocol


@pytest.mark.parametrize("others", [HARDWARE, HARDWARE | SIMULATED])
def test_an_enclave_is_of_hardware_wherever_every_grant_allows_that(others):
    assert enclave(HARDWARE | SIMULATED, others) == "HARDWARE"


def test_an_enclave_is_simulated_only_where_every_grant_names_that_and_not_all_allow_hardware():
    assert enclave(SIMULATED, SIMULATED) == "SIMULATED"
    assert enclave(SIMULATED, SIMULATED | HARDWARE) == "SIMULATED"


@pytest.mark.parametrize("one", [HARDWARE, ALL & ~HARDWARE & ~SIMULATED, Protection(0)])
def test_no_enclave_is_simulated_against_the_words_of_one_owner(one):
    for grants in ((SIMULATED, one), (one, SIMULATED)):
        with pytest.raises(ProtocolUnsuitable, match="step train: the grants allow none of HARDWARE, SIMUL"):
            enclave(*grants)
        with pytest.raises(ProtocolUnsuitable, match="SIMULATED trusts one party: every grant must name it"):
            enclave(*grants, "SIMULATED")


def test_a_draft_that_names_no_party_for_its_enclave_gets_no_plan():
    draft = {**tee_document(None), "compute": []}
    with pytest.raises(ProtocolUnsuitable, match="for 3 parties"):
        plan(read_draft(draft), GRANTS)
