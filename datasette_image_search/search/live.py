"""
The vectors of an index as this process searches them: a sidecar, and what was committed after it.

A LiveIndex is never changed, only replaced, so that any number of threads search one while another
makes the next. It may still hold vectors that were deleted since; `planner` asks the database
about every candidate, so those are never answered.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path

import numpy as np

from .. import store
from ..store import Index, StoredVectors
from .approximate import Approximate, Report
from .codes import Codes, encode, joined
from .locks import reading
from .sidecar import (
    CHECKED_WHEN_OPENED,
    SidecarUnusable,
    approximate_path,
    check_sidecar,
    file_state,
    open_approximate,
    open_sidecar,
    sidecar_path,
    write_sidecar,
)

SPARSE = 64
"""Ids that are this many times as high as there are of them are too sparse for a table of all."""


@dataclass(frozen=True)
class LiveIndex:
    """
    `index` is the row of the index when this was read. The first of the `segments` are the codes of
    the sidecar; the others, in memory, what was committed after it. A position counts through all
    of them, and ids of vectors ascend with it. `approximate` proposes vectors of the first.

    `from_sidecar` tells whether the first is mapped from the file, or was made in memory because of
    `problem`. `unused` is what the file of the approximate index was like where it could not be used,
    None where there was none.
    """

    index: Index
    segments: tuple[Codes, ...]
    from_sidecar: bool
    approximate: Approximate | None = None
    problem: str | None = None
    unused: tuple[int, ...] | None = None
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    """By which caches tell this from any other."""

    def __len__(self) -> int:
        return sum(map(len, self.segments))

    @property
    def newer(self) -> int:
        """How many vectors are not in the sidecar."""
        return sum(map(len, self.segments[1:]))

    @property
    def last_vector_id(self) -> int:
        return max((int(part.vector_ids[-1]) for part in self.segments if len(part)), default=0)

    @property
    def has_image_ids(self) -> bool:
        return all(part.image_ids is not None for part in self.segments)

    def nearest(
        self, vectors: np.ndarray, n: int, chosen: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        For each of m vectors, shape (m, dimensions), the positions of the n highest scores:
        (scores, positions), shape (m, up to n), best first. `chosen`, a bool per position, limits
        the search to those; where they are too few, positions end in -1.

        Scores of the codes have an error: see error().
        """
        scores, positions = [], []
        for start, part in zip(self._starts(), self.segments, strict=True):
            within = None if chosen is None else chosen[start : start + len(part)]
            part_scores, part_positions = part.nearest(vectors, n, within)
            scores.append(part_scores)
            positions.append(np.where(part_positions < 0, -1, part_positions + start))
        if len(self.segments) == 1:
            return scores[0], positions[0]
        all_scores, all_positions = np.hstack(scores), np.hstack(positions)
        order = np.argsort(-all_scores, axis=1, kind="stable")[:, :n]
        return (
            np.take_along_axis(all_scores, order, axis=1),
            np.take_along_axis(all_positions, order, axis=1),
        )

    def propose(self, vectors: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """
        For each of the vectors, as nearest() gives them, what the approximate index proposes and
        the best of the newer vectors.
        """
        assert self.approximate is not None
        first = self.segments[0]
        found = []
        for vector, ids in zip(vectors, self.approximate.propose(vectors), strict=True):
            positions = np.searchsorted(first.vector_ids, ids)
            held = positions < len(first)
            held[held] = first.vector_ids[positions[held]] == ids[held]
            positions = np.sort(positions[held])
            scores = first.scores_at(positions, vector)
            for start, part in list(zip(self._starts(), self.segments, strict=True))[1:]:
                newer = part.nearest(vector[None], self.approximate.tuning.candidates)
                scores = np.append(scores, newer[0])
                positions = np.append(positions, newer[1] + start)
            order = np.argsort(-scores, kind="stable")
            found.append((scores[order], positions[order]))
        return found

    def scores(self, vector: np.ndarray) -> np.ndarray:
        """The score of every position, shape (len,), float32."""
        return np.concatenate([part.scores(vector) for part in self.segments])

    def error(self, vector: np.ndarray) -> float:
        """How far the score of a vector may be from that of its code, for one query."""
        return max(part.error(vector) for part in self.segments)

    def vector_ids(self, positions: np.ndarray) -> np.ndarray:
        """The ids of the vectors at some positions."""
        return self._at(positions, [part.vector_ids for part in self.segments])

    def image_ids(self, positions: np.ndarray) -> np.ndarray:
        """The ids of the images at some positions, where they are integers."""
        return self._at(positions, self._image_ids())

    def all_image_ids(self) -> np.ndarray:
        """The ids of the images at all positions, where they are integers."""
        arrays = self._image_ids()
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    def _image_ids(self) -> list[np.ndarray]:
        return [part.image_ids for part in self.segments if part.image_ids is not None]

    def _at(self, positions: np.ndarray, arrays: list[np.ndarray]) -> np.ndarray:
        if len(arrays) == 1:
            return arrays[0][positions]
        ids = np.empty(len(positions), dtype=np.int64)
        for start, array in zip(self._starts(), arrays, strict=True):
            inside = (positions >= start) & (positions < start + len(array))
            ids[inside] = array[positions[inside] - start]
        return ids

    def positions_of(self, vector_ids: np.ndarray) -> np.ndarray:
        """The positions of the vectors with these ids, -1 for one that is not here."""
        positions = np.full(len(vector_ids), -1)
        for start, part in zip(self._starts(), self.segments, strict=True):
            if len(part):
                at = np.searchsorted(part.vector_ids, vector_ids).clip(max=len(part) - 1)
                here = part.vector_ids[at] == vector_ids
                positions[here] = at[here] + start
        return positions

    def decoded(self, positions: np.ndarray) -> np.ndarray:
        """The vectors at some positions as their codes have them, (len(positions), dimensions)."""
        vectors = np.empty((len(positions), self.index.dimensions), dtype=np.float32)
        for start, part in zip(self._starts(), self.segments, strict=True):
            inside = (positions >= start) & (positions < start + len(part))
            vectors[inside] = part.decoded(positions[inside] - start)
        return vectors

    def chosen_vectors(self, vector_ids: np.ndarray) -> np.ndarray:
        """A bool per position: whether the vector's id is one of these."""
        return np.concatenate([np.isin(part.vector_ids, vector_ids) for part in self.segments])

    def chosen_images(self, image_ids: np.ndarray) -> np.ndarray:
        """A bool per position: whether the image's id, an integer, is one of these."""
        return np.concatenate([_isin(ids, image_ids) for ids in self._image_ids()])

    def _starts(self) -> list[int]:
        """The position at which each segment begins."""
        return list(accumulate(map(len, self.segments[:-1]), initial=0))


def _isin(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """
    np.isin for ids, which are dense as a rule: then a table of all of them is ten times faster than
    sorting, and no larger than the ids.
    """
    if not len(among) or not len(values):
        return np.zeros(len(values), dtype=bool)
    highest = int(values.max())
    if values.min() < 0 or highest > SPARSE * len(values):
        return np.isin(values, among)
    table = np.zeros(highest + 1, dtype=bool)
    table[among[(among >= 0) & (among <= highest)]] = True
    return table[values]


_open: dict[tuple[str, int], LiveIndex] = {}
_opening: defaultdict[tuple[str, int], threading.Lock] = defaultdict(threading.Lock)
"""The indexes of this process by database and id, and a lock for each while it is opened."""

_damaged: set[tuple[int, ...]] = set()
"""The states of files that this process found to be damaged after they were opened."""


def live_index(conn: sqlite3.Connection, index: Index, report: Report | None = None) -> LiveIndex:
    """
    The vectors of an index as committed now: opened once per process, shared by all connections.
    Without a sidecar all are read from the database, which is reported.

    `index` must have been read from `conn` just before: its generation tells what is new.
    """
    database = database_path(conn)
    if database is None:
        # A database in memory has nothing lasting to be known by.
        return _read(conn, index, None, report)
    key = (str(database), index.id)
    live = open_index(database, index)
    if live is not None:
        return live
    with _opening[key], _reader(database) as reader:
        live = _open.get(key)
        if live is not None and not _is_intact(live, database):
            live = None
        index = store.find_index(reader, index.image_table, index.model)
        if live is None or live.index != index:
            if live is not None and _continues(live.index, index):
                live = _with_newer(reader, live, index)
            else:
                live = _read(reader, index, database, report)
            _open[key] = live
            _forget_replaced(reader, str(database))
        elif not _is_up_to_date(live, database):
            live = _open[key] = _with_approximate(live, database)
        return live


def open_index(database: Path, index: Index) -> LiveIndex | None:
    """What live_index() answers at once: None where there is something to open or to read first."""
    live = _open.get((str(database), index.id))
    if live is not None and live.index == index and _is_up_to_date(live, database):
        return live
    return None


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
    for path, file in _mapped_files(live, database):
        # Another took its place: that will be opened when it is searched.
        if file is None or file_state(path) != file or path.stat().st_size <= CHECKED_WHEN_OPENED:
            continue
        try:
            check_sidecar(path, live.index)
        except SidecarUnusable as unusable:
            if file_state(path) == file:
                _damaged.add(file)
                problems.append(str(unusable))
    if problems:
        live_index(conn, index)
    return problems


def _forget_replaced(conn: sqlite3.Connection, database: str) -> None:
    """Let go of the files of indexes that gave way to another model."""
    ids = {index.id for index in store.all_indexes(conn)}
    for key in [key for key in list(_open) if key[0] == database and key[1] not in ids]:
        _open.pop(key, None)


def _is_up_to_date(live: LiveIndex, database: Path) -> bool:
    """Whether the files are as they were opened, as far as that matters, and none has appeared."""
    if live.approximate is None and live.unused != file_state(
        approximate_path(database, live.index)
    ):
        return False
    return _is_intact(live, database)


def _is_intact(live: LiveIndex, database: Path) -> bool:
    """
    Whether the mapped files are whole. To read the pages of one that was cut short would end the
    process; in the middle of a search nothing can be done about that. One whose place another took
    is whole for as long as it is mapped.
    """
    opened = _mapped_files(live, database)
    return all(file is None or _is_whole(path, file) for path, file in opened)


def _mapped_files(live: LiveIndex, database: Path) -> list[tuple[Path, tuple[int, ...] | None]]:
    """Where they are, and their states as they were opened; None for what is in memory."""
    files = [(sidecar_path(database, live.index), live.segments[0].file)]
    if live.approximate is not None:
        files.append((approximate_path(database, live.index), live.approximate.file))
    return files


def _is_whole(path: Path, opened: tuple[int, ...]) -> bool:
    if opened in _damaged:
        return False
    now = file_state(path)
    return now is None or now == opened or now[:2] != opened[:2]


def _continues(old: Index, new: Index) -> bool:
    """Whether the new state is the old one plus whatever was committed meanwhile."""
    return replace(old, generation=new.generation) == new and new.generation >= old.generation


def _read(
    conn: sqlite3.Connection, index: Index, database: Path | None, report: Report | None
) -> LiveIndex:
    problem: str | None = "the database is in memory"
    codes = None
    if database is not None:
        try:
            path = sidecar_path(database, index)
            _check_known(path)
            codes = open_sidecar(path, index)
            problem = None
        except SidecarUnusable as unusable:
            problem = str(unusable)
    first = codes if codes is not None else _rebuild(conn, index, database, report)
    live = LiveIndex(index, (first,), codes is not None, problem=problem)
    if database is not None:
        live = _with_approximate(live, database)
    return _with_newer(conn, live, index)


def _check_known(path: Path) -> None:
    if file_state(path) in _damaged:
        raise SidecarUnusable(f"{path.name} is damaged")


def _with_approximate(live: LiveIndex, database: Path) -> LiveIndex:
    """The same with the approximate index that there is now, if it can be used."""
    path = approximate_path(database, live.index)
    unused = file_state(path)
    approximate = None
    problem = None if live.from_sidecar else live.problem
    try:
        _check_known(path)
        approximate = open_approximate(path, live.index)
    except SidecarUnusable as unusable:
        # Where there is none, there need not be one.
        problem = problem or (str(unusable) if unused else None)
    return replace(live, approximate=approximate, problem=problem, unused=unused)


def _rebuild(
    conn: sqlite3.Connection, index: Index, database: Path | None, report: Report | None
) -> Codes:
    """
    The codes that the sidecar ought to hold, from the database; and the sidecar itself again.

    That needs no write to the database: "every vector up to that id" has not changed meaning.
    """
    if index.sidecar is None:
        return stored_codes(conn, index, report=report)
    codes = stored_codes(conn, index, up_to=index.sidecar_vector_id, report=report)
    now = store.find_index(conn, index.image_table, index.model)
    if database is not None and now.sidecar == index.sidecar:
        # In a folder that cannot be written to, the codes in memory serve as well.
        with suppress(OSError, RuntimeError):
            write_sidecar(sidecar_path(database, index), index, codes, like=database)
    return codes


def stored_codes(
    conn: sqlite3.Connection,
    index: Index,
    *,
    after: int = 0,
    up_to: int | None = None,
    report: Report | None = None,
) -> Codes:
    """The codes of the vectors with ids in (after, up_to], from the database."""
    table = store.find_image_table(conn, index.image_table)
    batches = store.vector_batches(conn, index, after=after, up_to=up_to)
    if report is not None:
        batches = _reported(batches, store.count_vectors(conn, index, up_to=up_to), report)
    return encode(index.dimensions, batches, integer_keys=table.key_is_integer)


def _reported(
    batches: Iterator[StoredVectors], count: int, report: Report
) -> Iterator[StoredVectors]:
    done = 0
    for batch in batches:
        report("Reading", done, count)
        yield batch
        done += len(batch.vector_ids)
    report("Reading", count, count)


def _with_newer(conn: sqlite3.Connection, live: LiveIndex, index: Index) -> LiveIndex:
    """The same with what was committed since: vectors with ids above the last one known."""
    segments = list(live.segments)
    newer = stored_codes(conn, index, after=live.last_vector_id)
    if len(newer):
        segments.append(newer)
    # Each is more than twice as long as the next, so that there are few, and few are copied.
    while len(segments) > 2 and len(segments[-2]) <= 2 * len(segments[-1]):
        segments[-2:] = [joined(*segments[-2:])]
    return LiveIndex(
        index, tuple(segments), live.from_sidecar, live.approximate, live.problem, live.unused
    )


def as_seen_by(conn: sqlite3.Connection, live: LiveIndex, index: Index) -> LiveIndex:
    """
    The same for a connection that sees `index` in another state: with the vectors that only it sees,
    because they were deleted meanwhile or are not committed yet.
    """
    known = np.concatenate([part.vector_ids for part in live.segments])
    only = np.setdiff1d(store.vector_ids(conn, index), known)
    table = store.find_image_table(conn, index.image_table)
    found = store.vectors_by_id(conn, index, only.tolist())
    codes = encode(index.dimensions, [found], integer_keys=table.key_is_integer)
    return replace(live, index=index, segments=(*live.segments, codes), name=secrets.token_hex(8))


def database_path(conn: sqlite3.Connection) -> Path | None:
    """The file of a connection; None for a database in memory."""
    # As bytes, for the name of a folder need not be UTF-8.
    sql = "select cast(file as blob) from pragma_database_list where name = 'main'"
    row = conn.execute(sql).fetchone()
    return Path(os.fsdecode(row[0])).resolve() if row and row[0] else None


@contextmanager
def _reader(database: Path) -> Iterator[sqlite3.Connection]:
    """
    A connection of our own to the same file, for the long reads: Datasette interrupts a query
    after its time limit, and an index that is half read is of no use to anyone.
    """
    uri = database.as_uri()
    reader = sqlite3.connect(f"{uri}?{reading(database)}", uri=True, check_same_thread=False)
    try:
        reader.execute("select 1 from sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        reader.close()
        if "locked" in str(error):
            raise
        # A WAL database in a folder that cannot be written to can be opened in no other way.
        reader = sqlite3.connect(f"{uri}?immutable=1", uri=True, check_same_thread=False)
    store.read_any_text(reader)
    try:
        yield reader
    finally:
        reader.close()
