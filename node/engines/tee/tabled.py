"""An input table as the enclave reads it: once, for the guard and for what runs in the sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sealtrace.algorithms.bundles import Bundle
from sealtrace.node.engines.tee.execution import Given
from sealtrace.node.engines.tee.inside.columns import ARROW, Column, arrow_is_here, written
from sealtrace.node.engines.tee.inside.inputs import Table, read_table, split_table, with_ids
from sealtrace.node.engines.tee.opened import Opened
from sealtrace.protocol.bundle import BadBundle


@dataclass(frozen=True, slots=True)
class Tabled:
    """A table, and how the sandbox is given it."""

    table: Table
    given: Given
    split: Opened | None = None
    """Its columns, where it was large enough to be split here and the bundle can read them."""

    def erase(self) -> None:
        """Overwrite what was made of the input. The table is not read after this."""
        if self.split is not None:
            self.split.erase()


def tabled(taken: Opened, id_column: str | None, bundle: Bundle, *, needs_ids: bool = True) -> Tabled:
    """Read ``taken`` as a table; ``needs_ids``: it must have ``id_column``, where one is named.

    Raises:
        TableUnfit: it is no such table; an id is given twice or empty.
    """
    with taken.mapped() as content:
        table = read_table(content, None, arrow=arrow_is_here())
    columns = {name: each for name, each in table.columns.items() if isinstance(each, Column)}
    if not needs_ids and id_column not in table.columns:
        id_column = None
    if id_column is not None:
        table = with_ids(table, id_column)
    if not columns or not _reads_columns(bundle):
        return Tabled(table, Given(taken.descriptor, "table", id_column))
    split = _split(columns)
    return Tabled(split_table(split.lasting(), id_column), Given(split.descriptor, "split", id_column), split)


def _reads_columns(bundle: Bundle) -> bool:
    try:
        return bundle.pins.keys() >= ARROW
    except BadBundle:  # it does not run; whoever runs it says why
        return False


def _split(columns: Mapping[str, Column]) -> Opened:
    split = Opened()
    with split.filling() as file:
        written(columns, file)
    split.freeze()  # the guard reads what the sandbox holds
    return split
