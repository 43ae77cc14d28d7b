"""Brings what an engine holds up to date with the database: what is gone is removed, what is new added, in batches."""

from __future__ import annotations

import hashlib
import logging
import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .. import store
from ..engines.protocol import EngineError, VectorEngine
from ..errors import printable
from ..progress import Report
from ..store import Index
from ..store.code_dimensions import code_dimensions
from ..store.held_vectors import SCENES, engine_of, lacks_vectors, source_of
from ..store.indexes import WeightsOf
from ..store.references import References
from ..store.stored_vectors import Rows, StoredVectors
from ..store.tokens import rows_after
from ..store.vectors import count_vectors, vector_batches
from .codes import Ids, all_rows, ids_of
from .correction import with_biases
from .held import Held, is_only_copy, must_be_tuned, owner_of, state_of, token_of, tuned
from .held_files import open_held
from .lineage import NOBODY, Unproven, gone
from .sample_queries import of_both_kinds, sample_queries
from .sidecar import SidecarUnusable
from .tuning import TARGET_RECALL

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """
    What a person asked for: a type of the engine, a recall, queries of shape (n, dimensions) to tune with, and whether
    to take over a place that has the vectors of another index, and to build the index on a cluster that this process is
    connected to; and whether the caller has read what the engine holds.
    """

    type: str | None = None
    target: float | None = None
    queries: np.ndarray | None = None
    takes_over: bool = False
    builds_on_cluster: bool = False
    is_checked: bool = False

    @property
    def wants_tuning(self) -> bool:
        chosen = self.type, self.target, self.queries
        return self.takes_over or any(each is not None for each in chosen)


def feed(
    conn: sqlite3.Connection,
    database: Path,
    index: Index,
    references: References | None,
    asked: Asked,
    report: Report,
    weights_of: WeightsOf,
) -> tuple[Index, Held]:
    """
    The row of an index as it should be, and what its engine holds from now on, by the token in that row. Whoever calls
    writes both down; before that, everybody goes on with what there was.

    Raises EngineError.
    """
    before = _before(conn, database, index, check=not asked.is_checked)
    engine = _to_write(conn, database, index, asked, begins_anew=before is None)
    newest = engine_of(index, database, token=None)
    _check_is_of(newest, index, asked)
    if before is None:
        engine.clear()
        before = Held(engine, str(index.engine), code_dimensions(index), *_none(index))
    else:
        _say_if_another_wrote(newest, index)
    before = replace(before, engine=engine)
    with store.snapshot(conn):
        now = store.find_index(conn, index.image_table, index.model)
        kept = _without_the_gone(conn, now, before)
        ids, fed = _with_the_new(
            conn, replace(index, generation=now.generation), kept, references, report
        )
    report("Indexing", 0, 1)
    type = asked.type or index.index_type or engine.types[0]
    engine.optimize(type)
    report("Indexing", 1, 1)
    held = Held(
        engine,
        kept.engine_name,
        kept.dimensions,
        *ids,
        before.tuning,
        tuned_for=before.tuned_for,
    )
    held = _tuned(index, held, references, asked, report, weights_of)
    last = int(held.vector_ids[-1]) if len(held) else 0
    index = replace(
        index,
        sidecar=secrets.token_hex(16),
        sidecar_vector_id=last,
        index_type=None if type == engine.types[0] else type,
    )
    engine.commit(str(index.sidecar), state_of(index, held))
    held = replace(held, engine=engine_of(index, database, token=index.sidecar))
    _check_has_all(index, held, fed)
    return index, held


@dataclass(frozen=True)
class _Fed:
    """What became of a batch of vectors in half precision, by their ids in the engine."""

    ids: np.ndarray
    digest: bytes


def _digest(vectors: np.ndarray) -> bytes:
    return hashlib.blake2b(vectors.astype("<f2").tobytes()).digest()


def _check_has_all(index: Index, held: Held, fed: Sequence[_Fed]) -> None:
    """
    Raises EngineError unless the commit, opened afresh, has as many vectors as it should, and gives back what was fed: the
    database may forget it after that. Of what alone has the vectors, all ids are read.
    """
    engine = held.engine
    is_whole = engine.state() == state_of(index, held) and engine.count() == len(held)
    if is_whole and index.engine_only:
        is_whole = np.array_equal(engine.ids(), np.sort(held.ids_at(np.arange(len(held)))))
    if not is_whole or any(_digest(engine.vectors(each.ids)) != each.digest for each in fed):
        raise EngineError(
            f"{index.engine} has not what it was fed, as if another program wrote there at the same time; nothing was changed "
            "in the database, so run this again"
        )
    held.try_index()


def _before(conn: sqlite3.Connection, database: Path, index: Index, *, check: bool) -> Held | None:
    """What the engine holds, if the database names it and its sidecar proves what it is; None to begin anew."""
    now = store.read_indexes(conn, index.image_table)
    was = next((each for each in now if each.id == index.id), None)
    same_place = ("engine", "engine_uri", "references_token")
    if was is None or any(getattr(was, name) != getattr(index, name) for name in same_place):
        return None
    try:
        held = open_held(database, index, check=check, whole=True)
        with store.snapshot(conn):
            _gone(conn, store.find_index(conn, index.image_table, index.model), held)
    except (SidecarUnusable, Unproven):
        return None
    return held


def _to_write(
    conn: sqlite3.Connection, database: Path, index: Index, asked: Asked, *, begins_anew: bool
) -> VectorEngine:
    """
    The engine, as the database names it if that is what it goes on from. If the database has not the vectors itself, what
    has them must be there, and is left as it is by whatever is written. Raises EngineError.
    """
    now = store.find_index(conn, index.image_table, index.model)
    if now.engine_only and begins_anew and lacks_vectors(conn, now):
        source_of(conn, now)
    is_source = now.engine_only and (now.engine, now.engine_uri) == (index.engine, index.engine_uri)
    token = index.sidecar if is_source or not begins_anew else None
    on_cluster = asked.builds_on_cluster
    engine = engine_of(index, database, token=token, builds_on_cluster=on_cluster)
    if on_cluster and not engine.can_build_on_cluster:
        raise EngineError(f"{index.engine} builds no index on a cluster; leave --ray out")
    if index.engine_only and not engine.keeps_commits:
        option = "add --stored-vectors" if now.engine_only else "leave --no-stored-vectors out"
        raise EngineError(
            f"{index.engine} keeps no former commit whole while the next is made, so the vectors must be in the database too; "
            f"{option}"
        )
    return engine


def _say_if_another_wrote(engine: VectorEngine, index: Index) -> None:
    """What this database goes on from is not the last commit: another copy of it writes there too, and each misses the other's."""
    if token_of(engine) not in (None, index.sidecar):
        logger.warning(
            "what %s holds of %s was written by another copy of this database since, or by a run that was killed; this one goes "
            "on from what it wrote itself, and only one should write there",
            index.engine,
            printable(repr(index.image_table)),
        )


def _check_is_of(engine: VectorEngine, index: Index, asked: Asked) -> None:
    """Raises EngineError if the last commit is of another index, whose searches would miss it, or who has no other vectors."""
    owner = owner_of(engine)
    if owner in (None, index.identity):
        return
    if is_only_copy(engine):
        raise EngineError(
            f"the engine {index.engine} of {index.image_table!r} holds the only copy of the vectors of another index; name "
            "another place with index-images --uri"
        )
    if not asked.takes_over:
        raise EngineError(
            f"the engine {index.engine} of {index.image_table!r} holds the vectors of another index; name another place with "
            f"index-images --uri; if this is the place of {index.image_table!r}, take it back with index-images --engine "
            f"{index.engine}; or delete what is there"
        )


def _none(index: Index) -> Ids:
    return ids_of(index, [], lambda _: None)


def _gone(conn: sqlite3.Connection, index: Index, held: Held) -> np.ndarray:
    """The ids of the vectors that were deleted since. Raises Unproven."""
    if held.rows is None:
        raise Unproven
    last = int(held.rows.ids[-1]) if len(held.rows.ids) else 0
    newer = rows_after(conn, index, last)
    return gone(conn, index, [held.rows], NOBODY, held.rows.state(), newer)


def _without_the_gone(conn: sqlite3.Connection, index: Index, held: Held) -> Held:
    absent = _gone(conn, index, held) if len(held) else NOBODY
    if not len(absent):
        return held
    is_gone = np.isin(held.vector_ids, absent)
    held.engine.remove(np.sort(held.ids_at(np.flatnonzero(is_gone))))
    assert held.rows is not None
    stays = ~np.isin(held.rows.ids, absent)
    images = None if held.image_ids is None else held.image_ids[~is_gone]
    rows = Rows(held.rows.ids[stays], held.rows.tokens[stays])
    return replace(held, vector_ids=held.vector_ids[~is_gone], image_ids=images, rows=rows)


def _with_the_new(
    conn: sqlite3.Connection,
    index: Index,
    held: Held,
    references: References | None,
    report: Report,
) -> tuple[Ids, Sequence[_Fed]]:
    """Adds the rows after the last one that was read, in batches. The ids of all, and what was added."""
    last = 0
    if held.rows is not None and len(held.rows.ids):
        last = int(held.rows.ids[-1])
    count, done = count_vectors(conn, index), len(held)
    fed = []

    def add(batch: StoredVectors) -> None:
        nonlocal done
        report("Feeding", done, count)
        starts = np.searchsorted(batch.vector_ids, batch.vector_ids)
        scenes = np.arange(len(batch.vector_ids)) - starts
        engine_ids = batch.vector_ids * SCENES + scenes
        vectors = with_biases(index, references, batch.vectors)
        held.engine.add(engine_ids, vectors)
        fed.append(_Fed(engine_ids, _digest(vectors)))
        done += len(batch.vector_ids)

    ids, images, rows = ids_of(index, vector_batches(conn, index, after=last), add)
    report("Feeding", count, count)
    all_images = None
    if images is not None and held.image_ids is not None:
        all_images = np.concatenate([held.image_ids, images])
    return (np.concatenate([held.vector_ids, ids]), all_images, all_rows([held.rows, rows])), fed


def _tuned(
    index: Index,
    held: Held,
    references: References | None,
    asked: Asked,
    report: Report,
    weights_of: WeightsOf,
) -> Held:
    """Tuned again if a person asks for it, or its recall may be another by now."""
    tuning = held.tuning
    if not held.engine.efforts():
        return replace(held, tuning=None, tuned_for=None)
    if not asked.wants_tuning and not must_be_tuned(held):
        return held
    target = asked.target or (tuning.target if tuning is not None else TARGET_RECALL)
    if asked.queries is None:
        queries = sample_queries(index, held, references, weights_of)
    else:
        queries = of_both_kinds(index, references, asked.queries)
    return tuned(held, queries, target, report)
