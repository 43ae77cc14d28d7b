"""Roots whose folder has moved without a change in the database."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePath

from ..files.entries import composed
from ..files.remote_urls import Storage, is_url, joined, split_name, storage_of
from ..store.tables import ROOTS, KnownSource, Root
from .scan import is_empty_or_gone
from .walk import FoundFile


@dataclass(frozen=True)
class MovedRoot:
    """A root without images, most of which are in another folder, `now_at`."""

    root: Root
    now_at: str


def tell_database(database: Path, root: Root, path: str) -> str:
    """The command line that tells a database where a root is now."""
    return (
        f'sqlite-utils query {shlex.quote(str(database))} "update {ROOTS} set path = :new '
        f'where id = {root.id}" -p new {shlex.quote(path)}'
    )


def root_of(path: Path, roots: Iterable[Root]) -> Root | None:
    """The deepest root of a path, which need not exist."""
    by_path = {root.path: root for root in roots}
    resolved = path.resolve()
    folders = (str(folder) for folder in (resolved, *resolved.parents))
    return next((by_path[folder] for folder in folders if folder in by_path), None)


def find_moved_root(
    files: Iterable[FoundFile],
    known: Mapping[tuple[str, str], KnownSource],
    roots: Sequence[Root],
    storages: frozenset[Storage] = frozenset(),
) -> MovedRoot | None:
    """
    The root that some new files come from, if any: its folder is empty or gone, and most files in another
    folder have the paths and sizes of its images. Storage elsewhere is asked only if it is one of the
    `storages` that a run names.
    """
    # Storage elsewhere is asked only if its images are those of new files.
    left = {
        root.path: root
        for root in roots
        if (storage_of(root.path) in storages if is_url(root.path) else is_empty_or_gone(root.path))
    }
    sizes: dict[tuple[str, int], list[str]] = {}
    for (root, path), before in known.items():
        if root in left and before.image_id is not None and before.size is not None:
            sizes.setdefault((composed(path), before.size), []).append(root)
    if not sizes:
        return None
    new = [
        (_whole(root, file.path), file.size)
        for root, group in groupby(files, key=lambda file: file.root)
        for file in group
        if file.image_id is None and file.problem is None
    ]
    same: dict[tuple[str, str], int] = {}
    for absolute, size in new:
        for folder, path in _places(absolute):
            for root in sizes.get((composed(path), size), ()):
                same[root, folder] = same.get((root, folder), 0) + 1
    if not same:
        return None
    below = dict.fromkeys((folder for _, folder in same), 0)
    for absolute, _ in new:
        for folder, _ in _places(absolute):
            if folder in below:
                below[folder] += 1
    taken = {root.path for root in roots}
    for (root, folder), number in sorted(same.items(), key=lambda item: -item[1]):
        now_at = folder if is_url(folder) else str(PurePath(folder))
        if (
            2 * number > below[folder]
            and now_at not in taken
            and (not is_url(root) or is_empty_or_gone(root))
        ):
            return MovedRoot(left[root], now_at)
    return None


def _whole(root: str, path: str) -> str:
    return joined(root, path) if is_url(root) else f"{PurePath(root).as_posix()}/{path}"


def _places(path: str) -> Iterator[tuple[str, str]]:
    """Every folder that contains a file, the nearest first, and the path of the file below it."""
    if is_url(path):
        yield from _places_of_url(path)
        return
    slash = path.rfind("/")
    while slash > 0:
        yield path[:slash], path[slash + 1 :]
        slash = path.rfind("/", 0, slash)


def _places_of_url(url: str) -> Iterator[tuple[str, str]]:
    folder, path = split_name(url)
    while folder != url:
        yield folder, path
        url = folder
        folder, name = split_name(url)
        if not name:
            return
        path = f"{name}/{path}"
