"""What protects each step of a plan, in words, before anything is submitted."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from sealtrace.protocol.security import of_spec, sentences
from sealtrace.protocol.spec import TaskSpec


def security_json(spec: TaskSpec) -> list[dict[str, str]]:
    """Each step with the protection that its grants must name, and what that promises."""
    return [
        {
            "step": step,
            "protection": model.name,
            "promises": sentences([model], len(spec.parties_of(spec.step(step))))[model.name],
        }
        for step, model in of_spec(spec)
    ]


def security_table(spec: TaskSpec) -> Table:
    """The same for people."""
    table = Table("step", "holds as long as", title="what protects each step", show_lines=True)
    for each in security_json(spec):
        table.add_row(f"{each['step']}\n{each['protection']}", escape(each["promises"]))
    return table
