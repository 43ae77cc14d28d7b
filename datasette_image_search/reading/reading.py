"""Text in the pictures of a table -> lines in the table beside it."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import ClassVar

from sqlite_utils import Database

from ..checked import check_flag, check_whole, several
from ..decoding.decode import reading
from ..decoding.decoding_process import Killed
from ..decoding.formats import is_film_name
from ..decoding.opening import DecodeError, Unreadable, check_file_size, default_max_pixels
from ..files.remote import entry_of, read_remote
from ..files.remote_urls import Storage, clean_url, is_url, storage_of
from ..files.special_files import open_regular
from ..store import Filter, Index
from ..store.lines import (
    ReadPicture,
    UnreadPicture,
    ensure_lines,
    lines_of_twins,
    unread,
    write_lines,
)
from ..store.own_rows import own_content
from ..store.reads import locations, thumbnail
from ..store.tables import Location
from ..store.transactions import transaction
from .reading_process import ReadingProcess
from .recognition import check_recognition

COMMIT_SECONDS = 1.0
"""After which the pictures that were read are committed, so that a run that is stopped loses little."""

CHANGED = "the file is another one than was embedded; run embed-images first"


@dataclass(frozen=True)
class TextRead:
    """
    Progress of reading: images done and in total, and those of them whose picture was read for another image, with
    text, and that could not be read. `seconds_left` is an estimate, None before the first pictures.
    """

    doing: ClassVar = "Reading text"
    done: int
    total: int
    workers: int
    copies: int = 0
    with_text: int = 0
    failed: int = 0
    seconds_left: float | None = None


@dataclass(frozen=True)
class _Input:
    """
    The picture to read: a file, here or elsewhere, and if that cannot be read, bytes, which are a thumbnail or a BLOB. Of a film only its
    thumbnail is read, and of a picture `is_elsewhere` too.
    """

    file: Path | Location | None
    content: bytes | None
    is_film: bool = False
    is_elsewhere: bool = False


def read_images(
    db: Database,
    index: Index,
    folder: Path,
    *,
    filter: Filter | None = None,
    limit: int | None = None,
    workers: int | None = None,
    max_pixels: int | None = None,
    retry_failed: bool = False,
    originals: str | Sequence[str] = (),
) -> Iterator[TextRead]:
    """
    Read the text of the images that pass the filter and were not read yet, in batches that are committed before they
    are yielded; the first that is yielded has none done. At most `limit` pictures are read; what another image with
    the same picture has is copied. Relative paths of a person's own table are relative to `folder`. `workers` are
    processes, None is one per processor; pictures of more than `max_pixels` are not read, None is what the free memory
    allows. Of pictures in storage elsewhere the thumbnails are read, unless one of the URLs `originals` is of that storage:
    the table of roots may be a stranger's.

    Raises StoreError, FilterError, RemoteError for a text that is no URL, and ImageSearchError without the extra `ocr`, or if its models cannot be loaded.
    """
    check_recognition()
    check_flag("retry_failed", retry_failed)
    for name, value in (("limit", limit), ("workers", workers), ("max_pixels", max_pixels)):
        if value is not None:
            check_whole(name, value, 1)
    storages = {storage_of(clean_url(url)) for url in several("originals", originals, str)}
    with transaction(db):
        ensure_lines(db, index)
    pictures = unread(db.conn, index.table, filter, retry_failed=retry_failed)
    copied = list(lines_of_twins(db.conn, index.table, pictures))
    known = {read.picture.ids for read in copied}
    left = [each for each in pictures if each.ids not in known]
    left = _without_gone(db, index, folder, left, storages)[:limit]
    workers = workers or os.cpu_count() or 1
    told = TextRead(0, _images([read.picture for read in copied] + left), workers)
    yield told
    if copied:
        told = _written(db, index, copied, told, tried=0)
        yield told
    if not left:
        return
    seconds: list[float] = []
    tried = 0

    def inputs() -> Iterator[tuple[UnreadPicture, _Input]]:
        return ((each, _input(db, index, folder, each, storages)) for each in left)

    processes = [ReadingProcess(max_pixels or default_max_pixels(workers)) for _ in range(workers)]
    for batch in _batches(_read_ahead(inputs(), processes)):
        told = _written(db, index, [read for read, _ in batch], told, tried=len(batch))
        tried += len(batch)
        seconds += [taken for _, taken in batch if taken is not None]
        if seconds:
            each = sum(seconds) / len(seconds) / workers
            told = replace(told, seconds_left=each * (len(left) - tried))
        yield told


def _images(pictures: Iterable[UnreadPicture]) -> int:
    return sum(len(each.ids) for each in pictures)


def _written(
    db: Database, index: Index, read: Sequence[ReadPicture], told: TextRead, *, tried: int
) -> TextRead:
    with transaction(db):
        write_lines(db, index.table, read)
    done = _images(each.picture for each in read)
    return replace(
        told,
        done=told.done + done,
        copies=told.copies + done - tried,
        with_text=told.with_text + _images(each.picture for each in read if each.lines),
        failed=told.failed + _images(each.picture for each in read if each.reason is not None),
    )


def _batches(
    read: Iterable[tuple[ReadPicture, float | None]],
) -> Iterator[list[tuple[ReadPicture, float | None]]]:
    batch, deadline = [], time.monotonic() + COMMIT_SECONDS
    for each in read:
        batch.append(each)
        if time.monotonic() >= deadline:
            yield batch
            batch, deadline = [], time.monotonic() + COMMIT_SECONDS
    if batch:
        yield batch


# --- What is read --------------------------------------------------------------------------------


def _without_gone(
    db: Database,
    index: Index,
    folder: Path,
    pictures: Sequence[UnreadPicture],
    storages: Collection[Storage],
) -> list[UnreadPicture]:
    """Without those of which the thumbnail was read, and the original is still not there."""
    gone = [each.ids[0] for each in pictures if each.was_gone]
    there = set()
    # For 100,000 files of a drive that is unplugged; a Path takes longer than to look for its file.
    is_folder = cache(os.path.isdir)
    for key, place in locations(db.conn, index, gone).items() if gone else ():
        if is_url(place.root):
            if storage_of(place.root) in storages:
                there.add(key)
            continue
        file = os.path.join(folder, place.root, place.path)  # noqa: PTH118
        if is_folder(os.path.dirname(file)) and os.path.isfile(file):  # noqa: PTH113, PTH120
            there.add(key)
    return [each for each in pictures if not each.was_gone or each.ids[0] in there]


def _input(
    db: Database,
    index: Index,
    folder: Path,
    picture: UnreadPicture,
    storages: Collection[Storage],
) -> _Input:
    table, key = index.table, picture.ids[0]
    if index.content_column is not None:
        return _Input(None, own_content(db.conn, table, index.content_column, key))
    place = locations(db.conn, index, [key]).get(key)
    stored = thumbnail(db.conn, table, key)
    small = stored.picture if stored is not None and isinstance(stored.picture, bytes) else None
    if place is not None and is_film_name(place.path):
        return _Input(None, small, is_film=True)
    if place is not None and is_url(place.root) and storage_of(place.root) not in storages:
        return _Input(None, small, is_elsewhere=True)
    if place is None or is_url(place.root):
        return _Input(place, small)
    return _Input(folder / place.root / place.path, small)


def _read(
    picture: UnreadPicture, given: _Input, process: ReadingProcess
) -> tuple[ReadPicture, float | None]:
    """Lines, or why there are none; and the seconds that the process took for lines, if it tells."""
    try:
        if given.is_film and given.content is None:
            raise DecodeError("the film has no thumbnail, of which its text would be read")
        if given.is_elsewhere and given.content is None:
            raise DecodeError("there is no thumbnail; name its URL with --originals")
        data, of_thumbnail = _bytes_of(given, process.max_pixels)
        is_other = hashlib.sha256(data).hexdigest() != picture.sha256
        is_original = not of_thumbnail and not given.is_film
        if is_other and is_original and picture.sha256 is not None:
            return ReadPicture(picture, reason=CHANGED, may_pass=True), None
        name = "" if given.file is None or of_thumbnail else _name_of(given.file)
        lines, seconds = process.lines(data, name)
    except DecodeError as error:
        may_pass = isinstance(error, (Unreadable, Killed))
        return ReadPicture(picture, reason=str(error), may_pass=may_pass), None
    return ReadPicture(picture, tuple(lines), of_thumbnail=of_thumbnail), seconds


def _bytes_of(given: _Input, max_pixels: int) -> tuple[bytes, bool]:
    """The bytes of the original, or else of the thumbnail, and whether it is that. Raises DecodeError."""
    if given.file is None:
        return given.content or b"", given.is_elsewhere
    try:
        with reading():
            if isinstance(given.file, Location):
                return _elsewhere(given.file, max_pixels), False
            check_file_size(given.file.stat().st_size, max_pixels)
            with open_regular(given.file) as opened:
                return opened.read(), False
    except (Unreadable, ValueError) as error:
        if given.content is not None:
            return given.content, True
        # A path with a null character is that of no file.
        raise error if isinstance(error, Unreadable) else Unreadable("the file is gone") from error


def _name_of(file: Path | Location) -> str:
    return file.name if isinstance(file, Path) else file.path.rpartition("/")[2]


def _elsewhere(place: Location, max_pixels: int) -> bytes:
    entry = entry_of(place.root, place.path)
    size = (entry and entry.size) or 0
    check_file_size(size, max_pixels)
    return read_remote(place.root, place.path, size)


# --- By several processes ------------------------------------------------------------------------


def _read_ahead(
    inputs: Iterable[tuple[UnreadPicture, _Input]], processes: Sequence[ReadingProcess]
) -> Iterator[tuple[ReadPicture, float | None]]:
    """What was read, in the order of `inputs`: a thread waits for each process."""
    idle: SimpleQueue[ReadingProcess] = SimpleQueue()
    for process in processes:
        idle.put(process)
    waiting: deque[Future[tuple[ReadPicture, float | None]]] = deque()
    executor = ThreadPoolExecutor(len(processes), thread_name_prefix="read")
    try:
        # Else each picture would fail of what has nothing to do with it.
        processes[0].load()
        for picture, given in inputs:
            waiting.append(executor.submit(_by_idle, idle, picture, given))
            if len(waiting) > 2 * len(processes):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.end()


def _by_idle(
    idle: SimpleQueue[ReadingProcess], picture: UnreadPicture, given: _Input
) -> tuple[ReadPicture, float | None]:
    process = idle.get()
    try:
        return _read(picture, given, process)
    finally:
        idle.put(process)
