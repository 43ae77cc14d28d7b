"""The paths of imported vectors -> rows of an image table."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlite_utils import Database

from .. import store
from ..files.entries import Entries
from ..files.remote_urls import is_url
from ..store import Key, reads
from ..store.own_rows import own_label, own_rows
from ..store.reads import known_files
from ..store.tables import MOST_VECTORS
from .import_request import ImportRequest, Unknown
from .model_choice import RunError
from .scene_lines import Film, films_among
from .scopes import utf8_path
from .vector_sources import VectorSource

SHOWN = 3
"""The most paths that an error names."""


@dataclass(frozen=True)
class Matches:
    """
    The owners of vectors, by position in the source and in its order: `known` have an image id, `new`
    have no row yet. `files` are root and path of all, `without_state` those of `known` of whose files
    size and time are not recorded. Of `films` the position is that of the first scene.
    """

    files: Sequence[tuple[str, str]]
    known: Sequence[tuple[int, Key]]
    without_state: Sequence[tuple[int, Key]]
    new: Sequence[int]
    skipped: int
    films: Mapping[int, Film]


def find_matches(
    request: ImportRequest,
    db: Database,
    source: VectorSource,
    path_column: str | None,
    content_column: str | None,
) -> Matches:
    """
    The rows for the vectors of a source. Both columns are None for a table of ours or a new one; if a table has its images
    in a column of contents, they are named by # and their ids. Raises
    RunError for paths that are empty, occur twice, or have no row and may get none.
    """
    _check_paths(source)
    if content_column is not None:
        return _match_ids(request, db, source)
    if path_column is None:
        return _match_files(request, db, source)
    return _match_own_rows(request, db, source, path_column)


def _check_paths(source: VectorSource) -> None:
    for number, path in enumerate(source.paths, 1):
        if not path or "\0" in path:
            what = "has a null byte" if path else "is empty"
            raise RunError(f"path number {number:,} of {source.name} {what}; nothing was imported")


def _match_files(request: ImportRequest, db: Database, source: VectorSource) -> Matches:
    known = known_files(db.conn, request.table)
    ids = {file: at.image_id for file, at in known.items() if at.image_id is not None}
    unknown = request.unknown or ("refuse" if ids else "add")
    places = _Places(
        {root.path for root in reads.roots(db.conn)},
        _only_root(request.roots) or _only({root for root, _ in ids}),
    )
    if unknown == "add" and request.roots:
        places.add_roots(request.roots)
    elif unknown == "add":
        places.add_common_root(source)
    films = films_among(source.paths, lambda path: places.of(path) in ids)
    pictures, paths = _pictures(source, films)
    files = [places.of(path) for path in paths]
    _check_distinct(source, [(at, files[at]) for at in pictures])
    matched, without_state, new, strange = [], [], [], []
    for position in pictures:
        file = files[position]
        if file in ids:
            matched.append((position, ids[file]))
            if known[file].size is None:
                without_state.append((position, ids[file]))
        elif unknown == "add" and file[0]:
            new.append(position)
        else:
            strange.append(position)
    _check_known(request, source, strange, unknown, adds_rows=True)
    return Matches(files, matched, without_state, new, len(strange), films)


def _match_own_rows(
    request: ImportRequest, db: Database, source: VectorSource, column: str
) -> Matches:
    _check_adds_no_rows(request)
    table = store.find_image_table(db.conn, request.table)
    folder = str(request.database.resolve().parent)
    ids: dict[str, list[Key]] = {}
    rows, _ = own_rows(db.conn, table, None, column, is_path=True)
    for row in rows:
        ids.setdefault(_absolute(folder, str(row.source)), []).append(row.image_id)
    base = _only_root(request.roots) or folder
    films = films_among(source.paths, lambda path: _absolute(base, path) in ids)
    pictures, paths = _pictures(source, films)
    files = [("", _absolute(base, path)) for path in paths]
    _check_distinct(source, [(at, files[at]) for at in pictures])
    matched = [(at, key) for at in pictures for key in ids.get(files[at][1], ())]
    strange = [at for at in pictures if files[at][1] not in ids]
    _check_known(request, source, strange, request.unknown or "refuse", adds_rows=False)
    return Matches(files, matched, matched, (), len(strange), films)


def _match_ids(request: ImportRequest, db: Database, source: VectorSource) -> Matches:
    _check_adds_no_rows(request)
    table = store.find_image_table(db.conn, request.table)
    keys = db.execute("select {key} from {images}".format(**table.quoted()))
    ids = {own_label(key): key for (key,) in keys if table.is_key(key)}
    films = films_among(source.paths, ids.__contains__)
    pictures, paths = _pictures(source, films)
    files = [("", path) for path in paths]
    _check_distinct(source, [(at, files[at]) for at in pictures])
    matched = [(at, ids[paths[at]]) for at in pictures if paths[at] in ids]
    strange = [at for at in pictures if paths[at] not in ids]
    _check_known(request, source, strange, request.unknown or "refuse", adds_rows=False)
    return Matches(files, matched, (), (), len(strange), films)


def _check_adds_no_rows(request: ImportRequest) -> None:
    if request.unknown == "add":
        raise RunError(
            f"table {request.table!r} is your own, so only you can add rows to it; use --unknown skip"
        )


def _pictures(
    source: VectorSource, films: Mapping[int, Film]
) -> tuple[Sequence[int], Sequence[str]]:
    """The positions of pictures, and of the first scene of each film; and the paths of all positions. Raises RunError."""
    if not films:
        return range(len(source.paths)), source.paths
    paths, others = list(source.paths), set[int]()
    for first, film in films.items():
        scenes = len(film.seconds)
        if scenes > MOST_VECTORS:
            raise RunError(
                f"{film.path!r} has {scenes:,} scenes in {source.name}, more than {MOST_VECTORS}; nothing was imported"
            )
        paths[first : first + scenes] = [film.path] * scenes
        others.update(range(first + 1, first + scenes))
    return [at for at in range(len(paths)) if at not in others], paths


def _absolute(folder: str, path: str) -> str:
    return os.path.normpath(os.path.join(folder, path))  # noqa: PTH118


def _only_root(roots: Sequence[Path]) -> str | None:
    return _only({utf8_path(root.resolve()) for root in roots})


def _only(roots: Collection[str]) -> str | None:
    """The root if there is exactly one, otherwise None."""
    return next(iter(roots)) if len(roots) == 1 else None


def _check_distinct(source: VectorSource, files: Sequence[tuple[int, object]]) -> None:
    """Of positions, each with its file."""
    if len({file for _, file in files}) == len(files):
        return
    counts = Counter(file for _, file in files)
    twice = [file for file, times in counts.items() if times > 1]
    first = source.paths[next(at for at, file in files if file == twice[0])]
    others = f" and {len(twice) - 1:,} more are" if len(twice) > 1 else " is"
    raise RunError(
        f"{first!r}{others} in {source.name} more than once, with a vector each; nothing was imported"
    )


def _check_known(
    request: ImportRequest,
    source: VectorSource,
    strange: Sequence[int],
    unknown: Unknown,
    *,
    adds_rows: bool,
) -> None:
    """Raises RunError for paths without a row; `adds_rows` says whether the table could get some."""
    if not strange or unknown == "skip":
        return
    named = ", ".join(repr(source.paths[at]) for at in strange[:SHOWN])
    if unknown == "add":
        roots = ", ".join(repr(str(root)) for root in request.roots)
        reason, advice = (
            f"are not below {roots}",
            "name their folder with --root, or --unknown skip",
        )
    else:
        reason = f"have no row in {request.table!r}"
        advice = "check --root, or choose --unknown skip" + (
            " or --unknown add" if adds_rows else ""
        )
    raise RunError(
        f"{len(strange):,} of the {len(source.paths):,} paths of {source.name} {reason}, such as "
        f"{named}; {advice}; nothing was imported"
    )


class _Places:
    """Finds the root of each path. Whole folders are looked up once, because paths are many."""

    def __init__(self, roots: Collection[str], base: str | None):
        """`base` is the folder that relative paths are below."""
        self._entries = Entries()
        self._roots = {
            root if is_url(root) else self._entries.spelled(root): root for root in roots
        }
        self._base = base
        self._folders: dict[str, tuple[str, str]] = {}

    def add_roots(self, folders: Sequence[Path]) -> None:
        """Adds folders as roots, unless they are in a root already."""
        for folder in folders:
            root = self._entries.spelled(utf8_path(folder.resolve()))
            if self._in_roots(root) is None:
                self._roots[root] = root

    def of(self, path: str) -> tuple[str, str]:
        """(root, POSIX path below it); the root is "" for a path that is below none."""
        folder, name = os.path.split(path)
        if folder not in self._folders and is_url(folder):
            self._folders[folder] = self._in_roots(folder) or ("", f"{folder}/")
        if folder not in self._folders:
            absolute = self._absolute_folder(path, folder)
            # On a drive that ignores case the names of folders may be spelled otherwise in the table.
            place = self._in_roots(self._entries.spelled(absolute))
            place = place or self._in_roots(self._entries.spelled(os.path.realpath(absolute)))
            self._folders[folder] = place or ("", f"{absolute}/")
        root, prefix = self._folders[folder]
        below = prefix + name
        # A million paths that are relative already are not held twice.
        return root, path if below == path else below

    def _absolute_folder(self, path: str, folder: str) -> str:
        if self._base is None and not os.path.isabs(path):  # noqa: PTH117
            raise RunError(
                f"{path!r} is a relative path; name the one folder that such paths are relative to "
                "with --root"
            )
        return _absolute(self._base or "", folder)

    def _in_roots(self, folder: str) -> tuple[str, str] | None:
        """The deepest root that a folder is in, with what to write before the names of its files."""
        above = folder
        while above not in self._roots:
            above, below = os.path.dirname(above), above  # noqa: PTH120
            if above == below:
                return None
        inside = folder[len(above) :].replace(os.sep, "/").strip("/")
        return self._roots[above], f"{inside}/" if inside else ""

    def add_common_root(self, source: VectorSource) -> None:
        """Adds the common folder of all files that are below no root as a root."""
        for path in source.paths:
            self.of(path)
        outside = [prefix.rstrip("/") for root, prefix in self._folders.values() if not root]
        if not outside:
            return
        try:
            common = os.path.realpath(os.path.commonpath(outside))
        except ValueError:
            common = os.path.sep  # On two drives of Windows.
        if common == os.path.dirname(common):  # noqa: PTH120
            raise RunError(
                f"the paths of {source.name} have no folder in common; name their folders with --root"
            )
        self._roots[self._entries.spelled(common)] = common
        self._folders.clear()
