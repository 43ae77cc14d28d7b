"""How commands speak to a person, and how they end."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ..errors import ImageSearchError

INTERRUPTED = 130
"""The exit code of a program that was ended by Ctrl-C: 128 + SIGINT."""


def warn(sentence: str) -> None:
    click.echo(f"Warning: {sentence}", err=True)


@contextmanager
def one_sentence() -> Iterator[None]:
    """What a person can put right ends the command with one sentence and exit code 1."""
    try:
        yield
    except ImageSearchError as error:
        raise click.ClickException(str(error)) from error
    except sqlite3.Error as error:
        raise click.ClickException(f"SQLite: {error}") from error
