"""`read-images`: the text in pictures."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import counted
from . import options
from .messages import INTERRUPTED, one_sentence, tell
from .output import opened
from .progress import progress_display

if TYPE_CHECKING:
    from ..reading.reading import TextRead


@options.database
@options.row_filter
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Read at most this many pictures; copies of them come on top",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes that read pictures. Default: one per processor",
)
@options.max_megapixels
@click.option(
    "--originals",
    multiple=True,
    metavar="URL",
    help="Read the originals in the bucket, host or archive of this URL, not their thumbnails. May be given several times",
)
@click.option("--retry-failed", is_flag=True, help="Try images again that failed before")
@options.silent
def read_images(path: Path, table: str, silent: bool, **asked: Any) -> None:
    """
    Read the text in pictures, such as on signs, labels and screens

    The table TABLE_text gets a row for each line of text, by models that the extra "ocr" brings; no network is used. The
    command reads the originals, and the thumbnails of those that are gone, or elsewhere and not
    named with --originals. A photo takes a processor about a second; the command says how long all will take when it has read
    the first ones. Run it again to read new images: it goes on if it was stopped, and reads no picture twice.

    \b
    Examples:
        sqlite-utils read-images photos.db images --limit 100
        sqlite-utils read-images photos.db images --where "folder like '%Screenshots%'"
    """
    done: TextRead | None = None
    with one_sentence(path), opened(path, table) as images:
        try:
            with ExitStack() as stack:
                show = stack.enter_context(progress_display(silent))

                def follow(read: TextRead) -> None:
                    nonlocal done, show
                    before, done = done, read
                    if read.seconds_left and (before is None or before.seconds_left is None):
                        # The display takes standard error for itself.
                        stack.close()
                        tell(_estimate(read), err=True)
                        show = stack.enter_context(progress_display(silent))
                    show(read)

                done = images.read(on_progress=follow, **asked)
        except KeyboardInterrupt:
            tell(f"Interrupted: {_line(done, table)}")
            raise SystemExit(INTERRUPTED) from None
        tell(_line(done, table))


def _estimate(read: TextRead) -> str:
    seconds = read.seconds_left or 0
    units = [(3600, "hour"), (60, "minute"), (1, "second")]
    size, unit = next(each for each in units if seconds >= 2 * each[0] or each[0] == 1)
    left = counted(read.total - read.done, "image")
    workers = counted(read.workers, "worker")
    return f"{left} to read with {workers} will take about {counted(max(round(seconds / size), 1), unit)}"


def _line(read: TextRead | None, table: str) -> str:
    if read is None:
        return "0 images read"
    copies = f", {counted(read.copies, 'as a copy', 'as copies')}" if read.copies else ""
    failed = f", {read.failed:,} failed: see the table _{table}_readings" if read.failed else ""
    return f"{counted(read.done, 'image')} read{copies}, {read.with_text:,} with text{failed}"
