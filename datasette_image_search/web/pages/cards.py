"""A picture as the page and the JSON show it: its name, when it was taken, and where its links go."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ... import store
from ...search.query import Kind, Term, format_query, image_term, parse_query
from ...store import Key
from ..access.requested_table import ViewedTable
from ..reading import read_bounded
from ..urls import Links, Pairs
from .results import Picture

LANDSCAPE = (4, 3)
"""For a row that does not tell its width and height."""

LONGEST_LABEL = 40
"""Characters of a term; a vec: has thousands."""


@dataclass(frozen=True)
class Card:
    """
    `term` is the picture in a query; `more_url` and `less_url` add it to this one or take it away, and
    keep the rest.
    """

    term: str
    name: str
    path: str
    taken_at: str
    score: float | None
    width: int
    height: int
    row_url: str
    thumbnail_url: str
    original_url: str
    more_url: str
    less_url: str | None


@dataclass(frozen=True)
class Chip:
    """A term of the query as the page shows it; `without_url` is the search without it."""

    is_subtracted: bool
    label: str
    thumbnail_url: str | None
    without_url: str


def image_card(
    links: Links,
    picture: Picture,
    path_column: str | None = None,
    *,
    query: str = "",
    kept: Pairs = (),
) -> Card:
    """
    `path_column` is where a person's own table has the path. `kept` is the query string of the
    search page, but for the query and what page it is.
    """
    row, term = picture.row, image_term(picture.id)
    path = str(row.get(path_column or "path") or picture.id)
    width, height = _size(row)
    return Card(
        term=term,
        name=str(row.get("filename") or PurePosixPath(path).name or path),
        path=path,
        taken_at=str(row.get("taken_at") or "")[:16].replace("T", " "),
        score=picture.score,
        width=width,
        height=height,
        row_url=links.row(picture.id),
        thumbnail_url=links.thumbnail(picture.id, picture.version),
        original_url=links.original(picture.id),
        more_url=links.page([("q", f"{query} + {term}" if query else term), *kept]),
        less_url=links.page([("q", f"{query} - {term}"), *kept]) if query else None,
    )


def _size(row: dict[str, Any]) -> tuple[int, int]:
    width, height = row.get("width"), row.get("height")
    if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
        return width, height
    return LANDSCAPE


async def chips(viewed: ViewedTable, links: Links, query: str, kept: Pairs) -> list[Chip]:
    """The terms of a query that can be searched for."""
    terms = parse_query(query)
    ids = [id for term in terms if (id := _image_of(viewed, term)) is not None]
    versions: dict[Key, str | None] = {}
    if ids:
        versions = await read_bounded(
            viewed.database, lambda conn: store.versions(conn, viewed.table, ids)
        )
    return [
        _chip(viewed, links, term, terms[:position] + terms[position + 1 :], versions, kept)
        for position, term in enumerate(terms)
    ]


def _image_of(viewed: ViewedTable, term: Term) -> Key | None:
    return viewed.table.parse_key(term.text) if term.kind is Kind.IMAGE else None


def _chip(
    viewed: ViewedTable,
    links: Links,
    term: Term,
    others: tuple[Term, ...],
    versions: Mapping[Key, str | None],
    kept: Pairs,
) -> Chip:
    image_id = _image_of(viewed, term)
    pairs = [("q", format_query(others)), *kept] if others else kept
    weight = "" if abs(term.weight) == 1 else f"{abs(term.weight):g}:"
    labels = {Kind.VECTOR: "a picture", Kind.IMAGE: image_term(term.text), Kind.WORDS: term.text}
    return Chip(
        is_subtracted=term.weight < 0,
        label=weight + shortened(labels[term.kind]),
        thumbnail_url=None
        if image_id is None
        else links.thumbnail(image_id, versions.get(image_id)),
        without_url=links.page(pairs),
    )


def query_in_words(query: str) -> str:
    """A query as a heading says it: a vector is a picture that somebody brought."""
    words = _VECTOR.sub("your picture", query)
    return words if words == "your picture" else f'"{shortened(words)}"'


_VECTOR = re.compile(r"vec:[\w-]+")


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"
