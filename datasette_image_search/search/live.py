"""
The vectors of an index as this process searches them: a sidecar, and what was committed after it.

A LiveIndex is never changed, only replaced, so that any number of threads search one while another
makes the next. It may still hold vectors that were deleted since; `planner` asks the database
about every candidate, so those are never answered.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import faiss
import numpy as np
from sqlite_utils import Database

from .. import store
from ..errors import ImageSearchError
from ..store import Index
from .sidecar import (
    Codes,
    SidecarUnusable,
    encode,
    file_state,
    open_sidecar,
    sidecar_path,
    sidecar_paths,
    write_sidecar,
)

TOLERATED_CHANGE = 0.05
"""The share of a sidecar that may be added or deleted before it is worth writing a new one."""


class SidecarNotWritten(ImageSearchError):
    """A full disk, or a folder that cannot be written to."""


@dataclass(frozen=True)
class LiveIndex:
    """
    `index` is the row of the index when this was read. `codes` holds the older vectors as float16,
    `tail_ids` (ascending) and `tail` (n, dimensions) the newer ones as float32. `from_sidecar`
    tells whether the codes are mapped from the file, or were made in memory because of `problem`.
    """

    index: Index
    codes: Codes
    tail_ids: np.ndarray
    tail: np.ndarray
    from_sidecar: bool
    problem: str | None = None

    def __len__(self) -> int:
        return len(self.codes.vector_ids) + len(self.tail_ids)

    def nearest(
        self, vector: np.ndarray, n: int, among: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        The n vectors of the highest score: (scores, vector ids), best first, fewer where there
        are fewer. `among`, vector ids in any order, limits the search to those.

        Scores of the codes have an error of up to 5e-4.
        """
        scores, ids = self._nearest_codes(vector, n, among)
        tail_ids, tail = self.tail_ids, self.tail
        if among is not None:
            chosen = np.isin(tail_ids, among)
            tail_ids, tail = tail_ids[chosen], tail[chosen]
        scores = np.concatenate([scores, tail @ vector])
        ids = np.concatenate([ids, tail_ids])
        order = np.argsort(-scores, kind="stable")[:n]
        return scores[order], ids[order]

    def _nearest_codes(
        self, vector: np.ndarray, n: int, among: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        vector_ids = self.codes.vector_ids
        n = min(n, len(vector_ids))
        if n == 0:
            return np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64)
        selected = {} if among is None else {"params": _only(vector_ids, among)}
        scores, positions = self.codes.faiss_index.search(vector[None], n, **selected)
        found = positions[0] >= 0
        return scores[0][found], vector_ids[positions[0][found]]


def _only(vector_ids: np.ndarray, among: np.ndarray) -> faiss.SearchParameters:
    """Search parameters that let only the positions of these ids be looked at."""
    positions = np.searchsorted(vector_ids, among)
    positions = positions[positions < len(vector_ids)]
    positions = positions[np.isin(vector_ids[positions], among)]
    chosen = np.zeros(len(vector_ids), dtype=bool)
    chosen[positions] = True
    bitmap = np.packbits(chosen, bitorder="little")
    return faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bitmap))


_open: dict[tuple[str, int], LiveIndex] = {}
_opening: defaultdict[tuple[str, int], threading.Lock] = defaultdict(threading.Lock)
"""The indexes of this process by database and id, and a lock for each while it is opened."""


def live_index(conn: sqlite3.Connection, index: Index) -> LiveIndex:
    """
    The vectors of an index as committed now: opened once per process, shared by all connections.

    `index` must have been read from `conn` just before: its generation tells what is new.
    """
    database = _database_path(conn)
    if database is None:
        # A database in memory has nothing lasting to be known by.
        return _read(conn, index, None)
    key = (str(database), index.id)
    live = _open.get(key)
    if live is not None and live.index == index and _is_intact(live, database):
        return live
    with _opening[key], _reader(conn, database) as reader:
        live = _open.get(key)
        if live is not None and not _is_intact(live, database):
            live = None
        index = store.find_index(reader, index.image_table, index.model)
        if live is None or live.index != index:
            if live is not None and _continues(live.index, index):
                live = _with_newer(reader, live, index)
            else:
                live = _read(reader, index, database)
            _open[key] = live
            _forget_replaced(reader, str(database))
        return live


def _forget_replaced(conn: sqlite3.Connection, database: str) -> None:
    """Let go of the files of indexes that gave way to another model."""
    ids = {index.id for index in store.all_indexes(conn)}
    for key in [key for key in list(_open) if key[0] == database and key[1] not in ids]:
        _open.pop(key, None)


def _is_intact(live: LiveIndex, database: Path) -> bool:
    """
    Whether the sidecar is the file that was opened. To read the mapped pages of a file that was cut
    short would end the process; in the middle of a search nothing can be done about that.
    """
    file = live.codes.file
    return file is None or file == file_state(sidecar_path(database, live.index))


def _continues(old: Index, new: Index) -> bool:
    """Whether the new state is the old one plus whatever was committed meanwhile."""
    return replace(old, generation=new.generation) == new and new.generation >= old.generation


def _read(conn: sqlite3.Connection, index: Index, database: Path | None) -> LiveIndex:
    problem = "the database is in memory"
    codes = None
    if database is not None:
        try:
            codes = open_sidecar(sidecar_path(database, index), index)
        except SidecarUnusable as unusable:
            problem = str(unusable)
    live = LiveIndex(
        index=index,
        codes=codes or _rebuild(conn, index, database),
        tail_ids=np.empty(0, dtype=np.int64),
        tail=np.empty((0, index.dimensions), dtype=np.float32),
        from_sidecar=codes is not None,
        problem=None if codes else problem,
    )
    return _with_newer(conn, live, index)


def _rebuild(conn: sqlite3.Connection, index: Index, database: Path | None) -> Codes:
    """
    The codes that the sidecar ought to hold, from the database; and the sidecar itself again.

    That needs no write to the database: "every vector up to that id" has not changed meaning.
    """
    if index.sidecar is None:
        return encode(index, store.vector_batches(conn, index))
    codes = encode(index, store.vector_batches(conn, index, up_to=index.sidecar_vector_id))
    now = store.find_index(conn, index.image_table, index.model)
    if database is not None and now.sidecar == index.sidecar:
        # In a folder that cannot be written to, the codes in memory serve as well.
        with suppress(OSError, RuntimeError):
            write_sidecar(sidecar_path(database, index), index, codes, like=database)
    return codes


def _with_newer(conn: sqlite3.Connection, live: LiveIndex, index: Index) -> LiveIndex:
    """The same with what was committed since: vectors with ids above the last one known."""
    last = max((ids[-1] for ids in (live.codes.vector_ids, live.tail_ids) if len(ids)), default=0)
    newer = list(store.vector_batches(conn, index, after=int(last)))
    return replace(
        live,
        index=index,
        tail_ids=np.concatenate([live.tail_ids, *(batch.vector_ids for batch in newer)]),
        tail=np.concatenate([live.tail, *(batch.vectors for batch in newer)]),
    )


def refresh_sidecars(db: Database, table: str) -> None:
    """
    Write the sidecars of a table anew that are unusable, or that many vectors were added to or
    deleted from since, and remove those of indexes that are no more.

    Raises SidecarNotWritten, which costs speed and nothing else.
    """
    database = _database_path(db.conn)
    if database is None:
        return
    for index in store.read_indexes(db.conn, table):
        _refresh(db, database, index)
    wanted = {sidecar_path(database, index) for index in store.all_indexes(db.conn)}
    for path in sidecar_paths(database):
        if path not in wanted:
            with suppress(OSError):
                path.unlink()


def _refresh(db: Database, database: Path, index: Index) -> None:
    path = sidecar_path(database, index)
    with suppress(SidecarUnusable):
        if _is_fresh(db.conn, index, open_sidecar(path, index)):
            return
    codes = encode(index, store.vector_batches(db.conn, index))
    last = int(codes.vector_ids[-1]) if len(codes.vector_ids) else 0
    index = replace(index, sidecar=secrets.token_hex(16), sidecar_vector_id=last)
    try:
        write_sidecar(path, index, codes, like=database)
    except (OSError, RuntimeError) as error:
        raise SidecarNotWritten(
            f"{path.name} could not be written ({error}); "
            "searches make it in memory each time they start"
        ) from error
    store.record_sidecar(db, index)


def _is_fresh(conn: sqlite3.Connection, index: Index, codes: Codes) -> bool:
    held = len(codes.vector_ids)
    kept = store.count_vectors(conn, index, up_to=index.sidecar_vector_id)
    newer = store.count_vectors(conn, index) - kept
    return newer + (held - kept) <= held * TOLERATED_CHANGE


def _database_path(conn: sqlite3.Connection) -> Path | None:
    for _, name, path in conn.execute("pragma database_list"):
        if name == "main" and path:
            return Path(path).resolve()
    return None


@contextmanager
def _reader(conn: sqlite3.Connection, database: Path) -> Iterator[sqlite3.Connection]:
    """
    A connection of our own to the same file, for the long reads: Datasette interrupts a query
    after its time limit, and an index that is half read is of no use to anyone.
    """
    uri = database.as_uri()
    reader = sqlite3.connect(f"{uri}?mode=ro", uri=True, check_same_thread=False)
    try:
        reader.execute("select 1 from sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        reader.close()
        if "locked" in str(error):
            raise
        # A WAL database in a folder that cannot be written to can be opened in no other way.
        reader = sqlite3.connect(f"{uri}?immutable=1", uri=True, check_same_thread=False)
    try:
        yield reader
    finally:
        reader.close()
