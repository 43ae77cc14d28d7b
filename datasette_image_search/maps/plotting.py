"""The work of plot-images: from an index to files, each complete or absent."""

from __future__ import annotations

import io
import secrets
import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path

from .. import store
from ..checked import check_choice, check_fields, check_whole, several
from ..progress import Report, silent
from ..search.freshness import live_snapshot
from ..search.lost_engines import survives_engines
from ..search.projection import METHODS, projecting
from ..store import Filter, Index
from ..store.reads import thumbnail
from ..store.tables import LAST
from .collection import CollectionMap, MapError, collection_map, scaled
from .colouring import Colouring, colouring, plain
from .page import MOST_IMAGES, html_file
from .picture import draw

FORMATS = {".png": "PNG", ".webp": "WEBP", ".jpg": "JPEG", ".jpeg": "JPEG"}
PAGES = (".html", ".htm")
"""Names must end like these or FORMATS, so that no other file is replaced, such as the database."""

SPRITES = 1600
"""Thumbnails in a page, about 4 MB, unless a person wants another number."""


@dataclass(frozen=True)
class PlotRequest:
    """`size` in pixels, width and height; `thumbnails` is None for as many as there is room for."""

    picture: Path | None
    page: Path | None
    method: str = "pca"
    column: str | None = None
    filter: Filter | None = None
    size: tuple[int, int] = (1600, 1200)
    thumbnail_size: int = 64
    thumbnails: int | None = None

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        check_fields(self, thumbnail_size=(0, 320), thumbnails=(0, None))
        size = several("size", self.size, int)
        if len(size) != 2:
            raise MapError(f"size is {self.size!r:.60}; it must be a width and a height")
        width, height = size
        check_whole("the width", width, 100, 16_000)
        check_whole("the height", height, 100, 16_000)


@dataclass(frozen=True)
class Plotted:
    """Files, each with its numbers of images and thumbnails, and the number of all `images`."""

    files: tuple[tuple[Path, int, int], ...]
    images: int


@survives_engines
def plot(
    conn: sqlite3.Connection, index: Index, request: PlotRequest, report: Report = silent
) -> Plotted:
    """
    Write the requested picture and page. `report` hears of UMAP, which takes long.

    Raises ImageSearchError before any work if a file cannot be written; then no file is changed.
    """
    format = _checked(request)
    with live_snapshot(conn, index) as live:
        placed = collection_map(
            conn,
            live.index,
            live,
            projecting(request.method, report),
            request.filter,
            request.column,
            # A picture shows all images, even if the page beside it does not.
            MOST_IMAGES if request.picture is None else LAST,
        )
    if not len(placed):
        which = "that passes the filter " if request.filter else ""
        raise MapError(f"{index.image_table!r} has no image {which}with a vector to draw")

    def thumbnail_of(image_id: store.Key) -> bytes | None:
        stored = thumbnail(conn, index.table, image_id)
        return stored.picture if stored else None

    files = []
    if request.picture is not None:
        most = -1 if request.thumbnails is None else request.thumbnails
        coloured = _coloured(placed, request.column)
        picture, drawn = draw(
            placed, coloured, thumbnail_of, request.size, request.thumbnail_size, most
        )
        buffer = io.BytesIO()
        picture.save(buffer, format, quality=90)
        files.append((request.picture, buffer.getvalue(), len(placed), drawn))
    if request.page is not None:
        most = SPRITES if request.thumbnails is None else request.thumbnails
        title = f"Map of {index.image_table}"
        in_page = _some(placed, MOST_IMAGES)
        part = f"{len(in_page):,} of " if len(in_page) < placed.count else ""
        description = f"{part}{placed.count:,} images, similar ones near each other ({request.method}, {index.model})"
        coloured = _coloured(in_page, request.column)
        text, drawn = html_file(in_page, coloured, thumbnail_of, most, title, description)
        files.append((request.page, text.encode(), len(in_page), drawn))
    for path, content, _, _ in files:
        _write(path, content)
    return Plotted(tuple((path, shown, drawn) for path, _, shown, drawn in files), placed.count)


def _coloured(placed: CollectionMap, column: str | None) -> Colouring:
    return plain(len(placed)) if column is None else colouring(column, placed.values)


def _some(placed: CollectionMap, most: int) -> CollectionMap:
    """The first `most`, a fair sample because they are in random order; all if there are no more."""
    if len(placed) <= most:
        return placed
    return replace(
        placed,
        image_ids=placed.image_ids[:most],
        names=placed.names[:most],
        values=placed.values[:most],
        points=scaled(placed.points[:most]),
        vectors=placed.vectors[:most],
    )


def _checked(request: PlotRequest) -> str:
    """The format of the picture. Raises MapError for names under which nothing can be written."""
    if request.picture is None and request.page is None:
        raise MapError("there is nothing to write; name a picture such as map.png, or --html FILE")
    for path in (request.picture, request.page):
        if path is not None and not path.absolute().parent.is_dir():
            raise MapError(f"there is no folder {str(path.parent)!r} to write {path.name!r} into")
    if request.page is not None and request.page.suffix.lower() not in PAGES:
        raise MapError(f"{str(request.page)!r} is not a name for a page; end it in {PAGES[0]}")
    if request.picture is None:
        return ""
    suffix = request.picture.suffix.lower()
    if suffix not in FORMATS:
        raise MapError(
            f"{str(request.picture)!r} has no known ending; end it in {', '.join(FORMATS)}, or write a "
            "page with --html"
        )
    return FORMATS[suffix]


def _write(path: Path, content: bytes) -> None:
    """Writes beside its place first, so that nobody sees half a file."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise MapError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
