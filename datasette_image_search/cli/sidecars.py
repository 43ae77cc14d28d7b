"""What commands do at their end that have added vectors."""

from __future__ import annotations

from pathlib import Path

from .messages import warn
from .progress import phases_display


def finish(path: Path, table: str, silent: bool, *, interrupted: bool = False) -> bool:
    """
    Leave sidecars that are up to date, and no WAL. False where a Ctrl-C came in between. Of an
    `interrupted` run the next search does without, and the next run writes them.
    """
    from ..files.run_lock import RunInProgress
    from ..search.indexing import SidecarNotWritten, refresh_sidecars
    from ..store.connections import checkpoint, open_or_make

    is_whole = True
    with open_or_make(path) as db:
        try:
            if not interrupted:
                with phases_display(silent) as report:
                    refresh_sidecars(db, table, report)
        except SidecarNotWritten as error:
            warn(str(error))
        except RunInProgress:
            # That run does the same at its end.
            pass
        except KeyboardInterrupt:
            is_whole = False
        checkpoint(db)
    return is_whole
