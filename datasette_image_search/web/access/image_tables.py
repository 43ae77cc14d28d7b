"""The image tables of a database, and those that an actor may see."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from datasette.app import Datasette
from datasette.database import Database, QueryInterrupted

from ... import store
from ...store import ImageTable, Index
from ...store.indexes import image_table_names
from ...store.schema_version import APPLIED, check_version
from ...store.views import ImageView, find_view, view_names
from ..compat import can_view_table
from ..reading import SchemaCache, read_bounded

UNREADABLE = (sqlite3.Error, QueryInterrupted)
"""The errors of a database that is locked, damaged or slow: one such must not break the pages of others."""

FRESH = 1.0
"""Seconds for which the answer holds, so that a page asks each database once, not for each cell."""


MOST_ASKED = 3
"""Databases that a page which shows none of their tables asks again: pages must not slow down with each database."""


@dataclass(frozen=True)
class PicturedTable:
    """
    An image table, or a view of one, with the column that pages show its pictures in. That column holds
    the paths or, if `column_is_blob`, the bytes that the pictures were made of.
    """

    table: ImageTable
    column: str
    column_is_blob: bool
    view: ImageView | None = None


def known_pictured_tables(database: Database) -> Mapping[str, PicturedTable] | None:
    """The answer of `pictured_tables`, or None if it would have to ask the database."""
    return _tables.last(database, within=FRESH)


async def image_tables(database: Database) -> Mapping[str, PicturedTable]:
    """The same without the views."""
    shown = await pictured_tables(database)
    return {name: each for name, each in shown.items() if each.view is None}


async def pictured_tables(database: Database) -> Mapping[str, PicturedTable]:
    """The image tables of a database and the views of them, by name; none if it cannot be read."""
    tables = known_pictured_tables(database)
    if tables is not None:
        return tables
    try:
        return await _tables.get(database)
    except UNREADABLE:
        return {}


def read_pictured_tables(conn: sqlite3.Connection) -> Mapping[str, PicturedTable]:
    """`pictured_tables` as a connection sees them now."""
    tables = {}
    try:
        names = image_table_names(conn)
    except store.NewerVersion:
        # See newer_version().
        names = []
    for name in names:
        # Somebody may have replaced it by a table without a primary key.
        with suppress(store.StoreError):
            for index in store.read_indexes(conn, name)[:1]:
                is_blob = index.content_column is not None
                tables[index.table.name] = PicturedTable(index.table, _column(index), is_blob)
    known_as = [(shown.table, shown.column, shown.column_is_blob) for shown in tables.values()]
    for name in view_names(conn) if tables else ():
        view = find_view(conn, name, known_as)
        if view is not None:
            tables[name] = PicturedTable(view.table, view.column, view.column_is_blob, view)
    return tables


_tables = SchemaCache(read_pictured_tables)
"""Image tables come and go with changes of the schema."""


def _column(index: Index) -> str:
    return index.content_column or index.path_column or "path"


async def newer_version(
    datasette: Datasette, actor: dict[str, Any] | None, database: Database
) -> str | None:
    """
    A sentence if a newer version of this plugin has written the database, so that it seems to have no image
    tables; None for other databases, and unless this actor may see all tables.
    """
    if await can_view_table(datasette, actor, database.name, APPLIED):
        try:
            await read_bounded(database, check_version)
        except store.NewerVersion as error:
            return str(error)
        except sqlite3.Error:
            pass
    return None


async def visible_image_tables(
    datasette: Datasette, actor: dict[str, Any] | None, database: Database
) -> list[str]:
    """The names of the image tables of a database that this actor may see; none if it cannot be read."""
    try:
        return [
            name
            for name in await image_tables(database)
            if await can_view_table(datasette, actor, database.name, name)
        ]
    except UNREADABLE:
        return []


async def sees_image_tables(datasette: Datasette, actor: dict[str, Any] | None) -> bool:
    """
    Whether this actor may see an image table of any database. A database that has been asked before is
    believed, except for those that were asked longest ago, so that each has its turn after some pages.
    """
    databases = sorted(datasette.databases.values(), key=_tables.age, reverse=True)
    for place, database in enumerate(databases):
        age = _tables.age(database)
        if math.isinf(age) or (place < MOST_ASKED and age > FRESH):
            await pictured_tables(database)
    for database in databases:
        for name, shown in (_tables.last(database) or {}).items():
            if shown.view is None and await can_view_table(datasette, actor, database.name, name):
                return True
    return False


async def visible_table(
    datasette: Datasette, actor: dict[str, Any] | None, database: Database, name: str
) -> PicturedTable | None:
    """The image table or view of that name, if this actor may see it, and a view's image table, too."""
    shown = (await pictured_tables(database)).get(name)
    if shown is None:
        return None
    for each in {name, shown.table.name}:
        if not await can_view_table(datasette, actor, database.name, each):
            return None
    return shown
