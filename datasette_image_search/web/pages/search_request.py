"""The URL of a search page as a value: its query, its filters, which are those of the table page, its page number."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import reduce
from inspect import iscoroutine
from typing import Any, cast, get_args

from datasette.app import Datasette
from datasette.filters import FilterArguments, Filters
from datasette.plugins import pm
from datasette.utils import await_me_maybe
from datasette.utils.asgi import Request
from datasette.views.base import DatasetteError

from ...errors import most_similar
from ...search.asked import By, SearchOptions
from ...search.correction import Rank
from ...search.fusion import leaves_texts_out
from ...search.query import image_term
from ...store import Filter, Key
from ...store.filters import IdSet, all_of, both_of
from ...store.ordering import Order, check_order, order_of
from ...store.tables import LAST
from ...store.written_texts import TEXT_TABLES
from ..access.requested_table import RequestedTable
from ..access.visits import visitor_sees
from ..among import read_among
from ..compat import column_filters, table_configuration
from ..configuration import rank as configured_rank
from ..facets.words import ALBUMS, FilteredByWords, asked_for
from ..urls import POSITION, RequestError, pairs_of, whole_number
from .filter_values import check_values
from .parameters import SeenRequest, check_names, is_parameter

DATE = "taken_at"
"""The column whose values are the newest and the oldest."""

PAGE_SIZE = 60

DEEPEST = 10_000
"""Hits that a query can be paged through. The vectors are ranked that far for every page, and few people
read on; a filter shows others."""

SORTED = 300
"""The best images for a query that an order by a column is of, if none is a match."""

NO_FILTER = (ValueError, LookupError, TypeError, RecursionError, DatasetteError)
"""What Datasette's filters raise for a list or an object that is no JSON, or that names no foreign key."""

BY = {"both": "likeness and text", "likeness": "likeness", "text": "text"}
"""How images are found, and what the page calls it."""

MOST_FILTERS = 100
"""On columns. A page has a row of its form for each."""

PICTURE_SIZES = ("small", "medium", "large")


@dataclass(frozen=True)
class SearchRequest:
    """
    `size` images after the first `offset`, none for a size of 0. `rows` is the filter on the table or view
    that the URL names: `filters` on its columns, those by `words` that images have, each by its parameter, and all `others`. `filter` is the same on its images. `filter_words` is Datasette's sentence, 'where
    camera_make = "Canon"'. `context` has the template variables of Datasette's own filters, such as `_where=`.
    `by` is a key of BY. `position` is the place of an image in the search, on its page. With an `order`, the `limit` best for
    the query are sorted by it: if that is None, all matches, or the best
    SORTED if there are none. Else `limit` images are shown in all.
    """

    query: str
    by: By
    size: int
    offset: int
    min_score: float | None
    min_relevance: float | None
    matches_only: bool
    rank: Rank
    order: Order | None
    limit: int | None
    picture_size: str
    filters: Filters
    words: Mapping[str, Filter]
    others: Filter | None
    rows: Filter | None
    filter: Filter | None
    filter_words: str
    position: int | None = None
    context: dict[str, Any] = field(default_factory=dict)

    @property
    def is_limited(self) -> bool:
        """Whether some images are left out by how they fit the query; without one there are no scores."""
        return bool(self.query) and (
            self.by == "text"
            or self.matches_only
            or self.options.has_limits
            or (self.by == "both" and leaves_texts_out(self.query))
        )

    @property
    def options(self) -> SearchOptions:
        """How the query is asked, all images of it. A page has no time to look at millions of vectors."""
        return SearchOptions(
            bounded=True,
            min_score=self.min_score,
            min_relevance=self.min_relevance,
            matches_only=self.matches_only,
            rank=self.rank,
            by=self.by,
        )

    @property
    def end(self) -> int | None:
        """How many images are shown in all. Of an order of a query the limit says of how many it is, and ends nothing."""
        return None if self.query and self.order else self.limit

    def part(self, offset: int, size: int) -> SearchRequest:
        """The same with up to `size` images after the first `offset`, none behind the end."""
        left = size if self.end is None else max(min(size, self.end - offset), 0)
        return replace(self, offset=offset, size=left)

    def like(self, requested: RequestedTable, image_id: Key, size: int) -> SearchRequest:
        """The search for the closest to an image, of the whole table or view."""
        return replace(
            self,
            query=image_term(image_id),
            size=size,
            offset=0,
            min_score=None,
            min_relevance=None,
            matches_only=False,
            by="likeness",
            order=None,
            limit=None,
            rows=None,
            filter=_of_images(requested, None),
            filter_words="",
        )

    def among(
        self, requested: RequestedTable, ids: IdSet | None, rest: Filter | None
    ) -> SearchRequest:
        """The same with these images alone, all if None, of those that pass a filter."""
        some = None if ids is None else ids.as_filter(replace(requested.table, name=requested.name))
        allowed = both_of(some, rest)
        rows = both_of(allowed, self.rows)
        filter = _of_images(requested, rows)
        return replace(self, others=both_of(allowed, self.others), rows=rows, filter=filter)

    def rows_beside(self, requested: RequestedTable, names: Collection[str]) -> Filter | None:
        """The filter on rows without some of the `filters`, named as column__lookup, and of those by `words`."""
        pairs = [pair for pair in self.filters.pairs if pair[0] not in names]
        words = [filter for name, filter in self.words.items() if name not in names]
        if (len(pairs), len(words)) == (len(self.filters.pairs), len(self.words)):
            return self.rows
        database, table = requested.database.name, requested.name
        filters = column_filters(requested.datasette, database, table, pairs)
        clauses, params = filters.build_where_clauses(table)
        of_columns = Filter(all_of(clauses), params) if clauses else None
        return reduce(both_of, words, both_of(of_columns, self.others))


async def read_request(requested: RequestedTable) -> SearchRequest:
    """Raises RequestError with a sentence that names the parameter."""
    datasette, request = requested.datasette, SeenRequest(requested.request)
    pairs = await _filter_pairs(requested)
    if len(pairs) > MOST_FILTERS:
        raise RequestError(f"a URL can have {MOST_FILTERS} filters; this one has {len(pairs):,}")
    filters = column_filters(datasette, requested.database.name, requested.name, pairs)
    among = read_among(request)
    try:
        clauses, params = filters.build_where_clauses(requested.name)
        of_columns = Filter(all_of(clauses), params) if clauses else None
        more_clauses, more_params, more_words, context = [], {}, [], {}
        by_words: Mapping[str, Filter] = {}
        for added in await _filters_of_plugins(requested, request):
            if isinstance(added, FilteredByWords):
                by_words = added.filters
            else:
                more_clauses += added.where_clauses
                more_params.update(added.params)
            more_words += added.human_descriptions
            context.update(added.extra_context)
        said_before = () if among is None else (among.description,)
        words = filters.human_description_en(
            extra=[each for each in more_words if each not in said_before]
        )
        await check_values(requested, pairs)
    except NO_FILTER as error:
        if isinstance(error, DatasetteError) and error.status < 500:
            raise
        said = error.message if isinstance(error, DatasetteError) else error
        raise RequestError(f"a filter in this URL cannot be read: {said}") from error
    if among is not None:
        words = f"{among.words} {words}".rstrip()
    columns = await requested.database.table_columns(requested.name)
    check_names(requested.request.args, columns, request.seen)
    query = (request.args.get("q") or "").strip()
    offset = _whole_number(request, "_next", 0, LAST)
    size = _page_size(datasette, request)
    if query and offset + size > DEEPEST:
        raise RequestError(
            f"a query can be followed to its best {DEEPEST:,} images only; add a filter to see others"
        )
    others = Filter(all_of(more_clauses), more_params) if more_clauses else None
    rows = reduce(both_of, by_words.values(), both_of(of_columns, others))
    order = await _order(requested, query)
    limit = _whole_number(request, "_limit", 0, DEEPEST, least=1) or None
    wanted = SearchRequest(
        query=query,
        by=await _by(requested),
        size=size,
        offset=offset,
        min_score=_number(request, "_min_score", 0.25),
        min_relevance=_relevance(request),
        matches_only=_flag(request, "_matches_only"),
        rank=asked_rank(datasette, request, requested.database.name, requested.table.name),
        order=order,
        limit=limit,
        picture_size=_picture_size(request),
        filters=filters,
        words=by_words,
        others=others,
        rows=rows,
        filter=_of_images(requested, rows),
        filter_words=words,
        position=_whole_number(request, POSITION, 0, LAST, least=1) or None,
        context=context,
    )
    return wanted.part(offset, size)


async def _filters_of_plugins(
    requested: RequestedTable, request: SeenRequest
) -> list[FilterArguments]:
    hooks = pm.hook.filters_from_request(
        request=request,
        table=requested.name,
        database=requested.database.name,
        datasette=requested.datasette,
    )
    try:
        return [added for hook in hooks if (added := await await_me_maybe(hook))]
    finally:
        # If one refuses the request, nobody awaits those behind it.
        for hook in hooks:
            if iscoroutine(hook):
                hook.close()


def _of_images(requested: RequestedTable, rows: Filter | None) -> Filter | None:
    return rows if requested.view is None else requested.view.images(rows)


async def readable_filters(requested: RequestedTable) -> Filters:
    """The filters of a URL that may have others, which nobody can read; the first MOST_FILTERS."""
    columns, pairs = await _filterable(requested), []
    for name, value in pairs_of(requested.request):
        with suppress(RequestError):
            pairs.append(filter_pair(requested.name, columns, name, value))
    known = [pair for pair in pairs if pair is not None]
    names = requested.database.name, requested.name
    return column_filters(requested.datasette, *names, known[:MOST_FILTERS])


async def _filter_pairs(requested: RequestedTable) -> list[tuple[str, str]]:
    """The pairs that are filters to Datasette, with names as column__lookup."""
    columns = await _filterable(requested)
    pairs = pairs_of(requested.request)
    read = (filter_pair(requested.name, columns, name, value) for name, value in pairs)
    return [pair for pair in read if pair is not None]


async def _filterable(requested: RequestedTable) -> list[str]:
    return [*await requested.database.table_columns(requested.name), "rowid"]


def filter_pair(
    table: str, columns: Collection[str], name: str, value: str
) -> tuple[str, str] | None:
    """
    A pair of a query string as Datasette's filters read it, its name as column__lookup; None if it is no filter.
    Raises RequestError for a column or a lookup that does not exist.
    """
    if name == "q" or is_parameter(name):
        return None
    column, _, lookup = (name, "", "exact") if name in columns else name.rpartition("__")
    if column not in columns:
        closest = most_similar(column or name, columns)
        raise RequestError(
            f"{table!r} has no column {(column or name)[:100]!r} to filter by"
            + (f"; did you mean {closest!r}?" if closest else "")
        )
    if lookup not in {key for key, _, _ in Filters([]).lookups()}:
        raise RequestError(f"there is no filter {lookup[:100]!r}, as in {name[:200]!r}")
    return f"{column}__{lookup}", value


async def _order(requested: RequestedTable, query: str) -> Order | None:
    args, columns = requested.request.args, await sortable_columns(requested)
    order = order_of(args.get("_sort") or None, args.get("_sort_desc") or None)
    if order is None:
        return usual_order(requested.request, query, columns)
    check_order(order, requested.name, columns)
    return order


def usual_order(request: Request, query: str, columns: Collection[str]) -> Order | None:
    """Of a URL that names none. An album is looked at from its beginning; None is the closest, else the newest, first."""
    return Order(DATE) if not query and ALBUMS in asked_for(request) and DATE in columns else None


async def sortable_columns(requested: RequestedTable) -> list[str]:
    """Those that the configuration allows, or all, but never the pictures themselves."""
    configuration = await table_configuration(
        requested.datasette, requested.database.name, requested.name
    )
    columns = await requested.database.table_columns(requested.name)
    allowed = configuration.get("sortable_columns", columns)
    pictures = requested.index.content_column
    return [name for name in columns if name in allowed and name != pictures]


async def _by(requested: RequestedTable) -> By:
    by = requested.request.args.get("_by") or None
    if by is not None and by not in BY:
        raise RequestError(f"_by must be one of {', '.join(BY)}")
    if await searches_texts(requested):
        return cast("By", by or "both")
    if by not in (None, "likeness"):
        what = (
            "a view is" if requested.view is not None else "you may not see all texts, so this is"
        )
        raise RequestError(f"{what} searched by likeness only; leave _by out")
    return "likeness"


async def searches_texts(requested: RequestedTable) -> bool:
    """
    Whether what is written about the images is searched too. Not in a view, which may leave out columns, and not for an
    actor who may not see a side table with texts: what is found would tell them.
    """
    if requested.view is not None:
        return False
    names = map(requested.table.side, TEXT_TABLES)
    datasette, database = requested.datasette, requested.database.name
    return all([await visitor_sees(datasette, database, name) for name in names])


def _page_size(datasette: Datasette, request: Request) -> int:
    if request.args.get("_facet_wait") == "only":
        return 0
    largest = datasette.setting("max_returned_rows")
    if request.args.get("_size") == "max":
        return largest
    return _whole_number(request, "_size", min(PAGE_SIZE, largest), largest)


def _whole_number(request: Request, name: str, default: int, largest: int, least: int = 0) -> int:
    text = request.args.get(name)
    if not text:
        return default
    number = whole_number(text)
    if number is None or not least <= number <= largest:
        raise RequestError(f"{name} must be a whole number from {least} to {largest:,}")
    return number


def _flag(request: Request, name: str) -> bool:
    value = request.args.get(name) or "0"
    if value not in ("0", "1"):
        raise RequestError(f"{name} must be 1; leave it out otherwise")
    return value == "1"


def _number(request: Request, name: str, such_as: float) -> float | None:
    text = request.args.get(name)
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RequestError(f"{name} must be a number, such as {such_as}")
    return number


def _relevance(request: Request) -> float | None:
    relevance = _number(request, "_min_relevance", 0.95)
    if relevance is not None and not 0 < relevance <= 1:
        raise RequestError("_min_relevance must be above 0 and at most 1, such as 0.95")
    return relevance


def asked_rank(datasette: Datasette, request: Request, database: str, table: str) -> Rank:
    """The order that a URL asks for with `_rank=`, or else the configuration. Raises RequestError."""
    asked = request.args.get("_rank")
    if not asked:
        return configured_rank(datasette, database, table)
    if asked not in get_args(Rank):
        raise RequestError(f"_rank must be {' or '.join(get_args(Rank))}")
    return cast("Rank", asked)


def _picture_size(request: Request) -> str:
    size = request.args.get("_pictures") or "medium"
    if size not in PICTURE_SIZES:
        raise RequestError(f"_pictures must be one of {', '.join(PICTURE_SIZES)}")
    return size
