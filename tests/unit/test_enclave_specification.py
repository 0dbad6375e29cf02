"""What a specification says of an enclave: one bundle, at one party that brings no data, under policies."""

from __future__ import annotations

import copy

import pytest
from test_protocol_documents import BANK, CARRIER, h
from test_protocol_documents import SPEC as WITHOUT

from sealtrace.protocol import receipt
from sealtrace.protocol.canonical import canonical
from sealtrace.protocol.identifiers import address
from sealtrace.protocol.records import Protection
from sealtrace.protocol.spec import InvalidSpec, read_spec, why_unfit

HOST, LAB = (address("0x" + digit * 40) for digit in "34")
STEP = {
    "id": "train",
    "algorithm": h(5),
    "engine": "tee",
    "protocol": "SIMULATED",
    "inputs": ["bank", "carrier"],
    "grants": {"bank": h(6), "carrier": h(7)},
    "policies": {"bank": h(8), "carrier": h(9)},
    "params": {"rounds": 5},
}
SPEC = {
    **WITHOUT,
    "requester": LAB,
    "parties": [BANK, CARRIER, HOST],
    "compute": [HOST],
    "steps": [STEP],
}
KEPT = {"name": "old", "party": BANK, "dataset": h(10), "part_of": "model"}


def step(**changes):
    return copy.deepcopy({**SPEC, "steps": [{**STEP, **changes}]})


def refused(spec, why):
    with pytest.raises(InvalidSpec, match=why):
        read_spec(canonical(spec))


@pytest.mark.parametrize(
    ("protocol", "protection"),
    [("HARDWARE", Protection.TEE_HARDWARE), ("SIMULATED", Protection.TEE_SIMULATED)],
)
def test_the_chain_is_told_what_protects_an_enclaves_inputs(protocol, protection):
    terms = read_spec(canonical(step(protocol=protocol))).terms()
    assert terms.protections == protection
    assert terms.parties == (BANK, CARRIER, HOST)
    assert [(use.party, use.dataset, use.grant) for use in terms.uses] == [(0, h(3), h(6)), (1, h(4), h(7))]


def test_the_party_of_the_enclave_computes_and_must_be_admitted_to_it():
    spec = read_spec(canonical(SPEC))
    assert spec.enclave == HOST
    assert spec.parties_of(spec.steps[0]) == (HOST,)
    assert spec.helpers == (HOST,)


def test_the_digest_covers_every_policy():
    one = read_spec(canonical(SPEC)).digest()
    assert read_spec(canonical(step(policies={"bank": h(8), "carrier": h(11)}))).digest() != one


def test_an_enclave_takes_exactly_one_party():
    assert why_unfit("HARDWARE", 1) is why_unfit("SIMULATED", 1) is None
    assert why_unfit("HARDWARE", 2) == "HARDWARE runs among exactly 1 parties, not 2"


def test_an_enclave_may_work_for_one_owner():
    alone = step(inputs=["bank"], grants={"bank": h(6)}, policies={"bank": h(8)})
    alone |= {"parties": [BANK, HOST], "inputs": SPEC["inputs"][:1]}
    assert read_spec(canonical(alone)).enclave == HOST


def test_a_step_in_no_enclave_has_no_policies():
    refused(step(engine="mpc", protocol="ABY3"), "policies are for a step in an enclave")
    without = step(engine="mpc", protocol="ABY3", policies={})
    without["compute"] = []
    assert read_spec(canonical(without)).enclave is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"compute": []}, "name the one party of its enclave in compute"),
        ({"compute": [CARRIER, HOST]}, "name the one party of its enclave in compute"),
        ({"compute": [BANK], "parties": [BANK, CARRIER]}, "the party of the enclave brings no data"),
    ],
)
def test_the_party_of_an_enclave_is_named_and_brings_no_data(change, why):
    refused({**SPEC, **change}, why)


@pytest.mark.parametrize(
    "policies",
    [{}, {"bank": h(8)}, {"bank": h(8), "carrier": h(9), "more": h(9)}, {"bank": h(8), "other": h(9)}],
)
def test_policies_name_every_input_and_nothing_else(policies):
    refused(step(policies=policies), "policies must name each of its inputs, and nothing else")


@pytest.mark.parametrize(
    ("engine", "protocol"), [("mpc", "HARDWARE"), ("tee", "ABY3"), ("tee", "hardware"), ("tee", "RR22")]
)
def test_an_enclave_knows_its_own_two_protocols_alone(engine, protocol):
    refused(step(engine=engine, protocol=protocol), f"{engine} knows no protocol '{protocol}'")


def test_an_enclave_is_the_only_step_of_its_task():
    again = {**STEP, "id": "again", "after": ["train"]}
    refused({**SPEC, "steps": [STEP, again]}, "it must be the only step of its task")
    align = {**STEP, "id": "align", "engine": "psi", "protocol": "RR22", "policies": {}, "params": {}}
    refused({**SPEC, "steps": [align, {**STEP, "after": ["align"]}]}, "it must be the only step of its task")


# --- kept values ------------------------------------------------------------------------------------------


def test_the_owners_keep_parts_of_a_model_and_the_enclave_keeps_nothing():
    spec = read_spec(canonical({**SPEC, "keep": {"model": "train.model"}}))
    assert spec.keepers("model") == (BANK, CARRIER)


def test_an_enclave_keeps_only_what_its_step_makes():
    refused({**SPEC, "keep": {"model": "other.model"}}, "of no step that computes")


def kept_model(**changes):
    inputs = [*SPEC["inputs"], KEPT, {**KEPT, "name": "olds", "party": CARRIER, "dataset": h(12)}]
    names = [each["name"] for each in inputs]
    using = {
        "inputs": names,
        "grants": {name: h(20 + place) for place, name in enumerate(names)},
        "policies": dict.fromkeys(names, h(8)),
        "uses": {"model": "model"},
        **changes,
    }
    return {**step(**using), "inputs": inputs}


def test_a_model_that_owners_kept_is_used_again_in_an_enclave():
    spec = read_spec(canonical(kept_model()))
    assert spec.steps[0].uses == {"model": "model"}
    refused(kept_model(uses={"model": "other"}), "of no step that it comes after")


def test_a_model_is_used_with_the_parts_of_all_who_kept_it():
    names = ["bank", "carrier", "old"]
    few = kept_model(
        inputs=names, grants=dict.fromkeys(names, h(6)), policies=dict.fromkeys(names, h(8)), uses={}
    )
    refused(few, "is of no use without 'olds': name all parts")


# --- what is bound to it ----------------------------------------------------------------------------------


def test_a_start_is_bound_to_the_enclaves_statement():
    plain = receipt.input_commitment(h(1), {h(2): h(3)}, [h(4)])
    bound = {receipt.input_commitment(h(1), {h(2): h(3)}, [h(4)], attested=h(each)) for each in (5, 6)}
    assert len({plain, *bound}) == 3
    assert receipt.input_commitment(h(1), {h(2): h(3)}, [h(4)], attested=None) == plain


def test_the_result_is_bound_to_the_enclaves_last_statement():
    outputs = {BANK: h(1), HOST: h(2)}
    plain = receipt.result_digest(outputs)
    bound = {receipt.result_digest(outputs, attested=h(each)) for each in (5, 6)}
    assert len({plain, *bound}) == 3
    turned = {HOST: h(2), BANK: h(1)}
    assert receipt.result_digest(turned, attested=h(5)) in bound
    assert receipt.result_digest(outputs, attested=None) == plain


def with_input(name: str, **changes):
    """The specification in which one input says otherwise."""
    inputs = [{**each, **(changes if each["name"] == name else {})} for each in SPEC["inputs"]]
    return {**SPEC, "inputs": inputs}


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (with_input("carrier", dataset=h(3)), "two inputs are one dataset"),
        (with_input("carrier", columns=["age", "age"]), "a column is named twice"),
        (with_input("carrier", columns=["id"]), "a column is named twice"),
        ({**SPEC, "keep": {"a": "train.model", "b": "train.model"}}, "kept under two names"),
    ],
)
def test_what_an_enclave_could_not_tell_apart_is_refused_beforehand(spec, why):
    refused(spec, why)


def test_a_party_that_releases_nothing_takes_no_part():
    alone = {"inputs": ["bank"], "grants": {"bank": h(6)}, "policies": {"bank": h(8)}}
    refused(step(**alone), f"party {CARRIER} releases nothing to it")


def test_an_input_is_not_called_like_the_job_itself():
    inputs = [{**SPEC["inputs"][0], "name": "job"}, SPEC["inputs"][1]]
    named = {"job": h(6), "carrier": h(7)}
    changed = step(inputs=["job", "carrier"], grants=named, policies=named)
    refused({**changed, "inputs": inputs}, "names the job itself")
