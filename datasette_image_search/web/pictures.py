"""A picture as the page and the JSON show it: its name, when it was taken, and where its links go."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ..search.query import Kind, Term, format_query, image_term, parse_query
from ..store import Key
from .access import ViewedTable
from .results import Picture
from .urls import Links, Pairs

LANDSCAPE = (4, 3)
"""For a row that does not tell its width and height."""

LONGEST_LABEL = 40
"""Characters of a term; a vec: has thousands."""


@dataclass(frozen=True)
class Card:
    """`more_url` and `less_url` add the picture to the query or take it away, and keep the rest."""

    id: Key
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
        id=picture.id,
        name=str(row.get("filename") or PurePosixPath(path).name or path),
        path=path,
        taken_at=str(row.get("taken_at") or "")[:16].replace("T", " "),
        score=picture.score,
        width=width,
        height=height,
        row_url=links.row(picture.id),
        thumbnail_url=links.thumbnail(picture.id),
        original_url=links.original(picture.id),
        more_url=links.page([("q", f"{query} + {term}" if query else term), *kept]),
        less_url=links.page([("q", f"{query} - {term}"), *kept]) if query else None,
    )


def _size(row: dict[str, Any]) -> tuple[int, int]:
    width, height = row.get("width"), row.get("height")
    if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
        return width, height
    return LANDSCAPE


def chips(viewed: ViewedTable, links: Links, query: str, kept: Pairs) -> list[Chip]:
    """The terms of a query that can be searched for."""
    terms = parse_query(query)
    return [
        _chip(viewed, links, term, terms[:position] + terms[position + 1 :], kept)
        for position, term in enumerate(terms)
    ]


def _chip(
    viewed: ViewedTable, links: Links, term: Term, others: tuple[Term, ...], kept: Pairs
) -> Chip:
    image_id = viewed.table.parse_key(term.text) if term.kind is Kind.IMAGE else None
    pairs = [("q", format_query(others)), *kept] if others else kept
    weight = "" if abs(term.weight) == 1 else f"{abs(term.weight):g}:"
    label = "a picture" if term.kind is Kind.VECTOR else shortened(term.text)
    return Chip(
        is_subtracted=term.weight < 0,
        label=weight + ("#" if term.kind is Kind.IMAGE else "") + label,
        thumbnail_url=None if image_id is None else links.thumbnail(image_id),
        without_url=links.page(pairs),
    )


def query_in_words(query: str) -> str:
    """A query as a heading says it: a vector is a picture that somebody brought."""
    words = _VECTOR.sub("your picture", query)
    return words if words == "your picture" else f'"{shortened(words)}"'


_VECTOR = re.compile(r"vec:[\w-]+")


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"
