"""Remote folders -> the image files in them, as walk.py finds those of this machine. Opens no file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache

from ..decoding.formats import is_image_name
from ..files.remote import RemoteEntry, entry_of, is_gone, list_folder, list_remote, looked_at
from ..files.remote_urls import RemoteError, below, joined, split_name
from .beside import LARGEST, SUFFIX, FilesBeside, State
from .exclusion import Exclusion
from .left_out import LeftOutCount, is_of_a_tool
from .scopes import FolderScopes, Scope
from .walk import FoundFile, stem_of

Key = tuple[str, str]
"""The root and the path of a file."""

NAMELESS = "a folder in its path has no name, so that it would be taken for another file; move it"


def find_remote_scopes(urls: Sequence[str], known_roots: Iterable[str] = ()) -> list[Scope]:
    """
    The scopes of some URLs, and of the known roots below those of folders: as find_scopes() has them for paths. A URL
    that is called like a picture is asked for, whether it is a folder. Raises RemoteError if it does not answer.
    """
    roots = list(known_roots)
    given = Counter(split_name(url)[0] for url in urls)

    @cache
    def names_in(folder: str) -> frozenset[str]:
        # One listing for many names, and one look for a name in a folder that may be large.
        listed = list_folder(folder, "") if given[folder] > 1 else None
        return frozenset(entry.path for entry in listed or ())

    scopes = []
    for url in urls:
        folder, name = split_name(url)
        is_file = (
            url not in roots
            and is_image_name(name)
            and (name in names_in(folder) or _is_file(folder, name))
        )
        start = folder if is_file else url
        # The deepest has the shortest path below it.
        above = [(path, root) for root in roots if (path := below(start, root)) is not None]
        path, root = min(above, key=lambda each: len(each[0]), default=("", start))
        if not above:
            roots.append(root)
        prefix = f"{path}/" if path else ""
        scopes.append(Scope(root, prefix + name if is_file else prefix))
        if not is_file:
            scopes += [Scope(other, "", False) for other in roots if below(other, url)]
    return list(dict.fromkeys(scopes))


def _is_file(folder: str, name: str) -> bool:
    try:
        return entry_of(folder, name) is not None
    except OSError as error:
        raise RemoteError(
            f"{joined(folder, name)!r} cannot be looked at: {error.strerror or 'there is nothing'}"
        ) from error


class RemoteWalk:
    """A walk over the remote folders of some scopes, which notes what is left out beside a walk over this machine's."""

    def __init__(self, scopes: Sequence[Scope], exclusion: Exclusion, met: LeftOutCount):
        self._scopes = scopes
        self._exclusion = exclusion
        self._met = met
        self._left_out: dict[Key, bool] = {}
        self._folders: dict[Key, dict[str, RemoteEntry]] = defaultdict(dict)
        self._not_listed: set[Key] = set()
        self._in_folders = FolderScopes(scopes)

    def files(self) -> Iterator[FoundFile]:
        """Every image file of the scopes once. Raises RemoteError if any of them cannot be listed."""
        seen: set[Key] = set()
        for scope in self._scopes:
            if not scope.given:
                continue
            start = joined(scope.root, scope.path).rstrip("/")
            self._exclusion.keep(start, scope.path.rstrip("/") or split_name(start)[1])
            files = self._all_in(scope) if scope.is_folder else self._file(scope)
            for file in files:
                if file.key not in seen:
                    seen.add(file.key)
                    yield file

    def alike(self, files: Iterable[FoundFile]) -> Iterator[FoundFile]:
        """The image files beside some that were given by themselves, called the same but for the ending."""
        wanted: dict[Key, set[str]] = defaultdict(set)
        for file in files:
            wanted[file.root, _folder_of(file.path)].add(stem_of(file.name))
        for (root, folder), stems in wanted.items():
            entries = self._folders[root, folder]
            yield from self._found(
                root, folder, [name for name in entries if stem_of(name) in stems]
            )

    def is_gone(self, key: Key) -> bool:
        """Whether a file was in no listing; where none would have it, whether it is not there."""
        root, path = key
        folder = _folder_of(path)
        if (root, folder) in self._folders and (root, folder) not in self._not_listed:
            return path.rpartition("/")[2] not in self._folders[root, folder]
        if next(self._in_folders.of(key), None) is None:
            return is_gone(root, path)
        # What was left out was perhaps not listed.
        return not self._leaves_out(root, folder)

    def _all_in(self, scope: Scope) -> Iterator[FoundFile]:
        nested = sorted(
            (
                (path, other.root)
                for other in self._scopes
                if (path := below(other.root, scope.root)) and not other.path
            ),
            key=lambda each: -len(each[0]),
        )

        def place(path: str) -> Key:
            for above, root in nested:
                if path.startswith(f"{above}/"):
                    return root, path[len(above) + 1 :]
            return scope.root, path

        entries = list_remote(
            scope.root,
            scope.path.rstrip("/"),
            lambda folder: not self._leaves_out(*place(f"{folder}/")),
        )
        met: set[Key] = set()
        for entry in entries:
            if "" in entry.path.split("/"):
                if is_image_name(entry.path):
                    yield FoundFile(scope.root, entry.path, 0, "", problem=NAMELESS)
                continue
            root, path = place(entry.path)
            folder, _, name = path.rpartition("/")
            self._folders[root, folder][name] = replace(entry, path=path)
            met.add((root, folder))
        for root, folder in sorted(met, key=lambda each: joined(*each)):
            if not self._leaves_out(root, folder, stop=scope):
                yield from self._found(root, folder, self._pictures_in(root, folder))

    def _file(self, scope: Scope) -> Iterator[FoundFile]:
        root, path = scope.root, scope.path
        folder, _, name = path.rpartition("/")
        if (root, folder) not in self._folders:
            entries = list_folder(root, folder)
            if entries is None:
                self._not_listed.add((root, folder))
            self._folders[root, folder] = {
                entry.path.rpartition("/")[2]: entry for entry in entries or ()
            }
        entry = self._folders[root, folder].get(name) or entry_of(root, path)
        if entry is not None:
            self._folders[root, folder][name] = entry
            yield from self._found(root, folder, [name])

    def _leaves_out(self, root: str, folder: str, stop: Scope | None = None) -> bool:
        """Whether a folder, or one that it is in, is left out. What a person named, the scope, is not."""
        folder = folder.rstrip("/")
        if not folder or (stop is not None and (root, f"{folder}/") == (stop.root, stop.path)):
            return False
        if self._leaves_out(root, _folder_of(folder), stop):
            return True
        if (root, folder) not in self._left_out:
            self._left_out[root, folder] = self._is_left_out_itself(root, folder)
        return self._left_out[root, folder]

    def _is_left_out_itself(self, root: str, folder: str) -> bool:
        url, name = joined(root, folder), folder.rpartition("/")[2]
        is_tool = is_of_a_tool(f"/{folder}")
        if is_tool:
            self._met.add_folder(name)
        if is_tool or name.startswith(".") or self._exclusion.leaves_out(url, folder):
            self._exclusion.pass_over(url, folder)
            return True
        return False

    def _pictures_in(self, root: str, folder: str) -> list[str]:
        """The names of the image files in a folder, in order, without those that are left out."""
        names = []
        for name in sorted(self._folders[root, folder]):
            path = f"{folder}/{name}" if folder else name
            if name.startswith(".") or self._exclusion.leaves_out(joined(root, path), path):
                continue
            if is_image_name(name):
                names.append(name)
            else:
                self._met.add_file(name, joined(root, folder))
        return names

    def _found(self, root: str, folder: str, names: Sequence[str]) -> Iterator[FoundFile]:
        entries = self._folders[root, folder]
        pictures = set(names)
        wanted = {name.lower() for name in names} | {stem_of(name) for name in names}
        untold = [
            entry
            for name, entry in entries.items()
            if entry.size is None
            and (name in pictures or (name.lower().endswith(SUFFIX) and stem_of(name) in wanted))
        ]
        # One look for each, and only at web servers.
        for entry in looked_at(root, untold) if untold else ():
            entries[entry.path.rpartition("/")[2]] = entry
        beside = FilesBeside("", entries, lambda name: _state_beside(entries[name]))
        for name in names:
            entry = entries[name]
            path = f"{folder}/{name}" if folder else name
            yield _found_file(root, path, entry, beside.of(name))


def _found_file(root: str, path: str, entry: RemoteEntry, beside: str) -> FoundFile:
    problem = entry.problem
    try:
        path.encode()
    except UnicodeEncodeError:
        path = path.encode(errors="backslashreplace").decode()
        problem = "the file name is not UTF-8; rename the file"
    if problem is not None:
        return FoundFile(root, path, 0, "", problem=problem)
    return FoundFile(root, path, entry.size or 0, entry.state, beside=beside)


def _state_beside(entry: RemoteEntry) -> State | None:
    name, size = entry.path.rpartition("/")[2], entry.size
    if size is None or size > LARGEST or entry.problem is not None:
        return None
    return name, size, entry.state


def _folder_of(path: str) -> str:
    return path.rpartition("/")[0]
