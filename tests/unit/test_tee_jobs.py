"""An enclave's job: what its own specification makes of it, and nothing that its host would rather have."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_enclave_specification import SPEC, h

from sealtrace.node.engines.errors import BadJob
from sealtrace.node.engines.job import Timeouts
from sealtrace.node.engines.tee.job import EnclaveJob, Platform
from sealtrace.node.engines.tee.tasks import enclave_job, hold_to_specification
from sealtrace.protocol.canonical import canonical
from sealtrace.protocol.identifiers import UnixSeconds
from sealtrace.protocol.records import BlockRef
from sealtrace.protocol.spec import read_spec

BLOCK = BlockRef(7, h(20), UnixSeconds(1_790_000_000))


def job(**changes) -> EnclaveJob:
    spec = read_spec(canonical({**SPEC, "keep": {"risk": "train.model"}}))
    platform = Platform()
    made = enclave_job(spec, h(21), Path("/bundle"), BLOCK, platform, memory_mib=256, timeouts=Timeouts())
    return EnclaveJob.model_validate({**made.model_dump(), **changes})


def test_a_job_is_what_its_specification_says():
    hold_to_specification(job())


@pytest.mark.parametrize(
    "changes",
    [
        {"requester_key": h(22)},
        {"params": {"rounds": 1}},
        {"keep": {}},
        {"algorithm": h(23)},
        {"spec": h(24)},
        {"parties": ("0x" + "3" * 40, "0x" + "1" * 40)},
    ],
)
def test_a_host_that_changes_a_job_gets_no_enclave(changes):
    with pytest.raises(BadJob, match="not what its specification says"):
        hold_to_specification(job(**changes))


def test_a_specification_that_is_none_makes_no_enclave():
    with pytest.raises(BadJob, match="specification is none"):
        hold_to_specification(job(specification="{}"))
