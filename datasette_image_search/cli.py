"""
Commands for sqlite-utils: options, progress and messages. What they do is done elsewhere, and is
imported when a command runs: sqlite-utils loads this module on every run.
"""

from __future__ import annotations

import csv
import json
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from sqlite_utils import hookimpl

from .errors import ImageSearchError
from .sql import register_functions

if TYPE_CHECKING:
    from .ingest.pipeline import Progress, Summary

SHOWN_FAILURES = 20
SECONDS_BETWEEN_LINES = 10


def _warn(sentence: str) -> None:
    click.echo(f"Warning: {sentence}", err=True)


@hookimpl
def prepare_connection(conn: sqlite3.Connection) -> None:
    register_functions(conn, report=lambda sentence: click.echo(sentence, err=True))


@contextmanager
def _one_sentence() -> Iterator[None]:
    """What a person can put right ends the command with one sentence and exit code 1."""
    try:
        yield
    except ImageSearchError as error:
        raise click.ClickException(str(error)) from error
    except sqlite3.Error as error:
        raise click.ClickException(f"SQLite: {error}") from error


@hookimpl
def register_commands(cli: click.Group) -> None:
    cli.command("embed-images")(embed_images)
    cli.command("search-images")(search_images)


_database = click.argument("path", type=click.Path(dir_okay=False, path_type=Path), metavar="PATH")


@_database
@click.argument("table")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILES_OR_FOLDERS..."
)
@click.option(
    "--model",
    help="Model to embed with: palette, or ARCHITECTURE/PRETRAINED of open_clip, or timm/NAME. "
    "Default: the model of the table, for a new one ViT-B-32-256/datacomp_s34b_b86k",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="File with the weights of the model, instead of a download",
)
@click.option("--device", help="torch device such as cpu, cuda or mps. Default: the best there is")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Images per batch: encoded together and committed together",
)
@click.option(
    "--workers", type=click.IntRange(min=1), help="Threads that decode. Default: one per processor"
)
@click.option("-s", "--silent", is_flag=True, help="Show no progress bar")
def embed_images(
    path: Path,
    table: str,
    files: Sequence[Path],
    model: str | None,
    weights: Path | None,
    device: str | None,
    batch_size: int,
    workers: int | None,
    silent: bool,
) -> None:
    """
    Make images searchable: a row, a vector and a thumbnail for each

    Folders are searched for images, with the folders in them. Files that were embedded before and
    have not changed are skipped, so running it again picks up what is new.

    \b
    Example:
        sqlite-utils embed-images photos.db images ~/Pictures
    """
    from sqlite_utils import Database

    from .ingest import pipeline
    from .search.live import SidecarNotWritten, refresh_sidecar

    request = pipeline.EmbedRequest(path, table, files, model, weights, device, batch_size, workers)
    with _one_sentence():
        with _progress(silent) as show:
            summary = pipeline.embed_images(request, show)
        with closing(Database(path, execute_plugins=False)) as db:
            try:
                refresh_sidecar(db, table)
            except SidecarNotWritten as error:
                _warn(str(error))
    _print_failures(summary)
    click.echo(_summary_line(summary))


def _print_failures(summary: Summary) -> None:
    for failure in summary.failures[:SHOWN_FAILURES]:
        click.echo(f"Failed: {failure.path}: {failure.reason}", err=True)
    more = len(summary.failures) - SHOWN_FAILURES
    if more > 0:
        click.echo(f"... and {more:,} more, listed in the table {summary.failures_table}", err=True)


def _summary_line(summary: Summary) -> str:
    failed = len(summary.failures) + summary.failed_before
    line = (
        f"{summary.embedded:,} embedded, {summary.unchanged:,} unchanged, {failed:,} failed "
        f"in {summary.seconds:.1f} s"
    )
    if summary.embedded:
        line += (
            f" ({summary.embedded / summary.seconds:.1f} images/s, "
            f"{summary.model} on {summary.device})"
        )
    return line


@contextmanager
def _progress(silent: bool) -> Iterator[Any]:
    """A function that shows a Progress: a bar on a terminal, else a line now and then."""
    if silent:
        yield lambda progress: None
    elif sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield _lines()


@contextmanager
def _bar() -> Iterator[Any]:
    with click.progressbar(
        length=1,
        label="Embedding",
        show_pos=True,
        item_show_func=lambda note: note,
        file=sys.stderr,
    ) as bar:
        started = time.monotonic()

        def show(progress: Progress) -> None:
            bar.length = max(progress.total, 1)
            rate = progress.done / max(time.monotonic() - started, 1e-3)
            failed = f", {progress.failed:,} failed" if progress.failed else ""
            bar.update(progress.done - bar.pos, f"{rate:.1f} images/s{failed}")

        yield show


def _lines() -> Any:
    started = last = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            rate = progress.done / (now - started)
            click.echo(
                f"{progress.done:,} of {progress.total:,} images, {rate:.1f} images/s, "
                f"{progress.failed:,} failed",
                err=True,
            )

    return show


@_database
@click.argument("table")
@click.argument("query")
@click.option(
    "-k", type=click.IntRange(min=1), default=10, show_default=True, help="How many images"
)
@click.option("--where", help="Search only the rows for which this SQL is true")
@click.option(
    "-p",
    "--param",
    "params",
    type=(str, str),
    multiple=True,
    metavar="NAME VALUE",
    help="Value of a :NAME in --where",
)
@click.option("--json", "output", flag_value="json", help="Output JSON")
@click.option("--csv", "output", flag_value="csv", help="Output CSV")
@click.option("--paths", "output", flag_value="paths", help="Output the paths of the files only")
def search_images(
    path: Path,
    table: str,
    query: str,
    k: int,
    where: str | None,
    params: Sequence[tuple[str, str]],
    output: str | None,
) -> None:
    """
    Find the images closest to a query

    \b
    Examples of QUERY:
        "a red sports car"              words
        "#42"                           images like the one with id 42
        "#42 + at night - people"       terms added and subtracted
        "2:golden retriever + 0.5:#42"  terms with weights

    \b
    Example:
        sqlite-utils search-images photos.db images "dark blue" \\
            --where "camera_make = 'Canon'" -k 10
    """
    from sqlite_utils import Database

    from . import store
    from .search import planner
    from .search.query import query_vector

    with _one_sentence():
        if not path.exists():
            raise ImageSearchError(f"there is no database {str(path)!r}")
        with closing(Database(path, execute_plugins=False)) as db:
            index = store.find_index(db.conn, table)
            vector = query_vector(db.conn, index, query)
            filter = store.Filter(where, dict(params)) if where else None
            found = planner.search(db.conn, index, vector.vector, k, filter)
            ids = [hit.id for hit in found.hits]
            places = store.locations(db.conn, store.find_image_table(db.conn, table), ids)
    for warning in vector.warnings:
        _warn(warning)
    if output == "paths":
        for id in ids:
            click.echo(str(Path(places[id].root, places[id].path)))
        return
    rows = [{"score": hit.score, "id": hit.id, "path": places[hit.id].path} for hit in found.hits]
    _print_rows(rows, output)


def _print_rows(rows: Sequence[dict[str, Any]], output: str | None) -> None:
    if output == "json":
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif output == "csv":
        writer = csv.DictWriter(sys.stdout, ["score", "id", "path"])
        writer.writeheader()
        writer.writerows(rows)
    else:
        from tabulate import tabulate

        rounded = [{**row, "score": f"{row['score']:.4f}"} for row in rows]
        click.echo(tabulate(rounded, headers="keys", disable_numparse=True))
