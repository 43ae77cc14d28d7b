"""The facets of a search page as its template shows them: titles in words, the first values, a histogram of years."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..access.requested_table import RequestedTable
from ..facets.counting import Facets
from ..facets.words import KeywordFacet, TagFacet
from ..facets.years import YearFacet
from ..urls import Pairs, TableUrls, replaced
from .periods import span_of

FIRST = 10
"""Values that are shown; the rest opens with "more"."""

MOST_BARS = 120
"""Years or months of a histogram, from the latest."""

TITLES = {
    "folder": "Folder",
    "camera_model": "Camera",
    "country": "Country",
    "city": "City",
    "taken_at": "Year",
}
"""Of columns of our own tables."""

TITLES_OF_KINDS = {KeywordFacet.type: "Keywords", TagFacet.type: "Tags"}


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


def facet_boxes(requested: RequestedTable, facets: Facets, pairs: Pairs) -> list[FacetBox]:
    """Those that have values; `pairs` are the query string without the page number."""
    pairs = list(pairs)
    is_ours = requested.table.path_column is not None
    return [
        _box(requested.urls, facet, pairs, is_ours) for facet in facets.results if facet["results"]
    ]


def _box(
    urls: TableUrls, facet: dict[str, Any], pairs: list[tuple[str, str]], is_ours: bool
) -> FacetBox:
    name, values = facet["name"], facet["results"]
    title = TITLES_OF_KINDS.get(facet["type"]) or (TITLES.get(name) if is_ours else None)
    counts: list[dict[str, int]] = []
    if facet["type"] == YearFacet.type:
        counts = [{value["value"]: value["count"] for value in values}, facet.get("months") or {}]
    drawn = (tuple(_bars(urls, name, each, pairs)) for each in counts)
    histograms = [bars for bars in drawn if bars]
    can_grow = facet["truncated"] and ("_facet_size", "max") not in pairs
    return FacetBox(
        id=name,
        title=title or (name if facet["type"] == "column" else f"{name} ({facet['type']})"),
        # The histogram says the same.
        first=() if histograms else tuple(values[:FIRST]),
        more=tuple(values) if histograms else tuple(values[FIRST:]),
        hide_url=facet["toggle_url"] if facet["hideable"] else None,
        all_url=urls.page(replaced(pairs, _facet_size="max")) if can_grow else None,
        histograms=tuple(histograms),
        column=name,
    )


def _bars(
    urls: TableUrls, column: str, counts: dict[str, int], pairs: list[tuple[str, str]]
) -> Iterable[Bar]:
    """`counts` are of years such as "2021", or of months such as "2021-05"; one without images is a gap."""
    spans = [span for written in counts if (span := span_of(written)) is not None]
    if len(spans) < 2:
        return
    following, last = dict(spans), max(begin for begin, _ in spans)
    begins = [min(begin for begin, _ in spans)]
    while begins[-1] < last and len(begins) < 10_000:
        end = following.get(begins[-1]) or span_of(begins[-1])[1]  # type: ignore[index]
        begins.append(end)
    begins = begins[-MOST_BARS:]
    highest = max(counts.values())
    chosen = dict(pairs)
    chosen_begin, chosen_end = chosen.get(f"{column}__gte"), chosen.get(f"{column}__lt")
    for position, begin in enumerate(begins):
        count = counts.get(begin, 0)
        span = span_of(begin)
        if count == 0 or span is None:
            continue
        limits = {f"{column}__gte": span[0], f"{column}__lt": span[1]}
        is_all = (chosen_begin, chosen_end) == span
        is_chosen = is_all or bool(
            chosen_begin and chosen_end and chosen_begin <= span[0] and span[1] <= chosen_end
        )
        height = max(100 * count / highest, 4)
        yield Bar(
            label=begin,
            count=count,
            left=100 * position / len(begins),
            width=100 / len(begins),
            top=100 - height,
            height=height,
            begin=span[0],
            end=span[1],
            url=urls.page(replaced(pairs, **(dict.fromkeys(limits) if is_all else limits))),
            is_chosen=is_chosen,
        )
