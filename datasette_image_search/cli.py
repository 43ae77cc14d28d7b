"""
Commands for sqlite-utils: options, progress and messages. What they do is done elsewhere, and is
imported when a command runs: sqlite-utils loads this module on every run.
"""

from __future__ import annotations

import csv
import json
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from sqlite_utils import hookimpl

from .cli_models import image_models
from .cli_progress import COMPARING, IMPORTING, progress_display
from .errors import ImageSearchError
from .ingest.formats import BATCH_SIZE, THUMBNAIL_SIZE
from .sql import has_functions, register_functions

if TYPE_CHECKING:
    from sqlite_utils import Database

    from .ingest.pipeline import Summary
    from .ingest.vector_import import ImportSummary
    from .search.duplicates import Duplicate, Found
    from .store import Index, Location

SHOWN_REASONS = 20

SHOWN_DUPLICATES = 50
"""Of a group, where it is shown to a person."""

INTERRUPTED = 130
"""The exit code of a program that was ended by Ctrl-C: 128 + SIGINT."""


def _warn(sentence: str) -> None:
    click.echo(f"Warning: {sentence}", err=True)


@hookimpl
def prepare_connection(conn: sqlite3.Connection) -> None:
    if has_functions(conn):
        # A connection of Datasette, which wraps its own in sqlite_utils.Database now and then. Its
        # functions stay: these believe the database about where weights are, and those do not.
        return
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
    cli.command("import-image-vectors")(import_image_vectors)
    cli.command("search-images")(search_images)
    cli.command("find-duplicates")(find_duplicates)
    cli.command("image-models")(image_models)


_database = click.argument("path", type=click.Path(dir_okay=False, path_type=Path), metavar="PATH")


def _filter(command: Callable) -> Callable:
    """The options --where and -p."""
    param = click.option(
        "-p",
        "--param",
        "params",
        type=(str, str),
        multiple=True,
        metavar="NAME VALUE",
        help="Value of a :NAME in --where",
    )
    return click.option("--where", help="Only the rows for which this SQL is true")(param(command))


@_database
@click.argument("table")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="FILES_OR_FOLDERS...")
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
    "--precision",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="Numbers that the model computes with. Default: the fastest on the device",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=BATCH_SIZE,
    show_default=True,
    help="Images per batch: encoded together and committed together",
)
@click.option(
    "--workers", type=click.IntRange(min=1), help="Threads that decode. Default: one per processor"
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="GLOB",
    help="Leave out files and folders with such a name, or such a path below the root",
)
@click.option("--follow-symlinks", is_flag=True, help="Look into linked folders and files too")
@click.option("--no-thumbnails", is_flag=True, help="Store no thumbnails of what is embedded now")
@click.option(
    "--thumbnail-size",
    type=click.IntRange(16, 4096),
    default=THUMBNAIL_SIZE,
    show_default=True,
    help="Pixels of the longer side of new thumbnails",
)
@click.option(
    "--max-megapixels",
    type=click.FloatRange(min=0, min_open=True),
    help="Do not decode pictures with more. Default: what the free memory allows",
)
@click.option("--retry-failed", is_flag=True, help="Try again what could not be embedded before")
@click.option(
    "--prune/--no-prune",
    default=False,
    help="Remove the rows of files that are gone. Default: count and keep them",
)
@click.option("--limit", type=click.IntRange(min=1), help="Embed at most so many images")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing")
@click.option(
    "--wal",
    is_flag=True,
    help="Switch the database to a write-ahead log, which never makes readers wait",
)
@click.option("--path-column", help="Without files: the column of the table that has their paths")
@click.option(
    "--content-column", help="Without files: the column of the table that has images as BLOBs"
)
@click.option("--add-model", is_flag=True, help="Make a second index beside that of another model")
@click.option(
    "--replace-model", is_flag=True, help="Embed everything again, and drop the indexes there are"
)
@click.option("-s", "--silent", is_flag=True, help="Show no progress")
def embed_images(
    path: Path,
    table: str,
    files: Sequence[Path],
    exclude: Sequence[str],
    follow_symlinks: bool,
    no_thumbnails: bool,
    thumbnail_size: int,
    max_megapixels: float | None,
    dry_run: bool,
    silent: bool,
    **options: Any,
) -> None:
    """
    Make images searchable: a row, a vector and a thumbnail for each

    Folders are searched for images, with the folders in them. What was embedded before and has not
    changed is skipped, what was moved or copied is recognised, so running it again picks up what is
    new. Without files, the images that the table has already are embedded.

    \b
    Examples:
        sqlite-utils embed-images photos.db images ~/Pictures
        sqlite-utils embed-images my.db pictures --path-column file
    """
    from .ingest import pipeline
    from .ingest.scan import ScanOptions
    from .ingest.survey import EmbedRequest

    request = EmbedRequest(
        path,
        table,
        files,
        scan=ScanOptions(tuple(map(_pattern, exclude)), follow_symlinks),
        thumbnail_size=None if no_thumbnails else thumbnail_size,
        max_pixels=int(max_megapixels * 1e6) if max_megapixels else None,
        **options,
    )
    with _one_sentence():
        if dry_run:
            click.echo(_plan_line(pipeline.plan_images(request)))
            return
        try:
            with progress_display(silent) as show:
                summary = pipeline.embed_images(request, show)
        except KeyboardInterrupt:
            # While files were looked for, or the model was loaded.
            click.echo("Interrupted: 0 embedded")
            raise SystemExit(INTERRUPTED) from None
        if not _finish(path, table):
            summary = replace(summary, interrupted=True)
    _print_failures(summary)
    click.echo(_summary_line(summary))
    if summary.interrupted:
        raise SystemExit(INTERRUPTED)


def _finish(path: Path, table: str) -> bool:
    """Leave sidecars that are up to date, and no WAL. False where a Ctrl-C came in between."""
    from .ingest.pipeline import checkpoint
    from .ingest.survey import connect
    from .search.indexing import SidecarNotWritten, refresh_sidecars

    is_whole = True
    with closing(connect(path)) as db:
        try:
            refresh_sidecars(db, table)
        except SidecarNotWritten as error:
            _warn(str(error))
        except KeyboardInterrupt:
            # The next search does without, and the next run writes them.
            is_whole = False
        checkpoint(db)
    return is_whole


def _pattern(glob: str) -> str:
    """As people and shells write the name of a folder."""
    return glob.removeprefix("./").rstrip("/")


def _print_failures(summary: Summary) -> None:
    """A line per reason, the most frequent first: a missing extra fails a thousand files alike."""
    paths_of: dict[str, list[str]] = {}
    for failure in summary.failures:
        paths_of.setdefault(failure.reason, []).append(failure.path)
    reasons = sorted(paths_of, key=lambda reason: -len(paths_of[reason]))
    for reason in reasons[:SHOWN_REASONS]:
        first, *others = paths_of[reason]
        files = f"{first} and {len(others):,} more" if others else first
        click.echo(f"Failed: {files}: {reason}", err=True)
    if len(reasons) > SHOWN_REASONS:
        click.echo(f"... and more, listed in the table {summary.failures_table}", err=True)
    if summary.failed_before:
        click.echo(
            f"{summary.failed_before:,} failed before and have not changed: see the table "
            f"{summary.failures_table}, or try them again with --retry-failed",
            err=True,
        )


def _plan_line(summary: Summary) -> str:
    return ", ".join([f"Would be: {summary.embedded:,} embedded", *_counts(summary)])


def _summary_line(summary: Summary) -> str:
    line = ", ".join([f"{summary.embedded:,} embedded", *_counts(summary)])
    line += f" in {summary.seconds:.1f} s"
    if summary.embedded:
        line += (
            f" ({summary.embedded / summary.seconds:.1f} images/s, "
            f"{summary.model} on {summary.device})"
        )
    return f"Interrupted: {line}" if summary.interrupted else line


def _counts(summary: Summary) -> list[str]:
    counts = [
        (summary.reused, "reused"),
        (summary.moved, "moved"),
        (summary.gone, "gone and removed" if summary.pruned else "gone"),
    ]
    failed = len(summary.failures) + summary.failed_before
    return [
        *(f"{count:,} {name}" for count, name in counts if count),
        f"{summary.unchanged:,} unchanged",
        f"{failed:,} failed",
    ]


@_database
@click.argument("table")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--model",
    help="Model that made the vectors, as for embed-images. Default: the one that the source names",
)
@click.option(
    "--paths",
    type=click.Path(path_type=Path),
    help="For a .npy file: text file with the paths of its pictures, one a line",
)
@click.option("--collection", help="For a database of llm with several collections: which of them")
@click.option(
    "--root",
    "roots",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Folder that the pictures are in; relative paths are relative to it",
)
@click.option(
    "--path-column", help="For a table of your own: the column that has the paths of its images"
)
@click.option(
    "--unknown",
    type=click.Choice(["refuse", "skip", "add"]),
    help="What to do with a path that the table has no row for. Default: add a row to a new table, "
    "refuse it for another",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="File with the weights of the model, to compare with",
)
@click.option("--add-model", is_flag=True, help="Make a second index beside that of another model")
@click.option(
    "--replace-model", is_flag=True, help="Drop the indexes there are, in favour of these vectors"
)
@click.option(
    "--wal",
    is_flag=True,
    help="Switch the database to a write-ahead log, which never makes readers wait",
)
@click.option("-s", "--silent", is_flag=True, help="Show no progress")
def import_image_vectors(path: Path, table: str, silent: bool, **options: Any) -> None:
    """
    Make images searchable with vectors that you have already

    SOURCE is a .npy file, the database of rclip, a folder of clip-retrieval, or a database of llm.
    Vectors go to the rows of the same paths. A new table gets a row for each, without what only the
    file itself could tell. All vectors are imported, or none.

    \b
    Examples:
        sqlite-utils import-image-vectors photos.db images vectors.npy \\
            --paths paths.txt --root ~/Pictures --model ViT-B-32/openai
        sqlite-utils import-image-vectors photos.db images ~/.local/share/rclip/db.sqlite3
        sqlite-utils import-image-vectors my.db images embeddings.db --collection photos \\
            --root ~/Pictures
    """
    from .ingest.vector_import import ImportRequest, import_vectors

    with _one_sentence():
        try:
            with progress_display(silent, IMPORTING) as show:
                summary = import_vectors(ImportRequest(path, table, **options), show)
        except KeyboardInterrupt:
            click.echo("Interrupted: nothing was imported")
            raise SystemExit(INTERRUPTED) from None
        is_whole = _finish(path, table)
    if summary.unproven:
        _warn(
            f"that {summary.model} made these vectors was not checked, and is believed: "
            f"{summary.unproven}"
        )
    click.echo(_import_line(summary))
    if not is_whole:
        raise SystemExit(INTERRUPTED)


def _import_line(summary: ImportSummary) -> str:
    counts = [
        (summary.unchanged, "unchanged"),
        (summary.skipped, "skipped"),
        (summary.added, "rows added"),
        (summary.not_there, "files not there"),
    ]
    listed = [f"{count:,} {name}" for count, name in counts if count]
    line = ", ".join([f"{summary.imported:,} vectors imported", *listed])
    return f"{line} in {summary.seconds:.1f} s ({summary.model})"


@_database
@click.argument("table")
@click.argument("query")
@click.option("--model", help="For a table with several models: which of them to search with")
@click.option(
    "-k", type=click.IntRange(min=1), default=10, show_default=True, help="How many images"
)
@_filter
@click.option("--json", "output", flag_value="json", help="Output JSON")
@click.option("--csv", "output", flag_value="csv", help="Output CSV")
@click.option("--paths", "output", flag_value="paths", help="Output the paths of the files only")
def search_images(
    path: Path,
    table: str,
    query: str,
    model: str | None,
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
    from . import store
    from .search import planner
    from .search.query import query_vector

    with _one_sentence(), _existing(path) as db:
        index = store.find_index(db.conn, table, model)
        if output == "paths":
            _require_files(index)
        vector = query_vector(db.conn, index, query)
        filter = store.Filter(where, dict(params)) if where else None
        found = planner.search(db.conn, index, vector.vector, k, filter)
        ids = [hit.id for hit in found.hits]
        places = store.locations(db.conn, index, ids)
    for warning in vector.warnings:
        _warn(warning)
    # A row may have been deleted since it was found.
    hits = [hit for hit in found.hits if hit.id in places]
    if output == "paths":
        for place in (places[hit.id] for hit in hits):
            click.echo(str(_file(path, place)))
        return
    rows = [{"score": hit.score, "id": hit.id, "path": places[hit.id].path} for hit in hits]
    _print_rows(rows, output)


@contextmanager
def _existing(path: Path) -> Iterator[Database]:
    """A database that is there: connecting would make an empty one of it."""
    from sqlite_utils import Database

    if not path.exists():
        raise ImageSearchError(f"there is no database {str(path)!r}")
    with closing(Database(path)) as db:
        yield db


def _require_files(index: Index) -> None:
    if index.content_column is not None:
        raise ImageSearchError(
            f"the images of {index.image_table!r} are in the database, not in files"
        )


def _file(database: Path, place: Location) -> Path:
    return Path(database.resolve().parent, place.root, place.path)


def _print_rows(rows: Sequence[dict[str, Any]], output: str | None) -> None:
    if output == "json":
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif output == "csv":
        _print_csv(["score", "id", "path"], rows)
    elif not rows:
        click.echo("No image passes the filter", err=True)
    else:
        from tabulate import tabulate

        rounded = [{**row, "score": f"{row['score']:.4f}"} for row in rows]
        click.echo(tabulate(rounded, headers="keys", disable_numparse=True))


def _print_csv(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    writer = csv.DictWriter(sys.stdout, columns)
    writer.writeheader()
    writer.writerows(rows)


@_database
@click.argument("table")
@click.option(
    "--threshold",
    type=float,
    default=0.95,
    show_default=True,
    help="Score from which two images are near-duplicates, above 0 and at most 1; "
    "with 1 only exact copies are found",
)
@click.option("--model", help="For a table with several models: whose vectors to compare")
@_filter
@click.option("--json", "output", flag_value="json", help="Output JSON")
@click.option("--csv", "output", flag_value="csv", help="Output CSV")
@click.option(
    "--paths",
    "output",
    flag_value="paths",
    help="Output the paths of all files but the best of each group",
)
@click.option("-0", "--null", is_flag=True, help="End each of the --paths with NUL, for xargs -0")
@click.option("--write", is_flag=True, help="Write the groups to the table TABLE_duplicates")
@click.option("-s", "--silent", is_flag=True, help="Show no progress")
def find_duplicates(
    path: Path,
    table: str,
    threshold: float,
    model: str | None,
    where: str | None,
    params: Sequence[tuple[str, str]],
    output: str | None,
    null: bool,
    write: bool,
    silent: bool,
) -> None:
    """
    Find groups of images that are copies of each other, or nearly

    The best of each group comes first: the most pixels, then the largest file, then the oldest. The
    scores of the others are to that one. Groups are chained: where A is like B, and B like C, all
    three are a group, even if A and C are less alike than the threshold.

    All pairs are compared, which takes time with the square of their number.

    \b
    Examples:
        sqlite-utils find-duplicates photos.db images --threshold 0.97
        sqlite-utils find-duplicates photos.db images --threshold 1 --paths -0 | xargs -0 ls -l
    """
    from . import store
    from .ingest.survey import BUSY_SECONDS
    from .search import duplicates

    with _one_sentence(), _existing(path) as db:
        if null and output != "paths":
            raise ImageSearchError("-0 is about paths; add --paths")
        index = store.find_index(db.conn, table, model)
        if output == "paths":
            _require_files(index)
        filter = store.Filter(where, dict(params)) if where else None
        try:
            with progress_display(silent, COMPARING) as show:
                found = duplicates.find_duplicates(db.conn, index, threshold, filter, show)
            if write:
                # What took minutes to find is worth waiting for a run that is writing.
                db.execute(f"pragma busy_timeout = {BUSY_SECONDS * 1000}")
                written = store.write_duplicates(db, index, duplicates.rows_of(found))
        except KeyboardInterrupt:
            click.echo("Interrupted: nothing was written" if write else "Interrupted", err=True)
            raise SystemExit(INTERRUPTED) from None
    _warn_of_chains(found, threshold)
    if output == "paths":
        _print_paths_of_duplicates(path, found, "\0" if null else "\n")
    elif output is not None:
        rows = [
            _row_of_duplicate(number, duplicate, keep=duplicate is group[0])
            for number, group in enumerate(found.groups, start=1)
            for duplicate in group
        ]
        if output == "json":
            click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        else:
            _print_csv(DUPLICATE_COLUMNS, rows)
    else:
        if not write and found.groups:
            _print_groups(found)
        line = _duplicates_line(found)
        click.echo(f"{line}, in the table {written}" if write else line)


DUPLICATE_COLUMNS = ("group", "keep", "score", "exact", "id", "path", "width", "height", "size")


def _row_of_duplicate(number: int, duplicate: Duplicate, *, keep: bool) -> dict[str, Any]:
    picture = duplicate.picture
    values = (
        *(number, int(keep), duplicate.score, int(duplicate.exact), picture.image_id),
        *(picture.location.path, picture.width, picture.height, picture.size),
    )
    return dict(zip(DUPLICATE_COLUMNS, values, strict=True))


def _warn_of_chains(found: Found, threshold: float) -> None:
    largest = max(map(len, found.groups), default=0)
    distant = sum(one.score < threshold for group in found.groups for one in group)
    if distant and largest > found.images / 2:
        _warn(
            f"one group has {largest:,} of the {found.images:,} images, which says that "
            f"a threshold of {threshold:g} is too low for them"
        )
    elif distant:
        images = _counted(distant, "image is", "images are")
        _warn(
            f"{images} less like the best of the group than {threshold:g}, and in it only by being "
            "like another one"
        )


def _print_paths_of_duplicates(database: Path, found: Found, end: str) -> None:
    """
    What may be deleted. Never the last copy: not a file that is the best one by another path, as with
    a root inside another, and none of a group whose best file is not to be found.
    """
    missing = 0
    for group in found.groups:
        best, *others = (_file(database, one.picture.location) for one in group)
        if not best.is_file():
            missing += 1
            continue
        for file in others:
            if not (file.exists() and file.samefile(best)):
                click.echo(f"{file}{end}", nl=False)
    if missing:
        groups = _counted(missing, "group is", "groups are")
        _warn(f"{groups} left out, as the file to keep is not there")


def _print_groups(found: Found) -> None:
    from tabulate import SEPARATING_LINE, tabulate

    lines: list[Any] = []
    for group in found.groups:
        for at, duplicate in enumerate(group[:SHOWN_DUPLICATES]):
            picture = duplicate.picture
            score = "exact" if duplicate.exact else f"{duplicate.score:.4f}" if at else "keep"
            known = picture.width is not None and picture.height is not None
            shape = f"{picture.width} x {picture.height}" if known else ""
            size = "" if picture.size is None else _bytes(picture.size)
            lines.append([score, picture.image_id, shape, size, picture.location.path])
        if len(group) > SHOWN_DUPLICATES:
            lines.append(["", "", "", "", f"... and {len(group) - SHOWN_DUPLICATES:,} more"])
        lines.append(SEPARATING_LINE)
    headers = ["score", "id", "pixels", "size", "path"]
    align = ("left", "left", "right", "right", "left")
    click.echo(tabulate(lines, headers, disable_numparse=True, colalign=align))


def _bytes(size: int) -> str:
    """In decimal units, as file managers show it."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def _duplicates_line(found: Found) -> str:
    exact = sum(one.exact for group in found.groups for one in group)
    counts = [
        _counted(len(found.groups), "group"),
        _counted(sum(map(len, found.groups)), "image"),
    ]
    copies = _counted(exact, "exact copy", "exact copies")
    return ", ".join([*counts, f"of which {copies}"])


def _counted(number: int, one: str, several: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else several or one + 's'}"
