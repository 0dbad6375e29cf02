"""The tables of a database that several processes may open for the first time at the same moment."""

from __future__ import annotations

import sqlalchemy as sa


def create_tables(metadata: sa.MetaData, engine: sa.Engine) -> None:
    """Create what is missing.

    A failure means that another process has just created one of the tables, between our look and our act;
    there can be no more of these than tables.

    Raises:
        sqlalchemy.exc.DBAPIError: the database takes no tables.
    """
    for left in reversed(range(len(metadata.tables) + 1)):
        try:
            metadata.create_all(engine)
            return
        except sa.exc.DBAPIError:
            if not left:
                raise
