"""`find-duplicates`: groups of images that are copies of each other, or nearly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import counted, printable
from . import options
from .messages import INTERRUPTED, one_sentence, tell, warn
from .output import check_output, existing, file_of, print_paths, print_rows
from .progress import COMPARING, progress_display

if TYPE_CHECKING:
    from ..search.duplicates import Duplicate, Found

SHOWN_DUPLICATES = 50
"""Of a group, where it is shown to a person."""


@options.database
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
@options.row_filter
@options.output_format(paths="Output the paths of all files but the best of each group")
@click.option("--write", is_flag=True, help="Write the groups to the table TABLE_duplicates")
@options.silent
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
    from .. import store
    from ..search import duplicates

    with one_sentence(path), existing(path, to_write=write) as db:
        index = store.find_index(db.conn, table, model)
        check_output(index, output)
        filter = store.Filter(where, dict(params)) if where else None
        try:
            with progress_display(silent, COMPARING) as show:
                found = duplicates.find_duplicates(db.conn, index, threshold, filter, show)
            if write:
                written = store.write_duplicates(db, index, duplicates.rows_of(found))
        except KeyboardInterrupt:
            click.echo("Interrupted: nothing was written" if write else "Interrupted", err=True)
            raise SystemExit(INTERRUPTED) from None
    _warn_of_chains(found, threshold)
    if output == "paths":
        print_paths(_dispensable(path, found), null=null)
    elif output is not None:
        rows = [
            _row_of_duplicate(number, duplicate, keep=duplicate is group[0])
            for number, group in enumerate(found.groups, start=1)
            for duplicate in group
        ]
        print_rows(rows, COLUMNS, output)
    else:
        if not write and found.groups:
            _print_groups(found)
        line = _duplicates_line(found)
        tell(f"{line}, in the table {written}" if write else line)


COLUMNS = ("group", "keep", "score", "exact", "id", "path", "width", "height", "size")


def _row_of_duplicate(number: int, duplicate: Duplicate, *, keep: bool) -> dict[str, Any]:
    picture = duplicate.picture
    values = (
        *(number, int(keep), duplicate.score, int(duplicate.exact), picture.image_id),
        *(picture.location.path, picture.width, picture.height, picture.size),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _warn_of_chains(found: Found, threshold: float) -> None:
    largest = max(map(len, found.groups), default=0)
    distant = sum(one.score < threshold for group in found.groups for one in group)
    if distant and largest > found.images / 2:
        warn(
            f"one group has {largest:,} of the {found.images:,} images, which says that "
            f"a threshold of {threshold:g} is too low for them"
        )
    elif distant:
        images = counted(distant, "image is", "images are")
        warn(
            f"{images} less like the best of the group than {threshold:g}, and in it only by being "
            "like another one"
        )


def _dispensable(database: Path, found: Found) -> Iterator[Path]:
    """
    What may be deleted. Never the last copy: not a file that is the best one by another path, as with
    a root inside another, and none of a group whose best file is not to be found.
    """
    missing = 0
    for group in found.groups:
        best, *others = (file_of(database, one.picture.location) for one in group)
        if not best.is_file():
            missing += 1
            continue
        for file in others:
            if not (file.exists() and file.samefile(best)):
                yield file
    if missing:
        groups = counted(missing, "group is", "groups are")
        warn(f"{groups} left out, as the file to keep is not there")


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
            path = printable(picture.location.path)
            lines.append([score, printable(str(picture.image_id)), shape, size, path])
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
        counted(len(found.groups), "group"),
        counted(sum(map(len, found.groups)), "image"),
    ]
    copies = counted(exact, "exact copy", "exact copies")
    return ", ".join([*counts, f"of which {copies}"])
