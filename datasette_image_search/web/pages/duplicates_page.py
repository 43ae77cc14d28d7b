"""
The near-duplicates of an image table, side by side, to choose what may go. Nothing is deleted: a choice ends in a
list of paths, or in the same images on the search page.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasette.app import Datasette
from datasette.utils.asgi import Request, Response

from ...errors import ImageSearchError, counted
from ...search.duplicates import Duplicate
from ...store import Key
from ...store.tables import ROOTS
from ..access.requested_table import RequestedTable, requested_table
from ..access.visits import visitor_sees
from ..among import MOST as MOST_AMONG
from ..among import among_value
from ..server.comparing import Comparison, compared
from ..server.preparing import TooBusy
from ..server.threads import RETRY_AFTER
from ..urls import AMONG, RequestError, check_url, pairs_of, replaced, whole_number
from .duplicate_groups import (
    READ_AT_ONCE,
    SUGGESTIONS,
    Group,
    Member,
    per_cent,
    read_groups,
    shown_group,
)
from .responses import error_response, text_response
from .search_page import shows_originals, table_context

THRESHOLDS = ("1", "0.99", "0.98", "0.97", "0.95", "0.93", "0.9", "0.85")
"""A few, because each takes as long as all pairs."""

USUAL = "0.95"

GROUPS = 20
"""On a page."""

MOST_MEMBERS = 600
"""On a page."""

PATIENCE = 1.0
"""Seconds before the page says how far the comparison is."""

DROPPED = "drop"
"""The parameter with the key of an image that may go."""

ALL = "_all"
"""The parameter for all that is not kept by the suggestion."""

SHOW = "_show"
"""The button that shows what was ticked on the search page."""

COLUMNS = ("group", "id", "path", "score", "exact", "kept")


@dataclass(frozen=True)
class Dropped:
    """A line of a list: an image that may go, without its row, and the path of the one that stays."""

    group: int
    member: Member
    path: str
    kept_path: str


async def duplicates_page(datasette: Datasette, request: Request) -> Response:
    """/-/image-search/DATABASE/TABLE/duplicates, .txt and .csv"""
    check_url(request)
    requested = await requested_table(datasette, request)
    format = request.url_vars.get("format")
    try:
        if requested.view is not None:
            raise RequestError(f"duplicates are of the whole table {requested.table.name!r}")
        threshold = _chosen(request, "_threshold", THRESHOLDS, USUAL)
        keep = _chosen(request, "_keep", tuple(SUGGESTIONS), "best")
        is_list = format is not None or SHOW in request.args
        comparison = await compared(requested, float(threshold), None if is_list else PATIENCE)
        if comparison.groups is None:
            return await _comparing(requested, comparison)
        if is_list:
            groups = comparison.groups.groups
            return await _list(requested, groups, keep, float(threshold), format)
        return await _html(requested, comparison, threshold, keep)
    except ImageSearchError as problem:
        status = 503 if isinstance(problem, TooBusy) else 400
        if format is not None:
            return error_response(datasette, str(problem), status)
        again = RETRY_AFTER if status == 503 else None
        return await _rendered(requested, {"error": str(problem), "refresh": again}, status)


def _chosen(request: Request, name: str, choices: Sequence[str], usual: str) -> str:
    value = request.args.get(name) or usual
    if value not in choices:
        raise RequestError(f"{name} must be one of {', '.join(choices)}")
    return value


async def _html(
    requested: RequestedTable, comparison: Comparison, threshold: str, keep: str
) -> Response:
    request, urls = requested.request, requested.urls
    assert comparison.groups is not None
    groups = comparison.groups.groups
    offset = whole_number(request.args.get("_next") or "0")
    if offset is None:
        raise RequestError("_next must be a whole number")
    offset = min(offset, len(groups))
    end = _page_end(groups, offset)
    numbered = list(enumerate(groups[offset:end], start=offset + 1))
    with_root = await _sees_roots(requested)
    shown = [
        shown_group(requested, group, with_root=with_root)
        for group in await read_groups(requested, numbered, keep, float(threshold))
    ]
    pairs = replaced(pairs_of(request), _next=None, **{DROPPED: None})
    images = sum(map(len, groups))
    context = {
        "threshold": threshold,
        "thresholds": {each: _threshold_in_words(each) for each in THRESHOLDS},
        "keep": keep,
        "suggestions": {name: words for name, (words, _) in SUGGESTIONS.items()},
        "description": f"{images:,} of {counted(comparison.groups.images, 'image')} are alike, in "
        f"{counted(len(groups), 'group')}",
        "is_chained": comparison.groups.chained > comparison.groups.images / 2,
        "groups": shown,
        "numbers": (offset + 1, end),
        "next_url": urls.duplicates(replaced(pairs, _next=end)) if end < len(groups) else None,
        "previous_url": urls.duplicates(replaced(pairs, _next=_page_before(groups, offset) or None))
        if offset
        else None,
        "all_text_url": urls.duplicates([*pairs, (ALL, "1")], "txt"),
        "all_csv_url": urls.duplicates([*pairs, (ALL, "1")], "csv"),
        "dropped": DROPPED,
        "show": SHOW,
        "originals": shows_originals(requested),
    }
    return await _rendered(requested, context)


def _page_end(groups: Sequence[Sequence[Duplicate]], offset: int) -> int:
    """The offset of the page after the one that begins at `offset`."""
    end, members = offset, 0
    while end < min(len(groups), offset + GROUPS) and members < MOST_MEMBERS:
        members += len(groups[end])
        end += 1
    return end


def _page_before(groups: Sequence[Sequence[Duplicate]], offset: int) -> int:
    """The offset of the page that ends before `offset`."""
    start, members = offset - 1, 0
    while start > max(offset - GROUPS, 0) and members + len(groups[start - 1]) < MOST_MEMBERS:
        start -= 1
        members += len(groups[start])
    return start


async def _rendered(
    requested: RequestedTable, context: dict[str, Any], status: int = 200
) -> Response:
    urls = requested.urls
    links = {
        "page_url": urls.duplicates(),
        "text_url": urls.duplicates(format="txt"),
        "csv_url": urls.duplicates(format="csv"),
        "search_url": urls.page(),
    }
    html = await requested.datasette.render_template(
        "image_search_duplicates.html",
        {**await table_context(requested), **links, **context},
        request=requested.request,
    )
    return Response.html(html, status=status)


async def _comparing(requested: RequestedTable, comparison: Comparison) -> Response:
    """The page asks again each second."""
    context = {"comparing": True, "refresh": 1, "done": comparison.done, "total": comparison.total}
    response = await _rendered(requested, context, 202)
    response.headers["cache-control"] = "no-store"
    return response


def _threshold_in_words(threshold: str) -> str:
    score = float(threshold)
    if score == 1:
        return "exact copies"
    return f"{'nearly the same' if score >= 0.95 else 'similar'}, {per_cent(score)} %"


async def _sees_roots(requested: RequestedTable) -> bool:
    """The folders that paths are below are in a table of their own, which may be hidden from this actor."""
    return await visitor_sees(requested.datasette, requested.database.name, ROOTS)


async def _list(
    requested: RequestedTable,
    groups: Sequence[Sequence[Duplicate]],
    keep: str,
    threshold: float,
    format: str | None,
) -> Response:
    """What was ticked, or all but what the suggestion keeps."""
    request = requested.request
    numbered = list(enumerate(groups, start=1))
    chosen: set[Key] | None = None
    if ALL not in request.args:
        keys = map(requested.table.parse_key, request.args.getlist(DROPPED))
        chosen = {key for key in keys if key is not None}
        if not chosen:
            raise RequestError("nothing is ticked; tick what may go")
        numbered = [
            (number, group)
            for number, group in numbered
            if any(each.image.image_id in chosen for each in group)
        ]
    with_root = await _sees_roots(requested)
    dropped: list[Dropped] = []
    for part in _parts(numbered):
        read = await read_groups(requested, part, keep, threshold, chosen or ())
        dropped += await asyncio.to_thread(_dropped, read, chosen, with_root=with_root)
    if chosen is not None and len(dropped) < len(chosen):
        raise RequestError(
            f"{len(chosen) - len(dropped):,} of {counted(len(chosen), 'image')} that were ticked are in no group "
            "any more; look at the page again"
        )
    if format is None:
        ids = [each.member.id for each in dropped]
        if not ids:
            raise RequestError("no group has an image to drop; choose a lower number or tick some")
        if len(ids) > MOST_AMONG:
            raise RequestError(f"a link can name {MOST_AMONG:,} images; take the list of paths")
        return Response.redirect(requested.urls.page([(AMONG, among_value(ids))]))
    text = io.StringIO()
    if format == "txt":
        # A name with a line break would be two other paths.
        paths = (each.path for each in dropped if len(each.path.splitlines()) == 1)
        text.writelines(f"{path}\n" for path in paths)
    else:
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        for each in dropped:
            score, exact = each.member.duplicate.score, int(each.member.duplicate.exact)
            writer.writerow([each.group, each.member.id, each.path, score, exact, each.kept_path])
    return text_response(requested, text.getvalue(), f"duplicates.{format}")


def _parts(
    numbered: Sequence[tuple[int, Sequence[Duplicate]]],
) -> Iterator[list[tuple[int, Sequence[Duplicate]]]]:
    """Groups of about READ_AT_ONCE images, or one that is larger."""
    part: list[tuple[int, Sequence[Duplicate]]] = []
    members = 0
    for number, group in numbered:
        part.append((number, group))
        members += len(group)
        if members >= READ_AT_ONCE:
            yield part
            part, members = [], 0
    yield part


def _dropped(
    groups: Sequence[Group], chosen: Collection[Key] | None, *, with_root: bool
) -> list[Dropped]:
    """What was chosen of some groups, or what is suggested. Raises RequestError if a group would keep no image."""
    dropped = []
    for group in groups:
        if chosen is not None and group.kept.id in chosen:
            raise RequestError(f"group {group.number} would keep no image; untick one of it")
        kept_path = group.kept.path(with_root=with_root)
        for each in group.members:
            if each.suggested if chosen is None else each.id in chosen:
                path = each.path(with_root=with_root)
                dropped.append(Dropped(group.number, replace(each, row={}), path, kept_path))
    return dropped
