"""Messages of commands to people, and exit codes."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ..errors import ImageSearchError, counted, printable

INTERRUPTED = 130
"""The exit code of a program that was ended by Ctrl-C: 128 + SIGINT."""


@contextmanager
def interruptible(sentence: str, *, err: bool = False) -> Iterator[None]:
    """A Ctrl-C ends the command with a sentence and INTERRUPTED."""
    try:
        yield
    except KeyboardInterrupt:
        tell(sentence, err=err)
        raise SystemExit(INTERRUPTED) from None


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


def migrated(database: Path) -> None:
    """Report that the tables of a database were brought to this version."""
    tell(f"Brought {str(database)!r} from an older version to this one", err=True)


def tell_of_run(database: Path, table: str, summary: Any) -> None:
    """Report what a run has done, or could not do, besides its work."""
    if summary.not_written is not None:
        warn(summary.not_written)
    if summary.migrated:
        migrated(database)
    if summary.given_up is not None:
        tell(f"Dropped the unfinished index of {table!r} by {summary.given_up}", err=True)


def warn_of_dropped(replacement: Any, *, is_done: bool) -> None:
    """Warn of what a new index does not take over from those that it replaces."""
    if replacement is None:
        return
    models = " and ".join(replacement.models)
    go, again = ("went", "again") if is_done else ("will be dropped", "again afterwards")
    if replacement.tags:
        warn(
            f"{counted(replacement.tags, 'tag')} made with {models} {go} with its index; run tag-images with "
            f"your labels {again}"
        )
    if replacement.references:
        warn(
            f"{counted(replacement.references, 'reference query', 'reference queries')} read with {models} "
            f"{go} with its index; if they are your own, run index-images with --reference-queries {again}"
        )


@contextmanager
def one_sentence(database: Path) -> Iterator[None]:
    """
    Turn errors that a person can mend into one sentence and exit code 1. Pillow's warnings about damage
    are silenced meanwhile, because we record the damage that matters. The filter is for the whole process,
    so it is set here and not in code that a server runs too.
    """
    from ..store.outside_errors import in_one_sentence

    try:
        with warnings.catch_warnings(), in_one_sentence(lambda: database):
            warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
            yield
    except ImageSearchError as error:
        raise click.ClickException(printable(str(error))) from error
