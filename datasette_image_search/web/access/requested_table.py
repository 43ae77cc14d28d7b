"""The image table that a request names, if its actor may see it."""

from __future__ import annotations

from dataclasses import dataclass

from datasette.app import Datasette
from datasette.database import Database
from datasette.utils import tilde_decode
from datasette.utils.asgi import NotFound, Request
from datasette.views.base import DatasetteError

from ... import store
from ...store import ImageTable, Index
from ...store.views import ImageView
from ..compat import can_view_table
from ..reading import read_bounded
from ..urls import TableUrls
from .image_tables import pictured_tables


@dataclass(frozen=True)
class RequestedTable:
    """
    The image table that a request to a Datasette names, with its index; and `view` if the request names a view
    of it.
    """

    datasette: Datasette
    request: Request
    database: Database
    index: Index
    view: ImageView | None = None

    @property
    def table(self) -> ImageTable:
        return self.index.table

    @property
    def name(self) -> str:
        """The name in the request."""
        return self.view.name if self.view is not None else self.table.name

    @property
    def urls(self) -> TableUrls:
        among = tilde_decode(self.request.url_vars.get("among", ""))
        return TableUrls(
            self.datasette, self.database.name, self.name, self.table.name, among=among
        )


async def requested_table(datasette: Datasette, request: Request) -> RequestedTable:
    """
    The image table of a route with `database` and `table` in it, which may name a view of one.

    Raises the same NotFound for a table that does not exist and for one that is hidden from this actor,
    so that the answer does not tell which; DatasetteError with a sentence for a database of a newer version.
    """
    database_name = tilde_decode(request.url_vars["database"])
    table_name = tilde_decode(request.url_vars["table"])
    not_found = NotFound(f"There is no image table {table_name!r} in {database_name!r}")
    if database_name not in datasette.databases:
        raise not_found
    # Before anything is read: a failure or a delay would tell that the table exists.
    if not await can_view_table(datasette, request.actor, database_name, table_name):
        raise not_found
    database = datasette.get_database(database_name)

    try:
        shown = (await pictured_tables(database)).get(table_name)
        view = shown.view if shown is not None else None
        name = view.table.name if view is not None else table_name
        indexes = await read_bounded(database, lambda conn: store.read_indexes(conn, name))
    except store.StoreError as error:
        raise not_found from error
    except store.NewerVersion as error:
        raise DatasetteError(str(error), title="Image search", status=503) from error
    if not indexes:
        raise not_found
    requested = RequestedTable(datasette, request, database, indexes[0], view)
    # To SQLite "IMAGES" is the same table, to permissions it is not. A view needs the permissions of both.
    if requested.table.name != table_name and not await can_view_table(
        datasette, request.actor, database_name, requested.table.name
    ):
        raise not_found
    return requested


async def is_public(requested: RequestedTable) -> bool:
    """Whether anybody may see the table, so that shared caches may keep its pictures."""
    for name in {requested.name, requested.table.name}:
        if not await can_view_table(requested.datasette, None, requested.database.name, name):
            return False
    return True
