"""
Vectors that another program made -> an image table that can be searched: all of them, or none.

Everything is checked before anything is written, and written in one transaction.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from threading import Event

import numpy as np
from sqlite_utils import Database

from .. import store
from ..embedders.catalogue import check_model, known_dimensions
from ..embedders.fingerprints import precision_of
from ..embedders.protocol import Embedder, EmbedderError, ModelRequest, UnknownModel, WeightsMissing
from ..embedders.registry import load_embedder
from ..errors import counted
from ..files.run_lock import only_run
from ..store import ImageTable, Index, Key, StoreError
from ..store.connections import check_writable, open_if_exists, open_or_make
from ..store.finding import check_not_renamed
from ..store.held_vectors import VectorsAway
from ..store.imports import ImportedImage, add_imported, write_imported
from ..store.indexes import WeightsOf, ensure_index, recorded_weights
from ..store.migrations import migrate
from ..store.own_rows import own_content
from ..store.replacements import delete_index, unfinished_index
from ..store.schema import ensure_tables
from ..store.sources import record_files
from ..store.tables import IMPORTED, table_exists
from ..store.triggers import without_triggers
from ..store.vectors import image_vector
from ..store.writes import ensure_roots
from .import_request import ImportRequest
from .model_choice import ModelChoice, RunError, choose_model
from .new_database import whole_or_none
from .provenance import CANDIDATES, Original, OtherEmbedder, is_made_by, is_same
from .replacing import Replacement, replacement_by
from .report import Progress
from .vector_matching import Matches, find_matches
from .vector_sources import FileState, VectorSource, open_source, unit_blocks
from .walk import found_file

CACHE_KIB = 64_000
"""The size of the changed pages after which SQLite writes them to the file before the commit."""


@dataclass(frozen=True)
class ImportSummary:
    """
    `imported` vectors were written, `unchanged` ones were there already, `skipped` ones have no row.
    `added` rows are new, `not_there` counts new rows whose file is missing; if all are, `looked_for` is
    the root and the path of the first. `unproven` says why `model` could not be confirmed, None if it
    was. `given_up` is the model of an unfinished index that was dropped, `replacement` what the new index took the
    place of, None if of nothing. `migrated` says whether the run
    brought the database to this version, `not_written` why the sidecars could not be written, None if
    they were; `interrupted` is true if a Ctrl-C came after the vectors were written.
    """

    model: str
    imported: int
    unchanged: int
    added: int
    skipped: int
    not_there: int
    looked_for: tuple[str, str] | None
    unproven: str | None
    seconds: float
    given_up: str | None = None
    replacement: Replacement | None = None
    migrated: bool = False
    not_written: str | None = None
    interrupted: bool = False


@dataclass(frozen=True)
class _Job:
    """An import that passed all checks."""

    request: ImportRequest
    source: VectorSource
    matches: Matches
    choice: ModelChoice
    replacement: Replacement | None
    is_new_table: bool
    path_column: str | None
    content_column: str | None
    fingerprint: str
    unproven: str | None

    def carry_out(self, db: Database, on_progress: Callable[[Progress], None]) -> Counter[str]:
        """Within a transaction of the caller. Counts "imported", "unchanged", "added", "not there"."""
        counts: Counter[str] = Counter()
        if self.is_new_table and table_exists(db.conn, self.request.table):
            raise RunError(
                f"another program has created the table {self.request.table!r} meanwhile, so nothing was "
                "imported; run this again"
            )
        table = ensure_tables(db, self.request.table, self.path_column or self.content_column)
        with without_triggers(db, table):
            for index in (*self.choice.replaced, self.choice.given_up):
                if index is not None:
                    delete_index(db, table, index)
            weights = self.request.weights
            index = ensure_index(
                db,
                table,
                model=self.choice.model,
                weights=str(weights.resolve()) if weights else None,
                fingerprint=self.fingerprint,
                dimensions=self.source.dimensions,
                path_column=self.path_column,
                content_column=self.content_column,
            )
            owners = [*self.matches.known, *self._add_rows(db, table, counts)]
            owners.sort(key=itemgetter(0))
            self._record_files(db, table)
            self._write_vectors(db, table, index, owners, counts, on_progress)
        return counts

    def _add_rows(
        self, db: Database, table: ImageTable, counts: Counter[str]
    ) -> Iterator[tuple[int, Key]]:
        files = self.matches.files
        roots = ensure_roots(db, sorted({files[at][0] for at in self.matches.new}))

        def images() -> Iterator[ImportedImage]:
            for at, found in self._look_at_files(self.matches.new):
                counts["not there"] += found is None
                state = self.source.states[at] if self.source.states else found
                size, mtime = (state.size, state.mtime) if state else (None, None)
                root, path = files[at]
                yield ImportedImage(roots[root], path, size, mtime)

        ids = add_imported(db, table, images()) if self.matches.new else ()
        counts["added"] = len(ids)
        return zip(self.matches.new, ids, strict=True)

    def _record_files(self, db: Database, table: ImageTable) -> None:
        images = self.matches.without_state
        states = []
        looks = self._look_at_files([at for at, _ in images])
        for (_, key), (at, found) in zip(images, looks, strict=True):
            state = self.source.states[at] if self.source.states else found
            if state is not None:
                states.append((key, state.size, state.mtime))
        record_files(db, table, states)

    def _look_at_files(self, positions: Sequence[int]) -> Iterator[tuple[int, FileState | None]]:
        """Position and the current state of the file, None if it is missing."""
        is_folder = lru_cache(os.path.isdir)
        for at in positions:
            root, path = self.matches.files[at]
            state = None
            # A million files are not looked for on a drive that is not there.
            if not root or is_folder(root):
                found = found_file(root, path, os.path.join(root, path))  # noqa: PTH118
                if found.problem is None:
                    state = FileState(found.size, found.mtime)
            yield at, state

    def _write_vectors(
        self,
        db: Database,
        table: ImageTable,
        index: Index,
        owners: Sequence[tuple[int, Key]],
        counts: Counter[str],
        on_progress: Callable[[Progress], None],
    ) -> None:
        """`owners` are position and image id, in the order of the source."""
        films = self.matches.films
        # A film has the vectors up to this position.
        ends = [at + (len(films[at].seconds) if at in films else 1) for at, _ in owners]
        done = start = 0
        left = np.empty((0, self.source.dimensions), np.float32)
        for block in unit_blocks(self.source):
            vectors = np.concatenate([left, block]) if len(left) else block
            until = start + len(vectors)
            last = bisect_right(ends, until, lo=done)
            chosen = owners[done:last]
            scenes = {key: films[at].seconds for at, key in chosen if at in films}
            written = write_imported(
                db,
                table,
                index,
                [key for _, key in chosen],
                [
                    vectors[at - start : end - start]
                    for (at, _), end in zip(chosen, ends[done:last], strict=True)
                ],
                scenes,
            )
            counts["imported"] += written
            counts["unchanged"] += len(chosen) - written
            # What is left of a film whose other scenes are in the next block.
            goes_on = last < len(owners) and owners[last][0] < until
            next_start = owners[last][0] if goes_on else until
            left = vectors[next_start - start :]
            done, start = last, next_start
            on_progress(Progress(done, len(owners), 0, "", "Importing"))


def import_vectors(
    request: ImportRequest,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    weights_of: WeightsOf = recorded_weights,
) -> ImportSummary:
    """
    Make a table searchable by vectors of another program. Raises ImageSearchError with one sentence for
    any problem, and writes nothing then.
    """
    started, interrupted = time.perf_counter(), False
    check_writable(request.database)
    exists = request.database.exists()
    if exists and request.source.exists() and request.database.samefile(request.source):
        raise RunError(
            f"{str(request.source)!r} is the database to import from; choose another one for the images"
        )
    with (
        only_run(request.database),
        open_source(request.source, paths=request.paths, collection=request.collection) as source,
    ):
        job = _prepare(request, source, weights_of)
        committed = Event()
        try:
            with whole_or_none(request.database) as file, open_or_make(file) as db:
                if request.wal:
                    db.enable_wal()
                db.execute(f"pragma cache_size = -{CACHE_KIB}")
                with store.transaction(db, committed.set):
                    migrated = migrate(db)
                    counts = job.carry_out(db, on_progress)
        except KeyboardInterrupt:
            # It may come when all is written; a new database must have its name as well.
            if not (committed.is_set() and request.database.exists()):
                raise
            interrupted = True
    none_is_there = 0 < counts["added"] == counts["not there"]
    return ImportSummary(
        model=job.choice.model,
        imported=counts["imported"],
        unchanged=counts["unchanged"],
        added=counts["added"],
        skipped=job.matches.skipped,
        not_there=counts["not there"],
        looked_for=job.matches.files[job.matches.new[0]] if none_is_there else None,
        unproven=job.unproven,
        seconds=time.perf_counter() - started,
        given_up=job.choice.given_up.model if job.choice.given_up else None,
        replacement=job.replacement,
        migrated=migrated,
        interrupted=interrupted,
    )


# --- What is to be done, found out without writing ------------------------------------------------


def _prepare(request: ImportRequest, source: VectorSource, weights_of: WeightsOf) -> _Job:
    with open_if_exists(request.database) as db:
        request = replace(request, model=request.model or source.model)
        if request.model is None:
            raise RunError(
                f"{source.name} does not name the model of its vectors; name it with --model"
            )
        if not request.replace_model:
            check_not_renamed(db.conn, request.table)
        indexes = store.read_indexes(db.conn, request.table)
        _check_other_model(request, indexes)
        unfinished = unfinished_index(db.conn, request.table)
        choice = choose_model(request, indexes, unfinished, anew=True)
        model, index = choice.model, choice.index
        columns = _own_columns(request, db, indexes)
        matches = find_matches(request, db, source, *columns)
        if not (matches.known or matches.new):
            raise RunError(f"table {request.table!r} has no row for any path of {source.name}")
        replacement = _replacement(db, request, choice, matches)
        weights = request.weights or (weights_of(index) if index else None)
        precision = precision_of(index.fingerprint) if index else None
        embedder, unproven = _load(request, ModelRequest(model, weights, precision=precision))
        for other, dimensions in (
            (model, embedder.dimensions if embedder else known_dimensions(model)),
            (f"the index of {request.table!r} by {model}", index and index.dimensions),
        ):
            if dimensions and dimensions != source.dimensions:
                raise RunError(
                    f"the vectors of {source.name} have {counted(source.dimensions, 'dimension')}, and "
                    f"{other} has {dimensions:,}; nothing was imported: name the --model that made them"
                )
        fingerprint, unproven = _prove(
            request, db, source, matches, index, embedder, unproven, columns[1]
        )
        is_new = not table_exists(db.conn, request.table)
    return _Job(
        request, source, matches, choice, replacement, is_new, *columns, fingerprint, unproven
    )


def _check_other_model(request: ImportRequest, indexes: Sequence[Index]) -> None:
    """
    A new index may have any name, because vectors are useful without their model. Beside an index of
    another model, an unknown name is probably mistyped.
    """
    if request.model is None or not indexes:
        return
    if request.model in [index.model for index in indexes]:
        return
    if request.add_model or request.replace_model:
        return
    try:
        check_model(request.model, has_weights=request.weights is not None)
    except UnknownModel as error:
        raise RunError(f"{error}; or add --add-model to keep vectors under this name") from error
    except EmbedderError:
        return


def _own_columns(
    request: ImportRequest, db: Database, indexes: Sequence[Index]
) -> tuple[str | None, str | None]:
    """
    The column with the paths of a person's own table, or the one with the contents of its images; None and None for a table
    of ours, or a new one.
    """
    if not table_exists(db.conn, request.table):
        if request.path_column is not None:
            raise StoreError(f"there is no table {request.table!r} in this database")
        return None, None
    table = store.find_image_table(db.conn, request.table)
    if request.path_column is not None:
        table.check_is_own("leave --path-column out")
        return request.path_column, None
    if table.path_column is not None:
        return None, None
    for index in indexes:
        if index.path_column or index.content_column:
            return index.path_column, index.content_column
    raise StoreError(
        f"table {request.table!r} is your own; name the column with the paths of its images with "
        "--path-column"
    )


def _replacement(
    db: Database, request: ImportRequest, choice: ModelChoice, matches: Matches
) -> Replacement | None:
    """What --replace-model replaces. Raises RunError if an image would be left without a vector."""
    if not choice.replaced:
        return None
    found = replacement_by(db.conn, choice, {key for _, key in matches.known})
    if found.left_out:
        raise RunError(
            f"--replace-model would leave {found.left_out:,} images of table {request.table!r} without "
            "a vector; import vectors of all of them, or use --add-model"
        )
    return found


def _load(request: ImportRequest, model: ModelRequest) -> tuple[Embedder | None, str | None]:
    """The embedder of the model, if it is on this machine, or the reason why it is not."""
    try:
        # First, as it takes no time to know that there is no such model.
        check_model(model.model_id, has_weights=model.weights is not None)
        return load_embedder(model), None
    except EmbedderError as error:
        if request.weights is not None:
            raise
        return None, _why_not_here(error)


def _why_not_here(error: EmbedderError) -> str:
    """The reason without the advice about loading models, which does not fit here."""
    if isinstance(error, WeightsMissing):
        return "its weights are not on this machine"
    if isinstance(error, UnknownModel):
        meant = f" (did you mean {error.closest!r}?)" if error.closest else ""
        return f"no installed model has this name{meant}, so you can search by #ID but not by words"
    return str(error)


def _prove(
    request: ImportRequest,
    db: Database,
    source: VectorSource,
    matches: Matches,
    index: Index | None,
    embedder: Embedder | None,
    unproven: str | None,
    content_column: str | None,
) -> tuple[str, str | None]:
    """
    Check every vector, and find the embedder that made them: the fingerprint to record, and why it is
    IMPORTED. Raises if it is known to be another one.
    """
    wanted = _spread([at for at, _ in matches.known]) | _spread(matches.new)
    samples = _pick(source, wanted)
    is_proven = False
    if embedder is not None:
        pictures = _pictures(request, db, matches, samples, content_column)
        is_proven = is_made_by(embedder, pictures, source.name)
        unproven = None if is_proven else "none of the pictures is available to compare with"
    is_like_index = index is not None and _is_like(db, index, samples, matches, source.name)
    if index is None:
        return (embedder.fingerprint if embedder and is_proven else IMPORTED), unproven
    if index.fingerprint == IMPORTED:
        if embedder and is_proven and is_like_index:
            return embedder.fingerprint, None
        return IMPORTED, unproven or "the earlier vectors were not compared"
    if is_proven and embedder and embedder.fingerprint != index.fingerprint:
        raise RunError(
            f"table {request.table!r} was embedded with other weights of {index.model}; use "
            "--replace-model, or those weights with --weights"
        )
    if not (is_proven or is_like_index):
        raise RunError(
            f"could not check that the model of {request.table!r} made the vectors of {source.name} "
            f"({unproven}); use --add-model with another name for the model, or --replace-model"
        )
    return index.fingerprint, None


def _pictures(
    request: ImportRequest,
    db: Database,
    matches: Matches,
    samples: Mapping[int, np.ndarray],
    content_column: str | None,
) -> Iterator[tuple[Original, np.ndarray]]:
    """The originals of the samples, with their vectors."""
    if content_column is None:
        for at, vector in samples.items():
            yield Path(*matches.files[at]), vector
        return
    table = store.find_image_table(db.conn, request.table)
    for at, key in matches.known:
        if at in samples:
            yield own_content(db.conn, table, content_column, key), samples[at]


def _spread(positions: Sequence[int]) -> set[int]:
    """Up to CANDIDATES of some positions, from the first to the last."""
    at = np.linspace(0, len(positions) - 1, min(CANDIDATES, len(positions))).astype(int)
    return {positions[number] for number in at}


def _pick(source: VectorSource, wanted: set[int]) -> dict[int, np.ndarray]:
    """Position -> unit vector, for the wanted ones; all are checked."""
    samples = {}
    start = 0
    for block in unit_blocks(source):
        end = start + len(block)
        samples.update({at: block[at - start].copy() for at in wanted if start <= at < end})
        start = end
    return samples


def _is_like(
    db: Database, index: Index, samples: Mapping[int, np.ndarray], matches: Matches, name: str
) -> bool:
    """
    True if the vectors are those that the index has of the same images, False if it has none of them, or they are away.
    Raises OtherEmbedder if they differ.
    """
    try:
        pairs = [
            (samples[at], stored)
            for at, key in matches.known
            if at in samples and (stored := image_vector(db.conn, index, key)) is not None
        ]
    except VectorsAway:
        return False
    if not pairs:
        return False
    if not is_same(*map(np.stack, zip(*pairs, strict=True))):
        raise OtherEmbedder(
            f"the vectors of {name} differ from those that {index.image_table!r} has of the same images by "
            f"{index.model}; use --replace-model to replace all of them, or --add-model with the name of "
            "another model"
        )
    return True
