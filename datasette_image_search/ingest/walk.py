"""Folders -> the image files in them. Opens no file."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

from ..checked import check_fields
from ..decoding.formats import is_image_name
from ..files.entries import Entries
from ..files.remote import open_remote, read_remote
from ..files.remote_urls import is_url
from ..files.special_files import open_regular, special_kind
from ..files.states import iso_time
from ..store import Key
from .beside import FilesBeside, files_beside, read_beside, read_remote_beside
from .exclusion import Exclusion
from .left_out import LeftOut, LeftOutCount, is_of_a_tool
from .scopes import Scope


@dataclass(frozen=True)
class ScanOptions:
    """
    `exclude` are shell patterns for names and paths of files and folders, as in Exclusion. Without `pairs` each file of
    a pair is an image of its own: see pairs.py.
    """

    exclude: tuple[str, ...] = ()
    follow_symlinks: bool = False
    pairs: bool = True

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """
    A file below a root. `root` is an absolute path or a URL, `path` POSIX and relative to it, `size` in
    bytes, `mtime` ISO 8601 in UTC to the microsecond, or a tag if the storage tells no time. `image_id` is the row that it already has,
    `problem` why there is no use in opening it, `beside` the state of the .xmp files beside it. `companions` are the
    paths of the files that are the same photo, a JSON array, "" if there are none.
    """

    root: str
    path: str
    size: int
    mtime: str
    image_id: Key | None = None
    problem: str | None = None
    beside: str = ""
    companions: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.root, self.path

    @property
    def absolute(self) -> Path:
        """Its path, if it is on this machine."""
        return Path(self.root, self.path)

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def open(self) -> BinaryIO:
        if is_url(self.root):
            return open_remote(self.root, self.path, self.size)
        return open_regular(self.absolute)

    def read(self, at_most: int | None = None) -> bytes:
        if is_url(self.root):
            return read_remote(self.root, self.path, self.size, at_most)
        with self.open() as file:
            return file.read(-1 if at_most is None else at_most)

    def read_beside(self) -> list[bytes]:
        if is_url(self.root):
            return read_remote_beside(self.root, self.path.rpartition("/")[0], self.beside)
        return read_beside(self.absolute.parent, self.beside)


@dataclass(frozen=True, slots=True)
class _Folder:
    """
    An absolute path, the root that its files belong to, and what comes before their names there. `place` is
    the path without links, as folders list it.
    """

    path: str
    root: str
    prefix: str
    place: str

    @property
    def key(self) -> tuple[str, str]:
        return self.root, self.prefix.rstrip("/") or "."


class Walk:
    """A walk over the folders of some scopes, for a `database` that may be among their files."""

    def __init__(
        self,
        scopes: Sequence[Scope],
        options: ScanOptions | None = None,
        entries: Entries | None = None,
        database: Path | None = None,
    ):
        options = options or ScanOptions()
        self._entries = entries or Entries()
        self._scopes = scopes
        self._roots = {self._entries.spelled(scope.root): scope.root for scope in scopes}
        self._follow_symlinks = options.follow_symlinks
        self.exclusion = Exclusion(options.exclude, self._entries)
        self.met = LeftOutCount(database)
        self.listed: set[tuple[str, str]] = set()
        """The folders that could be read, by root and path; "." is the root itself."""

    def files(self) -> Iterator[FoundFile]:
        """Every image file of the scopes once, folder by folder in alphabetical order."""
        seen: set[tuple[str, str]] = set()
        beside = cache(files_beside)
        for scope in self._scopes:
            if not scope.given:
                continue
            start = os.path.join(self._entries.spelled(scope.root), scope.path)  # noqa: PTH118
            self.exclusion.keep(start.rstrip("/"), scope.path.rstrip("/") or Path(start).name)
            if scope.is_folder:
                folder = start.rstrip("/") or "/"
                place = self._place(folder)
                files = self._files_in(_Folder(folder, scope.root, scope.path, place))
            else:
                siblings = beside(os.path.dirname(start))  # noqa: PTH120
                files = iter([found_file(scope.root, scope.path, start, beside=siblings)])
            for file in files:
                if file.key not in seen:
                    seen.add(file.key)
                    yield file

    def alike(self, files: Iterable[FoundFile]) -> Iterator[FoundFile]:
        """The image files beside some in folders that were not listed, called the same but for the ending."""
        given: dict[tuple[str, str], set[str]] = defaultdict(set)
        for file in files:
            above, _, name = file.path.rpartition("/")
            if (file.root, above or ".") not in self.listed:
                given[file.root, above].add(stem_of(name))
        for (root, above), stems in given.items():
            prefix = f"{above}/" if above else ""
            folder = os.path.join(self._entries.spelled(root), above)  # noqa: PTH118
            try:
                with os.scandir(folder) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except OSError:
                continue
            entries = [entry for entry in entries if not self._is_left_out(entry, prefix)]
            beside = FilesBeside(folder, (entry.name for entry in entries))
            for entry in entries:
                if stem_of(entry.name) in stems and is_image_name(entry.name):
                    yield found_file(root, prefix + entry.name, entry.path, beside=beside)

    def left_out(self) -> LeftOut:
        """What was met so far and is no picture."""
        return self.met.total(self.exclusion)

    def _files_in(self, folder: _Folder) -> Iterator[FoundFile]:
        visited: set[str] = set()
        # Without recursion, because folders may be nested more deeply than Python recurses.
        open_folders = [self._look_into(folder, visited)]
        while open_folders:
            found = next(open_folders[-1], None)
            if found is None:
                open_folders.pop()
            elif isinstance(found, _Folder):
                open_folders.append(self._look_into(found, visited))
            else:
                yield found

    def _look_into(self, folder: _Folder, visited: set[str]) -> Iterator[FoundFile | _Folder]:
        """`visited` are places, so that links that lead in a circle end somewhere."""
        if self._follow_symlinks:
            # Drives and FUSE give numbers of folders that they give to others later.
            if folder.place in visited:
                return
            visited.add(folder.place)
        try:
            with os.scandir(folder.path) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except FileNotFoundError:
            return  # Gone since it was listed: its files are missing, or its drive is.
        except OSError as error:
            reason = f"the folder cannot be read: {error.strerror}"
            yield found_file(*folder.key, folder.path, problem=reason)
            return
        is_first_time = folder.key not in self.listed
        self.listed.add(folder.key)
        entries = [entry for entry in entries if not self._leaves_out(entry, folder.prefix)]
        beside = FilesBeside(folder.path, (entry.name for entry in entries))
        for entry in entries:
            path = folder.prefix + entry.name
            yield from self._entry(entry, folder, path, beside, is_first_time)

    def _leaves_out(self, entry: os.DirEntry[str], prefix: str) -> bool:
        is_left_out = self._is_left_out(entry, prefix)
        if is_left_out:
            self.exclusion.pass_over(entry.path, prefix + entry.name)
        return is_left_out

    def _is_left_out(self, entry: os.DirEntry[str], prefix: str) -> bool:
        return (
            self.exclusion.leaves_out(entry.path, prefix + entry.name)
            or entry.name.startswith(".")
            # What a link points to may well be below the folder already.
            or (not self._follow_symlinks and _holds(entry.is_symlink))
        )

    def _entry(
        self,
        entry: os.DirEntry[str],
        folder: _Folder,
        path: str,
        beside: FilesBeside,
        is_first_time: bool,
    ) -> Iterator[FoundFile | _Folder]:
        is_folder = _holds(entry.is_dir)
        if is_folder and is_of_a_tool(entry.path):
            self.exclusion.pass_over(entry.path, path)
            if is_first_time:
                self.met.add_folder(entry.name)
            return
        if is_image_name(entry.name):
            yield found_file(folder.root, path, entry.path, beside=beside)
        elif is_first_time and _holds(entry.is_file):
            self.met.add_file(entry.name, folder.path)
        if is_folder:
            # Asking the system for each costs the square of the depth.
            # Windows has junctions, links that it does not call so.
            is_plain = os.name != "nt" and not _holds(entry.is_symlink)
            place = os.path.join(folder.place, entry.name) if is_plain else self._place(entry.path)  # noqa: PTH118
            root, prefix = folder.root, f"{path}/"
            if entry.path in self._roots:
                root, prefix = self._roots[entry.path], ""
            yield _Folder(entry.path, root, prefix, place)

    def _place(self, folder: str) -> str:
        return self._entries.spelled(os.path.realpath(folder)) if self._follow_symlinks else folder


def stem_of(name: str) -> str:
    """The name of a file without its ending, in lower case."""
    return os.path.splitext(name.lower())[0]  # noqa: PTH122


def _holds(test: Callable[[], bool]) -> bool:
    """What is true of an entry; nothing is of a link to itself, say, which cannot be looked at."""
    try:
        return test()
    except OSError:
        return False


def found_file(
    root: str,
    path: str,
    absolute: str,
    problem: str | None = None,
    beside: FilesBeside | None = None,
) -> FoundFile:
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
    kind = special_kind(status.st_mode)
    if problem is None and kind is not None:
        # Opening a pipe would wait for its other end for ever.
        problem = f"it is {kind}, not a picture"
    mtime = iso_time(status.st_mtime_ns // 1000)
    files = "" if beside is None else beside.of(absolute)
    return FoundFile(root, path, status.st_size, mtime, problem=problem, beside=files)
