"""The parts of roots that a run looks at. Nothing here costs more per folder if there are more folders."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ImageSearchError
from ..files.entries import Entries
from ..files.remote_urls import is_url, joined


class ScanError(ImageSearchError):
    """A file or folder that cannot be scanned."""


class NotThere(ScanError):
    """A file or folder that is not there."""

    def __init__(self, path: Path):
        super().__init__(
            f"there is no file or folder {str(path)!r}; if it is on another drive, mount it"
        )
        self.path = path


@dataclass(frozen=True, slots=True)
class Scope:
    """
    A part of a root that is looked at, which is a folder of this machine or a URL. `path` is "" for the whole root, "a/b/" for a folder in it,
    "a/b.jpg" for one file. A known root below a folder that was `given` is met on the way, unless
    it is left out.
    """

    root: str
    path: str
    given: bool = True

    @property
    def is_folder(self) -> bool:
        return self.path[-1:] in ("", "/")


class FolderScopes:
    """Scopes of folders, by the files in them."""

    def __init__(self, scopes: Iterable[Scope]):
        self._scopes = {(scope.root, scope.path): scope for scope in scopes if scope.is_folder}

    def of(self, file: tuple[str, str]) -> Iterator[Scope]:
        """The scopes that a file is in, by its root and path."""
        root, path = file
        length = 0
        while True:
            scope = self._scopes.get((root, path[:length]))
            if scope is not None:
                yield scope
            length = path.find("/", length) + 1
            if not length:
                return


def find_scopes(
    paths: Sequence[Path], known_roots: Iterable[str] = (), entries: Entries | None = None
) -> list[Scope]:
    """
    The scopes of some files and folders, and of the known roots below those folders.

    A folder that is given becomes a root, unless it lies below one. Each file belongs to the
    deepest root that contains it, so that embedding a folder and then its parent makes no second
    row of the same file. However a root was spelled when it was embedded, it is that one.
    """
    entries = entries or Entries()
    roots = {entries.spelled(root): root for root in known_roots}
    given = []
    for path in paths:
        found = _absolute(path, entries)
        folder = found if found.is_dir() else found.parent
        root = _deepest_root(str(folder), roots)
        if root is None:
            root = str(folder)
            roots[root] = utf8_path(folder)
        given.append((found, folder, root))
    in_order = sorted(roots)
    scopes = []
    for found, folder, root in given:
        relative = "" if str(found) == root else found.relative_to(root).as_posix()
        relative = f"{relative}/" if relative and found == folder else relative
        scopes.append(Scope(roots[root], relative))
        if found == folder:
            scopes += [Scope(roots[other], "", False) for other in _below(found, in_order)]
    return list(dict.fromkeys(scopes))


def _below(folder: Path, paths: Sequence[str]) -> Iterator[str]:
    """Those of some sorted absolute paths that are below a folder."""
    prefix = os.path.join(folder, "")  # noqa: PTH118 (with a slash at its end)
    for at in range(bisect_left(paths, prefix), len(paths)):
        if not paths[at].startswith(prefix):
            return
        if paths[at] != prefix:
            yield paths[at]


def _absolute(path: Path, entries: Entries) -> Path:
    try:
        exists = path.exists()
    except OSError as error:
        raise ScanError(f"{str(path)!r} cannot be looked at: {error.strerror}") from error
    if not exists:
        raise NotThere(path)
    return Path(entries.spelled(str(path.resolve())))


def utf8_path(folder: Path) -> str:
    """A folder as SQLite can keep it, which is in UTF-8 only. Raises ScanError."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise ScanError(
            f"the name of the folder {str(folder)!r} is not UTF-8; rename the folder"
        ) from None
    return str(folder)


def _deepest_root(folder: str, roots: Collection[str]) -> str | None:
    while folder not in roots:
        above = os.path.dirname(folder)  # noqa: PTH120 (called for each folder that is given)
        if above == folder:
            return None
        folder = above
    return folder


def shown_place(scope: Scope) -> str:
    """A folder as a person writes it."""
    if is_url(scope.root):
        return joined(scope.root, scope.path.rstrip("/"))
    return str(Path(scope.root, scope.path))


def emptied_scopes(scopes: Iterable[Scope], found: Iterable[tuple[str, str]]) -> list[Scope]:
    """
    The scopes of folders below which there is none of the `found` images, of whatever root; not any more,
    after all that is missing was missed, because a drive may go while it is looked at.
    """
    folders = {_place(scope.root, scope.path): scope for scope in scopes if scope.is_folder}
    empty = set(folders)
    looked_at: set[str] = set()
    for file in found:
        if not empty:
            break
        place = _place(*file)
        folder = place[: place.rindex("/") + 1]
        if folder in looked_at:
            continue
        above = {folder[: at + 1] for at, letter in enumerate(folder) if letter == "/"} & empty
        if not above or not is_away(file):
            looked_at.add(folder)
            empty -= above
    return [scope for place, scope in folders.items() if place in empty]


def _place(root: str, path: str) -> str:
    """An absolute path, POSIX, with a slash at the end of a folder's."""
    return f"{root.replace(os.sep, '/').rstrip('/')}/{path}"


def check_mounted(emptied: Iterable[Scope], missing: Iterable[tuple[str, str]]) -> None:
    """
    Raises ScanError if images are missing in a folder that has none left: more likely a drive
    that is not mounted than a folder that was emptied.
    """
    scopes = FolderScopes(emptied)
    images = Counter(scope for file in missing for scope in scopes.of(file))
    if images:
        scope, number = images.most_common(1)[0]
        raise ScanError(
            f"there are no images left in {shown_place(scope)!r}, and the table has "
            f"{number:,} of them; {_if_away(scope)}; if they are really gone, leave "
            "the folder out and delete their rows (nothing was changed)"
        )


def _if_away(scope: Scope) -> str:
    if is_url(scope.root):
        return "if its storage or your credentials are other ones now, put that right"
    return "if it is on another drive, mount it"


def is_away(file: tuple[str, str]) -> bool:
    """Whether nothing is there by the name of a file, given by its root and path."""
    try:
        os.lstat(os.path.join(*file))  # noqa: PTH118
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False
