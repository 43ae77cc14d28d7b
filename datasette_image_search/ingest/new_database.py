"""A new database that appears only when it is complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .model_choice import RunError


@contextmanager
def whole_or_none(database: Path) -> Iterator[Path]:
    """
    The file to write to: the database, or, if there is none, one beside it that takes its name at the
    end. Files that others put in its place meanwhile stay.

    The caller holds the lock of the database. Raises RunError if another program made it meanwhile.
    """
    # If it is a broken link, the place that it leads to.
    database = database.resolve()
    beside = database.with_name(f"{database.name}-image-search.new")
    # Left by a run that was killed, perhaps after the database had its name; the caller holds the lock.
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
        # The next run removes it; a failure here must not undo this run.
        with suppress(OSError):
            _remove(beside)


def _remove(database: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)


def _name(file: Path, name: Path) -> None:
    """Raises FileExistsError if the name exists, which a rename would replace."""
    try:
        os.link(file, name)
    except FileExistsError:
        raise
    except OSError:
        # exFAT, for one, has no links.
        os.close(os.open(name, os.O_CREAT | os.O_EXCL))
        file.replace(name)
