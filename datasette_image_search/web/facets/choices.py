"""The links of a facet whose values can be chosen together: this year and that range, this camera or that one."""

from __future__ import annotations

import json
from typing import Any

from ..urls import TableUrls, replaced
from .years import YearFacet, limits_of_year

Pairs = list[tuple[str, str]]


def with_choice(facet: dict[str, Any], urls: TableUrls, pairs: Pairs) -> dict[str, Any]:
    """
    A facet of the search page whose values say whether they are chosen by `pairs`, the query string, and whose links
    choose one more or one less.
    """
    if facet["type"] == "column":
        return _of_column(facet, urls, pairs)
    return _of_years(facet, urls, pairs) if facet["type"] == YearFacet.type else facet


def _of_column(facet: dict[str, Any], urls: TableUrls, pairs: Pairs) -> dict[str, Any]:
    column = facet["name"]
    names = {column, f"{column}__exact", f"{column}__in"}
    chosen: list[str] = []
    for name, value in pairs:
        if name == f"{column}__in":
            chosen += listed(value)
        elif name in names:
            chosen.append(value)
    others = [pair for pair in pairs if pair[0] not in names]

    def url(values: list[str]) -> str:
        if not values:
            return urls.page(others)
        if len(values) > 1:
            return urls.page([*others, (f"{column}__in", json.dumps(values, ensure_ascii=False))])
        # A name that begins with _ needs a lookup to be one of a column, as Datasette has it, and q is the query.
        needs_lookup = column == "q" or column.startswith("_") or "__" in column
        name = f"{column}__exact" if needs_lookup else column
        return urls.page([*others, (name, values[0])])

    results = []
    for value in facet["results"]:
        text = str(value["value"])
        is_chosen = text in chosen
        values = [each for each in chosen if each != text] if is_chosen else [*chosen, text]
        results.append({**value, "selected": is_chosen, "toggle_url": url(values)})
    return {**facet, "results": results}


def listed(value: str) -> list[str]:
    """The values of a filter column__in, as Datasette reads it."""
    if not value.startswith("["):
        return [each.strip() for each in value.split(",")]
    try:
        return [str(each) for each in json.loads(value)]
    except (ValueError, RecursionError):
        return []


def _of_years(facet: dict[str, Any], urls: TableUrls, pairs: Pairs) -> dict[str, Any]:
    results = []
    for value in facet["results"]:
        limits = limits_of_year(facet["name"], int(value["value"]))
        is_chosen = all(limit in pairs for limit in limits.items())
        changed = dict.fromkeys(limits) if is_chosen else limits
        url = urls.page(replaced(pairs, **changed))
        results.append({**value, "selected": is_chosen, "toggle_url": url})
    return {**facet, "results": results}
