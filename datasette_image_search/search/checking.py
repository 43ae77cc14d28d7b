"""A full check of the large files of an index, for callers that have the time."""

from __future__ import annotations

import sqlite3

from ..store import Index
from ..store.connections import database_path
from .freshness import live_index, mapped_files
from .mapped import never_believe
from .sidecar import CHECKED_WHEN_OPENED, SidecarUnusable, check_sidecar, file_state


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
    for path, file in mapped_files(live, database):
        # Another file replaced it: the next search opens that.
        if file is None or file_state(path) != file or path.stat().st_size <= CHECKED_WHEN_OPENED:
            continue
        try:
            check_sidecar(path, live.index)
        except SidecarUnusable as unusable:
            if file_state(path) == file:
                never_believe(file)
                problems.append(str(unusable))
    if problems:
        live_index(conn, index)
    return problems
