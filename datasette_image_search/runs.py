"""A run that wrote vectors, and the files that searches are ranked from after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from .files.run_lock import RunInProgress
from .ingest.report import Summary
from .ingest.vector_import import ImportSummary
from .store.connections import checkpoint, open_or_make

S = TypeVar("S", Summary, ImportSummary)


def with_sidecars(
    database: Path, table: str, summary: S, report: Callable[[str, int, int], None]
) -> S:
    """
    Leave sidecars that are up to date, and no WAL. The next search does without the sidecars of a
    run that was interrupted, and the next run writes them.
    """
    try:
        # As late as this, so that a plan needs no faiss; a Ctrl-C meanwhile is one too.
        from .search.indexing import SidecarNotWritten, refresh_sidecars

        with open_or_make(database) as db:
            try:
                if not summary.interrupted:
                    refresh_sidecars(db, table, report)
            except RunInProgress:
                # That run does the same at its end.
                pass
            except SidecarNotWritten as error:
                summary = replace(summary, not_written=str(error))
            checkpoint(db)
    except KeyboardInterrupt:
        summary = replace(summary, interrupted=True)
    return summary
