"""The pages: the search of an image table, also as JSON and CSV, and the list of such tables."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from datasette.app import Datasette
from datasette.filters import Filters
from datasette.plugins import get_plugins
from datasette.utils import tilde_decode
from datasette.utils.asgi import NotFound, Request, Response

from ...embedders.protocol import EmbedderError, TextNotUnderstood
from ...errors import ImageSearchError
from ...search.query import LONGEST_QUERY
from ..access.image_tables import visible_image_tables
from ..access.requested_table import ViewedTable, viewed_table
from ..compat import database_colour, table_title
from ..configuration import ConfigurationError, configured_roots
from ..server.preparing import is_prepared, start_preparing
from ..urls import Links, Pairs, check_repetition, check_url, pairs_of, pairs_with_filters, replaced
from .cards import chips, image_card, query_in_words
from .responses import csv_response, error_response, json_response
from .results import Answer, Count, find
from .search_request import PICTURES, SearchRequest, read_request

PATIENCE = 1.0
"""Seconds that a page waits for a model to load before it says that it does."""

MAP_PLUGIN = "datasette-cluster-map"

HIDDEN_FROM_FORM = ("_next", "_facet_wait", "_search")
"""Parameters that a new search begins without, or has a field for."""


async def search_page(datasette: Datasette, request: Request) -> Response:
    """/-/image-search/DATABASE/TABLE, .json and .csv"""
    check_url(request)
    viewed = await viewed_table(datasette, request)
    links = viewed.links(datasette)
    format = request.url_vars.get("format") or "html"
    if (pairs := pairs_with_filters(request)) is not None:
        return Response.redirect(links.page(pairs, format if format != "html" else ""))
    wanted = None
    try:
        wanted = await read_request(datasette, request, viewed)
        if format == "html":
            # Each card adds its picture to the query, or takes it away.
            check_repetition(request, 2 * wanted.size, f"{wanted.size:,} pictures")
        if not wanted.query:
            # Whoever looks at this page is about to search, and the model may as well load now.
            start_preparing(datasette, viewed)
        elif not await is_prepared(
            datasette, request, viewed, wanted.query, PATIENCE if format == "html" else None
        ):
            return await _loading_page(datasette, request, viewed)
        answer = await find(
            datasette, request, viewed, wanted, patient_facets="_facet_wait" in request.args
        )
    except ImageSearchError as problem:
        if format != "html":
            return error_response(datasette, str(problem))
        if _is_without_model(problem) and wanted is not None:
            # The pictures are there all the same, and can be searched by.
            newest = replace(wanted, query="")
            with suppress(ImageSearchError):
                answer = await find(datasette, request, viewed, newest)
                description = _in_words(newest, answer)
                return await _html(
                    datasette, request, viewed, links, newest, answer, str(problem), description
                )
        return await _html(datasette, request, viewed, links, wanted, None, str(problem))
    description = _in_words(wanted, answer)
    if format == "json":
        return json_response(datasette, request, viewed, links, wanted, answer, description)
    if format == "csv":
        return csv_response(datasette, request, viewed, links, answer)
    return await _html(datasette, request, viewed, links, wanted, answer, None, description)


def _is_without_model(problem: ImageSearchError) -> bool:
    """Whether no words at all can be searched for, rather than these."""
    return isinstance(problem, EmbedderError) and not isinstance(problem, TextNotUnderstood)


async def _html(
    datasette: Datasette,
    request: Request,
    viewed: ViewedTable,
    links: Links,
    wanted: SearchRequest | None,
    answer: Answer | None,
    error: str | None,
    description: str = "",
) -> Response:
    """`answer` may be to less than was asked for, with an `error` that says why."""
    query = (request.args.get("q") or "").strip()[:LONGEST_QUERY]
    searched = wanted.query if wanted and answer else query
    pairs = pairs_of(request) if searched else replaced(pairs_of(request), q=None)
    first_page = replaced(pairs, _next=None, _facet_wait=None)
    kept = replaced(first_page, q=None)
    context: dict[str, Any] = {
        **await table_context(datasette, viewed),
        **await form_context(viewed, wanted, kept),
        "model": viewed.index.model,
        "query": query,
        "error": error,
        "description": description,
        "page_url": links.page(),
        "query_words": query_in_words(query) if query else "",
        "table_url": _table_url(links, searched, kept),
        "upload_url": links.upload(),
        "pictures": wanted.pictures if wanted else "medium",
        "path_with_replaced_args": lambda request, args: links.page(replaced(first_page, **args)),
        "path_with_removed_where": lambda text: links.page(
            pair for pair in first_page if pair != ("_where", text)
        ),
        "originals": _shows_originals(datasette, viewed),
        "answer": answer,
        "images": [],
    }
    if wanted and answer:
        end = wanted.offset + len(answer.pictures)
        context |= {
            "alternate_url_json": links.page(pairs, "json"),
            "images": [
                image_card(links, each, viewed.index.path_column, query=searched, kept=kept)
                for each in answer.pictures
            ],
            "chips": await chips(viewed, links, searched, kept) if searched else [],
            "numbers": (wanted.offset + 1, end) if answer.pictures else None,
            "next_url": links.page(replaced(pairs, _next=answer.next_offset))
            if answer.next_offset is not None
            else None,
            "previous_url": links.page(
                replaced(pairs, _next=max(0, wanted.offset - wanted.size) or None)
            )
            if wanted.offset
            else None,
            "sizes": [(size, links.page(replaced(pairs, _pictures=size))) for size in PICTURES],
            "likeness_map_url": links.map(
                replaced(kept, _size=None, _pictures=None, _min_score=None, q=query or None)
            ),
            "csv_url": links.page(first_page, "csv"),
            "has_map": _has_map(answer),
            "sorted_facet_results": answer.facets.results,
            "suggested_facets": answer.facets.suggested,
            "facets_later_url": links.page(replaced(first_page, _facet_wait="only")),
            "facets_wait_url": links.page(replaced(first_page, _facet_wait="1")),
        }
    html = await datasette.render_template("image_search.html", context, request=request)
    response = Response.html(html, status=400 if error else 200)
    if answer:
        response.headers["server-timing"] = ", ".join(
            f"{name.replace(' ', '-')};dur={duration:.1f}"
            for name, duration in answer.milliseconds.items()
        )
    return response


async def table_context(datasette: Datasette, viewed: ViewedTable) -> dict[str, Any]:
    """What the head of each page of an image table wants."""
    return {
        "database": viewed.database.name,
        "table": viewed.name,
        "title": await table_title(datasette, viewed.database.name, viewed.name),
        "color": database_colour(viewed.database),
    }


async def form_context(
    viewed: ViewedTable, wanted: SearchRequest | None, kept: Pairs
) -> dict[str, Any]:
    """What the templates of the filters want; `kept` is the query string that goes along."""
    filters = wanted.filters if wanted else Filters([])
    columns = await viewed.database.table_columns(viewed.name)
    filtered = dict.fromkeys(column for column, _, _ in filters.selections())
    return {
        **(wanted.context if wanted else {}),
        "filters": filters,
        # Such as rowid, which is no column but can be filtered by.
        "filter_columns": [*columns, *(column for column in filtered if column not in columns)],
        "form_hidden_args": [
            (name, value)
            for name, value in kept
            if name.startswith("_")
            and "__" not in name
            and not name.startswith("_filter_")
            and name not in HIDDEN_FROM_FORM
        ],
    }


async def _loading_page(datasette: Datasette, request: Request, viewed: ViewedTable) -> Response:
    html = await datasette.render_template(
        "image_search_loading.html",
        {
            **await table_context(datasette, viewed),
            "model": viewed.index.model,
        },
        request=request,
    )
    return Response.html(html, status=202, headers={"cache-control": "no-store"})


def _shows_originals(datasette: Datasette, viewed: ViewedTable) -> bool:
    """Whether the server has been told where originals are, or the table holds them itself."""
    try:
        roots = configured_roots(datasette, viewed.database.name, viewed.table.name)
    except ConfigurationError:
        # Whoever started the server was told. The search does not need them.
        roots = ()
    return viewed.index.content_column is not None or bool(roots)


def _in_words(wanted: SearchRequest, answer: Answer) -> str:
    """'214 images where camera_make = "Canon", closest to "red car"'"""
    words = count_in_words(answer.count)
    if wanted.filter_words:
        words = f"{words} {wanted.filter_words}"
    order = f"closest to {query_in_words(wanted.query)}" if wanted.query else "newest first"
    least = (
        f", with a score of {wanted.min_score:g} or more" if wanted.min_score is not None else ""
    )
    return f"{words}, {order}{least}"


def count_in_words(count: Count) -> str:
    if count.number is None:
        return "Images"
    plural = "" if count.number == 1 else "s"
    return f"{'' if count.is_exact else 'More than '}{count.number:,} image{plural}"


def _table_url(links: Links, query: str, kept: Pairs) -> str:
    """The table page with the same images."""
    searched = [("_image_search", query)] if query else []
    return links.rows([*replaced(kept, _pictures=None, _size=None, _min_score=None), *searched])


def _has_map(answer: Answer) -> bool:
    """Whether the table page draws a map: datasette-cluster-map does, of rows that have a place."""
    names = {str(plugin["name"]).replace("_", "-") for plugin in get_plugins()}
    return MAP_PLUGIN in names and any(
        picture.row.get("latitude") is not None and picture.row.get("longitude") is not None
        for picture in answer.pictures
    )


async def tables_page(datasette: Datasette, request: Request) -> Response:
    """
    /-/image-search and /-/image-search/DATABASE: the image tables that this actor may see, in all
    databases or in one; one alone, and it is that one.

    Raises the same NotFound for a database without any, or that this actor may not see, or that is not.
    """
    only = tilde_decode(request.url_vars.get("database", "")) or None
    tables = [
        {
            "database": database.name,
            "title": await table_title(datasette, database.name, name),
            "url": Links(datasette, database.name, name).page(),
        }
        for database in list(datasette.databases.values())
        if only in (None, database.name)
        for name in await visible_image_tables(datasette, request.actor, database)
    ]
    if only and not tables:
        raise NotFound(f"There is no image table in {only!r}")
    if len(tables) == 1:
        return Response.redirect(tables[0]["url"])
    html = await datasette.render_template(
        "image_search_tables.html", {"tables": tables}, request=request
    )
    return Response.html(html)
