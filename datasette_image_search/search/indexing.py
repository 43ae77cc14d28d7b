"""Writes the sidecars of a table: after embedding if it is worth it, or because a person asks."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sqlite_utils import Database

from .. import store
from ..checked import check_flag, check_share, check_text, several
from ..engines.protocol import EngineError
from ..engines.registry import BUILT_IN
from ..files.run_lock import only_run
from ..files.whole_files import put_in_place
from ..progress import Report, silent
from ..store import Index
from ..store.connections import database_path
from ..store.held_vectors import hand_over, take_back
from ..store.indexes import (
    WeightsOf,
    all_indexes,
    record_index_type,
    record_sidecar,
    recorded_weights,
)
from ..store.references import References, record_references
from ..store.schema import ensure_tables
from ..store.tokens import rows_after
from ..store.vectors import count_vectors
from . import approximate
from .approximate import Approximate
from .chosen_engine import with_engine
from .codes import Codes
from .feeding import Asked, feed
from .first_segment import open_segment
from .lineage import NOBODY, Unproven, gone
from .not_written import SidecarNotWritten, not_written, room_in
from .references import own_references, references_of
from .sample_queries import of_both_kinds, own_queries, sample_queries
from .segment import Segment
from .sidecar import (
    SidecarUnusable,
    approximate_path,
    open_approximate,
    open_sidecar,
    sidecar_path,
    sidecar_paths,
    text_tower_path,
    write_sidecar,
    written_beside,
)
from .stored import stored_codes
from .tuning import TARGET_RECALL, Tuning

TOLERATED_CHANGE = 0.05
"""The share of a sidecar that may be added or deleted before it is worth writing a new one."""

MOST_BESIDE = 10_000
"""Vectors that may be added or deleted before it is worth feeding an engine: it takes more without being written anew."""


@dataclass(frozen=True)
class IndexSummary:
    """
    The index that was written, of so many `vectors`: `bytes_per_vector` of the exact codes, `in_bytes` too or in half
    precision alone, and the approximate index that proposes from them, None if searches compare all. An `engine` has
    `tuning` in its place.
    """

    vectors: int
    dimensions: int
    bytes_per_vector: float
    approximate: Approximate | None
    engine: str = BUILT_IN
    tuning: Tuning | None = None
    in_bytes: bool = False


def feed_meanwhile(db: Database, table: str, weights_of: WeightsOf = recorded_weights) -> None:
    """
    While a run embeds, hand the vectors that it has written over to engines that alone are to have them. What fails stays in the
    database, and is told by refresh_sidecars().
    """
    database = database_path(db.conn)
    if database is None:
        return
    for index in store.read_indexes(db.conn, table):
        if index.engine_only:
            asked = Asked(is_checked=True)
            index, references = references_of(db.conn, index, weights_of, silent)
            with suppress(SidecarNotWritten):
                _feed(db, database, index, references, asked, silent, weights_of)


def refresh_sidecars(
    db: Database, table: str, report: Report = silent, weights_of: WeightsOf = recorded_weights
) -> None:
    """
    Rewrite the sidecars of a table that are unusable or have changed much, and remove those of dropped
    indexes. Raises SidecarNotWritten, which costs only speed, and RunInProgress if another run is active,
    which will do this at its end.
    """
    database = database_path(db.conn)
    if database is None:
        return
    with only_run(database):
        for index in store.read_indexes(db.conn, table):
            _refresh(db, database, index, report, weights_of)
        wanted: set[Path] = set()
        for index in all_indexes(db.conn):
            wanted |= {
                place(database, index)
                for place in (sidecar_path, approximate_path, text_tower_path)
            }
        _remove(path for path in sidecar_paths(database) if path not in wanted)


def _refresh(
    db: Database, database: Path, index: Index, report: Report, weights_of: WeightsOf
) -> None:
    was = index
    index, references = references_of(db.conn, index, weights_of, report)
    try:
        opened = open_segment(database, index, check=True)
    except SidecarUnusable:
        opened = None
    codes = opened if isinstance(opened, Codes) else None
    if index.engine is not None:
        if opened is None or not _is_fresh(db.conn, index, opened):
            checked = Asked(is_checked=opened is not None)
            try:
                _feed(db, database, index, references, checked, report, weights_of)
            except SidecarNotWritten as error:
                if index.engine_only or not isinstance(error.__cause__, EngineError):
                    raise
                raise SidecarNotWritten(
                    f"{error}; searches work without it, but take longer"
                ) from error
        return
    before = None
    if codes is None or not _is_fresh(db.conn, index, codes):
        before = _usable_approximate(database, was, mapped=False, check=True)
        index, codes = _write_codes(db, database, index, references, report)
    else:
        record_references(db, index, references)
        if _usable_approximate(database, index, check=True) is not None:
            return
    asked = _type_of(index)
    factory = approximate.resolve_type(asked, len(codes))
    if factory is None:
        _remove([approximate_path(database, index)])
        return
    if before is not None and index.references_token == was.references_token:
        made = approximate.extended(before, codes, report)
        if made is not None:
            _write(approximate_path(database, index), index, made, database)
            return
    try:
        built = approximate.build(codes, factory, report=report)
    except approximate.IndexTypeError:
        # It was wanted for many vectors; now there are few, whose exact search is fast.
        _remove([approximate_path(database, index)])
        return
    queries = sample_queries(index, codes, references, weights_of)
    target = before.tuning.target if before is not None else TARGET_RECALL
    made = approximate.tune(built, codes, asked, factory, queries, target=target, report=report)
    _write(approximate_path(database, index), index, made, database)


def _feed(
    db: Database,
    database: Path,
    index: Index,
    references: References | None,
    asked: Asked,
    report: Report,
    weights_of: WeightsOf,
) -> tuple[Index, Segment]:
    """Bring an engine up to date, and record it in the database. Raises SidecarNotWritten."""
    former = [] if index.sidecar is None else [index.sidecar]
    try:
        index, held = feed(db.conn, database, index, references, asked, report, weights_of)
    except EngineError as error:
        raise SidecarNotWritten(error.in_full()) from error
    _write_all(db, database, index, references, held, None)
    with suppress(EngineError):
        held.engine.clean_up([str(index.sidecar), *former])
    return index, held


def index_images(
    db: Database,
    table: str,
    model: str | None = None,
    type: str | None = None,
    report: Report = silent,
    weights_of: WeightsOf = recorded_weights,
    *,
    target: float | None = None,
    queries: np.ndarray | Path | None = None,
    gpu: bool = False,
    reference_queries: Sequence[str] | None = None,
    engine: str | None = None,
    uri: str | Path | None = None,
    stored_vectors: bool | None = None,
    builds_on_cluster: bool = False,
) -> tuple[Index, Segment, Approximate | None]:
    """
    Rewrite the sidecars of an index, as make_index() makes them, or feed an `engine`, at a place that has the `uri`.
    Later runs of embed-images keep the engine and the type. `reference_queries` are a person's own. Without `stored_vectors`
    only the engine keeps vectors; with them, the database has them again. If it fails, nothing is changed. Raises StoreError,
    IndexTypeError, SidecarNotWritten, or RunInProgress.
    """
    check_asked(type, target, gpu=gpu)
    if stored_vectors is not None:
        check_flag("stored_vectors", stored_vectors)
    database = database_path(db.conn)
    if database is None:
        raise SidecarNotWritten("a database in memory has no file to write an index beside")
    with only_run(database):
        index = store.find_index(db.conn, table, model)
        # A database of an older version has no tokens to prove what was read.
        ensure_tables(db, index.image_table, index.path_column or index.content_column)
        index = store.find_index(db.conn, table, model)
        if reference_queries is None:
            chosen = references_of(db.conn, index, weights_of, report)
        else:
            texts = several("reference_queries", reference_queries, str)
            chosen = own_references(index, texts, weights_of, report)
        recorded = index.engine, index.engine_uri
        index = with_engine(db, database, index, engine, uri, stored_vectors=stored_vectors)
        chosen = replace(index, references_token=chosen[0].references_token), chosen[1]
        if chosen[0].engine is not None:
            if gpu:
                raise approximate.IndexTypeError("only FAISS builds on a GPU; leave --gpu out")
            count_to_search(db.conn, index)
            is_asked = engine is not None or uri is not None
            takes_over = is_asked and recorded == (index.engine, index.engine_uri)
            queries = own_queries(queries, index)
            asked = Asked(type, target, queries, takes_over, builds_on_cluster)
            return *_feed(db, database, *chosen, asked, report, weights_of), None
        if builds_on_cluster:
            raise approximate.IndexTypeError(
                "--ray builds the index of an engine; add --engine lance, or leave it out"
            )
        index, codes, made = make_index(
            db.conn,
            *chosen,
            type=type,
            target=target,
            queries=queries,
            gpu=gpu,
            folder=database.parent,
            report=report,
            weights_of=weights_of,
        )
        report("Writing", 0, 1)
        index = _with_new_sidecar(index, codes)
        _write_all(db, database, index, chosen[1], codes, made, report)
        with suppress(SidecarUnusable):
            # As they are now, and perhaps in bytes too.
            codes = open_sidecar(sidecar_path(database, index), index)
        report("Writing", 1, 1)
    return index, codes, made


def summary_of(index: Index, codes: Segment, made: Approximate | None) -> IndexSummary:
    """Of what index_images() returns."""
    return IndexSummary(
        len(codes),
        index.dimensions,
        codes.bytes_per_vector(),
        made,
        codes.engine_name,
        codes.tuning,
        in_bytes=codes.in_bytes is not None,
    )


def check_asked(type: str | None = None, target: float | None = None, *, gpu: bool = False) -> None:
    """Raises ImageSearchError for values that no index can be made by."""
    if type is not None:
        check_text("type", type)
    if target is not None:
        check_share("target", target, such_as=0.98)
    check_flag("gpu", gpu)


def make_index(
    conn: sqlite3.Connection,
    index: Index,
    references: References | None,
    *,
    type: str | None = None,
    target: float | None = None,
    queries: np.ndarray | Path | None = None,
    gpu: bool = False,
    folder: Path | None = None,
    report: Report = silent,
    weights_of: WeightsOf = recorded_weights,
) -> tuple[Index, Codes, Approximate | None]:
    """
    In memory, or in a file in `folder` if they are too many, the codes of an index, with biases by the references, and an
    approximate index by one of approximate.TYPES or by any FAISS factory string, tuned to a recall of `target` for
    `queries`, shape (n, dimensions), or else for samples. Without a type or a target, those that it has. The row of the
    index comes with the type to remember.

    Raises IndexTypeError for what cannot be made, and SidecarNotWritten if the folder has no room.
    """
    count, queries = count_to_search(conn, index), own_queries(queries, index)
    if type is None:
        type = _type_of(index)
    factory = approximate.resolve_type(type, count)
    if factory is None and gpu:
        raise approximate.IndexTypeError(
            f"there is nothing to build for {count:,} vectors, whose search is exact; "
            "leave --gpu out, or ask for --type ivf"
        )
    if factory is not None:
        approximate.empty_index(index.dimensions, factory, gpu=gpu)
    if target is None:
        # As the database names it, perhaps with other references.
        rows = store.read_indexes(conn, index.image_table)
        was = next((each for each in rows if each.id == index.id), index)
        before = _usable_approximate(database_path(conn), was)
        target = TARGET_RECALL if before is None else before.tuning.target
    codes = _codes_to_write(conn, index, references, report, folder)
    if not len(codes):
        raise _nothing_to_index(index)
    made = None
    if factory is not None:
        built = approximate.build(codes, factory, gpu=gpu, report=report)
        if queries is None:
            queries = sample_queries(index, codes, references, weights_of)
        else:
            queries = of_both_kinds(index, references, queries)
        made = approximate.tune(built, codes, type, factory, queries, target=target, report=report)
    index = replace(index, index_type=None if type == "auto" else type)
    return index, codes, made


def _type_of(index: Index) -> str:
    """The type that a person asked for, by its name of today."""
    type = index.index_type or "auto"
    return approximate.FORMER_TYPES.get(type, type)


def count_to_search(conn: sqlite3.Connection, index: Index) -> int:
    """The number of vectors of an index. Raises IndexTypeError if it has none."""
    count = count_vectors(conn, index)
    if not count:
        raise _nothing_to_index(index)
    return count


def _nothing_to_index(index: Index) -> approximate.IndexTypeError:
    return approximate.IndexTypeError(
        f"{index.image_table!r} has no vectors to index; embed its images first with embed-images"
    )


def _write_all(
    db: Database,
    database: Path,
    index: Index,
    references: References | None,
    codes: Segment,
    made: Approximate | None,
    report: Report = silent,
) -> None:
    """Write both files of a sidecar or neither, and record them in the database, with the references."""
    path, path_of_approximate = sidecar_path(database, index), approximate_path(database, index)
    try:
        with ExitStack() as stack:
            written = [
                (stack.enter_context(written_beside(place, index, each, database, report)), place)
                for place, each in ((path, codes), (path_of_approximate, made))
                if each is not None
            ]
            with store.transaction(db):
                if not index.engine_only:
                    take_back(db, index)
                _record(db, index, references, codes)
                record_index_type(db, index)
                if index.engine_only:
                    hand_over(db, index, codes.vector_ids)
                for temporary, place in written:
                    put_in_place(temporary, place)
    except (OSError, RuntimeError) as error:
        raise not_written(path, error) from error
    if made is None:
        _remove([path_of_approximate])


def _with_new_sidecar(index: Index, codes: Codes) -> Index:
    last = int(codes.vector_ids[-1]) if len(codes) else 0
    return replace(index, sidecar=secrets.token_hex(16), sidecar_vector_id=last)


def _write_codes(
    db: Database, database: Path, index: Index, references: References | None, report: Report
) -> tuple[Index, Codes]:
    """Rewrite the sidecar, and record it in the database, with the references."""
    codes = _codes_to_write(db.conn, index, references, report, database.parent)
    index = _with_new_sidecar(index, codes)
    _write(sidecar_path(database, index), index, codes, database, report)
    _record(db, index, references, codes)
    return index, codes


def _codes_to_write(
    conn: sqlite3.Connection,
    index: Index,
    references: References | None,
    report: Report,
    folder: Path | None,
) -> Codes:
    with room_in(folder, index):
        return stored_codes(conn, index, references, report=report, folder=folder)


def _record(db: Database, index: Index, references: References | None, codes: Segment) -> None:
    """
    Record a sidecar in the database, if the database still descends from the state that was read for it.
    """
    with store.transaction(db):
        record_sidecar(db, index)
        record_references(db, index, references)
        now = store.find_index(db.conn, index.image_table, index.model)
        try:
            _changed(db.conn, now, codes)
        except Unproven:
            raise SidecarNotWritten(
                f"{index.image_table!r} was replaced while its vectors were read, as when a backup is "
                "restored; run this again"
            ) from None


def _write(
    path: Path, index: Index, made: Codes | Approximate, database: Path, report: Report = silent
) -> None:
    try:
        write_sidecar(path, index, made, database, report)
    except (OSError, RuntimeError) as error:
        raise not_written(path, error) from error


def _usable_approximate(
    database: Path | None, index: Index, *, mapped: bool = True, check: bool = False
) -> Approximate | None:
    if database is None:
        return None
    try:
        path = approximate_path(database, index)
        return open_approximate(path, index, mapped=mapped, check=check)
    except SidecarUnusable:
        return None


def _is_fresh(conn: sqlite3.Connection, index: Index, held: Segment) -> bool:
    """Whether so little has changed that each process may keep it in memory."""
    try:
        with store.snapshot(conn):
            now = store.find_index(conn, index.image_table, index.model)
            tolerated = len(held) * TOLERATED_CHANGE
            if not held.ranks_all:
                tolerated = min(tolerated, MOST_BESIDE)
            return _changed(conn, now, held) <= tolerated
    except Unproven:
        return False


def _changed(conn: sqlite3.Connection, index: Index, codes: Segment) -> int:
    """The numbers of vectors added and deleted since these were read. Raises Unproven."""
    if codes.rows is None:
        raise Unproven
    last = int(codes.rows.ids[-1]) if len(codes.rows.ids) else 0
    newer = rows_after(conn, index, last)
    absent = gone(conn, index, [codes.rows], NOBODY, codes.rows.state(), newer)
    return len(newer.ids) + len(absent)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            if path.is_file():
                path.unlink()
