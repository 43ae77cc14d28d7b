"""The state of a file: its content and its time."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import BinaryIO

from .special_files import open_regular

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def sha256_of(path: Path) -> str | None:
    """The hash of a regular file; None if there is none that can be read."""
    try:
        with open_regular(path) as file:
            return sha256_of_file(file)
    except (OSError, ValueError):
        return None


def sha256_of_file(file: BinaryIO) -> str:
    """The hash of an open file, from its beginning. Raises OSError."""
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def iso_time(microseconds: int) -> str:
    """
    Since 1970, in UTC; the first or the last time that ISO 8601 has for what is further away. Drives
    and cards that are damaged have such files, which may be good pictures.
    """
    try:
        return (_EPOCH + timedelta(microseconds=microseconds)).isoformat()
    except OverflowError:
        furthest = datetime.max if microseconds > 0 else datetime.min
        return furthest.replace(tzinfo=timezone.utc).isoformat()
