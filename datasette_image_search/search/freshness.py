"""
The indexes that this process has open, each as the database is now: what is committed is read once, for all connections,
and one that sees another state has an index of that.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import store
from ..progress import Report
from ..store import Index, StoreError
from ..store.connections import database_path, open_to_read
from ..store.indexes import all_indexes
from ..store.references import are_back, read_references
from ..store.stored_vectors import Rows, StoredVectors
from ..store.tokens import has_tokens
from .codes import encode, joined
from .first_segment import is_outdated, open_segment, read_segment, write_again
from .lineage import NOBODY, Unproven, gone, gone_and_unknown
from .live import LiveIndex
from .mapped import check_believed, is_whole
from .segment import Segment
from .sidecar import (
    FileState,
    SidecarUnusable,
    approximate_path,
    file_state,
    open_approximate,
    sidecar_path,
)
from .stored import stored_codes

SNAPSHOTS = 3
"""The number of times that a search starts again because another program wrote meanwhile."""

_Key = tuple[str, int]
"""The path of a database, and the id of an index."""

_open: dict[_Key, LiveIndex] = {}
_seen: dict[_Key, LiveIndex] = {}
_opening: defaultdict[_Key, threading.Lock] = defaultdict(threading.Lock)
"""The indexes of this process by their last commit; those of connections that see another state or an
earlier file; and a lock for each while it is opened."""


@contextmanager
def live_snapshot(conn: sqlite3.Connection, index: Index) -> Iterator[LiveIndex]:
    """
    The live index, while the database stays in the state that it is of: filter, vectors and scores
    are read one after the other. A statement or a transaction that began before, or that has written
    itself, sees another state for as long as it lasts; then the index is made to fit that.
    """
    for _ in range(SNAPSHOTS):
        live = live_index(conn, index)
        with store.snapshot(conn):
            index = store.find_index(conn, index.image_table, index.model)
            if index == live.index:
                yield live
                return
    with store.snapshot(conn):
        index = store.find_index(conn, index.image_table, index.model)
        yield as_seen_by(conn, live, index)


def live_index(conn: sqlite3.Connection, index: Index, report: Report | None = None) -> LiveIndex:
    """
    The vectors of an index as committed now: opened once per process, shared by all connections.
    Without a sidecar all are read from the database, which is reported.

    `index` must have been read from `conn` just before: its generation tells what is new. What comes back has another
    `index` if `conn` does not see what was committed last, or another file.
    """
    database = database_path(conn)
    if database is None:
        # A database in memory has nothing lasting to be known by.
        return _read_by(conn, index, report)
    live = open_index(database, index)
    if live is not None and not are_back(conn, live.index, live.references):
        return live
    key = (str(database), index.id)
    with _opening[key]:
        try:
            live, is_read_anew = _opened(key, database, index, report)
        except (StoreError, sqlite3.DatabaseError) as error:
            if isinstance(error, sqlite3.DatabaseError) and "locked" in str(error):
                raise
            # There is no file any more, or one without such a table, or no database: `conn` reads the one that was.
            live, is_read_anew = _read_by(conn, index, report), False
            _seen[key] = live
    # Other searches need not wait for this.
    if is_read_anew and not live.from_sidecar and live.index.sidecar is not None:
        write_again(database, live.index, live.segments[0], live.references)
    return live


def _read_by(conn: sqlite3.Connection, index: Index, report: Report | None) -> LiveIndex:
    with store.snapshot(conn):
        index = store.find_index(conn, index.image_table, index.model)
        return _read(conn, index, None, report)


def _opened(
    key: _Key, database: Path, index: Index, report: Report | None
) -> tuple[LiveIndex, bool]:
    """And whether all of it was read anew."""
    before = _open.get(key)
    if before is not None and not _is_intact(before, database):
        before = None
    # Before the first look at it: whatever is written in between comes with another state.
    file = _state_of(database)
    with closing(open_to_read(database)) as conn:
        with store.snapshot(conn):
            index = store.find_index(conn, index.image_table, index.model)
            live = None if before is None else _continued(conn, before, index, database)
            is_read_anew = live is None
            if live is None:
                live = _read(conn, index, database, report)
                if live.gone is None:
                    live = replace(live, file=file)
                if before is not None and before.index.identity != index.identity:
                    # Connections to a file that was moved away may see it for long.
                    _seen[key] = before
            _forget_replaced(conn, str(database))
        # By its current id, which differs if another model replaced it.
        _open[str(database), index.id] = live
    return live, is_read_anew


def open_index(database: Path, index: Index) -> LiveIndex | None:
    """The answer of live_index(), if nothing must be opened or read first; otherwise None."""
    key = str(database), index.id
    for known in (_open, _seen):
        live = known.get(key)
        if live is not None and _is_of(live, index, database) and _is_up_to_date(live, database):
            return live
    return None


def _is_of(live: LiveIndex, index: Index, database: Path) -> bool:
    """Whether `live` has the vectors of exactly this state."""
    return live.index == index and (live.gone is not None or live.file == _state_of(database))


def _state_of(database: Path) -> tuple[FileState | None, ...]:
    return file_state(database), file_state(database.with_name(f"{database.name}-wal"))


def _forget_replaced(conn: sqlite3.Connection, database: str) -> None:
    """Release the files of indexes that were replaced by another model."""
    ids = {index.id for index in all_indexes(conn)}
    for known in (_open, _seen):
        for key in [key for key in list(known) if key[0] == database and key[1] not in ids]:
            known.pop(key, None)


def _is_up_to_date(live: LiveIndex, database: Path) -> bool:
    """Whether the files are as they were opened, as far as that matters, and none has appeared."""
    if live.approximate is None and live.unused != file_state(
        approximate_path(database, live.index)
    ):
        return False
    return _is_intact(live, database)


def _is_intact(live: LiveIndex, database: Path) -> bool:
    if is_outdated(database, live.index, live.segments[0]):
        return False
    opened = mapped_files(live, database)
    return all(file is None or is_whole(path, file) for path, file in opened)


def mapped_files(live: LiveIndex, database: Path) -> list[tuple[Path, FileState | None]]:
    """The mapped files, and their states when they were opened; None for parts in memory."""
    files = [(sidecar_path(database, live.index), live.segments[0].file)]
    if live.approximate is not None:
        files.append((approximate_path(database, live.index), live.approximate.file))
    return files


def _continued(
    conn: sqlite3.Connection, live: LiveIndex, index: Index, database: Path
) -> LiveIndex | None:
    """The same with what was committed since; None if it is not proven that there is nothing else."""
    if are_back(conn, index, live.references):
        return None
    if _is_of(live, index, database):
        return live if _is_up_to_date(live, database) else _with_approximate(live, database)
    if live.gone is None or replace(live.index, generation=index.generation) != index:
        return None
    try:
        return _with_newer(conn, live, index)
    except Unproven:
        return None


def _read(
    conn: sqlite3.Connection, index: Index, database: Path | None, report: Report | None
) -> LiveIndex:
    """All vectors of a state, from the sidecar if it belongs to that state. `database` None ignores files."""
    problem = "the database is in memory"
    if database is not None:
        path = sidecar_path(database, index)
        try:
            check_believed(path)
            live = _from_sidecar(conn, index, open_segment(database, index), path)
            return _with_approximate(live, database)
        except SidecarUnusable as unusable:
            problem = str(unusable)
    references = read_references(conn, index)
    first = read_segment(conn, index, database, references, report)
    nobody = None if first.rows is None else NOBODY
    live = LiveIndex(
        index, (first,), from_sidecar=False, problem=problem, gone=nobody, references=references
    )
    if database is not None:
        live = _with_approximate(live, database)
    return _with_newer(conn, live, index)


def _from_sidecar(conn: sqlite3.Connection, index: Index, codes: Segment, path: Path) -> LiveIndex:
    if codes.rows is None:
        if has_tokens(conn, index):
            raise SidecarUnusable(f"{path.name} is of an older version")
        return _with_newer(conn, LiveIndex(index, (codes,), from_sidecar=True), index)
    references = read_references(conn, index)
    before = replace(index, generation=codes.rows.state())
    live = LiveIndex(before, (codes,), from_sidecar=True, gone=NOBODY, references=references)
    try:
        return _with_newer(conn, live, index)
    except Unproven:
        raise SidecarUnusable(
            f"{path.name} belongs to another state of the database, as after a backup was restored"
        ) from None


def _with_approximate(live: LiveIndex, database: Path) -> LiveIndex:
    """`live` with the current approximate index, if it can be used."""
    path = approximate_path(database, live.index)
    unused = file_state(path)
    approximate = None
    problem = None if live.from_sidecar else live.problem
    try:
        check_believed(path)
        approximate = open_approximate(path, live.index)
    except SidecarUnusable as unusable:
        # Without such a file, the index is an exact one.
        problem = problem or (str(unusable) if unused else None)
    return replace(live, approximate=approximate, problem=problem, unused=unused)


def _with_newer(conn: sqlite3.Connection, live: LiveIndex, index: Index) -> LiveIndex:
    """
    The same with what was committed since: vectors with ids above the last one known. Raises Unproven if
    the others are not those of the database.
    """
    newer = stored_codes(conn, index, live.references, after=live.last_id)
    there = live.gone
    if there is not None:
        assert newer.rows is not None
        state = live.index.generation
        if live.index != index or live.from_sidecar:
            there = gone(conn, index, live.rows, there, state, newer.rows)
        elif Rows.state_of([*live.rows, newer.rows]) != index.generation:
            # All was read just now, but of a file that is copied over, or without our triggers.
            there = None
    segments = list(live.segments)
    if len(newer) or (newer.rows is not None and len(newer.rows.ids)):
        segments.append(newer)
    # Each is more than twice as long as the next, so that there are few, and few are copied.
    while len(segments) > 2 and len(segments[-2]) <= 2 * len(segments[-1]):
        segments[-2:] = [joined(*segments[-2:])]
    name = secrets.token_hex(8)
    return replace(live, index=index, segments=tuple(segments), gone=there, name=name)


def as_seen_by(conn: sqlite3.Connection, live: LiveIndex, index: Index) -> LiveIndex:
    """
    The same for a connection that sees `index` in another state: with the vectors that only it sees, because they were
    deleted meanwhile or are not committed yet. What it sees may be another file, too, of which everything is read.
    """
    database = database_path(conn)
    try:
        absent, only = _compared(conn, live, index)
        codes = encode(index, [only], live.references)
        segments = (*live.segments, codes)
        seen = replace(live, index=index, segments=segments, gone=absent, name=secrets.token_hex(8))
    except Unproven:
        seen = _read(conn, index, None, None)
    if database is not None and seen.gone is not None:
        _seen[str(database), index.id] = seen
    return seen


def is_seen_by(conn: sqlite3.Connection, live: LiveIndex, index: Index) -> bool:
    """Whether a connection that sees `index` sees no other vectors by the ids of these."""
    try:
        _compared(conn, live, index)
    except Unproven:
        return False
    return True


def _compared(
    conn: sqlite3.Connection, live: LiveIndex, index: Index
) -> tuple[np.ndarray, StoredVectors]:
    """Like gone_and_unknown(), but raises Unproven also for another index."""
    if live.gone is None or replace(live.index, generation=index.generation) != index:
        raise Unproven
    return gone_and_unknown(conn, index, live.rows)
