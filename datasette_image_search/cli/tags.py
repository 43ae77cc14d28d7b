"""`tag-images`: tag images with the labels that fit them best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from ..errors import ImageSearchError, counted, printable
from . import options
from .messages import INTERRUPTED, one_sentence, tell, warn
from .output import existing
from .progress import TAGGING, progress_display

if TYPE_CHECKING:
    from ..search.tags import Tagged
    from ..store.tables import LabelSet

SHOWN_TAGS = 20

SHOWN_WARNINGS = 5

SHOWN_LABELS = 5


@options.database
@click.argument("table")
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
    templates: Sequence[str],
    top: int | None,
    threshold: float | None,
    model: str | None,
    where: str | None,
    params: Sequence[tuple[str, str]],
    replace: bool,
    silent: bool,
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
    from .. import store
    from ..search import tags
    from ..search.query import embedder_of
    from ..store.connections import checkpoint
    from ..store.tags import find_label_set, label_sets, newest_label_sets, tag_counts

    with one_sentence(path), existing(path, to_write=True) as db:
        index = store.find_index(db.conn, table, model)
        named = (*labels, *_lines(labels_file))
        sets = label_sets(db.conn, index)
        if not named and (labels_file or not sets or templates or top or threshold or replace):
            raise ImageSearchError("there are no labels; name two or more, such as: cat dog")
        filter = store.Filter(where, dict(params)) if where else None
        line = "0 images tagged"
        try:
            embedder = embedder_of(index)
            if named:
                label_set = tags.ready_label_set(
                    db, index, embedder, named, templates, top=top, threshold=threshold
                )
                chosen = [label_set]
            else:
                chosen = newest_label_sets(db.conn, index)
            for label_set in chosen:
                if not named:
                    tell(f"{_in_words(label_set)}:")
                _warn_of_labels(tags.label_warnings(embedder, label_set))
                line = _tags_line(tags.Tagged(0, 0), label_set)
                with progress_display(silent, TAGGING) as show:
                    tagging = tags.tag_images(
                        db, index, label_set, embedder, filter, show, in_place_of_others=replace
                    )
                    for tagged in tagging:
                        line = _tags_line(tagged, label_set)
                for each in sets:
                    if find_label_set(db.conn, index, each.labels, each.templates) is None:
                        tell(f"Dropped the tags of {_in_words(each)}")
                sets = label_sets(db.conn, index)
                _print_counts(tag_counts(db.conn, index, label_set))
                tell(f"{line}, in the table {store.find_image_table(db.conn, table).tags}")
        except KeyboardInterrupt:
            tell(f"Interrupted: {line}")
            raise SystemExit(INTERRUPTED) from None
        finally:
            checkpoint(db)


def _lines(file: TextIO | None) -> list[str]:
    """The lines of a text file that are not empty."""
    if file is None:
        return []
    try:
        return [line for line in file.read().splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ImageSearchError(
            f"the labels in {file.name!r} are not UTF-8: {error.reason}"
        ) from None


def _warn_of_labels(warnings: Iterable[str]) -> None:
    distinct = list(dict.fromkeys(warnings))
    for warning in distinct[:SHOWN_WARNINGS]:
        warn(warning)
    if len(distinct) > SHOWN_WARNINGS:
        warn(f"... and {len(distinct) - SHOWN_WARNINGS:,} more labels")


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


def _tags_line(tagged: Tagged, label_set: LabelSet) -> str:
    images = counted(tagged.tagged, "image")
    return f"{images} tagged, {tagged.without:,} without a tag, of {len(label_set.labels):,} labels"
