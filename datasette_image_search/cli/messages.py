"""How commands speak to a person, and how they end."""

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

from ..errors import ImageSearchError, printable

INTERRUPTED = 130
"""The exit code of a program that was ended by Ctrl-C: 128 + SIGINT."""


_TO_DO = {
    "not a database": "give the path of one, or of a new file",
    "database is locked": "another program is writing to it; try again when that has ended",
    "malformed": "it is damaged; take a backup, or what sqlite3's .recover finds in it",
    "readonly": "make the file and its folder writable, or work on a copy",
    "unable to open": "check the path, and who may read and write there",
    "is full": "free some space, and run it again",
}
"""What SQLite says, in part, and what a person can do about it."""


def warn(sentence: str) -> None:
    tell(f"Warning: {sentence}", err=True)


def tell(sentence: str, *, err: bool = False) -> None:
    """
    What a run has to say, in one line. That the terminal is gone, and nobody hears it, does not undo the
    run.
    """
    try:
        click.echo(printable(sentence), err=err)
    except OSError:
        # Python writes out at its end what is left, and would fail at that.
        to_nowhere((sys.stderr if err else sys.stdout).fileno())


def to_nowhere(descriptor: int) -> None:
    """What is written to a descriptor from now on is lost, and never an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def dropped_unfinished(table: str, model: str) -> None:
    """What is told of an index that --replace-model had begun, when it is given up."""
    tell(f"Dropped the unfinished index of {table!r} by {model}", err=True)


def migrated(database: Path) -> None:
    """What is told of a database when its tables are not those of an older version any more."""
    tell(f"Brought {str(database)!r} from an older version to this one", err=True)


@contextmanager
def one_sentence(database: Path) -> Iterator[None]:
    """
    What a person can put right ends the command with one sentence and exit code 1. Meanwhile Pillow says
    nothing of damage that we record, or that costs nothing; the filter is the process's, which has
    other plans in a server.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
            yield
    except ImageSearchError as error:
        raise click.ClickException(printable(str(error))) from error
    except sqlite3.Error as error:
        todo = next((todo for said, todo in _TO_DO.items() if said in str(error)), None)
        sentence = f"{str(database)!r}: {error}{f'; {todo}' if todo else ''}"
        raise click.ClickException(printable(sentence)) from error
    except OSError as error:
        if error.errno == errno.EPIPE:
            # Click ends quietly when the reader of a pipe has gone.
            raise
        file = error.filename if isinstance(error.filename, str) else str(database)
        raise click.ClickException(printable(f"{file!r}: {error.strerror or error}")) from error
