"""Which image tables a database has, known without asking it for every cell of a page."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from datasette.app import Datasette
from datasette.database import Database

from .. import store
from ..search.sidecar import file_state
from ..store import ImageTable, ImageView, Index
from .compat import can_view_table
from .reading import read_bounded

FRESH = 1.0
"""Seconds for which the answer holds, so that a page asks each database once and not per cell."""


@dataclass(frozen=True)
class ShownTable:
    """
    An image table as pages show it, or a view of one. `column` holds what its pictures were made of, a
    path or, where `column_is_blob`, the bytes; there a picture is shown.
    """

    table: ImageTable
    column: str
    column_is_blob: bool
    view: ImageView | None = None


@dataclass(frozen=True)
class _Known:
    schema: tuple[object, ...]
    checked_at: float
    tables: Mapping[str, ShownTable]


_known: WeakKeyDictionary[Database, _Known] = WeakKeyDictionary()
"""What was read last, by database. An image table comes and goes with a change of the schema, or with
another file."""


def forget_image_tables(database: Database) -> None:
    """Another file is in its place."""
    _known.pop(database, None)


def known_shown_tables(database: Database) -> Mapping[str, ShownTable] | None:
    """What `shown_tables` would answer, or None where it would have to ask the database."""
    known = _known.get(database)
    if known is None or time.monotonic() > known.checked_at + FRESH:
        return None
    return known.tables


async def image_tables(database: Database) -> Mapping[str, ShownTable]:
    """The image tables of a database by name; none where it cannot be read."""
    shown = await shown_tables(database)
    return {name: each for name, each in shown.items() if each.view is None}


async def shown_tables(database: Database) -> Mapping[str, ShownTable]:
    """The image tables of a database and the views of them."""
    tables = known_shown_tables(database)
    if tables is None:
        try:
            known = await read_bounded(
                database, lambda conn: _read(conn, database.path, _known.get(database))
            )
        except sqlite3.Error:
            # A database that is locked or damaged is not to take the other pages along.
            return {}
        _known[database] = known
        tables = known.tables
    return tables


def schema_of(conn: sqlite3.Connection, path: str | None) -> tuple[int, ...]:
    """Another one for another schema, or another file: two that were made alike have the same version."""
    (version,) = conn.execute("pragma schema_version").fetchone()
    file = file_state(Path(path)) if path is not None else None
    return (version, *(file[:2] if file else ()))


def _read(conn: sqlite3.Connection, path: str | None, known: _Known | None) -> _Known:
    schema = schema_of(conn, path)
    if known is not None and known.schema == schema:
        return _Known(schema, time.monotonic(), known.tables)
    tables = {}
    for name in store.image_table_names(conn):
        indexes = store.read_indexes(conn, name)
        if not indexes:
            continue
        index = indexes[0]
        try:
            table = store.find_image_table(conn, name)
        except store.StoreError:
            # Somebody made it anew without a primary key.
            continue
        tables[table.name] = ShownTable(table, _column(index), index.content_column is not None)
    known_as = [(shown.table, shown.column, shown.column_is_blob) for shown in tables.values()]
    for name in store.view_names(conn) if tables else ():
        view = store.find_view(conn, name, known_as)
        if view is not None:
            tables[name] = ShownTable(view.table, view.column, view.column_is_blob, view)
    return _Known(schema, time.monotonic(), tables)


def _column(index: Index) -> str:
    return index.content_column or index.path_column or "path"


async def visible_image_tables(
    datasette: Datasette, actor: dict[str, Any] | None, database: Database
) -> list[str]:
    """The names of the image tables of a database that this actor may see."""
    return [
        name
        for name in await image_tables(database)
        if await can_view_table(datasette, actor, database.name, name)
    ]


async def visible_table(
    datasette: Datasette, actor: dict[str, Any] | None, database: Database, name: str
) -> ShownTable | None:
    """The image table of that name, or the view if this actor may see the image table, too."""
    shown = (await shown_tables(database)).get(name)
    if shown is None:
        return None
    for each in {name, shown.table.name}:
        if not await can_view_table(datasette, actor, database.name, each):
            return None
    return shown
