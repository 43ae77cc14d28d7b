"""In the place of the process that reads pictures: the text in a picture is the name of its file, or what a test says."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import ClassVar

from sqlite_utils import Database

from datasette_image_search.decoding.opening import DecodeError
from datasette_image_search.reading import reading
from datasette_image_search.store import find_index, transaction
from datasette_image_search.store.line_rows import Line
from datasette_image_search.store.lines import (
    ReadPicture,
    UnreadPicture,
    ensure_lines,
    write_lines,
)

BOX = (0.25, 0.25, 0.75, 0.5)


class NamesRead:
    """What ReadingProcess does. `read` are the names so far; a thumbnail has none."""

    read: ClassVar[list[str]] = []
    meanwhile: ClassVar[Callable[[str], None]] = lambda name: None
    first_takes: ClassVar[float | None] = 1.0
    """Seconds, or None as of a process that has loaded its models for the first picture."""

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels

    def load(self) -> None: ...

    def lines(self, data: bytes, name: str) -> tuple[list[Line], float | None]:
        seconds = 1.0 if self.read else self.first_takes
        self.read.append(name)
        type(self).meanwhile(name)
        if name.startswith("black"):
            raise DecodeError("it is black")
        if name.startswith("white"):
            return [], seconds
        lines = [Line(name or "a thumbnail", 0.99, BOX), Line("2 MB", 0.95, BOX)]
        return lines, seconds

    def end(self) -> None: ...


def write_in_picture(database: Path, id: int, *texts: str) -> None:
    """Lines of an image of the table images, all in the same box."""
    with closing(Database(database)) as db:
        index = find_index(db.conn, "images")
        picture = UnreadPicture(db["images"].get(id)["sha256"], (id,))
        lines = [Line(text, 0.99, BOX) for text in texts]
        with transaction(db):
            ensure_lines(db, index)
            write_lines(db, index.table, [ReadPicture(picture, lines)])


if __name__ == "__main__":
    # `python -m tests.reading_names SECONDS ARGUMENTS` is sqlite-utils with such a process, and so slow a one.
    from sqlite_utils.cli import cli

    reading.ReadingProcess = NamesRead
    reading.COMMIT_SECONDS = 0.0
    NamesRead.meanwhile = lambda name: time.sleep(float(sys.argv[1]))
    cli(sys.argv[2:])
