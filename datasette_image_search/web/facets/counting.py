"""The facets of a search page: Datasette's own, counted over all rows that match the filters."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from datasette.app import Datasette
from datasette.facets import Facet, load_facet_configs
from datasette.plugins import pm
from datasette.utils import escape_sqlite
from datasette.utils.asgi import Request
from sqlite_utils.db import quote_identifier

from ...store import Filter
from ...store.reads import columns_with_values, has_films, indexes_of_texts
from ...store.sampling import Sample, sample_of
from ..access.requested_table import RequestedTable
from ..compat import make_facet, table_configuration
from ..reading import read_bounded
from ..urls import (
    RequestError,
    TableUrls,
    TooMuchRepeated,
    check_repetition,
    pairs_of,
    replaced,
)
from .choices import with_choice
from .kinds import KindFacet
from .words import AlbumFacet, KeywordFacet, TagFacet
from .years import YearFacet

SUGGESTED = (
    ("year", "taken_at"),
    ("column", "folder"),
    ("column", "country"),
    ("column", "city"),
    ("column", "camera_model"),
)
"""The columns that people filter photos by. `embed-images` and `locate-images` make indexes for them."""

WORDS = {kind.type: kind.words.argument for kind in (AlbumFacet, KeywordFacet, TagFacet)}
"""Facets of the key of an image table, and the parameters of what is chosen in them."""

MOST_FACETS = 20
"""Each may take facet_time_limit_ms on one of the three threads that serve everybody."""

PASSING = ("_next", "_facet_wait")
"""Parameters that links to other results drop."""


@dataclass(frozen=True)
class Facets:
    """Facets for Datasette's templates: results, the longest first; names of facets that took too long, and of those that
    were estimated therefore; and links to more facets. `are_chosen` is False if neither the URL nor the configuration names any: then they are
    those that most people filter by, as far as these tell images apart."""

    results: tuple[dict[str, Any], ...] = ()
    timed_out: tuple[str, ...] = ()
    estimated: tuple[str, ...] = ()
    suggested: tuple[dict[str, Any], ...] = ()
    are_chosen: bool = True


@dataclass(frozen=True)
class _Wanted:
    """A facet of all rows, or of some, which `make` makes to count these or a `sample` of them."""

    make: Callable[..., Facet]
    is_of_all: bool


_Counted = tuple[list[dict[str, Any]], list[str]]
"""The results of a facet, and its names if it took too long."""


async def count_facets(
    requested: RequestedTable,
    filter_without: Callable[[Collection[str]], Filter | None],
    *,
    patient: bool = False,
    with_usual: bool = False,
) -> Facets:
    """
    All facets of a URL and of the configuration, side by side; if there are none, the usual ones if `with_usual`.
    Each may take facet_time_limit_ms, or as long as any query if `patient`. A facet counts all rows that the filter
    leaves without what is chosen in this facet, so that other values can be chosen too: `filter_without` is that
    filter without some of its column__lookups.

    Raises RequestError for a facet of a column that does not exist.
    """
    datasette, urls = requested.datasette, requested.urls
    request = _page_request(requested.request)
    configuration = await table_configuration(datasette, urls.database, urls.table)
    columns = await requested.database.table_columns(urls.table)
    wanted = _wanted(datasette, request, configuration, columns)
    are_chosen = bool(wanted) or not with_usual or not _takes_usual(requested)
    if not are_chosen:
        wanted = _usual(requested, columns)
        table = requested.table
        if "format" in columns and await read_bounded(
            requested.database, lambda conn: has_films(conn, table)
        ):
            wanted[KindFacet.type] = [_unnamed("format")]
    indexed: Collection[str] = ()
    if YearFacet.type in wanted:
        table = requested.table
        indexed = await read_bounded(requested.database, lambda conn: indexes_of_texts(conn, table))
    kinds = {kind.type: kind for kinds in pm.hook.register_facet_classes() for kind in kinds}
    facets = []
    asked = ((kind, config) for kind, configs in wanted.items() for config in configs)
    for kind, config in asked:
        if kind not in kinds:
            continue
        filter = filter_without(_chosen_by(kind, _column(config)))
        make = partial(
            _facet,
            _Patient(datasette) if patient else datasette,
            request,
            requested,
            filter,
            kinds[kind],
            configuration,
            columns,
            indexed,
            config,
        )
        facets.append(_Wanted(make, is_of_all=filter is None))
    if len(facets) > MOST_FACETS:
        raise RequestError(f"a page can have {MOST_FACETS} facets at most; remove some")
    if facets:
        links_of_each = facets[0].make().get_facet_size()
        try:
            check_repetition(
                request,
                len(facets) * links_of_each,
                f"{len(facets)} facets of {links_of_each:,} values",
            )
        except TooMuchRepeated:
            if are_chosen:
                raise
            # Nobody asked for them.
            facets = []
    sample = None
    if facets and requested.view is None:
        table = requested.table
        sample = await read_bounded(requested.database, lambda conn: sample_of(conn, table))
    counted = await asyncio.gather(*(_counted_or_estimated(each, sample) for each in facets))
    results: list[dict[str, Any]] = []
    timed_out: list[str] = []
    estimated: list[str] = []
    for each, too_long in counted:
        shown = [
            with_choice(_with_local_urls(facet, urls), urls, pairs_of(request))
            for facet in each
            if are_chosen or _tells_apart(facet)
        ]
        results += shown
        if not each:
            timed_out += too_long
        elif shown:
            estimated += too_long
    if are_chosen:
        results.sort(key=lambda facet: (-len(facet["results"]), facet["name"]))
    suggested = _suggested(datasette, request, urls, wanted, columns)
    if suggested and requested.view is None:
        names = [facet["name"] for facet in suggested]
        with suppress(sqlite3.Error):
            used = await read_bounded(
                requested.database, lambda conn: columns_with_values(conn, requested.name, names)
            )
            suggested = [facet for facet in suggested if facet["name"] in used]
    return Facets(tuple(results), tuple(timed_out), tuple(estimated), tuple(suggested), are_chosen)


def _page_request(request: Request) -> Request:
    """The request with the first page of results, which facets make their links from."""
    pairs = [
        (name, value)
        for name, value in replaced(pairs_of(request), **dict.fromkeys(PASSING))
        # Datasette 0.65 fails on other names that begin with _facet.
        if name == "_facet" or name.startswith("_facet_") or not name.startswith("_facet")
    ]
    query_string = urlencode(pairs).encode("ascii")
    return Request({**request.scope, "query_string": query_string}, request.receive)


def _wanted(
    datasette: Datasette, request: Request, configuration: dict[str, Any], columns: list[str]
) -> dict[str, list[dict[str, Any]]]:
    """Type of facet -> its configurations, from the URL and from the configuration."""
    if not datasette.setting("allow_facet"):
        if any(name.startswith("_facet") for name in request.args):
            raise RequestError("_facet= is not allowed on this server")
        return {}
    try:
        wanted = load_facet_configs(request, configuration)
        for kind, configs in wanted.items():
            if kind == "size":
                continue
            for config in configs:
                column = _column(config)
                if column not in columns:
                    raise RequestError(f"there is no column {column!r} to facet by")
    except (json.JSONDecodeError, RecursionError, LookupError, AttributeError) as error:
        raise RequestError(
            "a _facet in this URL must be a column, or JSON that names one"
        ) from error
    # A column is counted once, also if it is named several times or with more options.
    return {
        kind: list({_column(config): config for config in reversed(configs)}.values())[::-1]
        for kind, configs in wanted.items()
        if kind != "size"
    }


def _chosen_by(kind: str, column: str) -> tuple[str, ...]:
    """The filters, as column__lookup, that are what is chosen in a facet."""
    if kind == YearFacet.type:
        return f"{column}__gte", f"{column}__lt"
    if kind == KindFacet.type:
        return f"{column}__in", f"{column}__notin"
    if kind in WORDS:
        return (WORDS[kind],)
    return (f"{column}__exact", f"{column}__in") if kind == "column" else ()


def _takes_usual(requested: RequestedTable) -> bool:
    """Whether a table is one that embed-images made, and nobody wants it without facets."""
    datasette, args = requested.datasette, requested.request.args
    return (
        requested.table.path_column is not None
        and datasette.setting("allow_facet")
        and datasette.setting("suggest_facets")
        and "_nofacet" not in args
    )


def _usual(requested: RequestedTable, columns: list[str]) -> dict[str, list[dict[str, Any]]]:
    """As `_wanted`; they are those of no URL, so none has a link to hide it."""
    named = [
        *(pair for pair in SUGGESTED if pair[1] in columns),
        *((kind, requested.table.key) for kind in WORDS if requested.table.key in columns),
    ]
    wanted: dict[str, list[dict[str, Any]]] = {}
    for kind, column in named:
        wanted.setdefault(kind, []).append(_unnamed(column))
    return wanted


def _unnamed(column: str) -> dict[str, Any]:
    """The configuration of a facet that no URL names."""
    return {"source": "metadata", "config": {"simple": column}}


def _tells_apart(facet: dict[str, Any]) -> bool:
    """Whether a facet has several values, or one that is chosen. An album is worth a look also if it is the only one."""
    values = facet["results"]
    return len(values) > (facet["type"] != AlbumFacet.type) or any(
        value["selected"] for value in values
    )


def _column(config: dict[str, Any]) -> str:
    return config["config"].get("column") or config["config"]["simple"]


def _facet(
    datasette: Datasette,
    request: Request,
    requested: RequestedTable,
    filter: Filter | None,
    kind: type[Facet],
    configuration: dict[str, Any],
    columns: list[str],
    indexed: Collection[str],
    config: dict[str, Any],
    sample: Sample | None = None,
) -> Facet:
    column = _column(config)
    # With the key: some facets count distinct rows, as that of arrays does, or look rows up elsewhere.
    # Not with all columns, which takes three times as long.
    named = dict.fromkeys([requested.table.key, *map(str, config["config"].values())])
    names = [escape_sqlite(name) for name in named if name in columns]
    rows = quote_identifier(requested.name) if sample is None else sample.rows
    if filter is None:
        sql = f"select {', '.join(names)} from {rows}"
    else:
        # The plus keeps SQLite from reading the whole table in the order of this column in order to
        # group by it: it should use an index that serves the filter.
        unordered = ", ".join(f"+{name} as {name}" for name in names)
        sql = f"select {unordered} from {rows} where {filter.where}"
    facet = make_facet(
        kind,
        # A sample takes no longer than it takes.
        datasette if sample is None else _Patient(datasette),
        request,
        requested.database.name,
        sql=sql,
        table=requested.name,
        params=dict(filter.params) if filter else {},
        configuration=configuration,
    )
    # A Facet counts all columns of the URL one after the other. Ours counts one, so that facets run side by
    # side. Datasette has no other way to say so: it reads the columns from the query string, and makes the
    # links from that, too.
    facet.get_configs = lambda: [config]
    if isinstance(facet, YearFacet):
        facet.with_months = True
        is_whole = filter is None and sample is None and requested.view is None
        facet.column_is_indexed = is_whole and column in indexed
    return facet


async def _counted_or_estimated(wanted: _Wanted, sample: Sample | None) -> _Counted:
    facet = wanted.make()
    limit = facet.ds.setting("facet_time_limit_ms")
    if sample is None:
        return await _counted(facet)
    if not (wanted.is_of_all and sample.is_needed(limit)):
        counted = await _counted(facet)
        if not counted[1]:
            return counted
    return await _estimated(wanted.make(sample=sample), sample)


async def _estimated(facet: Facet, sample: Sample) -> _Counted:
    """The facet of a sample with its counts as those of all rows, without values of few; no results if there are no others."""
    results, too_long = await _counted(facet)
    estimated = []
    for each in results:
        values = [{**value, "count": sample.estimated(value["count"])} for value in each["results"]]
        months = {name: sample.estimated(n) for name, n in each.get("months", {}).items()}
        facet_of_many = {
            **each,
            "is_sample": True,
            "results": [value for value in values if value["count"] is not None],
        }
        if months:
            facet_of_many["months"] = {name: n for name, n in months.items() if n is not None}
        if facet_of_many["results"]:
            estimated.append(facet_of_many)
    return estimated, too_long or [each["name"] for each in results]


async def _counted(facet: Facet) -> _Counted:
    try:
        return await facet.facet_results()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise
        # For example _facet_array= of a column without JSON.
        raise RequestError(f"a {facet.type} facet cannot be counted: {error}") from error


class _Patient:
    """A Datasette that gives facets as long as any query: they ask it for their time limit."""

    def __init__(self, datasette: Datasette) -> None:
        self._datasette = datasette

    def __getattr__(self, name: str) -> Any:
        return getattr(self._datasette, name)

    def setting(self, name: str) -> Any:
        name = "sql_time_limit_ms" if name == "facet_time_limit_ms" else name
        return self._datasette.setting(name)


def _with_local_urls(facet: dict[str, Any], urls: TableUrls) -> dict[str, Any]:
    """
    Links to the page, also in its JSON. They have no host, which a proxy may have changed, and they have
    the base URL, which some of Datasette's lack.
    """

    def local(url: str) -> str:
        return urls.page(parse_qsl(urlsplit(url).query, keep_blank_values=True))

    return {
        **facet,
        "toggle_url": local(facet["toggle_url"]),
        "results": [
            {**value, "toggle_url": local(value["toggle_url"])} for value in facet["results"]
        ],
    }


def _suggested(
    datasette: Datasette,
    request: Request,
    urls: TableUrls,
    wanted: dict[str, list[dict[str, Any]]],
    columns: list[str],
) -> list[dict[str, Any]]:
    if not (datasette.setting("allow_facet") and datasette.setting("suggest_facets")):
        return []
    counted = {
        (kind, config["config"].get("simple"))
        for kind, configs in wanted.items()
        for config in configs
    }
    return [
        {
            "name": column,
            "type": None if kind == "column" else kind,
            "toggle_url": urls.page(
                [
                    *pairs_of(request),
                    ("_facet" if kind == "column" else f"_facet_{kind}", column),
                ]
            ),
        }
        for kind, column in SUGGESTED
        if column in columns and (kind, column) not in counted
    ]
