"""A check that a new index has all images of the ones that it replaces."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from ..embedders.reference_queries import everyday_queries
from ..store import Index, Key
from ..store.reads import locations
from ..store.references import read_references
from ..store.replacements import images_to_lose
from ..store.tags import count_tags
from .model_choice import ModelChoice


@dataclass(frozen=True)
class Replacement:
    """
    An index that replaces those by some models, which are searched until it `is_in_use`. `left_out`
    images have a vector only in the old ones; `example` is the path of one. `tags` were made by the old
    vectors, and go with them, as do `references`, so many reference queries that may be a person's own.
    """

    models: tuple[str, ...]
    left_out: int
    example: str
    tags: int = 0
    references: int = 0
    is_in_use: bool = False


def replacement_by(
    conn: sqlite3.Connection,
    choice: ModelChoice,
    covered: Collection[Key | None] = (),
    index: Index | None = None,
) -> Replacement:
    """The state of the replacement of `choice`, with images that count as `covered` in any case."""
    replaced = choice.replaced
    left_out = []
    if replaced:
        lost = images_to_lose(conn, replaced, index or choice.index)
        left_out = [key for key in lost if key not in covered]
    places = locations(conn, replaced[0], left_out[:1]) if left_out else {}
    example = next((place.path for place in places.values()), "")
    tags = count_tags(conn, replaced)
    models = tuple(old.model for old in replaced)
    return Replacement(models, len(left_out), example, tags, _own_references(conn, replaced))


def _own_references(conn: sqlite3.Connection, replaced: Collection[Index]) -> int:
    """As their words are not kept, only their number tells them from those of all."""
    found = [read_references(conn, old) for old in replaced]
    counts = [len(references.vectors) for references in found if references is not None]
    return sum(count for count in counts if count != len(everyday_queries()))
