"""The values of albums."""

from __future__ import annotations

from dataclasses import dataclass

from .tables import Key


@dataclass(frozen=True, slots=True)
class Album:
    """
    `images` is the number of its members that are still there, and `cover` the one that was added last; `created` is an
    ISO 8601 time, UTC.
    """

    id: int
    name: str
    created: str | None
    images: int = 0
    cover: Key | None = None


@dataclass(frozen=True, slots=True)
class AlbumRow:
    """A row of the table of albums."""

    id: int
    name: str
    created: str | None


@dataclass(frozen=True, slots=True)
class MemberRow:
    """That an image is in an album, and since when: an ISO 8601 time, UTC."""

    album_id: int
    image_id: Key
    added: str | None
