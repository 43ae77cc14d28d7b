"""An image as the grid of `_image_grid.html` shows it, and the addresses that lead to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from datasette.app import Datasette
from datasette.utils import tilde_encode

from ..search.query import image_term
from ..store import Key


@dataclass(frozen=True)
class Card:
    """`width` and `height` give the shape of the picture, in pixels of the original or any others."""

    id: Key
    name: str
    score: float | None
    width: int
    height: int
    row_url: str
    thumbnail_url: str
    similar_url: str


def image_card(
    datasette: Datasette,
    database: str,
    table: str,
    key: Key,
    row: Mapping[str, Any],
    score: float | None = None,
) -> Card:
    """`row` may have `path`, `width` and `height`; a person's own table need not."""
    return Card(
        id=key,
        name=str(row.get("path") or key),
        score=score,
        width=row.get("width") or 1,
        height=row.get("height") or 1,
        row_url=datasette.urls.row(database, table, tilde_encode(str(key))),
        thumbnail_url=thumbnail_url(datasette, database, table, key),
        similar_url=search_url(datasette, database, table, q=image_term(key)),
    )


def search_url(datasette: Datasette, database: str, table: str, **arguments: str) -> str:
    """The search page of an image table."""
    path = f"/-/image-search/{tilde_encode(database)}/{tilde_encode(table)}"
    return datasette.urls.path(path) + (f"?{urlencode(arguments)}" if arguments else "")


def thumbnail_url(datasette: Datasette, database: str, table: str, key: Key) -> str:
    return f"{search_url(datasette, database, table)}/{tilde_encode(str(key))}/thumbnail"
