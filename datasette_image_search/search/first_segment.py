"""
The first segment of an index: what its sidecar, or its engine, has; or the same, read from the database. Who asks does
not know which it is.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from .. import store
from ..files.whole_files import put_in_place
from ..progress import Report
from ..store import Index
from ..store.connections import open_to_read
from ..store.references import References
from ..store.vectors import vector_batches
from .codes import Codes, ids_of
from .held import NotHeld, believed, commit_of
from .held_files import held_again, open_held
from .lost_engines import claims_retry, reason_to_wait, regain
from .segment import Segment
from .sidecar import SidecarUnusable, open_sidecar, sidecar_path, written_beside
from .stored import stored_codes


def open_segment(database: Path, index: Index, *, check: bool = False) -> Segment:
    """By the sidecar that the database names. Raises SidecarUnusable."""
    if index.engine is not None:
        return open_held(database, index, check=check)
    return open_sidecar(sidecar_path(database, index), index, check=check)


def read_segment(
    conn: sqlite3.Connection,
    index: Index,
    database: Path | None,
    references: References | None,
    report: Report | None,
) -> Segment:
    """Read from the database what belongs into the sidecar. `database` None leaves engines aside."""
    up_to = index.sidecar_vector_id if index.sidecar is not None else None
    if database is not None and index.engine is not None and index.sidecar is not None:
        # If only the list of the vectors is lost, they themselves need not be in memory.
        with suppress(SidecarUnusable, NotHeld):
            believed(index, database)
            batches = vector_batches(conn, index, up_to=up_to)
            return held_again(database, index, ids_of(index, batches, lambda _: None))
    return stored_codes(conn, index, references, up_to=up_to, report=report)


def is_outdated(database: Path, index: Index, segment: Segment) -> bool:
    """Whether an engine failed since the segment was opened, or answers again in the place of this copy in memory."""
    if index.engine is None or index.sidecar is None:
        return False
    commit = commit_of(database, index)
    if not isinstance(segment, Codes):
        return reason_to_wait(commit) is not None
    if not claims_retry(commit):
        return False
    with suppress(NotHeld):
        believed(index, database, at_once=True)
        regain(commit)
        return True
    return False


def write_again(
    database: Path, was: Index, segment: Segment, references: References | None
) -> None:
    """
    Write the sidecar from what was read instead of it. This needs no write to the database: its
    rows will prove its state, and its token that it is the one that the database names.
    """
    has_biases = references is not None or not was.references_token
    is_of_engine = not isinstance(segment, Codes)
    if not has_biases or is_of_engine != (was.engine is not None):
        return
    path = sidecar_path(database, was)
    # If the folder is read-only, what is in memory is as good.
    with (
        suppress(OSError, RuntimeError, sqlite3.Error, store.StoreError),
        written_beside(path, was, segment, like=database) as temporary,
        closing(open_to_read(database)) as conn,
    ):
        # Of many vectors it takes so long that there may be another by now.
        if store.find_index(conn, was.image_table, was.model).sidecar == was.sidecar:
            put_in_place(temporary, path)
