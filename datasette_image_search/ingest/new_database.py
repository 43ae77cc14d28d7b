"""A database that is there when all is in it, and not before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .model_choice import RunError


@contextmanager
def whole_or_none(database: Path) -> Iterator[Path]:
    """
    The file to write to: the database, or where there is none, one beside it that takes its name at the
    end. Nothing but that one is ever removed: what others put in the place meanwhile stays.

    For whoever holds the lock of the database. Raises RunError where others did that.
    """
    # Of a link to nowhere, the place that it leads to.
    database = database.resolve()
    beside = database.with_name(f"{database.name}-image-search.new")
    # Of a run that was killed, perhaps when the database had its name already; for the caller holds the lock.
    _remove(beside)
    if database.exists():
        yield database
        return
    try:
        yield beside
        try:
            _name(beside, database)
        except FileExistsError as error:
            raise RunError(
                f"another program has created {str(database)!r} meanwhile, so nothing was written; run "
                "this again"
            ) from error
    finally:
        # What cannot be removed goes with the next run, and does not undo this one.
        with suppress(OSError):
            _remove(beside)


def _remove(database: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)


def _name(file: Path, name: Path) -> None:
    """Raises FileExistsError where there is something of this name, which a rename would replace."""
    try:
        os.link(file, name)
    except FileExistsError:
        raise
    except OSError:
        # exFAT, for one, has no links.
        os.close(os.open(name, os.O_CREAT | os.O_EXCL))
        file.replace(name)
