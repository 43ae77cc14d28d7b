"""The images of a person's own table, compared with what was embedded of them."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..decoding.formats import is_film_name
from ..decoding.kinds import HEAD, FilmKind, film_kind
from ..files.special_files import open_regular
from ..store import Key
from ..store.own_rows import OwnRow, own_label
from ..store.tables import KnownSource
from .scan import Changes, sort_out
from .walk import FoundFile, found_file

BY_CONTENT = "if it is a picture, name its column with --content-column"

NO_CONTENT = "the value is no picture: neither a BLOB, nor a data URI, nor a text in base64"

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class OwnImage:
    """
    An image in a row of a person's own table. `file` is where it is, or else its bytes are
    `content`, which is fetched as late as can be. Without a file, `mtime` is "", and `size` the length of the
    value, in letters if that is a text.
    """

    image_id: Key
    size: int
    mtime: str
    file: str | None = None
    content: bytes | None = None
    problem: str | None = None

    @property
    def path(self) -> str:
        """The name of the image in the report and the failures."""
        return own_label(self.image_id)

    @property
    def name(self) -> str:
        return Path(self.file).name if self.file else ""

    def open(self) -> BinaryIO:
        if self.file is None:
            return io.BytesIO(self.content or b"")
        return open_regular(Path(self.file))

    def read(self, at_most: int | None = None) -> bytes:
        with self.open() as file:
            return file.read(-1 if at_most is None else at_most)

    def read_beside(self) -> list[bytes]:
        """None: a person's own table has no columns for what they say."""
        return []


ImageSource = FoundFile | OwnImage


def film_kind_of(image: ImageSource) -> FilmKind | None:
    """The kind of a film by its name and its first bytes; None for all else. Raises OSError."""
    return film_kind(image.read(HEAD), image.name) if is_film_name(image.name) else None


def find_own_changes(
    rows: Sequence[OwnRow], folder: Path | None, *, retry_failed: bool = False
) -> Changes[OwnImage]:
    """
    The rows that are new, or whose file or content changed. Relative paths are relative to `folder`;
    without one the rows have the pictures themselves.
    """
    images = ((_content(row) if folder is None else _file(row, folder), row) for row in rows)
    return sort_out(
        ((image, _known_of(image, row)) for image, row in images), retry_failed=retry_failed
    )


def _known_of(image: OwnImage, row: OwnRow) -> KnownSource | None:
    """
    A failure counts, but not where the image is again as it was embedded: its drive is back. A file
    that could not be read (its time is "") is looked at again by every run.
    """
    known, failed = row.known, row.failed
    state = (image.size, image.mtime)
    if known is not None and known.has_vector and (known.size, known.mtime) == state:
        return known
    is_transient = failed is not None and image.file is not None and not failed.mtime
    return known if failed is None or is_transient else failed


def _content(row: OwnRow) -> OwnImage:
    if not isinstance(row.source, int):
        return OwnImage(row.image_id, 0, "", problem="the value is a number, not a picture")
    return OwnImage(row.image_id, size=row.source, mtime="")


def _file(row: OwnRow, folder: Path) -> OwnImage:
    problem = _no_path(row.source)
    if problem is not None:
        return OwnImage(row.image_id, 0, "", "", problem=problem)
    path = str(folder / str(row.source))
    # It is the table that has texts in UTF-8 only, not the folder of the database.
    found = found_file("", str(row.source), path)
    if found.problem is not None and _URL.match(str(row.source)):
        problem = (
            "the value is a URL, not a path; download the picture, and give the path of its file"
        )
        return OwnImage(row.image_id, 0, "", "", problem=problem)
    return OwnImage(row.image_id, found.size, found.mtime, path, problem=found.problem)


def _no_path(value: str | int | None) -> str | None:
    """Why a value of a path column cannot be one, if it cannot; `value` is None for a BLOB."""
    if value is None:
        return f"the value is a BLOB, not a path; {BY_CONTENT}"
    text = str(value)
    if text[:5].lower() == "data:":
        return f"the value is a data URI, not a path; {BY_CONTENT}"
    if "\0" in text:
        return "the value has a null character, as no path has; give the path of a file"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "the value is a text that is not UTF-8; write the path in UTF-8"
    return None
