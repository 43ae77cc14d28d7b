"""The error for a sidecar that could not be written, or not be made for want of room, and its sentences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ImageSearchError
from ..store import Index


class SidecarNotWritten(ImageSearchError):
    """The disk is full, or the folder is read-only."""


def not_written(path: Path, error: Exception) -> SidecarNotWritten:
    # Without the rest of the message, which has the name of a temporary file.
    reason = getattr(error, "strerror", None) or str(error).split(": ")[-1]
    return SidecarNotWritten(
        f"{str(path)!r} could not be written ({reason}); searches work without it, but take longer"
    )


@contextmanager
def room_in(folder: Path | None, index: Index) -> Iterator[None]:
    """For what is made of the vectors of an index in a file without a name. Raises SidecarNotWritten."""
    try:
        yield
    except OSError as error:
        raise SidecarNotWritten(
            f"a file in {str(folder)!r} for the vectors of {index.image_table!r} could not be written "
            f"({error.strerror or error}); make room there, and run index-images again"
        ) from error
