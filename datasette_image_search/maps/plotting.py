"""What plot-images does: from an index to files, each of them whole or not there."""

from __future__ import annotations

import io
import secrets
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from .. import store
from ..search.live import live_index
from ..search.projection import METHODS
from ..store import LAST, Filter, Index
from .collection import MapError, collection_map
from .colouring import colouring, plain
from .page import MOST_IMAGES, html_file
from .picture import draw

FORMATS = {".png": "PNG", ".webp": "WEBP", ".jpg": "JPEG", ".jpeg": "JPEG"}

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


@dataclass(frozen=True)
class Plotted:
    """Files, each with how many images and thumbnails are in it, of so many `images`."""

    files: tuple[tuple[Path, int, int], ...]
    images: int


def plot(conn: sqlite3.Connection, index: Index, request: PlotRequest) -> Plotted:
    """
    Write the picture and the page that are asked for.

    Raises ImageSearchError, before anything is computed, for what cannot be written; then there is
    no new file, and an old one is as it was.
    """
    format = _checked(request)
    live = live_index(conn, index)
    placed = collection_map(
        conn,
        index,
        live,
        METHODS[request.method],
        request.filter,
        request.column,
        LAST if request.page is None else MOST_IMAGES,
    )
    if not len(placed):
        which = "that passes the filter " if request.filter else ""
        raise MapError(f"{index.image_table!r} has no image {which}with a vector to draw")
    if request.column is None:
        coloured = plain(len(placed))
    else:
        coloured = colouring(request.column, placed.values)
    table = store.find_image_table(conn, index.image_table)

    def thumbnail_of(image_id: store.Key) -> bytes | None:
        return store.thumbnail(conn, table, image_id)

    files = []
    if request.picture is not None:
        most = -1 if request.thumbnails is None else request.thumbnails
        picture, drawn = draw(
            placed, coloured, thumbnail_of, request.size, request.thumbnail_size, most
        )
        buffer = io.BytesIO()
        picture.save(buffer, format, quality=90)
        files.append((request.picture, buffer.getvalue(), drawn))
    if request.page is not None:
        most = SPRITES if request.thumbnails is None else request.thumbnails
        title = f"Map of {index.image_table}"
        words = f"{len(placed):,} of {placed.count:,} images" if len(placed) < placed.count else ""
        words = words or f"{placed.count:,} images"
        description = (
            f"{words}, those that are alike near each other ({request.method}, {index.model})"
        )
        text, drawn = html_file(placed, coloured, thumbnail_of, most, title, description)
        files.append((request.page, text.encode(), drawn))
    for path, content, _ in files:
        _write(path, content)
    return Plotted(tuple((path, len(placed), drawn) for path, _, drawn in files), placed.count)


def _checked(request: PlotRequest) -> str:
    """The format of the picture. Raises MapError for names under which nothing can be written."""
    if request.picture is None and request.page is None:
        raise MapError("there is nothing to write; name a picture such as map.png, or --html FILE")
    for path in (request.picture, request.page):
        if path is not None and not path.absolute().parent.is_dir():
            raise MapError(f"there is no folder {str(path.parent)!r} to write {path.name!r} into")
    if request.picture is None:
        return ""
    suffix = request.picture.suffix.lower()
    if suffix not in FORMATS:
        raise MapError(
            f"{str(request.picture)!r} does not say what to draw; end it in {', '.join(FORMATS)}, "
            "or write a page with --html"
        )
    return FORMATS[suffix]


def _write(path: Path, content: bytes) -> None:
    """Beside its place first, so that it is never seen in part."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise MapError(f"{str(path)!r} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
