"""The story of ``sealtrace demo --story tee``: models trained in an enclave under the owners' policies.

The enclave is simulated, which every policy has to name: whoever runs its host could read every input.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rich.table import Table

from sealtrace.algorithms import bundles
from sealtrace.deploy import auditing, plain_models, samples
from sealtrace.deploy.network import Network
from sealtrace.deploy.operator import Operator
from sealtrace.deploy.plan import CLOUD, ORGANISATIONS
from sealtrace.deploy.stage import (
    TASK_SECONDS,
    Narrator,
    Story,
    all_at_once,
    altered,
    begin,
    completed,
    ending,
    granted,
    judged,
    past_the_scheduler,
    register,
    require,
    short,
    submit,
    task_words,
)
from sealtrace.node.engines.tee.confinement import needed, probe
from sealtrace.node.engines.tee.measuring import runtime_digest
from sealtrace.node.hold import where
from sealtrace.node.policy_templates import template
from sealtrace.node.wiring import Node
from sealtrace.protocol.attestation.evidence import Kind
from sealtrace.protocol.attestation.statement import Statement, read_statement
from sealtrace.protocol.evidence import Kind as RecordKind
from sealtrace.protocol.identifiers import Hex32, UnixSeconds
from sealtrace.protocol.outcome import Denial
from sealtrace.protocol.receipt import input_commitment
from sealtrace.protocol.spec import TaskSpec
from sealtrace.requester.enclaves import SIMULATED_WARNING
from sealtrace.scheduler import settings as scheduler_settings
from sealtrace.scheduler.store import Store
from sealtrace.scheduler.tasks import EnclaveStatement

T = TypeVar("T")

PARTIES = (*ORGANISATIONS, CLOUD)
ALGORITHMS = ("tee-xgboost", "tee-logistic")
PURPOSE = "credit risk model in an enclave"
USES = 9
TOLERANCE = 1e-3
WAIT_SECONDS = 120.0
NUMERIC = {
    "bank": ("credit_amount", "duration_in_month"),
    "registry": ("age_in_years", "present_residence_since"),
    "carrier": ("installment_rate_in_percentage_of_disposable_income",),
}
CATEGORY, TARGET = "status_of_existing_checking_account", "creditability"  # both are the bank's
TRAIN: Mapping[str, Mapping[str, Any]] = {
    "tee-xgboost": {"rounds": 10, "depth": 3, "rate": 0.3, "min_weight": 5},
    "tee-logistic": {"penalty": 1},
}
PLAIN = {"tee-xgboost": plain_models.boosted, "tee-logistic": plain_models.logistic}


@dataclass(frozen=True, slots=True)
class Granted:
    """A grant, and the digest of the attestation policy that it stands under."""

    grant: Hex32
    policy: Hex32


Grants = Mapping[str, Granted]


@dataclass(slots=True)
class Enclaves:
    """The story, and what the owners granted: by algorithm, by owner."""

    story: Story
    grants: dict[str, dict[str, Granted]] = field(default_factory=lambda: {each: {} for each in ALGORITHMS})


def run(network: Network, data: Path, narrator: Narrator) -> bool:
    """Tell the whole story on ``network``, which has a ``cloud``; return whether it came out as it should.

    Raises:
        SandboxUnavailable: this host gives no sandbox; the message says what to install.
        StoryFailed: a step came out otherwise.
    """
    rows = samples.read(data)
    probe().require(needed())
    narrator.tell("warning", SIMULATED_WARNING, simulated=True)
    network.up(lambda line: narrator.tell("network", line))
    enclaves = Enclaves(begin(network, rows, narrator))
    register(enclaves.story, ALGORITHMS)
    _grant(enclaves)
    shown = [_train(enclaves, algorithm) for algorithm in ALGORITHMS]
    _refusals(enclaves, shown[0])
    auditing.audit(enclaves.story)
    narrator.tell("files", f"everything is in {network.directory}", directory=str(network.directory))
    narrator.tell("warning", SIMULATED_WARNING, simulated=True)
    return True


# --- what is allowed


def _grant(enclaves: Enclaves) -> None:
    """Every owner lets the lab use its table with each algorithm, in an enclave that its policy takes."""
    story, runtime = enclaves.story, runtime_digest()

    def issue(name: str, operator: Operator) -> None:
        for algorithm in ALGORITHMS:
            enclaves.grants[algorithm][name] = _issue(story, name, algorithm)
        story.tell(
            name,
            f"lets the lab run {' and '.join(ALGORITHMS)} in a simulated enclave of runtime {short(runtime)}",
            policy=enclaves.grants[ALGORITHMS[0]][name].policy,
            runtime=runtime,
        )

    all_at_once(story.owners, issue)


def _issue(
    story: Story, name: str, algorithm: str, protection: str = "TEE_SIMULATED", **changes: Any
) -> Granted:
    """A grant under the policy that ``sealtrace node policy template`` prints, with ``changes``."""
    policy = {**template(Kind.SOFTWARE, runtime_digest()), **changes}
    terms = {"purpose": PURPOSE, "uses": USES, "protections": [protection], "policy": policy}
    grant = granted(story, name, algorithm, **terms)
    (shown,) = (each for each in story.operators[name].grants() if each["id"] == grant)
    return Granted(grant, Hex32(shown["policy_digest"]))


def _train(enclaves: Enclaves, algorithm: str) -> bytes:
    """Train one model, following it round by round, and hold it to the plain one. Returns what was stated."""
    story = enclaves.story
    asked = _words(enclaves, algorithm, enclaves.grants[algorithm])
    task = submit(story, story.lab, f"{algorithm} in the enclave at the {CLOUD}", asked)
    for each in story.lab.metrics(task, follow=True):
        measured = ", ".join(f"{name} {value:.4f}" for name, value in sorted(each.metrics.items()))
        story.tell("enclave", f"round {each.number}: {measured}", round=each.number, metrics=each.metrics)
    completed(story, task, "the task")
    stated = story.lab.statements(task)[0]
    result = story.lab.result(task, TASK_SECONDS)
    _compare(story, algorithm, task, result.value)
    return stated


def _compare(story: Story, algorithm: str, task: Hex32, joint: Mapping[str, Any]) -> None:
    """The AUC beside that of the same model of the pooled plain table."""
    rows, params = samples.common(story.rows, story.tables), _parameters(story, algorithm)
    seeds = bundles.load(bundles.shipped()[algorithm]).manifest.seeds or {}
    plain = PLAIN[algorithm](plain_models.halves(rows, params, seeds["split"]), params["train"])
    enclave = {half: joint["measures"][half]["auc"] for half in plain}
    difference = max(abs(enclave[half] - plain[half]) for half in plain)
    story.narrator.show(_table(algorithm, joint, enclave, plain))
    story.tell(
        "lab",
        f"opened the {algorithm} model of {joint['rows']} common applicants; AUC on those kept out: "
        f"{enclave['test']:.4f}, of the pooled plain table {plain['test']:.4f} ({difference:.1e} apart)",
        task=task,
        algorithm=algorithm,
        rows=joint["rows"],
        enclave=enclave,
        plain=plain,
        difference=difference,
    )
    require(joint["rows"] == len(rows), f"{joint['rows']} rows were joined, and {len(rows)} are common")
    require(difference < TOLERANCE, f"the AUC differs by {difference}, more than {TOLERANCE}")


def _table(
    algorithm: str, joint: Mapping[str, Any], enclave: Mapping[str, float], plain: Mapping[str, float]
) -> Table:
    table = Table(title=f"AUC of {algorithm}: enclave | plain", title_justify="left", box=None)
    for column in ("applicants", "number", "AUC"):
        table.add_column(column, justify="left" if column == "applicants" else "right")
    for half, words in {"train": "trained on", "test": "kept out"}.items():
        rows = joint["measures"][half]["rows"]
        table.add_row(words, str(rows), f"{enclave[half]:.6f} | {plain[half]:.6f}")
    return table


# --- what is refused


def _refusals(enclaves: Enclaves, recorded: bytes) -> None:
    """Five tasks that must not run; ``recorded`` is what the enclave of an earlier task stated."""
    _altered_script(enclaves)
    _wrong_measurement(enclaves)
    _hardware(enclaves)
    _stale(enclaves)
    _replayed(enclaves, recorded)


def _altered_script(enclaves: Enclaves) -> None:
    story = enclaves.story
    bundle = story.network.members.directory(CLOUD) / "bundles" / story.algorithms["tee-xgboost"][2:]
    with altered(next(bundle.rglob("program.py"))):
        task = _submit(enclaves)
        judged(story, story.lab, task, f"a script altered at the {CLOUD}", Denial.BUNDLE_ALTERED)


def _wrong_measurement(enclaves: Enclaves) -> None:
    image = {"kind": Kind.SOFTWARE.value, "measurements": {"runtime": "00" * 32}}
    bank = _issue(enclaves.story, "bank", "tee-xgboost", images=[image], runtimes=[])
    _refused_attestation(enclaves, _submit(enclaves, bank), "an enclave of another measurement")


def _hardware(enclaves: Enclaves) -> None:
    """The scheduler takes no plan that is weaker than the grants; the lab goes round it."""
    story = enclaves.story
    image = {"kind": Kind.TDX.value, "measurements": dict.fromkeys(("mr_td", "rt_mr1", "rt_mr2"), "ab" * 48)}
    changes = {"platforms": ["tee-hardware"], "images": [image]}
    bank = _issue(story, "bank", "tee-xgboost", "TEE_HARDWARE", **changes)
    spec = story.lab.build_spec(_words(enclaves, "tee-xgboost", enclaves.grants["tee-xgboost"]))
    task = past_the_scheduler(story, _under(spec, bank))
    what = "a simulated enclave where the bank requires hardware"
    judged(story, story.lab, task, what, Denial.PROTECTION_NOT_ALLOWED)


def _stale(enclaves: Enclaves) -> None:
    """The bank is away while the enclave waits, and takes nothing that is older than one block."""
    bank = _issue(enclaves.story, "bank", "tee-xgboost", max_age_blocks=1)
    with _away(enclaves.story, "bank"):
        task = _submit(enclaves, bank)
        _await_starts(enclaves.story, task)
    _refused_attestation(enclaves, task, "a statement that grew stale")


def _replayed(enclaves: Enclaves, recorded: bytes) -> None:
    """The cloud begins no enclave: it starts upon what one stated for an earlier task, and shows that."""
    story, statement = enclaves.story, read_statement(recorded)
    with _away(story, CLOUD):
        task = _submit(enclaves)
        _serve(story, task, statement)
        terms = story.lab.spec(task).terms()
        bound = input_commitment(task, {}, [statement.challenge.algorithm], statement.digest)
        node = Node.open(story.network.members.directory(CLOUD))
        started = {"input_commitment": bound, **where(node.acts.start(task, terms, bound))}
        node.evidence.append_once(RecordKind.TASK_STARTED, started, task)  # a log without it would tell
        _refused_attestation(enclaves, task, "a statement replayed from an earlier task")


def _refused_attestation(enclaves: Enclaves, task: Hex32, what: str) -> None:
    """Require the refusal on chain, and tell the owner's reason in its own words."""
    by = judged(enclaves.story, enclaves.story.lab, task, what, Denial.ATTESTATION_REFUSED)

    def recorded() -> str:
        records = enclaves.story.operators[by].task(task)["evidence"]
        return next((each["body"]["detail"] for each in records if each["kind"] == "task.refused"), "")

    detail = _wait(recorded, f"the {by} did not record why it refused")
    enclaves.story.tell(by, f"because of {detail}", task=task, detail=detail)


@contextmanager
def _away(story: Story, name: str) -> Iterator[None]:
    """The worker of a node is down for a while."""
    story.network.processes.kill(f"{name}-worker")
    try:
        yield
    finally:
        story.network.up(lambda line: None)


def _await_starts(story: Story, task: Hex32) -> None:
    """Wait until all but the bank have started: the enclave's party, then two owners in later blocks."""
    chain = story.network.chain()

    def started() -> bool:
        seen = story.lab.look(task)
        require(not seen.over, f"the task is {seen.state.name} before the bank saw it: {ending(story, seen)}")
        found = chain.events(chain.deployed_at, chain.head().number, names={"TaskStarted"}, task=task)
        return len(found) == len(PARTIES) - 1

    _wait(started, "the others did not start")


def _serve(story: Story, task: Hex32, statement: Statement) -> None:
    """Put a statement in the place of the one that the scheduler keeps for ``task``."""
    folder, now = story.network.directory / "scheduler", UnixSeconds(int(time.time()))
    kept = EnclaveStatement(task, statement.stage, statement.digest, statement.document(), now)
    store = Store.open(scheduler_settings.load(folder).database(folder))
    try:
        store.add_statement(kept)
    finally:
        store.close()


def _wait(look: Callable[[], T], otherwise: str) -> T:
    """Look until there is something to see, and return it."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (seen := look()):
        require(time.monotonic() < deadline, f"{otherwise} within {WAIT_SECONDS:.0f} s")
        time.sleep(0.3)
    return seen


# --- tasks


def _submit(enclaves: Enclaves, bank: Granted | None = None) -> Hex32:
    """Ask for the boosted trees once more, under another grant of the bank where one is given."""
    grants = dict(enclaves.grants["tee-xgboost"])
    if bank is not None:
        grants["bank"] = bank
    return submit(enclaves.story, enclaves.story.lab, None, _words(enclaves, "tee-xgboost", grants))


def _under(spec: TaskSpec, bank: Granted) -> TaskSpec:
    """The same task under another grant of the bank."""
    (step,) = spec.steps
    changes = {
        "grants": {**step.grants, "bank": bank.grant},
        "policies": {**step.policies, "bank": bank.policy},
    }
    return spec.model_copy(update={"steps": [step.model_copy(update=changes)]})


def _words(enclaves: Enclaves, algorithm: str, grants: Grants) -> dict[str, Any]:
    """The task as a requester writes it, see ``docs/tee-tasks.md``."""
    story = enclaves.story
    step = {
        "algorithm": algorithm,
        "protocol": "SIMULATED",
        "grants": {name: each.grant for name, each in grants.items()},
        "policies": {name: each.policy for name, each in grants.items()},
        "params": _parameters(story, algorithm),
    }
    columns = {**NUMERIC, "bank": (*NUMERIC["bank"], CATEGORY, TARGET)}
    return {**task_words(story, PURPOSE, columns, {"train": step}), "compute": [CLOUD]}


def _parameters(story: Story, algorithm: str) -> dict[str, Any]:
    numbers = [{"column": each, "scale": "standardise"} for name in ORGANISATIONS for each in NUMERIC[name]]
    category = {"column": CATEGORY, "categories": samples.categories(story.rows, CATEGORY)}
    return {
        "mode": "train",
        "join": "vertical",
        "features": [*numbers, category],
        "target": {"column": TARGET, "positive": "bad"},
        "test_share": 0.25,
        "train": dict(TRAIN[algorithm]),
    }
