"""The search page of an image table, also as JSON and CSV, and the list of such tables."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from datasette.app import Datasette
from datasette.plugins import get_plugins
from datasette.utils import tilde_decode
from datasette.utils.asgi import NotFound, Request, Response
from datasette.views.base import DatasetteError

from ...embedders.protocol import EmbedderError
from ...errors import ImageSearchError
from ...search.query import LONGEST_QUERY
from ..access.image_tables import newer_version, visible_image_tables
from ..access.requested_table import RequestedTable, requested_table
from ..compat import database_colour, table_title
from ..configuration import ConfigurationError, configured_roots
from ..server.preparing import is_prepared, start_preparing
from ..urls import (
    NEWEST,
    POSITION,
    Pairs,
    TableUrls,
    TooMuchRepeated,
    check_repetition,
    check_url,
    pairs_of,
    pairs_of_form,
    replaced,
)
from .album_form import album_form
from .cards import chips, image_card, query_in_words, without_vectors
from .date_headings import CHARACTERS, date_headings, suited_span
from .descriptions import description_in_words, description_of, order_in_words
from .facet_boxes import facet_boxes
from .filter_chips import filter_chips
from .filter_values import WrongValue
from .near_values import missing_values
from .offers import offers
from .responses import csv_response, error_response, json_response
from .results import Answer, find
from .search_request import (
    BY,
    DATE,
    DEEPEST,
    PICTURE_SIZES,
    SORTED,
    SearchRequest,
    read_request,
    readable_filters,
    searches_texts,
    sortable_columns,
    usual_order,
)
from .selection import selection

PATIENCE = 1.0
"""Seconds that a page waits for a model before it says that the model is loading."""

MAP_PLUGIN = "datasette-cluster-map"

DROPPED = ("_next", "_facet_wait")
"""Parameters of a part of the results, which no new search has."""

FIELDS = ("_by", "_sort", "_sort_desc", "_limit", "_matches_only", "_min_relevance")
"""Parameters that have a field in the form of the search page, and not in those of the maps."""

LIMITS = ("_matches_only", "_min_score", "_min_relevance")
"""Parameters that leave out weaker matches."""

MORE = "image-search-more"
"""The header of a request for the next pictures of a page that is there already, with the span of its headings."""

FOLDED = 12
"""As many weaker matches, about two rows, are shown below the matches; more are folded."""

NOT_ON_THE_MAP = ("_size", "_pictures", "_limit")
"""Parameters that neither the map nor the table page has."""

ONLY_HERE = (*NOT_ON_THE_MAP, "_by", "_matches_only", "_min_score", "_min_relevance")
"""Parameters that the table page does not have."""


async def search_page(datasette: Datasette, request: Request) -> Response:
    """/-/image-search/DATABASE/TABLE, .json and .csv"""
    check_url(request)
    requested = await requested_table(datasette, request)
    urls = requested.urls
    format = request.url_vars.get("format") or "html"
    if (pairs := pairs_of_form(request)) is not None:
        return Response.redirect(urls.page(pairs, format if format != "html" else ""))
    wanted = None
    try:
        wanted = await read_request(requested)
        if format == "html":
            # Each card has three links: to its page, and to the query with and without its image.
            check_repetition(request, 3 * wanted.size, f"{wanted.size:,} pictures")
        if not wanted.query:
            # Visitors of this page are about to search, so the model may as well load now.
            start_preparing(requested)
        elif not await is_ready(requested, wanted, PATIENCE if format == "html" else None):
            return await _loading_page(requested)
        answer = await find(
            requested,
            wanted,
            patient_facets="_facet_wait" in request.args,
            usual_facets=format == "html" and MORE not in request.headers,
        )
    except ImageSearchError as problem:
        if format != "html":
            return error_response(datasette, str(problem))
        if isinstance(problem, WrongValue):
            return await _without_wrong_values(requested, problem)
        # What is too long for this page is too long without the query.
        shown = None if isinstance(problem, TooMuchRepeated) else wanted
        return await _with_error(requested, shown, str(problem))
    except DatasetteError as problem:
        if format != "html" or problem.status >= 500 or problem.message_is_html:
            raise
        return await _with_error(requested, wanted, str(problem.message), problem.status)
    if format == "json":
        return json_response(requested, wanted, answer, description_in_words(wanted, answer))
    if format == "csv":
        return csv_response(requested, answer)
    return await _html(requested, wanted, answer, pairs_of(request))


async def is_ready(
    requested: RequestedTable, wanted: SearchRequest, patience: float | None
) -> bool:
    """Without a vector for the words, texts are searched nevertheless, and the search itself says if none matches."""
    if wanted.by == "text":
        return True
    try:
        return await is_prepared(requested, wanted.query, patience)
    except EmbedderError:
        if wanted.by == "likeness":
            raise
        return True


async def _without_wrong_values(requested: RequestedTable, problem: WrongValue) -> Response:
    """The page of the same search without the filters whose values are wrong, which it says."""
    error, wrong, pairs = str(problem), [problem.filter], pairs_of(requested.request)
    while True:
        rest = [pair for pair in pairs if pair not in wrong]
        beside = _with_query_string(requested, urlencode(rest))
        try:
            wanted = await read_request(beside)
            if wanted.query and not await is_ready(beside, wanted, PATIENCE):
                wanted = replace(wanted, query="")
            answer = await find(beside, wanted, usual_facets=True)
        except WrongValue as another:
            wrong.append(another.filter)
        except (ImageSearchError, DatasetteError):
            return await _with_error(requested, None, error)
        else:
            these = "this filter" if len(wrong) == 1 else "the filters that are marked"
            error = f"{error}. The images below are found without {these}."
            return await _html(requested, wanted, answer, rest, error, 400, wrong)


def _with_query_string(requested: RequestedTable, query_string: str) -> RequestedTable:
    scope = {**requested.request.scope, "query_string": query_string.encode()}
    return replace(requested, request=Request(scope, None))


async def _with_error(
    requested: RequestedTable, wanted: SearchRequest | None, error: str, status: int = 400
) -> Response:
    """
    The page with what can still be shown: of a request that can be read, the images without the query; of another, those of its
    words alone; else all images.
    """
    pairs = pairs_of(requested.request)
    if wanted is not None and wanted.query:
        newest = replace(wanted, query="")
        with suppress(ImageSearchError):
            answer = await find(requested, newest, usual_facets=True)
            return await _html(requested, newest, answer, pairs, error, status)
    words = [] if wanted is not None else [(name, value) for name, value in pairs if name == "q"]
    for kept in (words, []) if words else ([],):
        plain = _with_query_string(requested, urlencode(kept))
        with suppress(ImageSearchError):
            shown = await read_request(plain)
            if kept and not await is_ready(plain, shown, PATIENCE):
                continue
            answer = await find(plain, shown, usual_facets=True)
            said = f"{error}. The images below are found by the words alone." if kept else error
            return await _html(requested, shown, answer, kept, said, status)
    return await _html(requested, wanted, None, pairs, error, status)


async def _html(
    requested: RequestedTable,
    wanted: SearchRequest | None,
    answer: Answer | None,
    pairs: list[tuple[str, str]],
    error: str | None = None,
    status: int = 200,
    wrong: Pairs = (),
) -> Response:
    """
    `pairs` are the query string of what `wanted` and `answer` are: all of the request's, unless there is an `error` with it,
    such as with the filters that are `wrong`.
    """
    datasette, request, urls = requested.datasette, requested.request, requested.urls
    query = (request.args.get("q") or "").strip()[:LONGEST_QUERY]
    searched = wanted.query if wanted and answer else query
    if not searched:
        pairs = replaced(pairs, q=None)
    first_page = replaced(pairs, _next=None, _facet_wait=None)
    kept = replaced(first_page, q=None)
    # The form keeps what was asked for.
    asked = replaced(pairs_of(request), _next=None, _facet_wait=None)
    asked_besides = replaced(asked, q=None)
    columns = await sortable_columns(requested)
    usual = usual_order(request, query, columns)
    context: dict[str, Any] = {
        **await table_context(requested),
        **await form_context(requested, wanted, urls.page, asked_besides, FIELDS),
        "model": requested.index.model,
        "error": error,
        "offers": await offers(requested, query, asked_besides),
        "filter_chips": await filter_chips(requested, urls.page, asked, wrong),
        "is_wrong_query": bool(error and not wrong),
        "description": description_in_words(wanted, answer) if wanted and answer else "",
        "description_parts": description_of(wanted, answer) if wanted and answer else [],
        "page_url": urls.page(),
        "query_words": query_in_words(query) if query else "",
        "table_url": _table_url(urls, searched, kept),
        "upload_url": urls.upload(),
        "pictures": wanted.picture_size if wanted else "medium",
        "order": wanted.order if wanted else None,
        "order_words": order_in_words(wanted.order) if wanted and wanted.order else None,
        "is_by_date": wanted is not None
        and (wanted.order.column == DATE if wanted.order else not wanted.query),
        "limit": wanted.limit if wanted else None,
        "by": wanted.by if wanted else None,
        "ways": BY if await searches_texts(requested) else {},
        "most": DEEPEST,
        "sorted_without": SORTED,
        "matches_only": wanted.matches_only if wanted else False,
        "min_relevance": wanted.min_relevance if wanted else None,
        "newest": NEWEST,
        "sortable_columns": columns,
        "usual_order": order_in_words(usual)
        if usual
        else ("closest first" if query else "newest first"),
        "originals": shows_originals(requested),
        "answer": answer,
        "images": [],
    }
    if wanted and answer:
        end, next_url, previous_url = wanted.offset + len(answer.images), None, None
        if answer.next_offset is not None:
            next_url = urls.page(replaced(pairs, _next=answer.next_offset))
        if wanted.offset:
            before = max(0, wanted.offset - wanted.size) or None
            previous_url = urls.page(replaced(pairs, _next=before))
        cards = [
            image_card(
                urls,
                each,
                requested.index.path_column,
                query=searched,
                kept=kept,
                found_by=[*replaced(first_page, **{POSITION: None}), (POSITION, str(position))],
            )
            for position, each in enumerate(answer.images, wanted.offset + 1)
        ]
        above = _above_the_line(wanted, answer)
        chosen = selection(requested, wanted, answer, first_page, originals=context["originals"])
        span = None
        if context["is_by_date"]:
            # What is added to a page goes on as it began.
            asked_span = request.headers.get(MORE)
            span = asked_span if asked_span in CHARACTERS else suited_span(cards)
        context |= {
            "alternate_url_json": urls.page(pairs, "json"),
            "images": cards,
            "headings_of": span,
            "headings": date_headings(cards, span, is_first_page=not wanted.offset) if span else {},
            "is_filtered": bool(wanted.filter_words),
            "missing": await missing_values(requested, wanted, first_page)
            if answer.count.number == 0
            else [],
            "above": above,
            "folded": above is not None and above > 0 and len(cards) - above > FOLDED,
            "numbers": (wanted.offset + 1, end) if answer.images else None,
            "next_url": next_url,
            "previous_url": previous_url,
            "sizes": [(size, urls.page(replaced(pairs, _pictures=size))) for size in PICTURE_SIZES],
            "matches_only_url": urls.page(replaced(first_page, _matches_only=1))
            if _has_weaker(wanted, answer)
            else None,
            "likeness_map_url": urls.map(
                replaced(kept, **dict.fromkeys(NOT_ON_THE_MAP), q=query or None)
            ),
            "selection": chosen,
            "album_form": await album_form(requested, chosen.all_query, chosen.all)
            if chosen.all_query
            else None,
            "earth_url": _earth_url(urls, answer, kept, query),
            "duplicates_url": urls.duplicates() if requested.view is None else None,
            "ways_out": _ways_out(wanted, urls, first_page) if error is None else [],
            "csv_url": urls.page(first_page, "csv"),
            "has_map": _has_map(answer),
            "facet_boxes": facet_boxes(requested, answer.facets, first_page),
            "suggested_facets": answer.facets.suggested,
            "is_patient": "_facet_wait" in request.args,
            "facets_later_url": urls.page(replaced(first_page, _facet_wait="only")),
            "facets_wait_url": urls.page(replaced(first_page, _facet_wait="1")),
        }
    html = await datasette.render_template("image_search.html", context, request=request)
    response = Response.html(html, status=status)
    if query:
        # The names of months that a query may have.
        response.headers["vary"] = "accept-language"
    if answer:
        response.headers["server-timing"] = ", ".join(
            f"{name.replace(' ', '-')};dur={duration:.1f}"
            for name, duration in answer.milliseconds.items()
        )
    return response


async def table_context(requested: RequestedTable) -> dict[str, Any]:
    """Template variables for the head of each page of an image table."""
    names = requested.database.name, requested.name
    return {
        "database": requested.database.name,
        "table": requested.name,
        "title": await table_title(requested.datasette, *names),
        "color": database_colour(requested.database),
    }


async def form_context(
    requested: RequestedTable,
    wanted: SearchRequest | None,
    page: Callable[[Pairs], str],
    kept: Pairs,
    fields: Collection[str] = (),
) -> dict[str, Any]:
    """
    Template variables for the form with the query and filters of a page, whose URLs `page` makes; `kept` is the
    query string that it sends along, but for those that it has fields for.
    """
    filters = await readable_filters(requested)
    query = (requested.request.args.get("q") or "").strip()[:LONGEST_QUERY]
    pictures_of_query, box = without_vectors(query)
    columns = await requested.database.table_columns(requested.name)
    context = wanted.context if wanted else {}
    if context.get("supports_search"):
        fields = (*fields, "_search")
    filtered = dict.fromkeys(column for column, _, _ in filters.selections())
    return {
        **context,
        "query": query,
        "box": box,
        "pictures_of_query": pictures_of_query,
        "chips": await chips(requested, query, page, kept),
        "filters": filters,
        # Filters may also name what is no column, such as rowid.
        "filter_columns": [*columns, *(column for column in filtered if column not in columns)],
        "form_hidden_args": [
            (name, value)
            for name, value in kept
            if name.startswith("_")
            and "__" not in name
            and not name.startswith("_filter_")
            and name not in DROPPED
            and name not in fields
        ],
    }


async def _loading_page(requested: RequestedTable) -> Response:
    context = {**await table_context(requested), "model": requested.index.model}
    html = await requested.datasette.render_template(
        "image_search_loading.html", context, request=requested.request
    )
    return Response.html(html, status=202, headers={"cache-control": "no-store"})


def shows_originals(requested: RequestedTable) -> bool:
    """Whether the configuration names folders with originals, or the table holds them itself."""
    names = requested.database.name, requested.table.name
    try:
        roots = configured_roots(requested.datasette, *names)
    except ConfigurationError:
        # The log of the start has said so, and a search needs no originals.
        roots = ()
    return requested.index.content_column is not None or bool(roots)


def _has_weaker(wanted: SearchRequest, answer: Answer) -> bool:
    """Whether some images, of those that are counted, are no matches."""
    if answer.matches is None or wanted.order is not None or not answer.matches.number:
        return False
    count = answer.count
    if count.number is None or answer.matches.number < count.number:
        return count.number is not None
    return not (count.is_exact or wanted.is_limited)


def _above_the_line(wanted: SearchRequest, answer: Answer) -> int | None:
    """How many images of this page come before the line; None if it is below the page, or there is none."""
    if wanted.order is not None or answer.matches is None or not answer.images:
        return None
    if (answer.matches.number or 0) >= wanted.offset + len(answer.images):
        return None
    return sum(image.is_match for image in answer.images)


def _ways_out(wanted: SearchRequest, urls: TableUrls, pairs: Pairs) -> list[tuple[str, str]]:
    """Links, with their words, that a person may follow who has found nothing: each asks for less."""
    limits = {name: None for name in LIMITS if name in dict(pairs)}
    found = []
    if wanted.query and wanted.filter_words:
        found.append(("Search all images, without the filters", urls.page([("q", wanted.query)])))
    if wanted.query and wanted.by == "text":
        found.append(("Search by likeness too", urls.page(replaced(pairs, _by=None))))
    if wanted.query and limits:
        found.append(("Show weaker matches too", urls.page(replaced(pairs, **limits))))
    return found


def _table_url(urls: TableUrls, query: str, kept: Pairs) -> str:
    """The URL of the table page with the same images."""
    searched = [("_image_search", query)] if query else []
    return urls.rows([*replaced(kept, **dict.fromkeys(ONLY_HERE)), *searched])


def _earth_url(urls: TableUrls, answer: Answer, kept: Pairs, query: str) -> str | None:
    """The map of the earth with the matches, or with all images if nobody can tell these; None if no image here has a place."""
    if not any(image.row.get("latitude") is not None for image in answer.images):
        return None
    matching = {"q": query, "_matches_only": 1} if answer.matches and answer.matches.number else {}
    return urls.earth(replaced(kept, **dict.fromkeys(NOT_ON_THE_MAP), **matching))


def _has_map(answer: Answer) -> bool:
    """Whether the table page draws a map, as datasette-cluster-map does of rows with a place."""
    has_place = any(
        image.row.get("latitude") is not None and image.row.get("longitude") is not None
        for image in answer.images
    )
    # Datasette reads the metadata of all packages here, which takes longer than many a search.
    return has_place and any(
        str(plugin["name"]).replace("_", "-") == MAP_PLUGIN for plugin in get_plugins()
    )


async def tables_page(datasette: Datasette, request: Request) -> Response:
    """
    /-/image-search and /-/image-search/DATABASE: the image tables that this actor may see, in all
    databases or in one. If there is only one, redirects to it.

    Raises the same NotFound for a database that does not exist, has no image table, or is hidden from
    this actor.
    """
    only = tilde_decode(request.url_vars.get("database", "")) or None
    tables, newer = [], []
    for database in list(datasette.databases.values()):
        if only not in (None, database.name):
            continue
        names = await visible_image_tables(datasette, request.actor, database)
        tables += [
            {
                "database": database.name,
                "title": await table_title(datasette, database.name, name),
                "url": TableUrls(datasette, database.name, name).page(),
            }
            for name in names
        ]
        sentence = None if names else await newer_version(datasette, request.actor, database)
        if sentence:
            newer.append(f"{database.name}: {sentence}")
    if only and not tables and not newer:
        raise NotFound(f"There is no image table in {only!r}")
    if len(tables) == 1 and not newer:
        return Response.redirect(tables[0]["url"])
    html = await datasette.render_template(
        "image_search_tables.html", {"tables": tables, "newer": newer}, request=request
    )
    return Response.html(html)
