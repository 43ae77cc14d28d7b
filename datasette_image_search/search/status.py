"""The status of an index: its size, how it is searched, its problems and what to do about them."""

from __future__ import annotations

import sqlite3
from typing import Any

from .. import store
from ..store import Index
from ..store.ownership import has_triggers
from ..store.reads import count_images
from ..store.replacements import unfinished_index
from ..store.vectors import count_with_vector
from .freshness import live_index
from .indexing import TOLERATED_CHANGE
from .live import LiveIndex
from .text_towers import tower_problem


def status(conn: sqlite3.Connection, table: str | None = None) -> dict[str, Any]:
    """
    The status for JSON. `problem` is None if all is well. Raises ImageSearchError if nothing can be
    searched.
    """
    index = store.find_index(conn, table)
    live = live_index(conn, index)
    unfinished = unfinished_index(conn, index.image_table)
    with store.snapshot(conn):
        images = count_images(conn, index.table)
        vectors = count_with_vector(conn, index, unusable=live.unusable().tolist())
        problems = _problems(index, unfinished, live, images, vectors)
        if index.content_column is not None and not has_triggers(conn, index.table):
            problems.append(
                f"triggers of {index.image_table!r} are missing, so images whose BLOB was replaced by one of "
                "the same length are found by the former one; check all BLOBs with sqlite-utils embed-images"
            )
    return {
        "table": index.image_table,
        "model": index.model,
        "dimensions": index.dimensions,
        "images": images,
        "vectors": vectors,
        "search": _search(live),
        "engine": live.segments[0].engine_name,
        "stored_vectors": not index.engine_only,
        "sidecar": "in use" if live.from_sidecar else "not in use",
        "newer_than_sidecar": live.newer,
        "problem": "; ".join(problems) or None,
    }


def _search(live: LiveIndex) -> str:
    tuning = live.tuning
    if tuning is None:
        return "exact"
    return (
        f"{tuning.factory} {tuning.parameters}, {tuning}; exact under filters and beyond the best "
        f"{tuning.deepest:,}"
    )


def _problems(
    index: Index, unfinished: Index | None, live: LiveIndex, images: int, vectors: int
) -> list[str]:
    problems = []
    unusable = tower_problem(index)
    if unusable is not None:
        problems.append(unusable)
    if unfinished is not None:
        problems.append(
            f"an index by {unfinished.model} is unfinished, and not searched; finish it with "
            "sqlite-utils embed-images --replace-model, or give it up with --keep-model"
        )
    if not live.from_sidecar:
        problems.append(
            f"{live.problem}, so this process searches a copy in memory; to rebuild the file, run "
            f"sqlite-utils index-images on the database and {index.image_table!r} with write access to its "
            "folder"
        )
    elif live.problem:
        problems.append(
            f"{live.problem}, so all searches are exact; run sqlite-utils index-images to repair it"
        )
    if index.references_token and live.references is None:
        problems.append(
            "the reference queries are lost, so words are ranked by the score alone; run sqlite-utils "
            f"index-images where {index.model} is installed"
        )
    if live.from_sidecar and live.newer > TOLERATED_CHANGE * len(live):
        problems.append(
            f"{live.newer:,} vectors are newer than the sidecar and are kept in memory; the next "
            "sqlite-utils embed-images or index-images adds them to it"
        )
    if images > vectors:
        problems.append(
            f"{images - vectors:,} images have no vector; embed them with sqlite-utils embed-images"
        )
    return problems
