"""
Files whose bytes are embedded already: moved, copied, or touched. They are known by their size
first and then by their sha256, and need no decoding and no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..files.states import sha256_of_file
from ..store import Key
from ..store.tables import KnownSource, Location
from .walk import FoundFile

SameContent = Callable[[str], list[tuple[Key, Location]]]
"""sha256 -> the embedded images with these bytes, and their last known places."""


class Files(Protocol):
    """Some files, by root and path."""

    def __contains__(self, file: tuple[str, str], /) -> bool: ...


@dataclass(frozen=True, slots=True)
class Reuse:
    """A file and the image with the same bytes. `moved` is True if the file *is* that image."""

    file: FoundFile
    source_id: Key
    moved: bool


def find_reuse(
    files: Sequence[FoundFile],
    hashes: Iterable[str | None],
    missing: Files,
    same_content: SameContent,
) -> list[Reuse]:
    """
    For each file with its sha256 (None if it could not be read), the image to reuse. A file at a new
    place takes over the row of a missing one with the same bytes, because it was moved. Each missing
    image is taken over once.
    """
    same = [
        (file, same_content(sha256) if sha256 else [])
        for file, sha256 in zip(files, hashes, strict=True)
    ]
    # Their rows are about to be of other bytes: two files may have swapped their names.
    changing = {file.image_id for file, sources in same if not _own(file, sources)}
    found = []
    taken: set[Key] = set()
    for file, sources in same:
        sources = [(key, place) for key, place in sources if key not in changing]
        reuse = _own(file, sources) or _moved(file, sources, missing, taken)
        if reuse is None and sources:
            reuse = Reuse(file, sources[0][0], moved=False)
        if reuse is not None:
            found.append(reuse)
    return found


def _own(file: FoundFile, sources: Sequence[tuple[Key, Location]]) -> Reuse | None:
    """Only the time of the file changed."""
    return next((Reuse(file, key, moved=False) for key, _ in sources if key == file.image_id), None)


def _moved(
    file: FoundFile,
    sources: Sequence[tuple[Key, Location]],
    missing: Files,
    taken: set[Key],
) -> Reuse | None:
    if file.image_id is not None:
        return None
    for key, place in sources:
        if (place.root, place.path) in missing and key not in taken:
            taken.add(key)
            return Reuse(file, key, moved=True)
    return None


def of_known_size(
    files: Iterable[FoundFile], known: Mapping[tuple[str, str], KnownSource]
) -> list[FoundFile]:
    """The files worth hashing: those with the size of an embedded one. Few photos have equal sizes."""
    sizes = {before.size for before in known.values() if before.has_vector}
    return [file for file in files if file.problem is None and file.size in sizes]


def hash_of(file: FoundFile) -> str | None:
    """The sha256 of a file, or None if it cannot be read; decoding will report that."""
    try:
        with file.open() as opened:
            return sha256_of_file(opened)
    except (OSError, ValueError):
        return None
