"""
`?_image_search=` on the table page: it works like any other filter, and HTML shows the closest images first.

Filter first, then rank: all other filters of the query string are the filter of the search, so that there
are as many hits as possible. The wrapper around `filters_from_request` sees all other clauses, also those
of other plugins. The page then selects exactly the hits.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datasette.app import Datasette
from datasette.filters import FilterArguments
from datasette.utils import (
    await_me_maybe,
    escape_sqlite,
    to_css_class,
)
from datasette.utils.asgi import Request
from datasette.views.base import DatasetteError
from markupsafe import Markup

from ... import store
from ...api import Images
from ...errors import ImageSearchError
from ...search.correction import Rank
from ...search.hits import Found, page_in_order
from ...store import Filter, Key
from ...store.filters import all_of, closed
from ..access.image_tables import PicturedTable, newer_version, visible_table
from ..access.requested_table import RequestedTable
from ..compat import column_filters, default_page_size, has_places_on_pages
from ..configuration import configured_weights
from ..errors import told_when_too_long
from ..pages.cards import query_in_words
from ..pages.search_request import asked_rank
from ..pages.timed_reads import in_time
from ..reading import read_bounded
from ..server.preparing import is_prepared
from ..urls import TableUrls, column_pairs, pairs_of, replaced, whole_number

ARGUMENT = "_image_search"
COUNT = "_image_search_k"
NOT_KEPT = (ARGUMENT, "_next", "_sort", "_sort_desc", "_sort_by_desc")
"""Parameters that a new search drops: the old search, page and order."""

_SCOPE = "datasette-image-search"
"""The key in the scope of a request for its TableSearch, which filters make and templates read."""


@dataclass(frozen=True)
class TableSearch:
    """The search of one request. `scores` is id as a text -> score, best first."""

    query: str
    scores: dict[str, float | None]
    description: str
    warnings: tuple[str, ...]


def table_search(request: Request) -> TableSearch | None:
    """The search that the filters of this request made, if it asked for one."""
    return request.scope.get(_SCOPE)


async def filters_with_search(
    datasette: Datasette, request: Request, database: str, table: str, others: Sequence[Any]
) -> FilterArguments:
    """
    All filters of plugins and core as one, with the hits of the search as its last clause.

    `others` is what the other hooks returned. Raises DatasetteError, status 400, with a sentence.
    """
    arguments = [await await_me_maybe(other) for other in others]
    arguments = [argument for argument in arguments if argument]
    # Datasette joins clauses by "and" without parentheses.
    clauses = [closed(clause) for argument in arguments for clause in argument.where_clauses]
    params = {name: value for a in arguments for name, value in a.params.items()}
    descriptions = [text for argument in arguments for text in argument.human_descriptions]
    context = {name: value for a in arguments for name, value in a.extra_context.items()}

    query = request.args[ARGUMENT]
    served = datasette.get_database(database)
    shown = await visible_table(datasette, request.actor, served, table)
    if shown is None:
        newer = await newer_version(datasette, request.actor, served)
        raise _bad_request(
            newer or f"{table!r} is not an image table, so {ARGUMENT} cannot search it"
        )
    columns = column_filters(datasette, database, table, column_pairs(request))
    column_clauses, column_params = columns.build_where_clauses(table)
    wheres = column_clauses + clauses
    filter = Filter(all_of(wheres), {**column_params, **params}) if wheres else None
    if shown.view is not None:
        filter = shown.view.images(filter)
    k = await _count(datasette, request, database, table)
    weights_of = configured_weights(datasette)
    images = shown.table.name
    try:
        order = asked_rank(datasette, request, database, images)
        with told_when_too_long(datasette, is_filtered=bool(wheres)):
            # Not on one of the three threads for SQL: a model can take long to load.
            index = await read_bounded(served, lambda conn: store.find_index(conn, images))
            requested = RequestedTable(datasette, request, served, index)
            await is_prepared(requested, query)
            found = await in_time(
                requested,
                lambda conn: _search(
                    Images(conn, images, weights_of=weights_of, raw_errors=True),
                    query,
                    k,
                    filter,
                    order,
                ),
            )
    except ImageSearchError as error:
        raise _bad_request(str(error)) from error

    key = f"{escape_sqlite(table)}.{escape_sqlite(shown.table.key)}"
    hits_clause = f"{key} in (select value from json_each(:_img_hits))"
    if shown.view is not None:
        hits_clause = all_of([hits_clause, shown.view.is_image()])
    words = query_in_words(query.strip())
    filtered = columns.human_description_en(extra=descriptions)
    request.scope[_SCOPE] = TableSearch(
        query,
        {str(hit.id): hit.score for hit in page_in_order(found.hits, k)},
        f"{filtered}, closest to {words}" if filtered else f"closest to {words}",
        found.warnings,
    )
    return FilterArguments(
        [*clauses, hits_clause],
        {**params, "_img_hits": json.dumps([hit.id for hit in found.hits])},
        # Datasette puts these after "where".
        [f"image is among the {len(found.hits):,} closest to {words}", *descriptions],
        context,
    )


def _search(images: Images, query: str, k: int, filter: Filter | None, rank: Rank) -> Found:
    # Before the snapshot, which keeps others from writing for as long as it lasts.
    images.open(query)
    # A picture in the query is that of the state that is searched.
    with store.snapshot(images.conn):
        (found,) = images.find([query], k, where=filter, rank=rank, bounded=True)
    return found


async def _count(datasette: Datasette, request: Request, database: str, table: str) -> int:
    """
    The number of hits: that of the request, or that of a page by default, but never more than this page
    shows, because the closest can come first only within one page.
    """
    default = await default_page_size(datasette, database, table)
    asked = whole_number(request.args[COUNT]) if COUNT in request.args else default
    if asked is None or asked < 1:
        raise _bad_request(f"{COUNT} is {request.args[COUNT]!r}; it must be a whole number above 0")
    size = request.args.get("_size") or default
    page = datasette.max_returned_rows if size == "max" else whole_number(str(size))
    if not page:
        # The page wants no rows but their count and facets, or Datasette will say that the size is wrong.
        page = datasette.max_returned_rows if "_size" in request.args else default
    return min(asked, page, datasette.max_returned_rows)


def _bad_request(sentence: str) -> DatasetteError:
    return DatasetteError(sentence, title="Image search", status=400)


# --- The page -------------------------------------------------------------------------


async def table_page_vars(
    datasette: Datasette, request: Request, database: str, table: str
) -> dict[str, Any]:
    """The search box of an image table, and the rows in the order of a search."""
    shown = await visible_table(datasette, request.actor, datasette.get_database(database), table)
    if shown is None:
        return {}
    found = table_search(request)
    css = f"{to_css_class(database)}-{to_css_class(table)}"
    variables: dict[str, Any] = {
        "custom_table_templates": ["_image_search_table.html"],
        "image_search": {
            **_box(datasette, request, database, table),
            # Once, by the first template that has a place for it.
            "box": () if has_places_on_pages() else iter((True,)),
            "rows_in_order": lambda rows: rows,
            "table_templates": [f"_table-{css}.html", f"_table-table-{css}.html", "_table.html"],
        },
    }
    if found and not (request.args.get("_sort") or request.args.get("_sort_desc")):
        variables["image_search"]["rows_in_order"] = lambda rows: _closest_first(rows, found, shown)
        # This page is not in the order that the configuration of the table names.
        variables |= {
            "human_description_en": found.description,
            "sort": None,
            "sort_desc": None,
        }
    return variables


async def above_rows(datasette: Datasette, request: Request, database: str, table: str) -> Markup:
    """The search box of an image table; nothing on the page of another table."""
    served = datasette.get_database(database)
    if await visible_table(datasette, request.actor, served, table) is None:
        return Markup("")
    context = {"image_search": _box(datasette, request, database, table)}
    return Markup(await datasette.render_template("_image_search_box.html", context))


def _box(datasette: Datasette, request: Request, database: str, table: str) -> dict[str, Any]:
    found, urls = table_search(request), TableUrls(datasette, database, table)
    return {
        "action": datasette.urls.table(database, table),
        "argument": ARGUMENT,
        "query": found.query if found else "",
        "warnings": found.warnings if found else (),
        "kept": [
            (name, value)
            for name in request.args
            if name not in NOT_KEPT
            for value in request.args.getlist(name)
        ],
        "clear_url": urls.rows(
            replaced(pairs_of(request), **dict.fromkeys((ARGUMENT, COUNT, "_next")))
        ),
        "page_url": urls.page([("q", found.query)] if found else []),
    }


def _closest_first(rows: Sequence[Any], found: TableSearch, shown: PicturedTable) -> list[Any]:
    """Datasette's display rows, best first, with the score beside the picture."""
    ranks = {key: rank for rank, key in enumerate(found.scores)}
    rows = sorted(rows, key=lambda row: ranks.get(_key(row, shown), len(ranks)))
    for row in rows:
        score = found.scores.get(_key(row, shown))
        for cell in row:
            if score is not None and cell["column"] == shown.column:
                cell["value"] = cell["value"] + Markup(
                    '<span class="image-search-score" title="Cosine similarity">{:.3f}</span>'
                ).format(score)
    return rows


def _key(row: Any, shown: PicturedTable) -> str:
    key: Key = row[shown.table.key]
    return str(key)
