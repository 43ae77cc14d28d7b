"""Folders -> the files in them, compared with the tables. Opens no file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Generic, Protocol, TypeVar

from ..files import remote
from ..files.entries import Entries, folded
from ..files.remote_urls import Storage, is_url, joined, split_name, storage_of
from ..store.companions import names_of
from ..store.tables import KnownSource
from .left_out import LeftOut
from .pairs import may_be_companion, paired
from .remote_walk import RemoteWalk, find_remote_scopes
from .scopes import FolderScopes, Scope, emptied_scopes, find_scopes, is_away
from .walk import FoundFile, ScanOptions, Walk


class HasState(Protocol):
    """What tells whether an image was changed."""

    @property
    def size(self) -> int: ...

    @property
    def mtime(self) -> str: ...


T = TypeVar("T", bound=HasState)

Place = Path | str
"""A file or folder of this machine, or the URL of one elsewhere."""


@dataclass(frozen=True)
class Changes(Generic[T]):
    """
    What a scan found: images to embed, how many need nothing (embedded before, or failed before),
    and what the tables know, by root and path, of files that are not there any more. `respelled` are
    files that need nothing but the new spelling of their paths. `emptied` are the folders without any
    image. `settled` are failures of folders that can be read again, and of names that are spelled in another way
    now. Of `to_read` only the metadata is to be read again; they count as unchanged. `to_pair` need nothing but their
    other companions. `companions` counts the files that are no images, as they are of the photo of another.
    """

    to_embed: tuple[T, ...]
    unchanged: int
    failed_before: int
    respelled: tuple[FoundFile, ...] = ()
    missing: Mapping[tuple[str, str], KnownSource] = field(default_factory=dict)
    emptied: tuple[Scope, ...] = ()
    to_read: tuple[FoundFile, ...] = ()
    to_pair: tuple[FoundFile, ...] = ()
    settled: tuple[tuple[str, str], ...] = ()
    left_out: LeftOut = field(default_factory=LeftOut)
    companions: int = 0


def find_changes(
    paths: Sequence[Place],
    known: Mapping[tuple[str, str], KnownSource],
    known_roots: Iterable[str],
    options: ScanOptions | None = None,
    *,
    retry_failed: bool = False,
    database: Path | None = None,
) -> Changes[FoundFile]:
    """
    The image files in some files and folders that are new, changed or without a vector, and those
    that are missing there. The files of `database` are none that are left out.

    Raises NotThere for a path that is not there, RemoteError for a URL that cannot be listed. Whether missing files are gone for good is for
    `check_mounted`, when those that were moved are known.
    """
    looked = _Looked(paths, known_roots, options, database)
    all_found = looked.found
    found = all_found
    if options is None or options.pairs:
        found = _paired(all_found, known, looked)
    # Files that were given are there: people give thousands, with *.jpg.
    folders = FolderScopes(looked.scopes)
    not_met = {
        key: before
        for key, before in known.items()
        if key not in all_found and any(folders.of(key))
    }
    missing = {key: before for key, before in not_met.items() if looked.is_gone(key)}
    images_left_out = sorted(
        path
        for (root, path), before in not_met.items()
        if (root, path) not in missing
        and before.image_id is not None
        # One that cannot be read is a failure, and its images are not left out.
        and not any((root, str(folder)) in found for folder in PurePosixPath(path).parents)
    )
    respelled = {
        key: missing.pop(old)
        for key, old in _respelled(found.keys() - known.keys(), missing).items()
    }
    with_known = [(file, known.get(key) or respelled.get(key)) for key, file in found.items()]
    changes = sort_out(with_known, retry_failed=retry_failed)
    # Nearly all files are as they were: a copy of each would be a quarter of the time.
    to_embed = {
        file.key: _with_row(file, known.get(file.key) or respelled.get(file.key))
        for file in changes.to_embed
    }
    renamed = tuple(
        _with_row(found[key], before) for key, before in respelled.items() if key not in to_embed
    )
    return replace(
        changes,
        to_embed=tuple(to_embed.values()),
        unchanged=changes.unchanged - len(renamed),
        respelled=renamed,
        missing=missing,
        to_read=tuple(
            _with_row(file, before)
            for file, before in with_known
            if before is not None and before.beside != file.beside and _is_known(file, before)
        ),
        to_pair=tuple(
            _with_row(file, before)
            for file, before in with_known
            if before is not None
            and before.companions != file.companions
            and before.image_id is not None
            and file.key not in to_embed
        ),
        emptied=tuple(looked.emptied(found)),
        settled=(
            *(
                key
                for key in looked.walk.listed
                if key in known and known[key].failed and key not in found
            ),
            *(key for key, before in missing.items() if _is_failure(before) and not is_away(key)),
            # A companion is no image that could fail.
            *(key for key in all_found if key not in found and key in known),
        ),
        left_out=replace(
            looked.walk.left_out(),
            images=len(images_left_out),
            example=images_left_out[0] if images_left_out else "",
        ),
        companions=len(all_found.keys() - found.keys()),
    )


class _Looked:
    """What is in some paths, and what is not there any more: of this machine by one walk, of URLs by another."""

    def __init__(
        self,
        paths: Sequence[Place],
        known_roots: Iterable[str],
        options: ScanOptions | None,
        database: Path | None,
    ):
        self._entries = Entries()
        by_kind: dict[bool, list[str]] = {True: [], False: []}
        for root in known_roots:
            by_kind[is_url(root)].append(root)
        local = find_scopes(
            [path for path in paths if isinstance(path, Path)], by_kind[False], self._entries
        )
        urls = [path for path in paths if isinstance(path, str)]
        distant = find_remote_scopes(urls, by_kind[True]) if urls else []
        self.walk = Walk(local, options, self._entries, database)
        self._remote = RemoteWalk(distant, self.walk.exclusion, self.walk.met)
        self._local_scopes, self._remote_scopes = local, distant
        self.found = {file.key: file for file in chain(self.walk.files(), self._remote.files())}

    @property
    def scopes(self) -> list[Scope]:
        return [*self._local_scopes, *self._remote_scopes]

    def alike(self, films: Iterable[FoundFile]) -> Iterator[FoundFile]:
        given = list(films)
        yield from self.walk.alike(file for file in given if not is_url(file.root))
        yield from self._remote.alike(file for file in given if is_url(file.root))

    def is_gone(self, key: tuple[str, str]) -> bool:
        return self._remote.is_gone(key) if is_url(key[0]) else _is_gone(key, self._entries)

    def emptied(self, found: Iterable[tuple[str, str]]) -> list[Scope]:
        """The scopes of folders without any of the `found` images."""
        found = list(found)
        emptied = emptied_scopes(self._local_scopes, (key for key in found if not is_url(key[0])))
        full: set[str] = set()
        for key in found:
            folder = split_name(joined(*key))[0] if is_url(key[0]) else ""
            while folder and folder not in full:
                full.add(folder)
                folder = split_name(folder)[0]
        return emptied + [
            scope
            for scope in self._remote_scopes
            if scope.is_folder and joined(scope.root, scope.path.rstrip("/")) not in full
        ]


def _paired(
    given: Mapping[tuple[str, str], FoundFile],
    known: Mapping[tuple[str, str], KnownSource],
    looked: _Looked,
) -> dict[tuple[str, str], FoundFile]:
    """As paired(). A film that is given by itself brings the picture beside it, and no other file."""
    films = (file for file in given.values() if may_be_companion(file.path))
    beside = {file.key: file for file in looked.alike(films) if file.key not in given}
    found = paired({**beside, **given}, known, lambda key: not looked.is_gone(key))
    companions = given.keys() - found.keys()
    for root, path in beside.keys() & found.keys():
        if not any((root, name) in companions for name in names_of(found[root, path].companions)):
            del found[root, path]
    return found


def _with_row(file: FoundFile, before: KnownSource | None) -> FoundFile:
    return file if before is None else replace(file, image_id=before.image_id)


def _is_known(file: FoundFile, before: KnownSource) -> bool:
    """Whether a file is the one that was embedded."""
    same = (before.size, before.mtime) == (file.size, file.mtime)
    return same and before.has_vector and not before.failed


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


def places_of(files: Iterable[tuple[str, str]]) -> list[Place]:
    """The places of those files, given by root and path, that are there."""
    return [
        joined(root, path) if is_url(root) else Path(root, path)
        for root, path in files
        if (not remote.is_gone(root, path) if is_url(root) else Path(root, path).is_file())
    ]


def _is_failure(before: KnownSource) -> bool:
    return before.failed and before.image_id is None


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


@dataclass(frozen=True)
class GoneFiles:
    """
    The files, by root and path, that are missing in a scan, or elsewhere although their root is there. Storage is asked
    only if it is among the `storages` that a run names: the table of roots may be a stranger's.
    """

    missing: Mapping[tuple[str, str], KnownSource]
    storages: frozenset[Storage]
    entries: Entries = field(default_factory=Entries)

    def __contains__(self, file: tuple[str, str]) -> bool:
        if file in self.missing:
            return True
        if is_url(file[0]):
            return storage_of(file[0]) in self.storages and remote.is_gone(*file)
        return not is_empty_or_gone(file[0]) and _is_gone(file, self.entries)


def storages_of(places: Iterable[Place]) -> frozenset[Storage]:
    """The storages, as of storage_of(), of those places that are URLs."""
    return frozenset(storage_of(place) for place in places if isinstance(place, str))


def is_empty_or_gone(folder: str) -> bool:
    """Whether a folder is empty or missing, for example because its drive is not mounted."""
    if is_url(folder):
        return remote.is_empty_or_gone(folder)
    try:
        with os.scandir(folder) as listing:
            return not any(listing)
    except OSError:
        return True


def _is_gone(file: tuple[str, str], entries: Entries) -> bool:
    """Whether a file is not there, or only by another spelling; one that cannot be looked at may be."""
    return is_away(file) or not entries.is_listed(*file)
