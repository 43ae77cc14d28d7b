"""Runs that write, and what follows them: the places of new images, the files that searches are ranked from, no WAL."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

from sqlite_utils import Database

from .cluster.nodes import connected
from .files.run_lock import RunInProgress
from .ingest import pipeline
from .ingest.import_request import ImportRequest
from .ingest.report import EMBEDDING, Summary
from .ingest.survey import EmbedRequest
from .ingest.vector_import import ImportSummary, import_vectors
from .places.locating import Located, locate_images, locate_new_images
from .progress import OnProgress, Report, phases
from .reading.reading import TextRead, read_images
from .search.query import text_encoder_of
from .store import Filter, Index
from .store.connections import checkpoint, open_or_make
from .store.duplicates import write_duplicates
from .store.filters import row_filter
from .store.indexes import WeightsOf, read_indexes

if TYPE_CHECKING:
    from .search.duplicates import DuplicateGroups
    from .search.indexing import IndexSummary
    from .search.tags import Tagged
    from .search.tower_export import Exported

FED_AT_ONCE = 50_000
"""Images that are embedded before their vectors are handed over to an engine: 100 MB of 512 dimensions."""

S = TypeVar("S", Summary, ImportSummary)
P = TypeVar("P", Located, TextRead)


def embed(
    request: EmbedRequest,
    on_progress: OnProgress,
    on_plan: Callable[[Summary], None],
    weights_of: WeightsOf,
) -> Summary:
    """Embed, locate and index images."""
    told = _fed_meanwhile(request, on_progress, weights_of)
    summary = pipeline.embed_images(request, told, on_plan, weights_of)
    if not summary.interrupted:
        summary = _with_places(request, summary, on_progress)
    return with_sidecars(request, summary, on_progress, weights_of)


def _fed_meanwhile(
    request: EmbedRequest, on_progress: OnProgress, weights_of: WeightsOf
) -> OnProgress:
    """
    The same, which also hands vectors over to an engine that alone is to have them: so the database has no more of them at a
    time than it must, however many images come.
    """
    fed = 0

    def tell(progress: Any) -> None:
        nonlocal fed
        on_progress(progress)
        if progress.doing == EMBEDDING and progress.done - fed >= FED_AT_ONCE:
            from .search.indexing import feed_meanwhile

            fed = progress.done
            with open_or_make(request.database) as db:
                feed_meanwhile(db, request.table, weights_of)

    return tell


def _with_places(request: EmbedRequest, summary: Summary, on_progress: OnProgress) -> Summary:
    try:
        with open_or_make(request.database) as db:
            indexes = read_indexes(db.conn, request.table)
            for located in locate_new_images(db, indexes[0]) if indexes else ():
                on_progress(located)
                summary = replace(summary, located=located.located)
    except KeyboardInterrupt:
        summary = replace(summary, interrupted=True)
    return summary


def import_into(
    request: ImportRequest, on_progress: OnProgress, weights_of: WeightsOf
) -> ImportSummary:
    """Import and index vectors."""
    summary = import_vectors(request, on_progress, weights_of)
    return with_sidecars(request, summary, on_progress, weights_of)


def locate(
    db: Database,
    index: Index,
    on_progress: OnProgress,
    *,
    where: str | None = None,
    params: Mapping[str, Any] | None = None,
    max_distance: float | None = None,
) -> Located:
    """Locate images: see locate_images(). Leaves no WAL, also after a Ctrl-C."""
    filter = row_filter(where, params)
    return _last(
        db, locate_images(db, index, filter=filter, max_distance=max_distance), on_progress
    )


def read(
    db: Database,
    index: Index,
    folder: Path,
    on_progress: OnProgress,
    *,
    where: str | None = None,
    params: Mapping[str, Any] | None = None,
    **options: Any,
) -> TextRead:
    """Read the text in pictures: see read_images(). Leaves no WAL, also after a Ctrl-C."""
    filter = row_filter(where, params)
    return _last(db, read_images(db, index, folder, filter=filter, **options), on_progress)


def index(
    db: Database,
    index: Index,
    type: str | None,
    report: Report,
    weights_of: WeightsOf,
    ray: str | None = None,
    **options: Any,
) -> IndexSummary:
    """Rebuild the sidecars: see index_images(), of an engine perhaps on the cluster at an address of Ray. Leaves no WAL."""
    from .search import indexing

    asked = index.image_table, index.model, type, report, weights_of
    options |= {"builds_on_cluster": ray is not None}
    with nullcontext() if ray is None else connected(ray):
        summary = indexing.summary_of(*indexing.index_images(db, *asked, **options))
    checkpoint(db)
    return summary


def export_words(db: Database, index: Index, weights_of: WeightsOf, *, quantize: bool) -> Exported:
    """Export the text tower: see export_text_tower(). Leaves no WAL."""
    from .search.tower_export import export_text_tower

    exported = export_text_tower(db, index, weights_of, quantize=quantize)
    checkpoint(db)
    return exported


def find_duplicates(
    conn: sqlite3.Connection,
    index: Index,
    threshold: float,
    filter: Filter | None,
    report: Report,
    *,
    write_to: Database | None,
) -> DuplicateGroups:
    """Find duplicates, and write a table of them if there is a database to write to."""
    from .search import duplicates

    groups = duplicates.find_duplicates(conn, index, threshold, filter, report)
    if write_to is None:
        return groups
    committed = Event()
    try:
        write_duplicates(write_to, index, duplicates.rows_of(groups), committed.set)
    except KeyboardInterrupt:
        # If all is written, nothing is left to interrupt.
        if not committed.is_set():
            raise
    return replace(groups, written=index.table.duplicates)


def tag(
    db: Database,
    index: Index,
    labels: str | Sequence[str],
    weights_of: WeightsOf,
    **options: Any,
) -> Iterator[Tagged]:
    """Tag images: see tag_with(). Leaves no WAL."""
    from .search import tags

    try:
        yield from tags.tag_with(db, index, text_encoder_of(index, weights_of), labels, **options)
    finally:
        # Of a generator that nobody finishes, the connection may be closed.
        with suppress(sqlite3.Error):
            checkpoint(db)


def _last(db: Database, run: Iterator[P], on_progress: OnProgress) -> P:
    """The progress at the end of a run, of which there is one at its beginning at least."""
    try:
        for progress in run:
            on_progress(progress)
    finally:
        with suppress(sqlite3.Error):
            checkpoint(db)
    return progress


def with_sidecars(
    request: EmbedRequest | ImportRequest,
    summary: S,
    on_progress: OnProgress,
    weights_of: WeightsOf,
) -> S:
    """
    Leave sidecars that are up to date, and no WAL. The next search does without the sidecars of a
    run that was interrupted, and the next run writes them.
    """
    try:
        # As late as this, so that a plan needs no faiss; a Ctrl-C meanwhile is one too.
        from .search.indexing import refresh_sidecars
        from .search.not_written import SidecarNotWritten

        with open_or_make(request.database) as db:
            try:
                if not summary.interrupted:
                    refresh_sidecars(db, request.table, phases(on_progress), weights_of)
            except RunInProgress:
                # That run does the same at its end.
                pass
            except SidecarNotWritten as error:
                summary = replace(summary, not_written=str(error))
            checkpoint(db)
    except KeyboardInterrupt:
        summary = replace(summary, interrupted=True)
    return summary
