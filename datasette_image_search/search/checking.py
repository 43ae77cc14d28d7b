"""A full check of the large files of an index, for callers that have the time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ..store import Index
from ..store.connections import database_path
from .freshness import live_index, mapped_files
from .live import LiveIndex
from .mapped import never_believe
from .sidecar import (
    CHECKED_WHEN_OPENED,
    FileState,
    SidecarUnusable,
    check_sidecar,
    file_state,
)


def has_large_files(conn: sqlite3.Connection, index: Index) -> bool:
    """Whether check_files() has anything to read."""
    database = database_path(conn)
    return database is not None and any(_large_files(live_index(conn, index), database))


def check_files(conn: sqlite3.Connection, index: Index) -> list[str]:
    """
    Check the files of an index that are too large to be checked when they are opened, at about a gigabyte
    per second. A damaged file is not used again; the vectors are read from the database instead. Returns
    a sentence for each damaged file.
    """
    database = database_path(conn)
    if database is None:
        return []
    live = live_index(conn, index)
    problems = []
    for path, file in _large_files(live, database):
        try:
            check_sidecar(path, live.index)
        except SidecarUnusable as unusable:
            if file_state(path) == file:
                never_believe(file)
                problems.append(str(unusable))
    if problems:
        live_index(conn, index)
    return problems


def _large_files(live: LiveIndex, database: Path) -> Iterator[tuple[Path, FileState]]:
    for path, file in mapped_files(live, database):
        # Another file may have replaced it: the next search opens that.
        if file is None or file_state(path) != file:
            continue
        if path.stat().st_size > CHECKED_WHEN_OPENED:
            yield path, file
