"""Runs that write, and what follows them: the places of new images, and the files that searches are ranked from."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from sqlite_utils import Database

from .files.run_lock import RunInProgress
from .ingest import pipeline
from .ingest.import_request import ImportRequest
from .ingest.report import Summary
from .ingest.survey import EmbedRequest
from .ingest.vector_import import ImportSummary, import_vectors
from .places.locating import Located, locate_images, locate_new_images
from .progress import OnProgress, phases
from .store import Index
from .store.connections import checkpoint, open_or_make
from .store.filters import row_filter
from .store.indexes import WeightsOf, read_indexes

S = TypeVar("S", Summary, ImportSummary)


def embed(
    request: EmbedRequest,
    on_progress: OnProgress,
    on_plan: Callable[[Summary], None],
    weights_of: WeightsOf,
) -> Summary:
    """Embed, locate and index images."""
    summary = pipeline.embed_images(request, on_progress, on_plan, weights_of)
    if not summary.interrupted:
        summary = _with_places(request, summary, on_progress)
    return with_sidecars(request, summary, on_progress, weights_of)


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
    filter, located = row_filter(where, params), Located(0, 0)
    try:
        for located in locate_images(db, index, filter=filter, max_distance=max_distance):
            on_progress(located)
    finally:
        with suppress(sqlite3.Error):
            checkpoint(db)
    return located


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
        from .search.indexing import SidecarNotWritten, refresh_sidecars

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
