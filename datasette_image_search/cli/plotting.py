"""`plot-images`: the collection as a picture, or as a page with a map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ..errors import counted, printable
from . import options
from .messages import INTERRUPTED, one_sentence, warn


@options.database
@click.argument("table")
@click.argument(
    "picture", type=click.Path(dir_okay=False, path_type=Path), metavar="[OUT]", required=False
)
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page with a map to zoom into, all in one file",
)
@click.option(
    "--method",
    type=click.Choice(["pca", "umap"]),
    default="pca",
    show_default=True,
    help="pca takes a second; umap shows groups, takes minutes, and needs an extra",
)
@click.option(
    "--color",
    "column",
    metavar="COLUMN",
    help="Colour by a column: numbers and dates by a scale, all else by its commonest values",
)
@options.row_filter
@click.option(
    "--size",
    type=(click.IntRange(100, 16_000), click.IntRange(100, 16_000)),
    default=(1600, 1200),
    show_default=True,
    metavar="WIDTH HEIGHT",
    help="Pixels of the picture",
)
@click.option(
    "--thumbnail-size",
    type=click.IntRange(0, 320),
    default=64,
    show_default=True,
    help="Pixels of the longer side of a thumbnail in the picture, 0 for dots only",
)
@click.option(
    "--thumbnails",
    type=click.IntRange(min=0),
    metavar="N",
    help="At most so many thumbnails. Default: as many as do not hide each other, in a page 1,600",
)
@click.option("--model", help="For a table with several models: whose vectors to show")
def plot_images(
    path: Path,
    table: str,
    picture: Path | None,
    page: Path | None,
    method: str,
    column: str | None,
    where: str | None,
    params: Sequence[tuple[str, str]],
    size: tuple[int, int],
    thumbnail_size: int,
    thumbnails: int | None,
    model: str | None,
) -> None:
    """
    Draw a map of the images, on which those that are alike are near each other

    OUT is a picture, by its name a .png, .webp or .jpg. Thumbnails are drawn where they do not hide
    each other, and the other images are dots.

    \b
    Examples:
        sqlite-utils plot-images photos.db images map.png --color folder
        sqlite-utils plot-images photos.db images --html map.html --method umap \\
            --color taken_at --where "camera_make = 'Canon'"
    """
    from ..api import Images

    with one_sentence(path), Images(path, table) as images:
        try:
            plotted = images.plot(
                picture,
                page=page,
                where=where,
                params=dict(params),
                model=model,
                method=method,
                column=column,
                size=size,
                thumbnail_size=thumbnail_size,
                thumbnails=thumbnails,
            )
        except KeyboardInterrupt:
            click.echo("Interrupted: nothing was written", err=True)
            raise SystemExit(INTERRUPTED) from None
    for file, shown, drawn in plotted.files:
        shown_images = counted(shown, "image")
        if shown < plotted.images:
            warn(f"a page takes {shown:,} of the {plotted.images:,} images; they were taken evenly")
        click.echo(printable(f"{file}: {shown_images}, {counted(drawn, 'thumbnail')}"))
