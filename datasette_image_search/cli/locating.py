"""`locate-images`: the country, state and city that images were taken in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import counted
from . import options
from .messages import INTERRUPTED, one_sentence, tell
from .output import opened
from .progress import progress_display

if TYPE_CHECKING:
    from ..places.locating import Located


@options.database
@options.row_filter
@click.option(
    "--max-distance",
    type=options.Number(min=0, min_open=True),
    metavar="KILOMETRES",
    help="Farthest that the nearest town may be; images beyond it have no place. Images that were located with "
    "another limit are located again. Default: 100, for new images",
)
@options.silent
def locate_images(path: Path, table: str, silent: bool, **asked: Any) -> None:
    """
    Write the country, state and city that images were taken in

    The columns country, country_code, state and city get the nearest town to latitude and longitude, from the towns
    of GeoNames that the extra "places" brings; no network is used. Run the command again after new images, or new coordinates: it locates only these,
    and keeps what you have corrected. embed-images does it for new images.

    \b
    Examples:
        sqlite-utils locate-images photos.db images
        sqlite-utils locate-images photos.db images --where "city is null" --max-distance 500
    """
    done: Located | None = None
    with one_sentence(path), opened(path, table) as images:
        try:
            with progress_display(silent) as show:

                def follow(located: Located) -> None:
                    nonlocal done
                    done = located
                    show(located)

                done = images.locate(on_progress=follow, **asked)
        except KeyboardInterrupt:
            tell(f"Interrupted: {_line(done)}")
            raise SystemExit(INTERRUPTED) from None
        tell(_line(done))


def _line(located: Located | None) -> str:
    if located is None:
        return "0 images located"
    if located.before:
        return f"Nothing to do: {counted(located.before, 'image')} located already"
    far = located.done - located.located - located.without_position
    without = (
        f", {located.without_position:,} without a position" if located.without_position else ""
    )
    return f"{counted(located.located, 'image')} located, {far:,} too far from any town{without}"
