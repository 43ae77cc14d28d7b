"""Roots whose folder is elsewhere now, which the database was not told of."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from ..store import ROOTS, KnownFile, Root
from .scan import FoundFile, is_empty_or_gone


@dataclass(frozen=True)
class MovedRoot:
    """A root whose images are most of those in another folder, `now_at`, and that has none itself."""

    root: Root
    now_at: str


def tell_database(database: Path, root: Root, path: str) -> str:
    """The command line that tells a database where a root is now."""
    return (
        f'sqlite-utils query {shlex.quote(str(database))} "update {ROOTS} set path = :new '
        f'where id = {root.id}" -p new {shlex.quote(path)}'
    )


def root_of(path: Path, roots: Iterable[Root]) -> Root | None:
    """The deepest root that a path, which need not be there, is or was in."""
    by_path = {root.path: root for root in roots}
    resolved = path.resolve()
    folders = (str(folder) for folder in (resolved, *resolved.parents))
    return next((by_path[folder] for folder in folders if folder in by_path), None)


def find_moved_root(
    files: Iterable[FoundFile],
    known: Mapping[tuple[str, str], KnownFile],
    roots: Sequence[Root],
) -> MovedRoot | None:
    """
    The root that some new files are from: most of those in a folder have the path in it, and the
    size, of images in the root, of which the folder is empty or gone.
    """
    left = {root.path: root for root in roots if is_empty_or_gone(root.path)}
    sizes: dict[tuple[str, int], list[str]] = {}
    for (root, path), before in known.items():
        if root in left and before.image_id is not None and before.size is not None:
            sizes.setdefault((path, before.size), []).append(root)
    if not sizes:
        return None
    taken = {root.path for root in roots}
    same: Counter[tuple[str, str]] = Counter()
    below: Counter[str] = Counter()
    for file in files:
        if file.image_id is not None or file.problem is not None:
            continue
        for folder, path in _places(f"{PurePath(file.root).as_posix()}/{file.path}"):
            below[folder] += 1
            same.update((root, folder) for root in sizes.get((path, file.size), ()))
    for (root, folder), number in same.most_common():
        now_at = str(PurePath(folder))
        if 2 * number > below[folder] and now_at not in taken:
            return MovedRoot(left[root], now_at)
    return None


def _places(path: str) -> Iterator[tuple[str, str]]:
    """Every folder that a file is in, the nearest first, and its path below that. Costs little."""
    slash = path.rfind("/")
    while slash > 0:
        yield path[:slash], path[slash + 1 :]
        slash = path.rfind("/", 0, slash)
