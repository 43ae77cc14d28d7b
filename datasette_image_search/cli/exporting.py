"""`export-text-tower`: the part of a model that reads words, for servers without torch."""

from __future__ import annotations

from pathlib import Path

import click

from . import options
from .messages import one_sentence, tell
from .output import opened


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
