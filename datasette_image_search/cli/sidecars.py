"""The last step of commands that add vectors: bring sidecars up to date."""

from __future__ import annotations

from pathlib import Path

from .messages import warn
from .progress import phases_display


def finish(path: Path, table: str, silent: bool, *, interrupted: bool = False) -> bool:
    """
    Bring the sidecars up to date and empty the WAL. Returns False after a Ctrl-C. An `interrupted` run
    skips the sidecars: the next search works without, and the next run writes them.
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
            # The other run does the same at its end.
            pass
        except KeyboardInterrupt:
            is_whole = False
        checkpoint(db)
    return is_whole
