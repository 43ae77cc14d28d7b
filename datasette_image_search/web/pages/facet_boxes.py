"""The facets of a search page as its template shows them: titles in words, the first values, a histogram of years."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..access.requested_table import RequestedTable
from ..facets.counting import WORDS, Facets
from ..facets.kinds import KindFacet
from ..facets.words import AlbumFacet, KeywordFacet, TagFacet
from ..facets.years import YearFacet
from ..urls import Pairs, TableUrls, replaced
from .periods import span_of
from .titles import COLUMNS

FIRST = 10
"""Values that are shown; the rest opens with "more"."""

MOST_BARS = 60
"""Years or months of a histogram, gaps included; of more, the latest without gaps."""

TITLES = {
    **{column: COLUMNS[column] for column in ("folder", "camera_model", "country", "city")},
    "taken_at": "Year",
}
"""Of columns of our own tables."""

TITLES_OF_KINDS = {
    KindFacet.type: "Kind",
    KeywordFacet.type: "Keywords",
    TagFacet.type: "Tags",
    AlbumFacet.type: "Albums",
}


@dataclass(frozen=True)
class Bar:
    """
    A year or a month: `left`, `width`, `top` and `height` are parts of the whole, 0 to 100. `begin` and `end` are the
    limits of its filter. `url` is the search in it, or without it if it is all that is chosen.
    """

    label: str
    count: int
    left: float
    width: float
    top: float
    height: float
    begin: str
    end: str
    url: str
    is_chosen: bool


@dataclass(frozen=True)
class FacetBox:
    """
    `first` and `more` are values of Datasette's facets. `hide_url` is None for a facet that no URL names, `all_url`
    unless there are more values than were counted.
    """

    id: str
    title: str
    first: tuple[dict[str, Any], ...]
    more: tuple[dict[str, Any], ...]
    hide_url: str | None
    all_url: str | None
    histograms: tuple[tuple[Bar, ...], ...] = ()
    column: str = ""
    is_estimated: bool = False


def facet_boxes(requested: RequestedTable, facets: Facets, pairs: Pairs) -> list[FacetBox]:
    """Those that have values; `pairs` are the query string without the page number."""
    pairs = list(pairs)
    return [
        _box(requested, facet, pairs, is_asked_for=facets.are_chosen)
        for facet in facets.results
        if facet["results"]
    ]


def _box(
    requested: RequestedTable,
    facet: dict[str, Any],
    pairs: list[tuple[str, str]],
    *,
    is_asked_for: bool,
) -> FacetBox:
    urls = requested.urls
    # Also those that are chosen have a place among the first.
    name, values = facet["name"], sorted(facet["results"], key=lambda value: not value["selected"])
    # The paths of an image table are below its roots.
    is_ours = requested.table.path_column is not None
    title = TITLES_OF_KINDS.get(facet["type"]) or (TITLES.get(name) if is_ours else None)
    counts: list[dict[str, int]] = []
    if facet["type"] == YearFacet.type:
        counts = [{value["value"]: value["count"] for value in values}, facet.get("months") or {}]
    drawn = (tuple(_bars(urls, name, each, pairs)) for each in counts)
    histograms = [bars for bars in drawn if bars]
    column = requested.table.key if facet["type"] in WORDS else name
    can_grow = facet["truncated"] and ("_facet_size", "max") not in pairs
    return FacetBox(
        id=name,
        title=title or (name if facet["type"] == "column" else f"{name} ({facet['type']})"),
        # The histogram says the same.
        first=() if histograms else tuple(values[:FIRST]),
        more=tuple(values) if histograms else tuple(values[FIRST:]),
        hide_url=facet["toggle_url"] if facet["hideable"] else None,
        all_url=urls.page(_with_all(facet["type"], column, pairs, is_asked_for))
        if can_grow
        else None,
        histograms=tuple(histograms),
        column=name,
        is_estimated="is_sample" in facet,
    )


def _with_all(kind: str, column: str, pairs: Pairs, is_asked_for: bool) -> Pairs:
    """The query string with all values of a facet. One that nobody asked for is then the only one."""
    changed = replaced(pairs, _facet_size="max")
    if is_asked_for:
        return changed
    return [*changed, ("_facet" if kind == "column" else f"_facet_{kind}", column)]


def _bars(
    urls: TableUrls, column: str, counts: dict[str, int], pairs: list[tuple[str, str]]
) -> Iterable[Bar]:
    """
    `counts` are of years such as "2021", or of months such as "2021-05". Those without images are gaps, unless a date
    that is far away would leave no room for the others.
    """
    known = sorted(written for written, count in counts.items() if count and span_of(written))
    if len(known) < 2:
        return
    numbers = [_number_of(written) for written in known]
    places = [number - numbers[0] for number in numbers]
    if places[-1] >= MOST_BARS:
        known = known[-MOST_BARS:]
        places = list(range(len(known)))
    width = 100 / (places[-1] + 1)
    highest = max(counts[written] for written in known)
    chosen = dict(pairs)
    chosen_begin, chosen_end = chosen.get(f"{column}__gte"), chosen.get(f"{column}__lt")
    for place, written in zip(places, known, strict=True):
        begin, end = span_of(written) or ("", "")
        is_all = (chosen_begin, chosen_end) == (begin, end)
        is_chosen = is_all or bool(
            chosen_begin and chosen_end and chosen_begin <= begin and end <= chosen_end
        )
        limits = {f"{column}__gte": begin, f"{column}__lt": end}
        height = max(100 * counts[written] / highest, 4)
        yield Bar(
            label=written,
            count=counts[written],
            left=width * place,
            width=width,
            top=100 - height,
            height=height,
            begin=begin,
            end=end,
            url=urls.page(replaced(pairs, **(dict.fromkeys(limits) if is_all else limits))),
            is_chosen=is_chosen,
        )


def _number_of(written: str) -> int:
    """Of a year, or of a month, among all."""
    year, *month = map(int, written.split("-"))
    return 12 * year + month[0] if month else year
