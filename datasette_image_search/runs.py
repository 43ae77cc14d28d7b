"""A run that wrote vectors, and the files that searches are ranked from after it."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from .files.run_lock import RunInProgress
from .ingest.import_request import ImportRequest
from .ingest.report import Summary
from .ingest.survey import EmbedRequest
from .ingest.vector_import import ImportSummary
from .progress import OnProgress, phases
from .store.connections import checkpoint, open_or_make
from .store.indexes import WeightsOf

S = TypeVar("S", Summary, ImportSummary)


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
