"""`.images`: the rows of a table page or of any query as a grid of pictures."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from datasette.app import Datasette
from datasette.utils.asgi import Forbidden, Request, Response
from datasette.views.base import DatasetteError

from .. import store
from ..store import Key
from .compat import can_view_table
from .image_tables import ShownTable, image_tables
from .pictures import Card, image_card
from .results import Picture
from .sql_errors import query_page_vars
from .table_page import table_search
from .urls import Links

ARGUMENT = "_image_table"


async def can_render(
    datasette: Datasette, request: Request, database: str, table: str | None, columns: Sequence[str]
) -> bool:
    """Whether rows with these columns have the ids of an image table that this actor may see."""
    shown = await _image_table(datasette, request, database, table)
    return (
        shown is not None
        and shown.table.key in columns
        and await can_view_table(datasette, request.actor, database, shown.table.name)
    )


async def render(
    datasette: Datasette,
    request: Request,
    database: str,
    table: str | None,
    columns: Sequence[str],
    rows: Sequence[Any],
    error: str | None,
) -> Response:
    """A page of the images that the rows have ids of, in the order of the rows."""
    if error is not None:
        ours = await query_page_vars(datasette, request, database)
        raise _bad_request(ours.get("error", error))
    shown = await _image_table(datasette, request, database, table)
    if shown is None:
        names = ", ".join(
            repr(name) for name in await image_tables(datasette.get_database(database))
        )
        raise _bad_request(
            f"name the image table of these rows with {ARGUMENT}=; this database has {names}"
            if names
            else f"{database!r} has no image table, so there are no images to show"
        )
    key = shown.table.key
    if key not in columns:
        raise _bad_request(
            f"the rows have no column {key!r}, the primary key of {shown.table.name!r}; select it too"
        )
    if not await can_view_table(datasette, request.actor, database, shown.table.name):
        raise Forbidden(f"You do not have permission to view {shown.table.name!r}")
    wanted = [dict(zip(columns, row, strict=True)) for row in rows]
    images = await datasette.get_database(database).execute_fn(
        lambda conn: _images(conn, shown, [row[key] for row in wanted])
    )
    found = table_search(request)
    scores = found.scores if found else {}
    cards = [
        # Of a table, a column called score is the person's own.
        _card(datasette, database, shown, images[row[key]], {} if table else row, scores)
        for row in wanted
        if _is_key(row[key]) and row[key] in images
    ]
    if scores and "_sort" not in request.args and "_sort_desc" not in request.args:
        cards.sort(key=lambda card: -(card.score or 0.0))
    html = await datasette.render_template(
        "image_search_rows.html",
        {
            "database": database,
            "table": shown.table.name,
            "images": cards,
            "others": len(wanted) - len(cards),
            "sql": request.args.get("sql"),
            "description": found.description if found else None,
            "back_url": datasette.urls.path(_without_format(request)),
        },
        request=request,
    )
    return Response.html(html)


async def _image_table(
    datasette: Datasette, request: Request, database: str, table: str | None
) -> ShownTable | None:
    """The image table of a table page; of a query, the one that is named or the only one there is."""
    tables = await image_tables(datasette.get_database(database))
    if table is not None:
        return tables.get(table)
    if ARGUMENT in request.args:
        return tables.get(request.args[ARGUMENT])
    return next(iter(tables.values())) if len(tables) == 1 else None


def _images(
    conn: sqlite3.Connection, shown: ShownTable, keys: Sequence[Any]
) -> dict[Key, dict[str, Any]]:
    content = shown.column if shown.column_is_blob else None
    return store.image_rows(
        conn, shown.table, [key for key in keys if _is_key(key)], without=content
    )


def _is_key(value: Any) -> bool:
    return isinstance(value, int | str)


def _card(
    datasette: Datasette,
    database: str,
    shown: ShownTable,
    image: Mapping[str, Any],
    row: Mapping[str, Any],
    scores: Mapping[str, float],
) -> Card:
    key = image[shown.table.key]
    score = scores.get(str(key), row.get("score"))
    score = float(score) if isinstance(score, int | float) and math.isfinite(score) else None
    links = Links(datasette, database, shown.table.name)
    path_column = None if shown.column_is_blob else shown.column
    return image_card(links, Picture(key, dict(image), score), path_column)


def _without_format(request: Request) -> str:
    path = request.path.removesuffix(".images")
    return f"{path}?{request.query_string}" if request.query_string else path


def _bad_request(sentence: str) -> DatasetteError:
    return DatasetteError(sentence, title="Images", status=400)
