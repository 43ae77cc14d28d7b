"""Folders -> the files in them, compared with what the tables know. Opens no file."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import Generic, Protocol, TypeVar

from ..errors import ImageSearchError
from ..store import Key, KnownFile
from .formats import is_image_name

IGNORED_FOLDERS = frozenset({"@eaDir", "#recycle", "$RECYCLE.BIN", "node_modules", "__MACOSX"})
"""Folders that network drives and tools fill with thumbnails and the like; hidden ones are left out too."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class HasState(Protocol):
    """What tells whether an image was changed."""

    @property
    def size(self) -> int: ...

    @property
    def mtime(self) -> str: ...


T = TypeVar("T", bound=HasState)


class ScanError(ImageSearchError):
    """A file or folder that cannot be scanned."""


class NotThere(ScanError):
    """A file or folder that is not there."""

    def __init__(self, path: Path):
        super().__init__(
            f"there is no file or folder {str(path)!r}; if it is on another drive, mount it"
        )
        self.path = path


@dataclass(frozen=True)
class ScanOptions:
    """`exclude` are shell patterns for names, or for paths below a root, of files and folders."""

    exclude: tuple[str, ...] = ()
    follow_symlinks: bool = False


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
    def absolute(self) -> Path:
        return Path(self.root, self.path)

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def read(self) -> bytes:
        return self.absolute.read_bytes()


@dataclass(frozen=True, slots=True)
class Scope:
    """
    A part of a root that is looked at. `path` is "" for the whole root, "a/b/" for a folder in it,
    "a/b.jpg" for one file. A known root below a folder that was `given` is met on the way, unless
    it is left out.
    """

    root: str
    path: str
    given: bool = True

    @property
    def is_folder(self) -> bool:
        return self.path[-1:] in ("", "/")

    def __contains__(self, file: tuple[str, str]) -> bool:
        root, path = file
        if root != self.root:
            return False
        return path.startswith(self.path) if self.is_folder else path == self.path


@dataclass(frozen=True)
class Changes(Generic[T]):
    """
    What a scan found: images to embed, how many need nothing (embedded before, or failed before),
    and what the tables know, by root and path, of files that are not there any more. `emptied` are
    the folders without any image.
    """

    to_embed: tuple[T, ...]
    unchanged: int
    failed_before: int
    missing: Mapping[tuple[str, str], KnownFile] = field(default_factory=dict)
    emptied: tuple[Scope, ...] = ()


def find_changes(
    paths: Sequence[Path],
    known: Mapping[tuple[str, str], KnownFile],
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
    scopes = find_scopes(paths, known_roots)
    seen: set[tuple[str, str]] = set()

    def with_known() -> Iterator[tuple[FoundFile, KnownFile | None]]:
        for file in find_files(scopes, options):
            key = (file.root, file.path)
            seen.add(key)
            before = known.get(key)
            yield replace(file, image_id=before.image_id) if before else file, before

    changes = sort_out(with_known(), retry_failed=retry_failed)
    # Files that were given are there: people give thousands, with *.jpg.
    folders = [scope for scope in scopes if scope.is_folder]
    missing = {
        key: before
        for key, before in known.items()
        if key not in seen and any(key in scope for scope in folders) and _is_gone(key)
    }
    emptied = tuple(scope for scope in folders if not _has_images(scope, seen))
    return replace(changes, missing=missing, emptied=emptied)


def sort_out(images: Iterable[tuple[T, KnownFile | None]], *, retry_failed: bool) -> Changes[T]:
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


def find_scopes(paths: Sequence[Path], known_roots: Iterable[str] = ()) -> list[Scope]:
    """
    The scopes of some files and folders, and of the known roots below those folders.

    A folder that is given becomes a root, unless it lies below one. Each file belongs to the
    deepest root that contains it, so that embedding a folder and then its parent makes no second
    row of the same file.
    """
    given = [_absolute(path) for path in paths]
    roots = set(known_roots)
    for path in given:
        folder = path if path.is_dir() else path.parent
        if _deepest_root(folder, roots) is None:
            roots.add(utf8_path(folder))
    scopes = []
    for path in given:
        folder = path if path.is_dir() else path.parent
        root = _deepest_root(folder, roots) or str(folder)
        relative = "" if str(path) == root else PurePath(path).relative_to(root).as_posix()
        scopes.append(Scope(root, f"{relative}/" if relative and path.is_dir() else relative))
        if folder == path:
            scopes += [
                Scope(other, "", False) for other in sorted(roots) if path in Path(other).parents
            ]
    return list(dict.fromkeys(scopes))


def find_files(
    scopes: Sequence[Scope], options: ScanOptions = ScanOptions()
) -> Iterator[FoundFile]:
    """Every image file of some scopes once, folder by folder in alphabetical order."""
    roots = {scope.root for scope in scopes}
    seen: set[tuple[str, str]] = set()
    for scope in scopes:
        if not scope.given:
            continue
        start = os.path.join(scope.root, scope.path)  # noqa: PTH118
        if scope.is_folder:
            walk = _Walk(roots, options)
            files = walk.folder(start.rstrip("/") or "/", scope.root, scope.path)
        else:
            files = iter([found_file(scope.root, scope.path, start)])
        for file in files:
            if (file.root, file.path) not in seen:
                seen.add((file.root, file.path))
                yield file


class _Walk:
    """One walk over the folders below a scope: what holds for all of them."""

    def __init__(self, roots: set[str], options: ScanOptions):
        self.roots = roots
        self.options = options
        self.visited: set[tuple[int, int]] = set()
        """Device and number of folders, so that links that lead in a circle end somewhere."""

    def folder(self, folder: str, root: str, prefix: str) -> Iterator[FoundFile]:
        try:
            if self.options.follow_symlinks:
                status = os.stat(folder)  # noqa: PTH116
                if (status.st_dev, status.st_ino) in self.visited:
                    return
                self.visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except FileNotFoundError:
            return  # Gone since it was listed: its files are missing, or its drive is.
        except OSError as error:
            reason = f"the folder cannot be read: {error.strerror}"
            yield found_file(root, prefix.rstrip("/") or ".", folder, problem=reason)
            return
        for entry in entries:
            if not self._leaves_out(entry, prefix):
                yield from self._entry(entry, root, prefix + entry.name)

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

    def _entry(self, entry: os.DirEntry[str], root: str, path: str) -> Iterator[FoundFile]:
        if _is_folder(entry):
            if entry.name in IGNORED_FOLDERS:
                return
            if is_image_name(entry.name):
                yield found_file(root, path, entry.path)
            if entry.path in self.roots:
                yield from self.folder(entry.path, entry.path, "")
            else:
                yield from self.folder(entry.path, root, f"{path}/")
        elif is_image_name(entry.name):
            yield found_file(root, path, entry.path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # A link to itself, say.


def found_file(root: str, path: str, absolute: str, problem: str | None = None) -> FoundFile:
    """A file as it is now, with the problem where it is none that could be opened."""
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
    modified = _EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000)
    return FoundFile(root, path, status.st_size, modified.isoformat(), problem=problem)


def _absolute(path: Path) -> Path:
    try:
        exists = path.exists()
    except OSError as error:
        raise ScanError(f"{str(path)!r} cannot be looked at: {error.strerror}") from error
    if not exists:
        raise NotThere(path)
    return path.resolve()


def utf8_path(folder: Path) -> str:
    """A folder as SQLite can keep it, which is in UTF-8 only. Raises ScanError."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise ScanError(
            f"the name of the folder {str(folder)!r} is not UTF-8; rename the folder"
        ) from None
    return str(folder)


def _deepest_root(folder: PurePath, roots: set[str]) -> str | None:
    return next((str(f) for f in (folder, *folder.parents) if str(f) in roots), None)


def check_mounted(emptied: Iterable[Scope], missing: Collection[tuple[str, str]]) -> None:
    """
    Raises ScanError where images are missing in a folder that has none left: more likely a drive
    that is not mounted than a folder that was emptied.
    """
    for scope in emptied:
        images = sum(file in scope for file in missing)
        if images:
            raise ScanError(
                f"there are no images left in {str(Path(scope.root, scope.path))!r}, of which the "
                f"table has {images:,}; if it is on another drive, mount it; if they are really "
                "gone, leave the folder out and delete their rows (nothing was changed)"
            )


def _has_images(scope: Scope, seen: Iterable[tuple[str, str]]) -> bool:
    """
    Whether some image of any root is below a folder; still, after all that is missing was missed,
    because a drive may go while it is looked at.
    """
    prefix = os.path.join(scope.root, scope.path, "")  # noqa: PTH118
    return any(os.path.join(*file).startswith(prefix) and not _is_gone(file) for file in seen)  # noqa: PTH118


@dataclass(frozen=True)
class GoneFiles:
    """The files, by root and path, that are missing in a scan, or elsewhere although their root is there."""

    missing: Mapping[tuple[str, str], KnownFile]

    def __contains__(self, file: tuple[str, str]) -> bool:
        return file in self.missing or (not is_empty_or_gone(file[0]) and _is_gone(file))


def is_empty_or_gone(folder: str) -> bool:
    """Whether nothing can be seen of a folder, as where its drive is not mounted."""
    try:
        with os.scandir(folder) as listing:
            return not any(listing)
    except OSError:
        return True


def _is_gone(file: tuple[str, str]) -> bool:
    """Whether a file is really not there; one that cannot be looked at may be."""
    try:
        os.lstat(os.path.join(*file))  # noqa: PTH118
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False
