"""Specifications, receipts, statements, records, fingerprints: what parties pass to each other."""

from __future__ import annotations

import copy
import hashlib
import tracemalloc
from dataclasses import replace

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from sealtrace.protocol import evidence, fingerprint, receipt, schema, statements
from sealtrace.protocol.canonical import NotCanonical, canonical
from sealtrace.protocol.faults import first_fault
from sealtrace.protocol.identifiers import MalformedIdentifier, UnixSeconds, address, hex32, raw
from sealtrace.protocol.merkle import leaf_hash, node_hash
from sealtrace.protocol.records import NoSuchProtection, PartyNotNamed, Protection, protections_of
from sealtrace.protocol.spec import InvalidSpec, TaskSpec, purpose_hash, read_spec, source_of

BANK, CARRIER, LAB = (address("0x" + digit * 40) for digit in "123")


def h(byte: int):
    return hex32(bytes([byte]) * 32)


SPEC = {
    "version": "sealtrace.task/1",
    "nonce": h(1),
    "requester": LAB,
    "requester_key": h(2),
    "purpose": "credit risk study",
    "deadline": 2_000_000_000,
    "engine_seconds": 600,
    "parties": [BANK, CARRIER],
    "inputs": [
        {"name": "bank", "party": BANK, "dataset": h(3), "id_column": "id", "columns": ["amount"]},
        {"name": "carrier", "party": CARRIER, "dataset": h(4), "id_column": "id", "columns": ["age"]},
    ],
    "steps": [
        {
            "id": "align",
            "algorithm": h(5),
            "engine": "psi",
            "protocol": "RR22",
            "inputs": ["bank", "carrier"],
            "after": [],
            "grants": {"bank": h(6), "carrier": h(7)},
            "params": {},
        },
        {
            "id": "sum",
            "algorithm": h(8),
            "engine": "mpc",
            "protocol": "CHEETAH",
            "inputs": ["bank", "carrier"],
            "after": ["align"],
            "grants": {"bank": h(9), "carrier": h(10)},
            "params": {"min_group": 5},
        },
    ],
}


def changed(path: str, value):
    spec = copy.deepcopy(SPEC)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    target = spec
    for parent in parents:
        target = target[parent]
    target[last] = value
    return spec


def test_a_specification_says_all_that_the_chain_is_told():
    terms = read_spec(canonical(SPEC)).terms()
    assert terms.protections == Protection.PSI_RR22 | Protection.MPC_CHEETAH
    assert terms.purpose == purpose_hash("credit risk study")
    assert terms.parties == (BANK, CARRIER)
    assert [(u.party, u.dataset, u.algorithm, u.grant) for u in terms.uses] == [
        (0, h(3), h(5), h(6)),
        (1, h(4), h(5), h(7)),
        (0, h(3), h(8), h(9)),
        (1, h(4), h(8), h(10)),
    ]
    assert terms.uses_of(CARRIER) == (terms.uses[1], terms.uses[3])


@pytest.mark.parametrize("party", [2, -1])
def test_a_use_of_a_party_that_the_terms_do_not_name_is_refused_by_name(party):
    terms = read_spec(canonical(SPEC)).terms()
    odd = replace(terms, uses=(*terms.uses, replace(terms.uses[0], party=party)))
    with pytest.raises(PartyNotNamed, match=rf"use 4 is of party {party}, but the terms name 2 parties"):
        odd.uses_of(BANK)


def test_protections_are_read_by_name_in_any_letter_case():
    assert protections_of(["mpc_aby3", "PSI_RR22"]) == Protection.MPC_ABY3 | Protection.PSI_RR22
    assert protections_of([]) == Protection(0)
    with pytest.raises(NoSuchProtection, match="'MAGIC' is no protection: give MPC_ABY3, "):
        protections_of(["MPC_ABY3", "MAGIC"])


def test_the_first_fault_of_a_document_is_told_with_its_place():
    faults = [{"loc": ("steps", 0, "id"), "msg": "too long"}, {"loc": ("parties",), "msg": "missing"}]
    assert first_fault(faults) == "steps.0.id: too long"
    assert first_fault(faults, "action", "actions", 3) == "actions.3.steps.0.id: too long"
    assert first_fault([{"loc": (), "msg": "no object"}], "file") == "file: no object"


def test_the_digest_is_that_of_the_text_that_is_passed_around():
    spec = TaskSpec.model_validate(SPEC)
    assert spec.digest() == "0x" + hashlib.sha256(spec.canonical()).hexdigest()
    assert read_spec(spec.canonical()) == spec


def test_an_algorithm_used_twice_on_one_dataset_under_one_grant_is_one_use():
    again = copy.deepcopy(SPEC)
    again["steps"].append({**again["steps"][1], "id": "again", "after": ["sum"]})
    assert len(read_spec(canonical(again)).terms().uses) == 4


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("version", "sealtrace.task/2", "version"),
        ("requester", LAB.upper(), "requester"),
        ("deadline", 2**32, "deadline"),
        ("deadline", "soon", "deadline"),
        ("parties", [CARRIER, BANK], "ascending"),
        ("parties", [BANK, BANK], "ascending"),
        ("parties", [], "parties"),
        ("inputs.0.party", LAB, "not among the parties"),
        ("inputs.1.name", "bank", "share a name"),
        ("steps.0.protocol", "TELEPATHY", "knows no protocol"),
        ("steps.0.inputs", ["bank", "nobody"], "no input"),
        ("steps.1.id", "align", "given twice"),
        ("steps.1.inputs", ["bank", "bank"], "given twice"),
        ("steps.0.after", ["sum"], "does not come before"),
        ("steps.0.grants", {"bank": h(6)}, "grants must name"),
        ("steps.1.grants", {"bank": h(6), "carrier": h(10)}, "named for two"),
        ("surprise", 1, "surprise"),
    ],
)
def test_a_specification_that_contradicts_itself_is_refused_by_name(path, value, why):
    with pytest.raises(InvalidSpec, match=why):
        read_spec(canonical(changed(path, value)))


def using(**changes):
    """A third step that uses what the second gives."""
    more = copy.deepcopy(SPEC)
    third = {**more["steps"][1], "id": "third", "after": ["sum"], "uses": {"model": "sum.model"}}
    more["steps"].append({**third, **changes})
    return canonical(more)


def test_a_step_uses_a_shared_value_of_a_step_before_it():
    assert read_spec(using()).steps[2].uses == {"model": "sum.model"}
    assert source_of("model", "sum.model") == source_of("model", "sum") == ("sum", "model")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"uses": {"model": "third"}}, "of no step that it comes after"),
        ({"after": []}, "of no step that it comes after"),
        ({"after": ["align", "sum"], "uses": {"model": "align"}}, "under another protocol"),
        ({"protocol": "SEMI2K"}, "under another protocol than SEMI2K"),
        (
            {"inputs": ["bank"], "grants": {"bank": SPEC["steps"][1]["grants"]["bank"]}},
            "holds data of 'carrier'",
        ),
        ({"uses": {"model": "a.b.c"}}, "uses.model"),
    ],
)
def test_a_step_that_uses_what_it_may_not_is_refused_by_name(changes, why):
    with pytest.raises(InvalidSpec, match=why):
        read_spec(using(**changes))


THIRD = address("0x" + "9" * 40)
LATER = {
    **SPEC,
    "parties": [BANK, CARRIER, THIRD],
    "compute": [BANK, CARRIER],
    "inputs": [
        *SPEC["inputs"],
        {"name": "third", "party": THIRD, "dataset": h(20), "id_column": "id", "columns": []},
        *(
            {"name": f"model{at}", "party": party, "dataset": h(30 + at), "part_of": "model"}
            for at, party in enumerate((BANK, CARRIER, THIRD))
        ),
    ],
    "steps": [
        {
            **SPEC["steps"][1],
            "id": "apply",
            "after": [],
            "inputs": ["bank", "carrier", "third", "model0", "model1", "model2"],
            "uses": {"model": "model"},
            "grants": {
                name: h(40 + at)
                for at, name in enumerate(["bank", "carrier", "third", "model0", "model1", "model2"])
            },
        }
    ],
    "keep": {"scores": "apply"},
}


def later(path, value):
    spec = copy.deepcopy(LATER)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    target = spec
    for parent in parents:
        target = target[parent]
    target[last] = value
    return canonical(spec)


def test_owners_beyond_those_who_compute_are_parties_and_keep_a_say():
    spec = read_spec(canonical(LATER))
    assert spec.computing == (BANK, CARRIER)
    assert spec.parties_of(spec.steps[0]) == (BANK, CARRIER)
    assert spec.keepers("scores") == (BANK, CARRIER, THIRD)
    assert spec.helpers == ()
    assert {use.dataset for use in spec.terms().uses} >= {h(30), h(31), h(32)}


def test_a_party_that_computes_without_data_is_a_helper():
    spec = copy.deepcopy(SPEC)
    spec["parties"].append(THIRD)
    spec["steps"][1]["protocol"] = "ABY3"
    found = read_spec(canonical(spec))
    assert found.helpers == (THIRD,)
    assert [found.parties_of(step) for step in found.steps] == [(BANK, CARRIER), (BANK, CARRIER, THIRD)]


def test_an_input_that_no_step_uses_makes_no_owner_of_a_helper():
    spec = copy.deepcopy(SPEC)
    spec["parties"].append(THIRD)
    spec["steps"][1]["protocol"] = "ABY3"
    spec["inputs"].append({"name": "unused", "party": THIRD, "dataset": h(21), "id_column": "id"})
    assert read_spec(canonical(spec)).helpers == (THIRD,)


def test_without_a_word_the_last_step_is_opened_and_all_compute():
    spec = read_spec(canonical(SPEC))
    assert [step.id for step in spec.opened] == ["sum"]
    assert spec.computing == (BANK, CARRIER)
    assert [step.id for step in read_spec(canonical({**SPEC, "results": ["align", "sum"]})).opened] == [
        "align",
        "sum",
    ]


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("compute", [CARRIER, BANK], "compute must name parties"),
        ("compute", [LAB], "compute must name parties"),
        ("parties", [BANK, CARRIER, LAB, THIRD], "neither brings an input nor computes"),
        ("inputs.2.id_column", "", "a table needs the column"),
        ("inputs.3.id_column", "id", "has no columns"),
        ("inputs.4.party", BANK, "two parts of model"),
        ("inputs.3.part_of", "apply", "is the name of a step"),
        ("steps.0.inputs", ["bank", "carrier", "third", "model0", "model1"], "without 'model2'|grants must"),
        ("steps.0.uses", {"model": "strange"}, "of no step that it comes after"),
        ("steps.0.engine", "psi", "no rows to align|knows no protocol"),
        ("results", ["nothing"], "there is no step 'nothing'"),
        ("results", ["apply", "apply"], "name each step once"),
        ("keep", {"scores": "nothing"}, "keep.scores is of no step that computes"),
    ],
)
def test_a_specification_with_kept_values_that_contradicts_itself_is_refused_by_name(path, value, why):
    with pytest.raises(InvalidSpec, match=why):
        read_spec(later(path, value))


def test_results_are_named_in_the_order_of_the_steps():
    with pytest.raises(InvalidSpec, match="in the order of the steps"):
        read_spec(canonical({**SPEC, "results": ["sum", "align"]}))


def test_an_alignment_is_not_kept():
    with pytest.raises(InvalidSpec, match="of no step that computes"):
        read_spec(canonical({**SPEC, "keep": {"ids": "align"}}))


def test_a_specification_in_another_form_than_the_canonical_one_is_refused():
    with pytest.raises(InvalidSpec, match="canonical"):
        read_spec(canonical(SPEC) + b" ")


def test_the_result_digest_does_not_depend_on_who_reports_first():
    one, other = (
        receipt.result_digest({BANK: h(1), CARRIER: h(2)}),
        receipt.result_digest({CARRIER: h(2), BANK: h(1)}),
    )
    assert one == other
    assert one != receipt.result_digest({BANK: h(2), CARRIER: h(1)})


def test_the_input_commitment_changes_with_every_part_of_it():
    first = receipt.input_commitment(h(1), {h(2): h(3)}, [h(4)])
    assert len({first, receipt.input_commitment(h(9), {h(2): h(3)}, [h(4)])}) == 2
    assert len({first, receipt.input_commitment(h(1), {h(2): h(9)}, [h(4)])}) == 2
    assert len({first, receipt.input_commitment(h(1), {h(2): h(3)}, [h(9)])}) == 2


KEY = b"\x11" * 32
SPEAKER = address(Account.from_key(KEY).address)


def signed(**changes):
    fields = {
        "kind": "node.hello",
        "speaker": SPEAKER,
        "audience": "scheduler",
        "at": 1_000,
        "body": {"a": 1},
    }
    return statements.sign(statements.Statement(**{**fields, **changes}), KEY)


def heard(given, now=1_000, kind="node.hello", audience="scheduler"):
    return statements.verified(given, kind=kind, audience=audience, now=UnixSeconds(now))


def test_a_statement_is_heard_from_the_node_that_signed_it():
    assert heard(signed()) == (SPEAKER, {"a": 1})


@pytest.mark.parametrize("now", [699, 1_301])
def test_a_stale_or_early_statement_is_refused(now):
    with pytest.raises(statements.BadStatement, match="clocks"):
        heard(signed(), now=now)


def test_a_statement_for_another_or_of_another_kind_is_refused():
    with pytest.raises(statements.BadStatement, match="expected"):
        heard(signed(), audience="auditor")
    with pytest.raises(statements.BadStatement, match="expected"):
        heard(signed(), kind="task.submit")


def test_a_statement_whose_words_were_changed_is_refused():
    original = signed()
    forged = original.model_copy(
        update={"statement": original.statement.model_copy(update={"body": {"a": 2}})}
    )
    with pytest.raises(statements.BadStatement, match="not signed by"):
        heard(forged)


def test_a_signature_that_is_none_is_refused():
    nonsense = signed().model_copy(update={"signature": "0x" + "00" * 65})
    with pytest.raises(statements.BadStatement):
        heard(nonsense)


RECORD = evidence.Record(index=0, at=1, node=BANK, kind=evidence.Kind.TASK_RAN, task=h(1), body={"x": 1})


def test_a_record_reads_back_from_its_line():
    assert evidence.read_record(RECORD.line()) == RECORD


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_have_is_refused_and_not_written_as_null(number):
    with pytest.raises(NotCanonical):
        RECORD.model_copy(update={"body": {"value": number}}).line()


def test_no_changed_byte_of_a_record_reads_as_the_same_record():
    line = RECORD.line()
    for place in range(len(line)):
        altered = line[:place] + bytes([line[place] ^ 1]) + line[place + 1 :]
        try:
            assert evidence.read_record(altered) != RECORD
        except evidence.BadRecord:
            continue


@given(st.integers(0, 3), st.integers(0, 1))
def test_a_fingerprint_is_the_tree_over_pieces_of_one_mebibyte(pieces, extra):
    data = b"\7" * (pieces * fingerprint.PIECE_BYTES + extra)
    leaves = [leaf_hash(piece) for piece in fingerprint.pieces_of(data)]
    expected = {
        0: lambda: hashlib.sha256(b"").digest(),
        1: lambda: leaves[0],
        2: lambda: node_hash(*leaves),
        3: lambda: node_hash(node_hash(*leaves[:2]), leaves[2]),
        4: lambda: node_hash(node_hash(*leaves[:2]), node_hash(*leaves[2:])),
    }[len(leaves)]()
    assert fingerprint.fingerprint(fingerprint.pieces_of(data)) == hex32(expected)


def test_a_fingerprint_holds_one_piece_at_a_time():
    tracemalloc.start()
    try:
        fingerprint.fingerprint(bytes(fingerprint.PIECE_BYTES) for _ in range(48))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * fingerprint.PIECE_BYTES


def test_a_commitment_hides_its_fingerprint_behind_the_salt():
    root = fingerprint.fingerprint([b"id\n1\n"])
    salted = fingerprint.commitment(root, b"\1" * 32)
    assert salted == "0x" + hashlib.sha256(b"\1" * 32 + raw(root)).hexdigest()
    assert salted != fingerprint.commitment(root, b"\2" * 32)
    with pytest.raises(fingerprint.BadSalt):
        fingerprint.commitment(root, b"short")


def test_a_schema_hash_tells_order_and_kind_apart():
    number, text = schema.ColumnKind.NUMBER, schema.ColumnKind.TEXT

    def hashed(*columns):
        return schema.Schema(
            format="csv", columns=tuple(schema.Column(name=n, kind=k) for n, k in columns)
        ).hash()

    assert (
        len({hashed(("a", number), ("b", text)), hashed(("b", text), ("a", number)), hashed(("a", text))})
        == 3
    )


@pytest.mark.parametrize("text", ["", "0x", "0x12", "12" * 19 + "zz", "0x" + "1" * 41])
def test_what_is_not_an_address_is_refused(text):
    with pytest.raises(MalformedIdentifier):
        address(text)


def test_identifiers_have_one_spelling():
    assert address("0xABCDEF" + "0" * 34) == "0xabcdef" + "0" * 34
    assert hex32("AA" * 32) == hex32(b"\xaa" * 32) == "0x" + "aa" * 32
    with pytest.raises(MalformedIdentifier):
        hex32("aa" * 31)
