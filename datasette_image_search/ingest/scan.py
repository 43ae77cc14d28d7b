"""Folders -> the files in them, compared with the tables. Opens no file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ..checked import check_fields
from ..decoding.formats import is_image_name
from ..files.entries import Entries, folded
from ..files.states import iso_time
from ..store import Key
from ..store.tables import KnownSource
from .scopes import FolderScopes, Scope, emptied_scopes, find_scopes, is_away

IGNORED_FOLDERS = frozenset({"@eaDir", "#recycle", "$RECYCLE.BIN", "node_modules", "__MACOSX"})
"""Folders that network drives and tools fill with thumbnails and the like; hidden ones are left out too."""


class HasState(Protocol):
    """What tells whether an image was changed."""

    @property
    def size(self) -> int: ...

    @property
    def mtime(self) -> str: ...


T = TypeVar("T", bound=HasState)


@dataclass(frozen=True)
class ScanOptions:
    """`exclude` are shell patterns for names, or for paths below a root, of files and folders."""

    exclude: tuple[str, ...] = ()
    follow_symlinks: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
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
    def key(self) -> tuple[str, str]:
        return self.root, self.path

    @property
    def absolute(self) -> Path:
        return Path(self.root, self.path)

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def read(self) -> bytes:
        return self.absolute.read_bytes()


@dataclass(frozen=True)
class Changes(Generic[T]):
    """
    What a scan found: images to embed, how many need nothing (embedded before, or failed before),
    and what the tables know, by root and path, of files that are not there any more. `respelled` are
    files that need nothing but the new spelling of their paths. `emptied` are the folders without any
    image.
    """

    to_embed: tuple[T, ...]
    unchanged: int
    failed_before: int
    respelled: tuple[FoundFile, ...] = ()
    missing: Mapping[tuple[str, str], KnownSource] = field(default_factory=dict)
    emptied: tuple[Scope, ...] = ()


def find_changes(
    paths: Sequence[Path],
    known: Mapping[tuple[str, str], KnownSource],
    known_roots: Iterable[str],
    options: ScanOptions = ScanOptions(),
    *,
    retry_failed: bool = False,
) -> Changes[FoundFile]:
    """
    The image files in some files and folders that are new, changed or without a vector, and those
    that are missing there.

    Raises NotThere for a path that is not there. Whether missing files are gone for good is for
    `check_mounted`, when those that were moved are known.
    """
    entries = Entries()
    scopes = find_scopes(paths, known_roots, entries)
    found = {file.key: file for file in find_files(scopes, options, entries)}
    # Files that were given are there: people give thousands, with *.jpg.
    folders = FolderScopes(scopes)
    missing = {
        key: before
        for key, before in known.items()
        if key not in found and any(folders.of(key)) and _is_gone(key, entries)
    }
    respelled = {
        key: missing.pop(old)
        for key, old in _respelled(found.keys() - known.keys(), missing).items()
    }
    with_known = (
        (replace(file, image_id=before.image_id) if before else file, before)
        for key, file in found.items()
        for before in [known.get(key) or respelled.get(key)]
    )
    changes = sort_out(with_known, retry_failed=retry_failed)
    to_embed = {file.key for file in changes.to_embed} if respelled else set()
    renamed = tuple(
        replace(found[key], image_id=before.image_id)
        for key, before in respelled.items()
        if key not in to_embed
    )
    return replace(
        changes,
        unchanged=changes.unchanged - len(renamed),
        respelled=renamed,
        missing=missing,
        emptied=tuple(emptied_scopes(scopes, found)),
    )


def _respelled(
    new: Iterable[tuple[str, str]], missing: Mapping[tuple[str, str], KnownSource]
) -> dict[tuple[str, str], tuple[str, str]]:
    """
    New file -> the missing one that it was before its name, or that of a folder, got another spelling:
    on a drive to which the two are one, the old name still leads to it.
    """
    old_names = {
        (root, folded(path)): (root, path)
        for (root, path), before in missing.items()
        if before.image_id is not None and not before.failed and not is_away((root, path))
    }
    if not old_names:
        return {}
    pairs = (((root, path), old_names.get((root, folded(path)))) for root, path in new)
    return {key: old for key, old in pairs if old is not None}


def sort_out(images: Iterable[tuple[T, KnownSource | None]], *, retry_failed: bool) -> Changes[T]:
    """Images as they are now, each with what is known of it -> what is to be embedded."""
    to_embed: list[T] = []
    unchanged = failed_before = 0
    for image, before in images:
        if before is not None and (before.size, before.mtime) != (image.size, image.mtime):
            before = None
        if before is not None and before.failed and not retry_failed:
            failed_before += 1
        elif before is not None and before.has_vector and not before.failed:
            unchanged += 1
        else:
            to_embed.append(image)
    return Changes(tuple(to_embed), unchanged, failed_before)


def find_files(
    scopes: Sequence[Scope],
    options: ScanOptions = ScanOptions(),
    entries: Entries | None = None,
) -> Iterator[FoundFile]:
    """Every image file of some scopes once, folder by folder in alphabetical order."""
    entries = entries or Entries()
    roots = {entries.spelled(scope.root): scope.root for scope in scopes}
    seen: set[tuple[str, str]] = set()
    for scope in scopes:
        if not scope.given:
            continue
        start = os.path.join(entries.spelled(scope.root), scope.path)  # noqa: PTH118
        if scope.is_folder:
            walk = _Walk(roots, options)
            files = walk.files(start.rstrip("/") or "/", scope.root, scope.path)
        else:
            files = iter([found_file(scope.root, scope.path, start)])
        for file in files:
            if file.key not in seen:
                seen.add(file.key)
                yield file


@dataclass(frozen=True, slots=True)
class _Folder:
    """An absolute path, the root that its files belong to, and what comes before their names there."""

    path: str
    root: str
    prefix: str


class _Walk:
    """One walk over the folders below a scope: what holds for all of them."""

    def __init__(self, roots: Mapping[str, str], options: ScanOptions):
        """`roots` by the absolute paths under which they are met."""
        self.roots = roots
        self.options = options
        self.visited: set[tuple[int, int]] = set()
        """Device and number of folders, so that links that lead in a circle end somewhere."""

    def files(self, folder: str, root: str, prefix: str) -> Iterator[FoundFile]:
        # Without recursion, because folders may be nested more deeply than Python recurses.
        open_folders = [self._look_into(_Folder(folder, root, prefix))]
        while open_folders:
            found = next(open_folders[-1], None)
            if found is None:
                open_folders.pop()
            elif isinstance(found, _Folder):
                open_folders.append(self._look_into(found))
            else:
                yield found

    def _look_into(self, folder: _Folder) -> Iterator[FoundFile | _Folder]:
        try:
            if self.options.follow_symlinks:
                status = os.stat(folder.path)  # noqa: PTH116
                if (status.st_dev, status.st_ino) in self.visited:
                    return
                self.visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder.path) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except FileNotFoundError:
            return  # Gone since it was listed: its files are missing, or its drive is.
        except OSError as error:
            reason = f"the folder cannot be read: {error.strerror}"
            path = folder.prefix.rstrip("/") or "."
            yield found_file(folder.root, path, folder.path, problem=reason)
            return
        for entry in entries:
            if not self._leaves_out(entry, folder.prefix):
                yield from self._entry(entry, folder.root, folder.prefix + entry.name)

    def _leaves_out(self, entry: os.DirEntry[str], prefix: str) -> bool:
        if entry.name.startswith("."):
            return True
        if entry.is_symlink() and not self.options.follow_symlinks:
            # What it points to may well be below the folder already.
            return True
        return any(
            fnmatchcase(entry.name, pattern) or fnmatchcase(prefix + entry.name, pattern)
            for pattern in self.options.exclude
        )

    def _entry(
        self, entry: os.DirEntry[str], root: str, path: str
    ) -> Iterator[FoundFile | _Folder]:
        if _is_folder(entry):
            if entry.name in IGNORED_FOLDERS:
                return
            if is_image_name(entry.name):
                yield found_file(root, path, entry.path)
            if entry.path in self.roots:
                yield _Folder(entry.path, self.roots[entry.path], "")
            else:
                yield _Folder(entry.path, root, f"{path}/")
        elif is_image_name(entry.name):
            yield found_file(root, path, entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # A link to itself, say.


def found_file(root: str, path: str, absolute: str, problem: str | None = None) -> FoundFile:
    """A file as it is now, with a problem if it is not a file to open."""
    try:
        path.encode()
    except UnicodeEncodeError:
        # Latin-1 from an old disk, say: SQLite keeps UTF-8 only.
        path = path.encode(errors="backslashreplace").decode()
        problem = "the file name is not UTF-8; rename the file"
    try:
        status = os.stat(absolute)  # noqa: PTH116 (a Path costs more than the call)
    except (OSError, ValueError) as error:
        # ValueError is for a null byte, which a path in a person's own table may have.
        reason = getattr(error, "strerror", None) or str(error)
        return FoundFile(root, path, 0, "", problem=problem or reason)
    if problem is None and stat.S_ISDIR(status.st_mode):
        problem = "it is a folder, not a picture"
    if problem is None and not stat.S_ISREG(status.st_mode):
        # Opening a pipe would wait for its other end for ever.
        problem = "it is not a regular file but a pipe, socket or device"
    mtime = iso_time(status.st_mtime_ns // 1000)
    return FoundFile(root, path, status.st_size, mtime, problem=problem)


@dataclass(frozen=True)
class GoneFiles:
    """The files, by root and path, that are missing in a scan, or elsewhere although their root is there."""

    missing: Mapping[tuple[str, str], KnownSource]
    entries: Entries = field(default_factory=Entries)

    def __contains__(self, file: tuple[str, str]) -> bool:
        if file in self.missing:
            return True
        return not is_empty_or_gone(file[0]) and _is_gone(file, self.entries)


def is_empty_or_gone(folder: str) -> bool:
    """Whether a folder is empty or missing, for example because its drive is not mounted."""
    try:
        with os.scandir(folder) as listing:
            return not any(listing)
    except OSError:
        return True


def _is_gone(file: tuple[str, str], entries: Entries) -> bool:
    """Whether a file is not there, or only by another spelling; one that cannot be looked at may be."""
    return is_away(file) or not entries.is_listed(*file)
