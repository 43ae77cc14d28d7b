"""Folders -> the files in them, compared with what the tables know. Opens no file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path, PurePath

from ..errors import ImageSearchError
from ..store import Key, KnownFile

# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif",
    ".jp2", ".j2k", ".jpx", ".jpf", ".ppm", ".pgm", ".pbm", ".pnm", ".heic", ".heif", ".hif",
})
# fmt: on

IGNORED_FOLDERS = frozenset({"@eaDir", "#recycle", "$RECYCLE.BIN", "node_modules", "__MACOSX"})
"""Folders that network drives and tools fill with thumbnails and the like; hidden ones are left out too."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class ScanError(ImageSearchError):
    """A file or folder that cannot be scanned."""


@dataclass(frozen=True)
class FoundFile:
    """
    A file below a root. `root` is an absolute path, `path` POSIX and relative to it, `size` in
    bytes, `mtime` ISO 8601 in UTC to the microsecond. `image_id` is the row that it already has,
    `problem` why there is no use in opening it.
    """

    root: str
    path: str
    size: int
    mtime: str
    image_id: Key | None = None
    problem: str | None = None

    @property
    def absolute(self) -> Path:
        return Path(self.root, self.path)


@dataclass(frozen=True)
class Changes:
    """What to embed, and how many files need nothing: embedded before, or failed before."""

    to_embed: tuple[FoundFile, ...]
    unchanged: int
    failed_before: int


def find_changes(
    paths: Sequence[Path],
    known: Mapping[tuple[str, str], KnownFile],
    known_roots: Iterable[str],
) -> Changes:
    """
    The image files in some files and folders that are new, or whose size or mtime changed.

    Raises ScanError for a path that is not there.
    """
    to_embed: list[FoundFile] = []
    unchanged = failed_before = 0
    for file in find_files(paths, known_roots):
        before = known.get((file.root, file.path))
        if before is None or (before.size, before.mtime) != (file.size, file.mtime):
            to_embed.append(replace(file, image_id=before.image_id if before else None))
        elif before.failed:
            failed_before += 1
        else:
            unchanged += 1
    return Changes(tuple(to_embed), unchanged, failed_before)


def find_files(paths: Sequence[Path], known_roots: Iterable[str] = ()) -> Iterator[FoundFile]:
    """
    Every image file once, folder by folder in alphabetical order.

    A folder that is given becomes a root, unless it lies below one. Each file belongs to the
    deepest root that contains it, so that embedding a folder and then its parent makes no second
    row of the same file.
    """
    given = [_absolute(path) for path in paths]
    roots = set(known_roots)
    for path in given:
        folder = path if path.is_dir() else path.parent
        _check_utf8(folder)
        if _deepest_root(folder, roots) is None:
            roots.add(str(folder))
    seen: set[str] = set()
    for path in given:
        for found, problem in _walk(str(path)) if path.is_dir() else [(str(path), None)]:
            if found not in seen:
                seen.add(found)
                yield _found_file(found, problem, roots)


def _absolute(path: Path) -> Path:
    if not path.exists():
        raise ScanError(f"there is no file or folder {str(path)!r}")
    return path.resolve()


def _check_utf8(folder: Path) -> None:
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise ScanError(
            f"the name of the folder {str(folder)!r} is not UTF-8; rename the folder"
        ) from None


def _deepest_root(folder: PurePath, roots: set[str]) -> str | None:
    return next((str(f) for f in (folder, *folder.parents) if str(f) in roots), None)


def _walk(folder: str) -> Iterator[tuple[str, str | None]]:
    """
    Paths of image files, and of folders that cannot be read, with what the problem is.

    Symbolic links are left out: what they point to may well be below the folder already.
    """
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        yield folder, f"the folder cannot be read: {error.strerror}"
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in IGNORED_FOLDERS:
                yield from _walk(entry.path)
        elif entry.is_file(follow_symlinks=False) and _is_image_name(entry.name):
            yield entry.path, None


def _is_image_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 (100,000 times)


def _found_file(found: str, problem: str | None, roots: set[str]) -> FoundFile:
    path = PurePath(found)
    root = _deepest_root(path.parent, roots) or _deepest_root(path, roots) or ""
    relative = path.relative_to(root).as_posix()
    try:
        relative.encode()
    except UnicodeEncodeError:
        # Latin-1 from an old disk, say: SQLite keeps UTF-8 only.
        relative = relative.encode(errors="backslashreplace").decode()
        problem = "the file name is not UTF-8; rename the file"
    try:
        stat = os.stat(found)  # noqa: PTH116 (a Path costs more than the call)
    except OSError as error:
        return FoundFile(root, relative, 0, "", problem=problem or f"{error.strerror}")
    modified = _EPOCH + timedelta(microseconds=stat.st_mtime_ns // 1000)
    return FoundFile(root, relative, stat.st_size, modified.isoformat(), problem=problem)
