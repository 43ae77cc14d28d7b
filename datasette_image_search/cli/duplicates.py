"""`find-duplicates`: groups of images that are copies of each other, or nearly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import counted, printable
from ..quantities import bytes_in_words
from . import options
from .messages import interruptible, one_sentence, tell, warn
from .output import check_output, opened, print_paths, print_rows, print_table
from .progress import progress_display

if TYPE_CHECKING:
    from ..api import Images
    from ..search.duplicates import Duplicate, DuplicateGroups

SHOWN_DUPLICATES = 50
"""Images of a group that a person is shown."""


@options.database
@click.option(
    "--threshold",
    type=float,
    default=0.95,
    show_default=True,
    help="Lowest score of near-duplicates, above 0 and at most 1; 1 finds only exact copies",
)
@click.option("--model", help="For a table with several models: the model whose vectors to compare")
@options.row_filter
@options.output_format(paths="Output only the paths of the files, without the best of each group")
@click.option("--write", is_flag=True, help="Write the groups to the table TABLE_duplicates")
@options.silent
def find_duplicates(
    path: Path, table: str, output: str | None, null: bool, silent: bool, **asked: Any
) -> None:
    """
    Find groups of images that are copies of each other, or nearly

    Each group begins with its best image: one with companions, then the most pixels, then the largest file,
    then the oldest. The others have a score against the best one, which is at least the threshold. No image
    is in two groups.

    The command compares all pairs, so its time grows with the square of the number of images. --paths
    reads the files again, and prints a file only if it and the best one are still as they were embedded.

    \b
    Examples:
        sqlite-utils find-duplicates photos.db images --threshold 0.97
        sqlite-utils find-duplicates photos.db images --threshold 1 --paths -0 | xargs -0 ls -l
    """
    with one_sentence(path), opened(path, table) as images:
        check_output(images.index_of(asked["model"]), output)
        interrupted = "Interrupted: nothing was written" if asked["write"] else "Interrupted"
        with interruptible(interrupted, err=True), progress_display(silent) as show:
            found = images.duplicates(**asked, on_progress=show)
    _warn_of_threshold(found, asked["threshold"])
    if output == "paths":
        _print_dispensable(images, found, null=null)
    elif output is not None:
        rows = [
            _row_of_duplicate(number, duplicate, keep=duplicate is group[0])
            for number, group in enumerate(found.groups, start=1)
            for duplicate in group
        ]
        print_rows(rows, COLUMNS, output)
    else:
        if found.groups and not found.written:
            _print_groups(found)
        line = _duplicates_line(found)
        tell(f"{line}, in the table {found.written}" if found.written else line)


COLUMNS = ("group", "keep", "score", "exact", "id", "path", "width", "height", "size")


def _row_of_duplicate(number: int, duplicate: Duplicate, *, keep: bool) -> dict[str, Any]:
    image = duplicate.image
    values = (
        *(number, int(keep), duplicate.score, int(duplicate.exact), image.image_id),
        *(image.location.path, image.width, image.height, image.size),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _warn_of_threshold(found: DuplicateGroups, threshold: float) -> None:
    if found.chained > found.images / 2:
        warn(
            f"{found.chained:,} of the {found.images:,} images are a chain in which each is like the next; "
            f"a threshold of {threshold:g} is too low for them"
        )


def _print_dispensable(images: Images, found: DuplicateGroups, *, null: bool) -> None:
    """Print the files that may be deleted, and warn of those that are left out, with the reason."""
    from ..search.dispensable import LeftOut

    left_out = LeftOut()
    print_paths(images.dispensable(found, left_out), null=null)
    for problem, count in left_out.groups.most_common():
        warn(
            f"{counted(count, 'group is', 'groups are')} left out, because the file to keep {problem}"
        )
    for problem, count in left_out.files.most_common():
        which = "it" if count == 1 else "each"
        warn(f"{counted(count, 'file is', 'files are')} left out, because {which} {problem}")


def _print_groups(found: DuplicateGroups) -> None:
    from ..search.query import written_id

    lines: list[Any] = []
    for group in found.groups:
        for at, duplicate in enumerate(group[:SHOWN_DUPLICATES]):
            image = duplicate.image
            score = "exact" if duplicate.exact else f"{duplicate.score:.4f}" if at else "keep"
            known = image.width is not None and image.height is not None
            shape = f"{image.width} x {image.height}" if known else ""
            size = "" if image.size is None else bytes_in_words(image.size)
            image_id = written_id(image.image_id)
            path = printable(image.location.path)
            lines.append([score, printable(image_id), shape, size, path])
        if len(group) > SHOWN_DUPLICATES:
            lines.append(["", "", "", "", f"... and {len(group) - SHOWN_DUPLICATES:,} more"])
        lines.append(None)
    headers = ["score", "id", "pixels", "size", "path"]
    print_table(lines, headers, ("left", "left", "right", "right", "left"))


def _duplicates_line(found: DuplicateGroups) -> str:
    exact = sum(one.exact for group in found.groups for one in group)
    counts = [
        counted(len(found.groups), "group"),
        counted(sum(map(len, found.groups)), "image"),
    ]
    copies = counted(exact, "exact copy", "exact copies")
    return ", ".join([*counts, f"of which {copies}"])
