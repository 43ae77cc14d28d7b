"""Messages of commands to people, and exit codes."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from sqlite_utils.db import NoTable

from ..errors import ImageSearchError, printable

INTERRUPTED = 130
"""The exit code of a program that was ended by Ctrl-C: 128 + SIGINT."""


_TO_DO = {
    "not a database": "give the path of one, or of a new file",
    "database is locked": "another program is writing to it; try again when it has finished",
    "malformed": "the file is damaged; restore a backup, or use sqlite3's .recover",
    "readonly": "make the file and its folder writable, or work on a copy",
    "unable to open": "check the path and its permissions",
    "is full": "free some space and try again",
}
"""Part of an error message of SQLite -> advice for a person."""


def warn(sentence: str) -> None:
    tell(f"Warning: {sentence}", err=True)


def tell(sentence: str, *, err: bool = False) -> None:
    """Print one line. A closed terminal is no error: it must not undo the run."""
    try:
        click.echo(printable(sentence), err=err)
    except OSError:
        # Otherwise Python would fail when it flushes the rest at its end.
        to_nowhere((sys.stderr if err else sys.stdout).fileno())


def to_nowhere(descriptor: int) -> None:
    """Redirect a descriptor to the null device, so that writing to it never fails."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def dropped_unfinished(table: str, model: str) -> None:
    """Report that the unfinished index of a --replace-model was given up."""
    tell(f"Dropped the unfinished index of {table!r} by {model}", err=True)


def migrated(database: Path) -> None:
    """Report that the tables of a database were brought to this version."""
    tell(f"Brought {str(database)!r} from an older version to this one", err=True)


@contextmanager
def one_sentence(database: Path) -> Iterator[None]:
    """
    Turn errors that a person can mend into one sentence and exit code 1. Pillow's warnings about damage
    are silenced meanwhile, because we record the damage that matters. The filter is for the whole process,
    so it is set here and not in code that a server runs too.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
            yield
    except ImageSearchError as error:
        raise click.ClickException(printable(str(error))) from error
    except NoTable as error:
        sentence = (
            f"{str(database)!r}: {error}, and has the name of a table of this program; rename it"
        )
        raise click.ClickException(printable(sentence)) from error
    except sqlite3.Error as error:
        todo = next((todo for said, todo in _TO_DO.items() if said in str(error)), None)
        sentence = f"{str(database)!r}: {error}{f'; {todo}' if todo else ''}"
        raise click.ClickException(printable(sentence)) from error
    except OSError as error:
        if error.errno == errno.EPIPE:
            # Click ends quietly if the reader of a pipe has gone.
            raise
        file = error.filename if isinstance(error.filename, str) else str(database)
        raise click.ClickException(printable(f"{file!r}: {error.strerror or error}")) from error
