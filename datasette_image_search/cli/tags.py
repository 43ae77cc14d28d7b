"""`tag-images`: tag images with the labels that fit them best."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from ..errors import ImageSearchError, counted, printable
from . import options
from .messages import INTERRUPTED, one_sentence, tell, warn
from .output import opened
from .progress import progress_display

if TYPE_CHECKING:
    from ..search.tags import Tagged
    from ..store.tables import LabelSet

SHOWN_TAGS = 20

SHOWN_WARNINGS = 5

SHOWN_LABELS = 5


@options.database
@click.argument("labels", nargs=-1, metavar="[LABEL]...")
@click.option(
    "--labels-file",
    type=click.File(encoding="utf-8-sig"),
    help="Text file with one label on each line; - for standard input",
)
@click.option(
    "--template",
    "templates",
    multiple=True,
    help="Text around the label, which goes to {}. Several are averaged. Default: as before for these "
    "labels, at first: a photo of a {}",
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    help="Most tags that an image gets, the best first. Default: 1, or no limit with --threshold",
)
@click.option(
    "--threshold",
    type=float,
    help="Lowest probability of a tag, above 0 and at most 1. The probabilities of all labels of an image "
    "add up to 1",
)
@click.option(
    "--model", help="For a table with several models: the model whose vectors to classify"
)
@options.row_filter
@click.option("--replace", is_flag=True, help="Drop the tags of all other labels")
@options.silent
def tag_images(
    path: Path,
    table: str,
    labels: Sequence[str],
    labels_file: TextIO | None,
    silent: bool,
    **asked: Any,
) -> None:
    """
    Tag images with the labels that fit them best

    The table TABLE_tags gets the tags, with the score of image and label, and the probability that the
    image shows this label and none of the others. Run the command again to tag new images; without labels
    it uses all earlier ones. Other labels are added to the earlier ones; the same labels with another
    template replace the earlier tags.

    \b
    Examples:
        sqlite-utils tag-images photos.db images cat dog "something else"
        sqlite-utils tag-images photos.db images --labels-file places.txt --threshold 0.2 \\
            --template "a photo of a {}" --template "a photo taken in a {}"
        sqlite-utils tag-images photos.db images
    """
    from ..store.tags import label_sets, sets_of_labels, tag_counts

    with one_sentence(path), opened(path, table) as images:
        named = (*labels, *options.lines_of(labels_file))
        if labels_file and not named:
            raise ImageSearchError("there are no labels; name two or more, such as: cat dog")
        tagging = images.tagging(named, **asked)
        line = "0 images tagged"
        index = images.index_of(asked["model"])
        sets = label_sets(images.conn, index)
        try:
            with closing(tagging):
                for label_set, steps in groupby(tagging, key=attrgetter("label_set")):
                    with progress_display(silent) as show:
                        for tagged in steps:
                            if not tagged.done:
                                if not named:
                                    tell(f"{_in_words(label_set)}:")
                                _warn_of_labels(tagged.warnings)
                            else:
                                show(tagged)
                            line = _tags_line(tagged)
                    for each in sets:
                        if not sets_of_labels(images.conn, index, each.labels, each.templates):
                            tell(f"Dropped the tags of {_in_words(each)}")
                    sets = label_sets(images.conn, index)
                    _print_counts(tag_counts(images.conn, index, label_set))
                    tell(f"{line}, in the table {index.table.tags}")
        except KeyboardInterrupt:
            tell(f"Interrupted: {line}")
            raise SystemExit(INTERRUPTED) from None


def _warn_of_labels(warnings: Sequence[str]) -> None:
    for warning in warnings[:SHOWN_WARNINGS]:
        warn(warning)
    if len(warnings) > SHOWN_WARNINGS:
        warn(f"... and {len(warnings) - SHOWN_WARNINGS:,} more labels")


def _print_counts(counts: Sequence[tuple[str, int]]) -> None:
    if not counts:
        return
    from tabulate import tabulate

    shown = [(printable(tag), f"{images:,}") for tag, images in counts[:SHOWN_TAGS]]
    if len(counts) > SHOWN_TAGS:
        shown.append((f"... and {len(counts) - SHOWN_TAGS:,} more", ""))
    table = tabulate(shown, ["tag", "images"], disable_numparse=True, colalign=("left", "right"))
    for line in table.splitlines():
        tell(line)


def _in_words(label_set: LabelSet) -> str:
    """The labels and templates of a set."""
    names = ", ".join(label_set.labels[:SHOWN_LABELS])
    if len(label_set.labels) > SHOWN_LABELS:
        names += f" and {len(label_set.labels) - SHOWN_LABELS:,} more"
    return f"{names} as {', '.join(map(repr, label_set.templates))}"


def _tags_line(tagged: Tagged) -> str:
    images, labels = counted(tagged.tagged, "image"), len(tagged.label_set.labels)
    return f"{images} tagged, {tagged.without:,} without a tag, of {labels:,} labels"
