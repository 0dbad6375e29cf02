"""Parts of shared values that a task leaves with this node: registered once all parties have completed it.

A part that its task did not complete for is removed: no later task could find the others.
"""

from __future__ import annotations

import os

from sealtrace.algorithms.kept import SUFFIX, read_header
from sealtrace.node.directory import wipe
from sealtrace.node.engines.workplace import KEPT
from sealtrace.node.hold import Ports, View
from sealtrace.protocol.lifecycle import TaskState
from sealtrace.protocol.records import DataClass


def take_parts(view: View, ports: Ports) -> None:
    """Move parts out of the folder that is wiped; done again, there is nothing to move."""
    written, kept = ports.jobs(view.task) / KEPT, ports.parts(view.task)
    if not written.exists():
        return
    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    for part in sorted(written.glob(f"*{SUFFIX}")):
        os.replace(part, kept / part.name)


def settle_parts(view: View, ports: Ports) -> None:
    """Register the parts of a completed task as datasets of this node, or remove those of any other.

    A part is of the highest grade of the datasets that the task touched. Done again, nothing is registered
    twice.

    Raises:
        ChainRefused, ChainUnavailable: the chain does not take a registration, or not now.
        DiskFull: the parts cannot be removed.
    """
    folder = ports.parts(view.task)
    if view.standing.state is not TaskState.COMPLETED:
        wipe(folder)
        return
    grade = max((each.data_class for each in view.facts.datasets.values()), default=DataClass.GENERAL)
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        source = read_header(path).source
        ports.register(path, f"{path.stem} ({source} of {view.task[:10]})", grade, view.task, source)
