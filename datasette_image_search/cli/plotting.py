"""`plot-images`: draw a map of the collection, as a picture or as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import counted, printable
from . import options
from .messages import interruptible, one_sentence, warn
from .output import opened
from .progress import progress_display


@options.database
@click.argument(
    "picture", type=click.Path(dir_okay=False, path_type=Path), metavar="[OUT]", required=False
)
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the map as a page to zoom into, in one file",
)
@click.option(
    "--method",
    type=click.Choice(["pca", "umap"]),
    default="pca",
    show_default=True,
    help="pca takes a second; umap shows groups better, takes minutes, and needs an extra",
)
@click.option(
    "--color",
    "column",
    metavar="COLUMN",
    help="Colour by a column: numbers and dates get a scale, everything else its commonest values",
)
@options.row_filter
@click.option(
    "--size",
    type=(click.IntRange(100, 16_000), click.IntRange(100, 16_000)),
    default=(1600, 1200),
    show_default=True,
    metavar="WIDTH HEIGHT",
    help="Size of the picture in pixels",
)
@click.option(
    "--thumbnail-size",
    type=click.IntRange(0, 320),
    default=64,
    show_default=True,
    help="Longer side of a thumbnail in the picture, in pixels; 0 for dots only",
)
@click.option(
    "--thumbnails",
    type=click.IntRange(min=0),
    metavar="N",
    help="Most thumbnails to draw. Default: as many as do not hide each other; 1,600 in a page",
)
@click.option("--model", help="For a table with several models: the model whose vectors to show")
@options.silent
def plot_images(path: Path, table: str, silent: bool, **asked: Any) -> None:
    """
    Draw a map of the images, with similar ones near each other

    OUT is a picture, whose name ends in .png, .webp or .jpg. Images whose thumbnails would hide others
    are dots.

    \b
    Examples:
        sqlite-utils plot-images photos.db images map.png --color folder
        sqlite-utils plot-images photos.db images --html map.html --method umap \\
            --color taken_at --where "camera_make = 'Canon'"
    """
    interrupted = interruptible("Interrupted: nothing was written", err=True)
    with (
        one_sentence(path),
        opened(path, table) as images,
        interrupted,
        progress_display(silent) as show,
    ):
        plotted = images.plot(on_progress=show, **asked)
    for file, shown, drawn in plotted.files:
        shown_images = counted(shown, "image")
        if shown < plotted.images:
            warn(f"the page shows {shown:,} of the {plotted.images:,} images, an even selection")
        click.echo(printable(f"{file}: {shown_images}, {counted(drawn, 'thumbnail')}"))
