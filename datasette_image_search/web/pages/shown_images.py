"""Images as pages show them, with their rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ... import store
from ...search.hits import Hit
from ...store import reads
from ...store.reads import image_rows
from ...store.text_search import TextMatch
from ...store.views import view_rows
from ..access.requested_table import RequestedTable
from .timed_reads import in_time

LARGEST_VALUE = 1_000_000
"""Characters or bytes of a value in an image's row; larger values are left out."""


@dataclass(frozen=True)
class ShownImage:
    """
    An image as a page shows it, with its row. `score` is None without a query or a vector, `relevance` if nothing is
    known to compare with, and `version` if nothing is known of the picture. `matched` are the words of the query that are
    written about it, and `at` the seconds of the best scene of a film.
    """

    id: store.Key
    row: dict[str, Any]
    score: float | None
    version: str | None
    relevance: float | None = None
    matched: tuple[TextMatch, ...] = ()
    is_match: bool = False
    at: float | None = None


async def shown_image(requested: RequestedTable, image_id: store.Key) -> ShownImage | None:
    """One image, of the view if the URL names one; None if it is not there."""
    shown = await in_time(requested, lambda conn: shown_images(conn, requested, [image_id], {}))
    return shown[0] if shown else None


def shown_images(
    conn: sqlite3.Connection,
    requested: RequestedTable,
    ids: list[store.Key],
    hits: Mapping[store.Key, Hit],
) -> tuple[ShownImage, ...]:
    """Rows without the column of BLOBs, which are the pictures themselves."""
    if requested.view is not None:
        rows = view_rows(conn, requested.view, ids)
    else:
        without = requested.index.content_column
        rows = image_rows(conn, requested.table, ids, without=without, largest=LARGEST_VALUE)
    versions = reads.versions(conn, requested.table, ids)
    shown = []
    for id in ids:
        if id in rows:
            image = ShownImage(id, rows[id], None, versions.get(id))
            if (hit := hits.get(id)) is not None:
                image = replace(
                    image,
                    score=hit.score,
                    relevance=hit.relevance,
                    matched=hit.matched,
                    is_match=hit.is_match,
                    at=hit.at,
                )
            shown.append(image)
    return tuple(shown)
