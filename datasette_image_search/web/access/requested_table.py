"""From a request to the image table it names, for an actor who may see it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from datasette.app import Datasette
from datasette.database import Database
from datasette.utils import tilde_decode
from datasette.utils.asgi import NotFound, Request
from datasette.views.base import DatasetteError

from ... import store
from ...store import ImageTable, ImageView, Index
from ..compat import can_view_table
from ..reading import read_bounded
from ..urls import Links
from .image_tables import shown_tables


@dataclass(frozen=True)
class ViewedTable:
    """`view` is the view of the image table that was asked for, if it was not the table itself."""

    database: Database
    table: ImageTable
    index: Index
    view: ImageView | None = None

    @property
    def name(self) -> str:
        """Of what was asked for."""
        return self.view.name if self.view is not None else self.table.name

    def links(self, datasette: Datasette) -> Links:
        return Links(datasette, self.database.name, self.name, self.table.name)


async def viewed_table(datasette: Datasette, request: Request) -> ViewedTable:
    """
    The image table of a route with `database` and `table` in it, which may name a view of one.

    Raises the same NotFound for what is not there and for what this actor may not see, so that the
    answer does not tell which. Raises DatasetteError with a sentence for a database of a newer version.
    """
    database_name = tilde_decode(request.url_vars["database"])
    table_name = tilde_decode(request.url_vars["table"])
    not_found = NotFound(f"There is no image table {table_name!r} in {database_name!r}")
    if database_name not in datasette.databases:
        raise not_found
    # Before anything is read, which can fail or take its time, and would tell that there is something.
    if not await can_view_table(datasette, request.actor, database_name, table_name):
        raise not_found
    database = datasette.get_database(database_name)

    try:
        shown = (await shown_tables(database)).get(table_name)
        view = shown.view if shown is not None else None
        viewed = await read_bounded(database, lambda conn: _read(conn, database, table_name, view))
    except store.StoreError as error:
        raise not_found from error
    except store.NewerVersion as error:
        raise DatasetteError(str(error), title="Image search", status=503) from error
    if viewed is None:
        raise not_found
    # To SQLite "IMAGES" is the same table, to the permissions it is not. A view wants those of both.
    if viewed.table.name != table_name and not await can_view_table(
        datasette, request.actor, database_name, viewed.table.name
    ):
        raise not_found
    return viewed


async def is_public(datasette: Datasette, viewed: ViewedTable) -> bool:
    """Whether anybody may see the table, so that caches between here and them may keep its pictures."""
    for name in {viewed.name, viewed.table.name}:
        if not await can_view_table(datasette, None, viewed.database.name, name):
            return False
    return True


def _read(
    conn: sqlite3.Connection, database: Database, name: str, view: ImageView | None
) -> ViewedTable | None:
    indexes = store.read_indexes(conn, view.table.name if view is not None else name)
    if not indexes:
        return None
    table = store.find_image_table(conn, indexes[0].image_table)
    return ViewedTable(database, table, indexes[0], view)
