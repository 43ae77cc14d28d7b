"""
Opens originals for a server: only regular files, and only below folders in its configuration. Their paths
come from the database, so from anybody who can write to it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from ...decoding.kinds import film_kind, raw_format

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_FILE = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    # Without these, opening a FIFO waits for a writer, and opening a terminal may adopt it.
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)

HEAD = 64
"""Bytes that `shown_type` needs."""


def open_below(path: Path, roots: Iterable[Path]) -> BinaryIO | None:
    """
    The file at `path`, open for reading, if it is a regular file below one of the roots after all `..` and
    links in any of the paths are resolved. None for everything else.
    """
    try:
        real = Path(os.path.realpath(path, strict=True))
        for root in roots:
            real_root = Path(os.path.realpath(root))
            if real_root in real.parents:
                return _open_regular(real_root, real.relative_to(real_root).parts)
    except (OSError, ValueError):  # ValueError: a NUL in the path.
        pass
    return None


def _open_regular(root: Path, parts: tuple[str, ...]) -> BinaryIO:
    """
    Opens folder by folder and follows no link: a link may have replaced a folder since it was resolved.
    Raises OSError for a link, and for everything but a regular file.
    """
    if os.open not in os.supports_dir_fd:  # Windows, where links are the administrator's to make.
        path = root.joinpath(*parts)
        _check_regular(path.lstat())
        return _checked(os.open(path, _FILE))
    folder = os.open(root, _FOLDER)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        # Also before it is opened: opening a device is enough to make some of them act.
        _check_regular(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False))
        return _checked(os.open(parts[-1], _FILE, dir_fd=folder))
    finally:
        os.close(folder)


def _checked(descriptor: int) -> BinaryIO:
    file = os.fdopen(descriptor, "rb", buffering=0)
    try:
        _check_regular(os.fstat(descriptor))
    except OSError:
        file.close()
        raise
    return file


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")


def shown_type(head: bytes) -> str | None:
    """
    The media type of a file that begins with these bytes, if it is a raster picture, or a film, that browsers show.
    Never that of SVG, which can hold scripts.
    """
    kind = film_kind(head, "")
    if kind is not None:
        return _FILM_TYPES.get(kind.format)
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return "image/avif"
    # Texts may begin with BM, too, so check the reserved zeros and the length of a header as well.
    if head.startswith(b"BM") and head[6:10] == bytes(4) and head[14:18] in _BMP_HEADERS:
        return "image/bmp"
    return None


def is_film_or_raw(head: bytes, name: str) -> bool:
    """Whether a file begins like a film or a camera RAW that is no TIFF."""
    return film_kind(head, name) is not None or raw_format(head, "") is not None


def is_played(media_type: str | None) -> bool:
    """Whether browsers play a file of this type."""
    return media_type in ("video/mp4", "video/webm", "video/3gpp", "video/x-matroska")


_FILM_TYPES = {
    "MP4": "video/mp4",
    "M4V": "video/mp4",
    # Browsers play it, and by this name only.
    "MOV": "video/mp4",
    "3GP": "video/3gpp",
    "WEBM": "video/webm",
    "MKV": "video/x-matroska",
    "AVI": "video/x-msvideo",
}

_BMP_HEADERS = tuple(size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124))
