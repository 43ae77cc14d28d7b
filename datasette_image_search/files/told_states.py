"""The state of a file, by what storage elsewhere tells of it."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from .states import iso_time

_TIMES = (
    *("LastModified", "last_modified", "Last-Modified", "mtime", "modified", "updated"),
    *("date_time", "created"),
)
"""The names under which storages tell when a file was written; `created` is that of objects which are replaced as wholes."""

_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "Digest", "CRC")


def told_state(info: dict[str, Any]) -> str:
    """
    The time that a file was written, in UTC, to the second; below that, digits of its tag. Storages count in seconds, in
    which two versions of the same size may be written.
    """
    tag = next((str(info[name]) for name in _TAGS if info.get(name)), "")
    written = next((time for name in _TIMES if (time := _time(info.get(name)))), None)
    if written is None:
        return f"tag {tag}" if tag else ""
    if tag:
        digits = int(hashlib.sha256(tag.encode()).hexdigest()[:8], 16) % 1_000_000
        written = written.replace(microsecond=digits)
    return written.isoformat()


def _time(told: Any) -> datetime | None:
    if isinstance(told, int | float) and told:
        return datetime.fromisoformat(iso_time(int(told * 1_000_000)))
    with suppress(ValueError, TypeError, OverflowError):
        if isinstance(told, tuple):
            told = datetime(*told)
        if isinstance(told, str):
            is_iso = told[:4].isdigit()
            told = (
                datetime.fromisoformat(told.replace("Z", "+00:00"))
                if is_iso
                else parsedate_to_datetime(told)
            )
        if isinstance(told, datetime):
            return (told if told.tzinfo else told.replace(tzinfo=timezone.utc)).astimezone(
                timezone.utc
            )
    return None
