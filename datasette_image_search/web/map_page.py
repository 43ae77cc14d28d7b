"""The map of an image table: a page, and what it shows as JSON."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import numpy as np
from datasette.app import Datasette
from datasette.utils.asgi import Request, Response

from .. import store
from ..errors import ImageSearchError
from ..maps.collection import CollectionMap, check_column, collection_map
from ..maps.colouring import by_score, colouring, plain
from ..maps.page import MOST_IMAGES, map_data
from ..search.live import LiveIndex, live_index
from ..search.projection import pca_of_all
from ..search.query import LONGEST_QUERY, query_vector
from .access import ViewedTable, viewed_table
from .compat import database_colour, table_title
from .configuration import configured_weights
from .pages import count_in_words, form_context
from .pictures import query_in_words
from .preparing import is_prepared, placed_vectors
from .responses import as_json, error_response
from .results import Count, in_one_sentence, in_time
from .search_request import SearchRequest, read_request
from .urls import Links, pairs_of, pairs_with_filters, replaced

ARGUMENT = "_color"


async def map_page(datasette: Datasette, request: Request) -> Response:
    """/-/image-search/DATABASE/TABLE/map and .json"""
    viewed = await viewed_table(datasette, request)
    links = Links(datasette, viewed.database.name, viewed.table.name)
    format = request.url_vars.get("format") or ""
    if (pairs := pairs_with_filters(request)) is not None:
        return Response.redirect(links.map(pairs, format))
    wanted, column, error = None, request.args.get(ARGUMENT) or None, None
    try:
        wanted = await read_request(datasette, request, viewed)
        if column is not None:
            await viewed.database.execute_fn(lambda conn: check_column(conn, viewed.index, column))
        if format == "json":
            data = await _data(datasette, viewed, wanted, column)
            return await asyncio.to_thread(as_json, datasette, data)
    except ImageSearchError as problem:
        if format == "json":
            return error_response(datasette, str(problem))
        error = str(problem)
    return await _html(datasette, request, viewed, links, wanted, column, error)


async def _data(
    datasette: Datasette, viewed: ViewedTable, wanted: SearchRequest, column: str | None
) -> dict[str, Any]:
    if wanted.query:
        await is_prepared(datasette, viewed, wanted.query)
    prepared = await placed_vectors(viewed)
    weights_of = configured_weights(datasette)

    def read(
        conn: sqlite3.Connection,
    ) -> tuple[CollectionMap, np.ndarray | None, tuple[str, ...]]:
        index = store.find_index(conn, viewed.table.name, viewed.index.model)
        live = prepared or live_index(conn, index)
        placed = collection_map(conn, index, live, _places, wanted.filter, column, MOST_IMAGES)
        if not wanted.query or column is not None:
            return placed, None, ()
        query = query_vector(conn, index, wanted.query, weights_of)
        return placed, live.scores(query.vector)[placed.vectors], query.warnings

    with in_one_sentence(datasette, viewed, wanted):
        placed, scores, warnings = await in_time(datasette, viewed, read)
    words = " ".join(filter(None, (count_in_words(Count(placed.count)), wanted.filter_words)))
    if scores is not None:
        coloured = by_score(query_in_words(wanted.query), scores)
    elif column is not None:
        coloured = colouring(column, placed.values)
    else:
        coloured = plain(len(placed))
    return {
        "ok": True,
        "database": viewed.database.name,
        "table": viewed.table.name,
        "model": viewed.index.model,
        "description": words,
        "warnings": list(warnings),
        **map_data(placed, coloured),
    }


def _places(live: LiveIndex, positions: np.ndarray) -> np.ndarray:
    """Those that the images have on the map of all, whatever is left of it by a filter."""
    return pca_of_all(live)[positions]


async def _html(
    datasette: Datasette,
    request: Request,
    viewed: ViewedTable,
    links: Links,
    wanted: SearchRequest | None,
    column: str | None,
    error: str | None,
) -> Response:
    query = (request.args.get("q") or "").strip()[:LONGEST_QUERY]
    # All images are on the map, however little they are like the query.
    pairs = replaced(pairs_of(request), _next=None, _min_score=None)
    kept = replaced(pairs, q=None, **{ARGUMENT: None})
    context = {
        **await form_context(viewed, wanted, kept),
        "database": viewed.database.name,
        "table": viewed.table.name,
        "key": viewed.table.key,
        "title": await table_title(datasette, viewed.database.name, viewed.table.name),
        "color": database_colour(viewed.database),
        "query": query,
        "column": column,
        "error": error,
        "page_url": links.map(),
        "data_url": links.map(pairs, "json"),
        "search_url": links.page(replaced(pairs, **{ARGUMENT: None})),
        "images_url": links.images(),
        "rows_url": links.rows(),
        "path_with_removed_where": lambda text: links.map(
            pair for pair in pairs if pair != ("_where", text)
        ),
    }
    html = await datasette.render_template("image_search_map.html", context, request=request)
    return Response.html(html, status=400 if error else 200)
