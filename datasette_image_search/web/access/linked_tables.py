"""The columns of tables that are foreign keys to image tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from datasette.database import Database

from ...store import ImageTable
from ...store.foreign_keys import foreign_keys
from ..reading import SchemaCache
from .image_tables import FRESH, UNREADABLE, read_pictured_tables

Links = Mapping[str, Mapping[str, ImageTable]]
"""Table -> column -> the image table that it leads to."""


def known_links(database: Database) -> Links | None:
    """The answer of `links`, or None if it would have to ask the database."""
    return _links.last(database, within=FRESH)


async def links(database: Database) -> Links:
    """Of all tables; none if the database cannot be read."""
    known = known_links(database)
    if known is not None:
        return known
    try:
        return await _links.get(database)
    except UNREADABLE:
        return {}


def _read(conn: sqlite3.Connection) -> Links:
    images = {
        name.lower(): shown.table
        for name, shown in read_pictured_tables(conn).items()
        if shown.view is None
    }
    found: dict[str, dict[str, ImageTable]] = {}
    for key in foreign_keys(conn) if images else ():
        leads_to = images.get(key.other_table.lower())
        if leads_to is not None and key.other_column in (None, leads_to.key):
            found.setdefault(key.table, {})[key.column] = leads_to
    return found


_links = SchemaCache(_read)
