"""A run that wrote vectors, and the files that searches are ranked from after it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from .files.run_lock import RunInProgress
from .ingest.pipeline import Summary
from .ingest.vector_import import ImportSummary
from .search.approximate import Report
from .search.indexing import SidecarNotWritten, refresh_sidecars
from .store.connections import checkpoint, open_or_make

S = TypeVar("S", Summary, ImportSummary)


def with_sidecars(database: Path, table: str, summary: S, report: Report) -> S:
    """
    Leave sidecars that are up to date, and no WAL. The next search does without the sidecars of a
    run that was interrupted, and the next run writes them.
    """
    with open_or_make(database) as db:
        try:
            if not summary.interrupted:
                refresh_sidecars(db, table, report)
        except RunInProgress:
            # That run does the same at its end.
            pass
        except SidecarNotWritten as error:
            summary = replace(summary, not_written=str(error))
        except KeyboardInterrupt:
            summary = replace(summary, interrupted=True)
        checkpoint(db)
    return summary
