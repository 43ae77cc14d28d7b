"""The map of an image table: a page, and its data as JSON."""

from __future__ import annotations

import asyncio
import sqlite3

import numpy as np
from datasette.app import Datasette
from datasette.utils.asgi import Request, Response

from ... import store
from ...api import Images
from ...embedders.protocol import EmbedderError
from ...errors import ImageSearchError
from ...maps.collection import CollectionMap, check_column, collection_map
from ...maps.colouring import by_score, colouring, plain
from ...maps.page import MOST_IMAGES, map_data
from ...search.freshness import is_seen_by, live_snapshot
from ...search.fusion import likeness_in
from ...search.hits import Count, Extent
from ...search.live import LiveIndex
from ...search.lost_engines import survives_engines
from ...search.projection import pca
from ...store import reads
from ...store.filters import naming_the_filter
from ..access.requested_table import RequestedTable, requested_table
from ..configuration import configured_weights
from ..errors import told_when_too_long
from ..reading import read_bounded
from ..server.preparing import Placed, is_prepared, placed_vectors
from ..urls import TableUrls, check_url, pairs_of, pairs_of_form, replaced
from .cards import query_in_words
from .descriptions import count_in_words, limits_in_words
from .responses import as_json, error_response, json_head
from .results import within_limits
from .search_page import form_context, table_context
from .search_request import SearchRequest, read_request
from .timed_reads import in_time

ARGUMENT = "_color"

OF_LIMIT = 0.5
"""The part of the time limit for the rows of the images; with more, there would be no map at all."""


async def map_page(datasette: Datasette, request: Request) -> Response:
    """/-/image-search/DATABASE/TABLE/map and .json"""
    check_url(request)
    requested = await requested_table(datasette, request)
    format = request.url_vars.get("format") or ""
    if (pairs := pairs_of_form(request)) is not None:
        return Response.redirect(requested.urls.map(pairs, format))
    wanted, column, error = None, request.args.get(ARGUMENT) or None, None
    try:
        wanted = await read_request(requested)
        if column is not None:
            await read_bounded(
                requested.database, lambda conn: check_column(conn, requested.index, column)
            )
        if format == "json":
            return await _json(requested, wanted, column)
    except ImageSearchError as problem:
        if format == "json":
            return error_response(datasette, str(problem))
        error = str(problem)
    return await _html(requested, wanted, column, error)


async def _json(requested: RequestedTable, wanted: SearchRequest, column: str | None) -> Response:
    # A column takes precedence over a query, which then need not be valid.
    query = wanted.query if column is None else ""
    if wanted.by != "likeness":
        query = likeness_in(query) if query else ""
    unknown: tuple[str, ...] = ()
    limits = ""
    extent: Extent = "all"
    if query or wanted.is_limited:
        try:
            await is_prepared(requested, wanted.query)
        except EmbedderError as error:
            if not wanted.is_limited or wanted.by == "likeness":
                raise
            # What is found by text has its place here, and no score to be coloured by.
            query, unknown = "", (str(error),)
    if wanted.is_limited:
        limits = limits_in_words(wanted)
        wanted, extent = await within_limits(requested, wanted)
    prepared = await placed_vectors(requested)
    weights_of = configured_weights(requested.datasette)
    seconds = OF_LIMIT * requested.datasette.setting("sql_time_limit_ms") / 1000

    @survives_engines
    def read(
        conn: sqlite3.Connection,
    ) -> tuple[CollectionMap, list[str | None], np.ndarray | None, tuple[str, ...]]:
        index = store.find_index(conn, requested.table.name, requested.index.model)
        with live_snapshot(conn, index) as seen:
            live, points = _placed_as_seen(conn, seen, prepared)
            placed = collection_map(
                conn,
                seen.index,
                live,
                # The places on the map of all images, also under a filter.
                lambda _, positions: points[positions],
                wanted.filter,
                column,
                MOST_IMAGES,
                seconds,
            )
            known = reads.versions(conn, requested.table, placed.image_ids)
            versions = [known.get(image_id) for image_id in placed.image_ids]
            if not query:
                return placed, versions, None, ()
            images = Images(conn, requested.table.name, weights_of=weights_of, raw_errors=True)
            found = images.ask(query, model=requested.index.model)
            return placed, versions, live.scores(found.vector)[placed.vectors], found.warnings

    with (
        told_when_too_long(requested.datasette, is_filtered=bool(wanted.filter_words)),
        naming_the_filter(requested.table, wanted.filter),
    ):
        placed, versions, scores, warnings = await in_time(requested, read)

    def answer() -> Response:
        if scores is not None:
            coloured = by_score(query_in_words(query), scores)
        elif column is not None:
            coloured = colouring(column, placed.values)
        else:
            coloured = plain(len(placed))
        words = (count_in_words(Count(placed.count, extent)), wanted.filter_words)
        data = map_data(placed, coloured)
        # Only here: a map in a file has no server to ask for thumbnails.
        data["images"]["version"] = versions
        description = " ".join(filter(None, words)) + limits
        said = {"description": description, "warnings": [*unknown, *warnings]}
        return as_json(requested.datasette, {**json_head(requested), **said, **data})

    # In a thread: 50,000 images take long enough for other requests to notice.
    return await asyncio.to_thread(answer)


def _placed_as_seen(conn: sqlite3.Connection, seen: LiveIndex, prepared: Placed | None) -> Placed:
    """
    The prepared places, if this connection sees the same vectors with the same ids; newer vectors come
    with the next map. Else all vectors are placed again, and that is not remembered.
    """
    if prepared is not None:
        live, _ = prepared
        if live.index == seen.index or is_seen_by(conn, live, seen.index):
            return prepared
    return seen, pca(seen, np.arange(len(seen)))


async def _html(
    requested: RequestedTable, wanted: SearchRequest | None, column: str | None, error: str | None
) -> Response:
    datasette, request, urls = requested.datasette, requested.request, requested.urls
    pairs = replaced(pairs_of(request), _next=None)
    kept = replaced(pairs, q=None, **{ARGUMENT: None})
    context = {
        **await table_context(requested),
        **await form_context(requested, wanted, urls.map, kept),
        "column": column,
        "error": error,
        "page_url": urls.map(),
        "data_url": urls.map(pairs, "json"),
        "search_url": urls.page(replaced(pairs, **{ARGUMENT: None})),
        "images_url": urls.images(),
        "rows_url": TableUrls(datasette, requested.database.name, requested.table.name).rows(),
        "path_with_removed_where": lambda text: urls.map(
            pair for pair in pairs if pair != ("_where", text)
        ),
    }
    html = await datasette.render_template("image_search_map.html", context, request=request)
    return Response.html(html, status=400 if error else 200)
