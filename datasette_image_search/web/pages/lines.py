"""The lines of text in a picture, to be shown over it and beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from ...store import Key
from ...store.line_rows import Line
from ...store.lines import lines_of_image
from ...store.soundness import is_stored_table
from ..access.requested_table import RequestedTable
from ..compat import can_view_table
from ..reading import read_bounded
from .facts import Fact, Value

MOST_WRITTEN = 40
"""Lines beside a picture. A page of a book has as many."""


async def lines_in_picture(requested: RequestedTable, image_id: Key) -> tuple[Line, ...]:
    """The lines of an image, from the top, if the actor may see their table; none if there is no such table."""
    table = requested.table
    actor, database = requested.request.actor, requested.database
    if not await can_view_table(requested.datasette, actor, database.name, table.lines):
        return ()

    def read(conn: sqlite3.Connection) -> tuple[Line, ...]:
        if not is_stored_table(conn, table.lines, "image_id", "text", "score", "box"):
            return ()
        return tuple(lines_of_image(conn, table, image_id))

    return await read_bounded(database, read)


def written(lines: Sequence[Line]) -> list[Fact]:
    """What is written in a picture, as a fact; none without lines."""
    texts = tuple(Value(line.text) for line in lines[:MOST_WRITTEN])
    return [Fact("Text", texts)] if texts else []
