"""What is written for elsewhere: `export-text-tower`, for servers without torch, and `export-image-vectors`."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import counted
from . import options
from .messages import interruptible, one_sentence, tell, warn
from .output import opened
from .progress import progress_display


@options.database
@click.option(
    "--quantize",
    is_flag=True,
    help="Keep 8 bits of each number: a quarter of the bytes, for vectors that are a little less exact",
)
@click.option("--model", help="For a table with several models: the model to export")
def export_text_tower(path: Path, table: str, quantize: bool, model: str | None) -> None:
    """
    Write the part of the model that reads words into a file beside the database

    Searches then read words from that file, and need onnxruntime in place of torch: install
    datasette-image-search[serve] where they run. The export needs torch and datasette-image-search[export]. It
    is for CLIP and SigLIP models of open_clip.

    \b
    Example:
        sqlite-utils export-text-tower photos.db images --quantize
    """
    with one_sentence(path), opened(path, table) as images:
        done = images.export_text_tower(model=model, quantize=quantize)
    tell(
        f"{done.file} ({done.bytes / 1e6:,.0f} MB); of {done.texts} texts, the cosine to the model is "
        f"{done.cosine:.4f} on average and {done.worst:.4f} at worst"
    )


@options.database
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--paths",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Text file to write the paths of the pictures to, one on each line",
)
@click.option("--model", help="For a table with several models: the model whose vectors to export")
@options.silent
def export_image_vectors(
    path: Path, table: str, file: Path, paths: Path, silent: bool, model: str | None
) -> None:
    """
    Write the vectors into a file of NumPy

    FILE is a .npy file with a row of float32 for each vector. import-image-vectors reads it, with the file of
    paths, and makes the same vectors of it. A film has a line for each of its scenes, such as film.mp4#t=3.5,
    and an image without a file has # and its id.

    \b
    Example:
        sqlite-utils export-image-vectors photos.db images vectors.npy --paths paths.txt
    """
    interrupted = interruptible("Interrupted: nothing was written")
    with (
        one_sentence(path),
        opened(path, table) as images,
        interrupted,
        progress_display(silent) as show,
    ):
        done = images.export_vectors(file, paths, model=model, on_progress=show)
    if done.left_out:
        warn(
            f"{counted(done.left_out, 'image')} could not be written as a line of text, such as {done.example!r}: a path "
            "has a line break, or there are several vectors and no film"
        )
    tell(
        f"{counted(done.vectors, 'vector')} of {counted(done.images, 'image')} exported in {done.seconds:.1f} s ({done.model})"
    )
