"""`embed-images`: pictures become rows that can be searched."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from ..decoding.formats import BATCH_SIZE, THUMBNAIL_SIZE, Precision
from ..errors import counted
from . import options
from .messages import (
    INTERRUPTED,
    interruptible,
    one_sentence,
    tell,
    tell_of_run,
    warn,
    warn_of_dropped,
)
from .progress import progress_display
from .waiting import Command

if TYPE_CHECKING:
    from ..ingest.report import FailedImage, Summary

SHOWN_REASONS = 20

HERE = "local"

AFTER_RAY = "the word after --ray, if it is no address"

_ADDRESS = re.compile(r"local|auto|ray://.+|[\w.-]+:\d+|\[[\da-fA-F:]+\]:\d+")


class RayCommand(Command):
    """Lets --ray stand without an address, also before a file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = args[: args.index("--")] if "--" in args else args
        if "--ray" in options:
            after = options.index("--ray") + 1
            word = "".join(options[after : after + 1])
            if not _ADDRESS.fullmatch(word):
                args = [*args[:after], HERE, *args[after:]]
                ctx.meta[AFTER_RAY] = word
        return super().parse_args(ctx, args)


@options.database
@click.argument(
    "files", nargs=-1, type=options.FileOrUrl(path_type=Path), metavar="FILES_OR_FOLDERS..."
)
@click.option(
    "--model",
    help="Model to embed with: things, palette, or ARCHITECTURE/PRETRAINED of open_clip, or timm/NAME. "
    "Default: the model of the table; for a new table ViT-B-32-256/datacomp_s34b_b86k",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="File with the weights of the model, instead of a download",
)
@click.option("--device", help="torch device such as cpu, cuda or mps. Default: the best available")
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    help="Number format of the model. Default: the fastest on the device",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=BATCH_SIZE,
    show_default=True,
    help="Images that are encoded and committed together",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Threads that decode images. Default: one per processor",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="GLOB",
    help="Skip files and folders with this name, or this path, absolute or below the root",
)
@click.option("--follow-symlinks", is_flag=True, help="Follow linked folders and files")
@click.option(
    "--no-pairs",
    is_flag=True,
    help="Give the film of a Live Photo, and the RAW of a JPEG, its own row",
)
@click.option("--no-thumbnails", is_flag=True, help="Store no thumbnails in this run")
@click.option(
    "--thumbnail-size",
    type=click.IntRange(16, 4096),
    default=THUMBNAIL_SIZE,
    show_default=True,
    help="Pixels of the longer side of new thumbnails",
)
@options.max_megapixels
@click.option("--retry-failed", is_flag=True, help="Try files again that failed before")
@click.option(
    "--prune/--no-prune",
    default=False,
    help="Remove the rows of files that are gone. Default: keep and count them",
)
@click.option(
    "--copies",
    is_flag=True,
    help="Embed images that are also in a folder that is gone: they are copies, the folder was not moved",
)
@click.option("--limit", type=click.IntRange(min=1), help="Embed at most this many images")
@click.option(
    "--ray",
    metavar="[ADDRESS]",
    help="Encode on the nodes of a Ray cluster: auto, HOST:PORT or ray://HOST:10001. Without an address, or with local, "
    "Ray is started on this machine",
)
@click.option(
    "--ray-cpus",
    type=click.IntRange(min=1),
    help="With --ray: processors of each process that encodes, if the cluster has no GPUs. Default: 4, or all of a "
    "smaller node",
)
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing")
@options.wal
@click.option(
    "--path-column", help="Without files: the column of the table with the paths of the images"
)
@click.option(
    "--content-column",
    help="Without files: the column of the table with the images, as BLOBs, data URIs or base64",
)
@click.option(
    "--text-columns",
    multiple=True,
    metavar="COLUMN",
    help="A column whose words are searched too; give the option once for each. Default: the columns of the last run, or "
    "those called filename, folder, title, description, city, state and country, and the one with the paths",
)
@click.option("--add-model", is_flag=True, help="Make a second index, beside that of another model")
@click.option(
    "--replace-model",
    is_flag=True,
    help="Embed everything again, into a new index that replaces the others when it is complete. If the "
    "run is interrupted, the next one continues it. If --model names an existing second index, that one "
    "is kept and the others are dropped",
)
@click.option(
    "--drop-missing",
    is_flag=True,
    help="With --replace-model: finish even if some images will have no vector, because their file is "
    "missing or cannot be embedded. Their rows stay",
)
@click.option(
    "--keep-model",
    is_flag=True,
    help="Give up an interrupted --replace-model, and keep the current index",
)
@options.silent
def embed_images(
    path: Path,
    table: str,
    files: Sequence[Path | str],
    exclude: Sequence[str],
    no_pairs: bool,
    no_thumbnails: bool,
    thumbnail_size: int,
    dry_run: bool,
    silent: bool,
    **asked: Any,
) -> None:
    """
    Make images searchable: a row, a vector and a thumbnail for each

    The command looks for images in the folders and their subfolders. Run it again to add new images: it
    skips files that have not changed, and recognises files that were moved or copied. Without files, it
    embeds the images that the table has already.

    \b
    Examples:
        sqlite-utils embed-images photos.db images ~/Pictures
        sqlite-utils embed-images photos.db images s3://bucket/photos
        sqlite-utils embed-images my.db pictures --path-column file
    """
    from ..api import Images

    _check_no_host(click.get_current_context().meta.get(AFTER_RAY, ""), files)
    embed = partial(
        Images(path, table).embed,
        files,
        exclude=tuple(exclude),
        pairs=not no_pairs,
        thumbnail_size=None if no_thumbnails else thumbnail_size,
        **asked,
    )
    with one_sentence(path):
        if dry_run:
            planned = embed(dry_run=True)
            _print_failures(planned)
            _print_empty_rows(planned)
            _print_left_out(planned)
            tell(_plan_line(planned, table))
            return
        # During the scan, or while the model is loaded: later it is a Summary.
        with interruptible("Interrupted: 0 embedded"), progress_display(silent) as show:
            summary = embed(on_progress=show, on_plan=partial(_print_plan, table))
    tell_of_run(path, table, summary)
    _print_reasons("Warning", summary.warnings, summary)
    _print_failures(summary)
    _print_failed_before(summary)
    _print_empty_rows(summary)
    _print_left_out(summary)
    if summary.located:
        tell(f"{counted(summary.located, 'image')} located, by latitude and longitude", err=True)
    _print_nodes(summary)
    tell(_summary_line(summary))
    if summary.replacement is not None and summary.replacement.is_in_use:
        in_use = f"Searches of {table!r} now use the index by {summary.model}"
        tell(f"{in_use}{_in_place_of(summary)}")
    if summary.interrupted:
        if summary.replacement is not None and not summary.replacement.is_in_use:
            tell(f"{_still(summary, table)}; the next run with --replace-model continues from here")
        raise SystemExit(INTERRUPTED)
    _check_replaced(summary, table)
    if sys.stdout.isatty() and not silent:
        served = f"datasette {shlex.quote(str(path))}"
        tell(f"To see and search them, run {served} and open http://127.0.0.1:8001/-/image-search")


def _check_no_host(word: str, files: Sequence[Path | str]) -> None:
    if re.fullmatch(r"[\w.-]+", word) and word in map(str, files) and not Path(word).exists():
        raise click.UsageError(
            f"there is no file or folder {word!r}; if it is a host of a cluster, give its port too: --ray {word}:6379"
        )


def _print_failures(summary: Summary) -> None:
    said = "Failed" if summary.failures_table else "Would fail"
    _print_reasons(said, summary.failures, summary)


def _print_reasons(said: str, images: Sequence[FailedImage], summary: Summary) -> None:
    """A line per reason, the most frequent first: a missing extra may fail a thousand files."""
    paths_of: dict[str, list[str]] = {}
    for failure in images:
        name = f"{failure.path} ({failure.file})" if failure.file else failure.path
        paths_of.setdefault(failure.reason, []).append(name)
    reasons = sorted(paths_of, key=lambda reason: -len(paths_of[reason]))
    for reason in reasons[:SHOWN_REASONS]:
        first, *others = paths_of[reason]
        files = f"{first} and {len(others):,} more" if others else first
        tell(f"{said}: {files}: {reason}", err=True)
    if len(reasons) > SHOWN_REASONS:
        listed = f", listed in the table {summary.failures_table}" if summary.failures_table else ""
        tell(f"... and more{listed}", err=True)


def _print_failed_before(summary: Summary) -> None:
    if summary.failed_before:
        unchanged, them = ("has", "it") if summary.failed_before == 1 else ("have", "them")
        tell(
            f"{summary.failed_before:,} failed before and {unchanged} not changed: see the table "
            f"{summary.failures_table}, or try {them} again with --retry-failed",
            err=True,
        )


def _print_empty_rows(summary: Summary) -> None:
    if summary.empty_rows:
        rows = counted(summary.empty_rows, "row has", "rows have")
        tell(f"{rows} no image in the column {summary.column!r}", err=True)


def _print_nodes(summary: Summary) -> None:
    for node in summary.nodes:
        if node.problem is not None:
            tell(f"Warning: {node.problem}", err=True)
    if summary.nodes:
        from tabulate import tabulate

        columns = ("node", "actors", "device", "images", "images/s", "batches lost")
        rows = [
            (
                node.name,
                node.actors,
                node.device,
                f"{node.images:,}",
                f"{node.rate:,.1f}",
                node.lost,
            )
            for node in summary.nodes
        ]
        align = ("left", "right", "left", "right", "right", "right")
        for line in tabulate(rows, columns, disable_numparse=True, colalign=align).splitlines():
            tell(line, err=True)


def _print_left_out(summary: Summary) -> None:
    left_out = summary.left_out
    if met := left_out.met():
        tell(f"{', '.join(met)} left out", err=True)
    if left_out.images:
        images = counted(left_out.images, "image has a file", "images have files")
        they, them, rows = (
            ("it stays", "it", "its row")
            if left_out.images == 1
            else ("they stay", "them", "their rows")
        )
        tell(
            f"{images} left out now, such as {left_out.example!r}: {they} in the table, and searches find "
            f"{them}; if you do not want {them}, delete {rows}",
            err=True,
        )
    why = dict.fromkeys(left_out.unmatched, "it matches nothing that was looked at")
    why |= dict.fromkeys(left_out.only_named, "what you name yourself is never left out")
    for pattern, reason in why.items():
        tell(f"Nothing was left out by --exclude {shlex.quote(pattern)}: {reason}", err=True)


def _print_plan(table: str, plan: Summary) -> None:
    """Warnings that may make a person stop the run, before it takes its time."""
    if plan.other_tables:
        # A mistyped name would be a new table, and embed everything again.
        warn(_new_table(plan, table))
    if plan.replacement is not None and plan.replacement.left_out:
        # Otherwise the error would come after hours.
        warn(_left_out(plan))
    warn_of_dropped(plan.replacement, is_done=False)
    if plan.unfinished is not None:
        model, vectors = plan.unfinished
        warn(
            f"an index of {table!r} by {model} is unfinished, with {counted(vectors, 'vector')}; finish "
            "it with --replace-model, or give it up with --keep-model"
        )


def _check_replaced(summary: Summary, table: str) -> None:
    """Raises ClickException if --replace-model could not finish."""
    if summary.replacement is None or summary.replacement.is_in_use:
        return
    raise click.ClickException(
        f"{_still(summary, table)}: {_left_out(summary)}; make them available, name all folders and run "
        "this again, which embeds only the missing ones, or add --drop-missing to do without them"
    )


def _still(summary: Summary, table: str) -> str:
    return f"searches of {table!r} still use the index by {_models(summary)}"


def _left_out(summary: Summary) -> str:
    assert summary.replacement is not None
    images = counted(summary.replacement.left_out, "image")
    return (
        f"{images} cannot be embedded with {summary.model}, such as {summary.replacement.example!r}, "
        "because the file is missing, was not named or failed"
    )


def _in_place_of(summary: Summary) -> str:
    models = _models(summary)
    return f", instead of that by {models}" if models else ""


def _models(summary: Summary) -> str:
    return " and ".join(summary.replacement.models) if summary.replacement else ""


def _new_table(plan: Summary, table: str) -> str:
    others = " and ".join(map(repr, plan.other_tables))
    beside = f"; this database already has {others}" if others else ""
    return f"{table!r} is a new table, embedded with {plan.model}{beside}"


def _plan_line(plan: Summary, table: str) -> str:
    line = ", ".join([f"Would be: {plan.embedded:,} embedded", *_counts(plan, "to read")])
    if plan.given_up is not None:
        line += f"; the unfinished index by {plan.given_up} dropped"
    if plan.replacement is not None:
        line += f"; the index by {plan.model} in use{_in_place_of(plan)}"
        if plan.replacement.left_out:
            line += f" only with --drop-missing, because {_left_out(plan)}"
    return f"{line}; {_new_table(plan, table)}" if plan.is_new_table else line


def _summary_line(summary: Summary) -> str:
    line = ", ".join([f"{summary.embedded:,} embedded", *_counts(summary, "read")])
    line += f" in {summary.seconds:.1f} s"
    if summary.embedded:
        line += (
            f" ({summary.embedded / summary.seconds:.1f} images/s, "
            f"{summary.model} on {summary.device})"
        )
    return f"Interrupted: {line}" if summary.interrupted else line


def _counts(summary: Summary, read: str) -> list[str]:
    """`read` is what is said of metadata."""
    counts = [
        (len(summary.warnings), "of them with a warning"),
        (summary.reused, "reused"),
        (summary.moved, "moved"),
        (summary.gone, "gone and removed" if summary.pruned else "gone"),
    ]
    failed = len(summary.failures) + summary.failed_before
    companions = "companion" if summary.companions == 1 else "companions"
    return [
        *(f"{count:,} {name}" for count, name in counts if count),
        f"{summary.unchanged:,} unchanged",
        *([f"metadata of {summary.read:,} {read} again"] if summary.read else []),
        f"{failed:,} failed",
        *([f"{summary.companions:,} {companions}"] if summary.companions else []),
    ]
