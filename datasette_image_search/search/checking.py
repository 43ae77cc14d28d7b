"""Large files of an index are read as a whole by who has the time for that."""

from __future__ import annotations

import sqlite3

from ..store import Index
from ..store.connections import database_path
from .live import live_index, mapped_files
from .mapped import never_believe
from .sidecar import CHECKED_WHEN_OPENED, SidecarUnusable, check_sidecar, file_state


def check_files(conn: sqlite3.Connection, index: Index) -> list[str]:
    """
    Read the files of an index as a whole that are too large for that to be done when they are opened,
    at about a gigabyte in a second. One that is damaged is never believed again, but the vectors are
    read from the database as for any other damage. The sentences say which.
    """
    database = database_path(conn)
    if database is None:
        return []
    live = live_index(conn, index)
    problems = []
    for path, file in mapped_files(live, database):
        # Another took its place: that will be opened when it is searched.
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
