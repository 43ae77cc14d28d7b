"""`.images`: the rows of a table page or of any query as a grid of pictures."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from datasette.app import Datasette
from datasette.utils.asgi import Request, Response
from datasette.views.base import DatasetteError

from ...store import Key, reads
from ...store.reads import image_rows
from ...store.views import image_of_row
from ..access.image_tables import PicturedTable, image_tables, visible_image_tables, visible_table
from ..pages.cards import Card, image_card
from ..pages.shown_images import LARGEST_VALUE, ShownImage
from ..reading import read_bounded
from ..sql_errors import query_page_vars
from ..urls import TableUrls, path_below_base_url
from .table_page import table_search

ARGUMENT = "_image_table"


async def can_render(
    datasette: Datasette, request: Request, database: str, table: str | None, columns: Sequence[str]
) -> bool:
    """Whether rows with these columns are images of a table that this actor may see."""
    shown = await _image_table(datasette, request, database, table)
    return shown is not None and _missing(shown, columns) is None


async def render(
    datasette: Datasette,
    request: Request,
    database: str,
    table: str | None,
    columns: Sequence[str],
    rows: Sequence[Any],
    error: str | None,
) -> Response:
    """A page with the images of the rows, in their order."""
    if error is not None:
        ours = await query_page_vars(datasette, request, database)
        raise _bad_request(ours.get("error", error))
    shown = await _image_table(datasette, request, database, table)
    if shown is None:
        served = datasette.get_database(database)
        names = ", ".join(map(repr, await visible_image_tables(datasette, request.actor, served)))
        raise _bad_request(
            f"name the image table of these rows with {ARGUMENT}=; this database has {names}"
            if names
            else f"{database!r} has no image table, so there are no images to show"
        )
    missing = _missing(shown, columns)
    if missing is not None:
        raise _bad_request(missing)
    wanted = [
        # A foreign key comes with its label.
        {name: each["value"] if isinstance(each, Mapping) else each for name, each in pairs}
        for pairs in (zip(columns, row, strict=True) for row in rows)
    ]
    images, versions = await read_bounded(
        datasette.get_database(database), lambda conn: _images(conn, shown, wanted)
    )
    found = table_search(request)
    scores = found.scores if found else {}
    if scores and "_sort" not in request.args and "_sort_desc" not in request.args:
        ranks = {key: rank for rank, key in enumerate(scores)}
        images.sort(key=lambda pair: ranks.get(str(pair[1][shown.table.key]), len(ranks)))
    urls = TableUrls(datasette, database, table or shown.table.name, shown.table.name)
    # On a table page, a column called score is the person's own.
    cards = [
        _card(urls, shown, image, {} if table else row, scores, versions) for row, image in images
    ]
    html = await datasette.render_template(
        "image_search_rows.html",
        {
            "database": database,
            "table": urls.table,
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
) -> PicturedTable | None:
    """
    The image table of a table page; for a query, the named one or the only one. None if the actor may not
    see it.
    """
    served = datasette.get_database(database)
    if table is not None:
        return await visible_table(datasette, request.actor, served, table)
    visible = await visible_image_tables(datasette, request.actor, served)
    name = request.args.get(ARGUMENT) or (visible[0] if len(visible) == 1 else "")
    return (await image_tables(served))[name] if name in visible else None


def _missing(shown: PicturedTable, columns: Sequence[str]) -> str | None:
    """A sentence about a missing column without which rows cannot be matched to images; None if all is well."""
    key = shown.table.key
    if key not in columns:
        return f"the rows have no column {key!r}, the primary key of {shown.table.name!r}; select it too"
    if shown.view is not None and shown.column not in columns:
        return f"the rows have no column {shown.column!r}, which tells which images they are; select it too"
    return None


def _images(
    conn: sqlite3.Connection, shown: PicturedTable, rows: Sequence[Mapping[str, Any]]
) -> tuple[list[tuple[Mapping[str, Any], dict[str, Any]]], dict[Key, str | None]]:
    """The rows that are images, in order, each with its image; and the versions of their pictures by id."""
    table, column = shown.table, shown.column
    key = table.key
    rows = [row for row in rows if table.is_key(row[key])]
    if shown.view is not None:
        rows = [
            row
            for row in rows
            if image_of_row(conn, table, column, row[key], row[column], row.get("root_id"))
        ]
    without = column if shown.column_is_blob else None
    keys = [row[key] for row in rows]
    images = image_rows(conn, table, keys, without=without, largest=LARGEST_VALUE)
    found = [(row, images[row[key]]) for row in rows if row[key] in images]
    return found, reads.versions(conn, table, keys)


def _card(
    urls: TableUrls,
    shown: PicturedTable,
    image: Mapping[str, Any],
    row: Mapping[str, Any],
    scores: Mapping[str, float | None],
    versions: Mapping[Key, str | None],
) -> Card:
    key = image[shown.table.key]
    score = scores.get(str(key), row.get("score"))
    score = float(score) if isinstance(score, int | float) and math.isfinite(score) else None
    path_column = None if shown.column_is_blob else shown.column
    shown_image = ShownImage(key, dict(image), score, versions.get(key))
    return image_card(urls, shown_image, path_column)


def _without_format(request: Request) -> str:
    path = path_below_base_url(request).removesuffix(".images")
    return f"{path}?{request.query_string}" if request.query_string else path


def _bad_request(sentence: str) -> DatasetteError:
    return DatasetteError(sentence, title="Images", status=400)
