"""The images of a search on a map of the earth, as cells with counts: a page, and the cells of a view as JSON."""

from __future__ import annotations

import math
import sqlite3
from typing import Any

from datasette.app import Datasette
from datasette.utils.asgi import Request, Response

from ...errors import ImageSearchError, counted
from ...search.hits import Count, Extent
from ...store import Key
from ...store.filters import naming_the_filter
from ...store.positions import LATITUDE, LONGITUDE, Box, Cell, cells
from ...store.reads import image_rows, versions
from ...store.sampling import Sample, sample_of
from ..access.requested_table import RequestedTable, requested_table
from ..configuration import map_tiles
from ..errors import told_when_too_long
from ..urls import (
    Pairs,
    RequestError,
    check_url,
    links_within,
    pairs_of,
    pairs_of_form,
    replaced,
)
from .descriptions import count_in_words, limits_in_words
from .facts import PLACES
from .responses import as_json, error_response, json_head
from .results import within_limits
from .search_page import form_context, is_ready, table_context
from .search_request import SearchRequest, read_request
from .shown_images import LARGEST_VALUE
from .timed_reads import in_time

VIEW = "_view"
"""The parameter with the box that is shown: south,west,north,east in degrees."""

ACROSS = 32
"""Cells along the longer side of a view."""

LISTED = 60
"""The fullest cells, which the page lists for browsers without JavaScript, and for screen readers."""

MOST_REPEATED = 500_000
"""Characters of the links of these: each repeats the URL."""

BOUNDS = {
    f"{LATITUDE}__gte": "south",
    f"{LONGITUDE}__gte": "west",
    f"{LATITUDE}__lte": "north",
    f"{LONGITUDE}__lte": "east",
}
"""Filters of the search page -> the side of a box."""


async def geographic_map(datasette: Datasette, request: Request) -> Response:
    """/-/image-search/DATABASE/TABLE/earth and .json"""
    check_url(request)
    requested = await requested_table(datasette, request)
    format = request.url_vars.get("format") or ""
    if (pairs := pairs_of_form(request)) is not None:
        return Response.redirect(requested.urls.earth(pairs, format))
    wanted: SearchRequest | None = None
    found: list[Cell] = []
    names: dict[Key, dict[str, Any]] = {}
    error = None
    extent: Extent = "all"
    try:
        columns = await requested.database.table_columns(requested.name)
        if not {LATITUDE, LONGITUDE} <= set(columns):
            raise RequestError(f"{requested.name!r} has no columns {LATITUDE} and {LONGITUDE}")
        wanted = await read_request(requested)
        view = _view(request)
        limits = limits_in_words(wanted)
        if wanted.is_limited:
            await is_ready(requested, wanted, None)
            wanted, extent = await within_limits(requested, wanted)
        found, names, is_sample = await _read(requested, wanted, view, with_rows=not format)
        if is_sample:
            extent = "about"
        if format:
            count = Count(sum(cell.count for cell in found), extent)
            words = " ".join(filter(None, (count_in_words(count), wanted.filter_words))) + limits
            return await _json(requested, found, words, is_sample=is_sample)
    except ImageSearchError as problem:
        if format:
            return error_response(datasette, str(problem))
        error = str(problem)
    return await _html(requested, wanted, found, names, extent, error)


def _view(request: Request) -> Box:
    text = request.args.get(VIEW)
    if not text:
        return Box()
    try:
        south, west, north, east = map(float, text.split(","))
    except ValueError:
        south = west = north = east = math.nan
    if not (-90 <= south <= north <= 90 and -180 <= west <= east <= 180):
        raise RequestError(f"{VIEW} must be south,west,north,east in degrees, such as 36,-10,44,4")
    return Box(south, west, north, east)


async def _read(
    requested: RequestedTable, wanted: SearchRequest, view: Box, *, with_rows: bool
) -> tuple[list[Cell], dict[Key, dict[str, Any]], bool]:
    """
    The cells, the rows of the images that stand for those that are listed, and whether the cells are of a sample only: if
    to gather all images takes too long.
    """
    table, without = requested.table, requested.index.content_column

    def read(
        conn: sqlite3.Connection, sample: Sample | None = None
    ) -> tuple[list[Cell], dict[Key, dict[str, Any]], bool]:
        found = cells(conn, table, wanted.filter, view, ACROSS, sample)
        ids = [cell.image_id for cell in found[:LISTED]] if with_rows else []
        rows = image_rows(conn, table, ids, without=without, largest=LARGEST_VALUE)
        return found, rows, sample is not None

    with (
        told_when_too_long(requested.datasette, is_filtered=bool(wanted.filter_words)),
        naming_the_filter(table, wanted.filter),
    ):
        return await in_time(requested, read, lambda conn: read(conn, sample_of(conn, table)))


async def _json(
    requested: RequestedTable, found: list[Cell], description: str, *, is_sample: bool
) -> Response:
    urls = requested.urls
    ids = [cell.image_id for cell in found]
    known = await in_time(requested, lambda conn: versions(conn, requested.table, ids))
    data = [
        {
            "latitude": round(cell.latitude, 6),
            "longitude": round(cell.longitude, 6),
            "count": cell.count,
            "box": [cell.box.south, cell.box.west, cell.box.north, cell.box.east],
            "thumbnail": urls.thumbnail(cell.image_id, known.get(cell.image_id)),
            # Of others the box is the link: each would repeat a URL that may be long.
            "url": urls.image_page(cell.image_id) if cell.count == 1 else None,
        }
        for cell in found
    ]
    head = {**json_head(requested), "description": description, "is_sample": is_sample}
    return as_json(requested.datasette, {**head, "cells": data})


def _search_pairs(request: Request) -> Pairs:
    """The query string of the search, whatever part of the earth is shown."""
    return replaced(pairs_of(request), _next=None, **{VIEW: None})


def _within(urls: Any, pairs: Pairs, cell: Cell) -> str:
    """The search of the images of a cell."""
    sides = {name: repr(getattr(cell.box, side)) for name, side in BOUNDS.items()}
    return str(urls.page(replaced(pairs, **sides)))


async def _html(
    requested: RequestedTable,
    wanted: SearchRequest | None,
    found: list[Cell],
    names: dict[Key, dict[str, Any]],
    extent: Extent,
    error: str | None,
) -> Response:
    datasette, request, urls = requested.datasette, requested.request, requested.urls
    pairs = _search_pairs(request)
    listed = [
        {
            "place": _place(cell, names.get(cell.image_id, {})),
            "count": counted(cell.count, "image"),
            "url": _within(urls, pairs, cell),
        }
        for cell in found[: min(LISTED, links_within(request, MOST_REPEATED))]
    ]
    names_of_table = requested.database.name, requested.table.name
    context = {
        **await table_context(requested),
        **await form_context(requested, wanted, urls.earth, replaced(pairs, q=None)),
        "error": error,
        "page_url": urls.earth(),
        "data_url": urls.earth(pairs, "json"),
        "search_url": urls.page(pairs),
        "tiles": map_tiles(datasette, *names_of_table),
        "count": sum(cell.count for cell in found),
        "listed": listed,
        "more": len(found) > len(listed),
        "is_sample": extent == "about",
        "whole_url": urls.earth(pairs) if request.args.get(VIEW) else None,
        "path_with_removed_where": lambda text: urls.earth(
            pair for pair in pairs if pair != ("_where", text)
        ),
    }
    html = await datasette.render_template("image_search_earth.html", context, request=request)
    return Response.html(html, status=400 if error else 200)


def _place(cell: Cell, row: dict[str, Any]) -> str:
    """ "Lisbon, Portugal", of one of its images, or degrees."""
    city, _, country = (row.get(column) for column in PLACES)
    said = [text for text in (city, country) if isinstance(text, str) and text]
    if said:
        return ", ".join(said)
    latitude, longitude = cell.latitude, cell.longitude
    return (
        f"{abs(latitude):.2f}° {'S' if latitude < 0 else 'N'}, "
        f"{abs(longitude):.2f}° {'W' if longitude < 0 else 'E'}"
    )
