"""A row of an image table that was made from folders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..metadata.columns import COLUMNS, NOTHING, Metadata


@dataclass(frozen=True)
class ImageRecord:
    """An image table's row, less its id. The order is the order of the columns."""

    root_id: int
    path: str
    folder: str
    filename: str
    format: str
    width: int
    height: int
    size: int
    mtime: str
    sha256: str
    metadata: Metadata = NOTHING
    companions: str | None = None

    def row(self) -> dict[str, Any]:
        """Column -> value; the keywords have a table of their own."""
        # asdict() copies each value, which takes a tenth of the time to write a row.
        row = vars(self) | vars(self.metadata)
        del row["metadata"], row["keywords"]
        return row


@dataclass(frozen=True, slots=True)
class SceneRow:
    """A scene of a film: the seconds of its frame, and its thumbnail."""

    at: float
    thumbnail: bytes | None


@dataclass(frozen=True)
class ReadMetadata:
    """
    What was read again of the metadata of the image at a place, and the state of the .xmp files beside it. `alone`
    is the metadata of the picture without these.
    """

    root_id: int
    path: str
    metadata: Metadata
    beside: str
    alone: Metadata

    def row(self) -> dict[str, Any]:
        """Column -> value, of all columns."""
        return {name: getattr(self.metadata, name) for name in COLUMNS}

    def is_said_beside(self, column: str) -> bool:
        """Whether an .xmp file says another thing than the picture."""
        return bool(getattr(self.metadata, column) != getattr(self.alone, column))
