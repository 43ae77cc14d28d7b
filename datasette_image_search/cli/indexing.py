"""`index-images`: rebuild the files that searches rank from, or measure another index."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from ..engines.registry import BUILT_IN
from ..errors import ImageSearchError, counted
from . import options
from .messages import interruptible, one_sentence, tell, warn
from .output import opened, print_table
from .progress import progress_display

if TYPE_CHECKING:
    from ..search.evaluation import Evaluated
    from ..search.indexing import IndexSummary


@options.database
@click.option(
    "--type",
    help="auto, flat, ivf, or any factory string of FAISS, such as IVF1024,SQ8. Default: as "
    "last time, at first auto, which is flat up to a million vectors and ivf above",
)
@click.option(
    "--target-recall",
    "target",
    type=options.Number(0, 1, min_open=True),
    help="Share of the best 20, and of the best 128, that an approximate index must find. Default: as last "
    "time, at first 0.98",
)
@click.option(
    "--queries",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=".npy file of query vectors to tune and measure with. Default: words, if the model reads words and "
    "is on this machine, otherwise sums of images",
)
@click.option(
    "--evaluate",
    is_flag=True,
    help="Print the recall and the cost of the current index, or of the one that the other options "
    "describe, and change nothing",
)
@click.option(
    "--reference-queries",
    type=click.File(encoding="utf-8-sig"),
    metavar="FILE",
    help="Text file of queries, a line each, such as last year's searches: rankings are corrected by what each "
    "image scores with them. Default: as last time, at first those that come with this plugin",
)
@click.option(
    "--engine",
    help="Where the vectors are kept to be ranked: sidecar, files of FAISS beside the database, or lance, a dataset that "
    "need not fit the memory, or an engine of another package. Default: as last time, at first sidecar",
)
@click.option(
    "--uri",
    metavar="PLACE",
    help="Folder or URL of the engine, such as s3://bucket/photos.lance. Default: as last time, at first beside the "
    "database",
)
@click.option(
    "--stored-vectors/--no-stored-vectors",
    default=None,
    help="Whether the database keeps the vectors too. Without them it is smaller, and the engine has the only copy, in "
    "half precision. Default: as last time, at first it does",
)
@click.option(
    "--ray",
    metavar="[ADDRESS]",
    help="With --engine lance: build the index on the nodes of a Ray cluster, by lance-ray. The address as for embed-images",
)
@click.option("--gpu", is_flag=True, help="Build the index on GPUs")
@click.option("--model", help="For a table with several models: the model whose vectors to index")
@options.silent
def index_images(
    path: Path,
    table: str,
    evaluate: bool,
    silent: bool,
    reference_queries: TextIO | None,
    **asked: Any,
) -> None:
    """
    Rebuild the search index, or choose another one

    You do not need this command for searches: embed-images and import-image-vectors keep the index up to
    date. Use it to choose another index for a collection, and to see how good that is.

    The exact index (flat) compares a query with all vectors. The others compare it with a few, which is
    faster above about a million vectors but may miss some images. Filtered searches are always exact.

    \b
    Examples:
        sqlite-utils index-images photos.db images --evaluate --type ivf
        sqlite-utils index-images photos.db images --type ivf --target-recall 0.99
    """
    started = time.monotonic()
    with one_sentence(path), opened(path, table) as images:
        work = images.evaluate if evaluate else images.index
        if evaluate:
            _check_changes_nothing(asked)
        if reference_queries is not None:
            if evaluate:
                raise ImageSearchError(
                    "--reference-queries changes the index; leave --evaluate out, or run that afterwards"
                )
            asked["reference_queries"] = options.lines_of(reference_queries)
        with (
            interruptible("Interrupted: nothing was changed"),
            progress_display(silent) as show,
        ):
            done = work(on_progress=show, **asked)
    if isinstance(done, list):
        _print_evaluated(done)
        return
    tuning = done.tuning if done.approximate is None else done.approximate.tuning
    if tuning is not None and tuning.recall < tuning.target:
        warn(
            f"{tuning.factory} reaches a recall of {tuning.recall:.3f} at best, less than the "
            f"target of {tuning.target:g}; try another --type, or flat, which is exact"
        )
    tell(f"{_index_line(done)} in {time.monotonic() - started:.1f} s")


def _check_changes_nothing(asked: dict[str, Any]) -> None:
    """Raises ImageSearchError for what is not made on the way."""
    for name in ("engine", "uri", "stored_vectors", "ray"):
        if asked.pop(name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise ImageSearchError(
                f"{option} changes the index; leave --evaluate out, or run that afterwards"
            )


def _print_evaluated(rows: Sequence[Evaluated]) -> None:
    from ..search.tuning import RECALL_AT

    lines = [
        [
            row.name,
            *(f"{recall:.3f}" for recall in row.recalls),
            f"{row.milliseconds:.2f}",
            f"{row.bytes_per_vector:,.0f}",
        ]
        for row in rows
    ]
    headers = ["search", *(f"recall@{k}" for k in RECALL_AT), "ms", "bytes per vector"]
    align = ["left", *["right"] * (len(headers) - 1)]
    print_table(lines, headers, align)


def _index_line(summary: IndexSummary) -> str:
    vectors, made = counted(summary.vectors, "vector"), summary.approximate
    size = summary.bytes_per_vector
    line = f"{vectors} of {summary.dimensions} dimensions, "
    if summary.tuning is not None:
        return f"{line}{summary.engine} {summary.tuning.parameters} ({size:,.0f} bytes each), {summary.tuning}"
    codes = "float16 and bytes" if summary.in_bytes else "float16"
    if made is None:
        kind = f"flat {codes}" if summary.engine == BUILT_IN else summary.engine
        return f"{line}exact ({kind}, {size:,.0f} bytes each)"
    tuning = made.tuning
    name = f"{tuning.factory} {tuning.parameters}".strip()
    return (
        f"{line}{name} ({codes} for the scores, {size + made.bytes_per_vector():,.0f} bytes each), "
        f"{tuning}"
    )
