"""The search page."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from datasette.app import Datasette
from datasette.utils import tilde_encode
from datasette.utils.asgi import Request, Response

from .. import store
from ..errors import ImageSearchError
from ..search import planner
from ..search.query import WeightsOf, image_term, query_vector
from .access import ViewedTable, viewed_table
from .configuration import configured_weights

PAGE_SIZE = 60


@dataclass(frozen=True)
class Answer:
    """What a page shows: rows of the image table, best first, with their scores if they have any."""

    rows: list[dict[str, Any]]
    scores: list[float | None]
    total: int
    warnings: tuple[str, ...] = ()


async def search_page(datasette: Datasette, request: Request) -> Response:
    viewed = await viewed_table(datasette, request)
    query = request.args.get("q") or ""
    answer, error = Answer([], [], 0), None
    try:
        answer = await viewed.database.execute_fn(
            lambda conn: _answer(conn, viewed, query, configured_weights(datasette))
        )
    except ImageSearchError as problem:
        error = str(problem)
    html = await datasette.render_template(
        "image_search.html",
        {
            "database": viewed.database.name,
            "table": viewed.table.name,
            "query": query,
            "error": error,
            "warnings": answer.warnings,
            "images": [
                _card(datasette, viewed, row, score)
                for row, score in zip(answer.rows, answer.scores, strict=True)
            ],
            "total": answer.total,
            "model": viewed.index.model,
        },
        request=request,
    )
    return Response.html(html, status=400 if error else 200)


def _answer(
    conn: sqlite3.Connection, viewed: ViewedTable, query: str, weights_of: WeightsOf
) -> Answer:
    index, table = viewed.index, viewed.table
    total = store.count_images(conn, table)
    if not query.strip():
        rows = store.newest_images(conn, table, PAGE_SIZE)
        return Answer(rows, [None] * len(rows), total)
    vector = query_vector(conn, index, query, weights_of)
    found = planner.search(conn, index, vector.vector, PAGE_SIZE)
    rows = store.image_rows(conn, table, [hit.id for hit in found.hits])
    hits = [hit for hit in found.hits if hit.id in rows]
    return Answer(
        [rows[hit.id] for hit in hits], [hit.score for hit in hits], total, vector.warnings
    )


def _card(
    datasette: Datasette, viewed: ViewedTable, row: dict[str, Any], score: float | None
) -> dict[str, Any]:
    database, table, key = viewed.database.name, viewed.table.name, row[viewed.table.key]
    page = datasette.urls.path(f"/-/image-search/{tilde_encode(database)}/{tilde_encode(table)}")
    encoded = tilde_encode(str(key))
    return {
        "id": key,
        "name": row.get("path") or str(key),
        "taken_at": row.get("taken_at"),
        "score": score,
        "width": row.get("width") or 1,
        "height": row.get("height") or 1,
        "row_url": datasette.urls.row(database, table, encoded),
        "thumbnail_url": f"{page}/{encoded}/thumbnail",
        "similar_url": f"{page}?{urlencode({'q': image_term(key)})}",
    }
