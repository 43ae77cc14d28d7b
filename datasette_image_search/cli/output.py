"""Output for programs: JSON, CSV, or the paths of files."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .messages import migrated

if TYPE_CHECKING:
    from ..api import Images
    from ..store import Index


@contextmanager
def opened(path: Path, table: str) -> Iterator[Images]:
    """The images of an existing database. If a method brings its tables to this version, that is told."""
    from ..api import Images

    with Images(path, table) as images:
        try:
            yield images
        finally:
            if images.migrated:
                migrated(path)


def check_output(index: Index, output: str | None) -> None:
    """Raises ImageSearchError if there are no paths to print."""
    from ..store.reads import check_in_files

    if output == "paths":
        check_in_files(index)


def print_paths(files: Iterable[Path | str], *, null: bool) -> None:
    # As bytes, because names of files need not be UTF-8.
    for file in files:
        click.echo(os.fsencode(file) + (b"\0" if null else b""), nl=not null)


def print_table(
    lines: Sequence[Sequence[Any]],
    headers: Sequence[str],
    align: Sequence[str],
    *,
    err: bool = False,
) -> None:
    """A table for people; None among the lines is a rule. `align` is "left" or "right" by column."""
    from tabulate import SEPARATING_LINE, tabulate

    shown: Any = [SEPARATING_LINE if line is None else line for line in lines]
    click.echo(tabulate(shown, headers, disable_numparse=True, colalign=align), err=err)


def print_rows(rows: Sequence[dict[str, Any]], columns: Sequence[str], output: str) -> None:
    """Rows with these columns, as "json", "nl" or "csv"."""
    if output != "csv":
        from ..store.values import json_value

        rows = json_value(rows)
    if output == "json":
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif output == "nl":
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
    else:
        writer = csv.DictWriter(sys.stdout, columns)
        writer.writeheader()
        writer.writerows(rows)
