"""The vectors of an index -> a .npy file, and a text file with their paths, which import_vectors() reads again."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .. import store
from ..errors import ImageSearchError
from ..files.whole_files import put_in_place, sync, sync_names, temporary_beside
from ..store import Index, Key
from ..store.connections import database_path
from ..store.filters import passing
from ..store.reads import locations
from ..store.stored_vectors import StoredVectors
from ..store.vectors import count_vectors, scene_times, vector_batches
from .report import Progress
from .scene_lines import lines_of


class ExportError(ImageSearchError):
    """The files cannot have these names, or there is nothing to write."""


@dataclass(frozen=True)
class ExportSummary:
    """
    So many `vectors` of `images` by a `model` were written. `left_out` are images whose paths have line breaks, or that have
    several vectors and are no films; `example` is the path of one.
    """

    model: str
    images: int
    vectors: int
    dimensions: int
    left_out: int
    example: str
    seconds: float


@dataclass(frozen=True)
class _Named:
    """Vectors that are to be written, shape (n, dimensions), with their lines; and paths that cannot be written."""

    images: int
    vectors: np.ndarray
    lines: list[str]
    left_out: list[str]


def export_vectors(
    conn: sqlite3.Connection,
    index: Index,
    file: Path,
    paths: Path,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> ExportSummary:
    """
    Write the vectors of all images that are searched, float32, in the order of their rows, and a line with a path for each.
    Both files are replaced when both are whole. Raises ExportError, VectorsAway or OSError.
    """
    _check_names(file, paths)
    started = time.perf_counter()
    images = vectors = 0
    left_out: list[str] = []
    like = database_path(conn)
    with temporary_beside(paths, like) as lines_file, temporary_beside(file, like) as array_file:
        with lines_file.open("wb") as lines, array_file.open("wb") as array, store.snapshot(conn):
            total = count_vectors(conn, index)
            _write_header(array, 0, index.dimensions)
            for batch in _batches(conn, index):
                array.write(batch.vectors.astype("<f4").tobytes())
                lines.write("".join(f"{line}\n" for line in batch.lines).encode())
                images += batch.images
                vectors += len(batch.lines)
                left_out += batch.left_out
                on_progress(Progress(images, total, 0, "", "Exporting"))
            if not images:
                raise ExportError(f"{index.image_table!r} has no vectors to export")
            array.seek(0)
            _write_header(array, vectors, index.dimensions)
            for each in (lines, array):
                sync(each)
        # Whoever is killed in between leaves vectors without paths, never with those of others.
        paths.unlink(missing_ok=True)
        sync_names(paths.parent)
        put_in_place(array_file, file)
        put_in_place(lines_file, paths)
    return ExportSummary(
        index.model,
        images,
        vectors,
        index.dimensions,
        len(left_out),
        left_out[0] if left_out else "",
        time.perf_counter() - started,
    )


def _check_names(file: Path, paths: Path) -> None:
    """Raises ExportError. Names must end so, so that no other file is replaced, such as the database."""
    for path, ending in ((file, ".npy"), (paths, ".txt")):
        if path.suffix != ending:
            raise ExportError(f"{str(path)!r} does not end in {ending}; name another file")
        if not path.parent.is_dir():
            raise ExportError(
                f"there is no folder {str(path.parent)!r}; make it, or name another file"
            )


def _write_header(array: BinaryIO, n: int, dimensions: int) -> None:
    """NumPy leaves room for an n of any length, so that the header can be written again when that is known."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (n, dimensions)}
    np.lib.format.write_array_header_1_0(array, header)


def _batches(conn: sqlite3.Connection, index: Index) -> Iterator[_Named]:
    database = database_path(conn)
    folder = Path() if database is None else database.parent
    seen: set[str] = set()
    for stored in vector_batches(conn, index):
        there = set(passing(conn, index, np.unique(stored.vector_ids).tolist(), None))
        keys = [stored.image_ids[at] for at in stored.starts().tolist()]
        places = locations(conn, index, keys)
        if index.content_column is None:
            paths = {key: _as_read(place.whole(folder)) for key, place in places.items()}
        else:
            paths = {key: place.path for key, place in places.items()}
        yield _named(conn, index, stored, there, paths, seen)


def _as_read(place: Path | str) -> str:
    """As an import reads it: a person's own table may name a file in several ways, such as a/../b.jpg."""
    return place if isinstance(place, str) else os.path.normpath(place)


def _named(
    conn: sqlite3.Connection,
    index: Index,
    stored: StoredVectors,
    there: Collection[int],
    paths: Mapping[Key, str],
    seen: set[str],
) -> _Named:
    """
    Those of the vectors that are `there`. Rows of a person's own table that have one path have one vector, of the first
    that is `seen`: an import gives it to all of them.
    """
    starts = stored.starts()
    ids = stored.vector_ids[starts].tolist()
    times = scene_times(conn, index, ids)
    chosen = [np.empty((0, index.dimensions), np.float32)]
    lines: list[str] = []
    left_out: list[str] = []
    for id, at, vectors in zip(
        ids, starts.tolist(), np.split(stored.vectors, starts[1:]), strict=True
    ):
        if id not in there or (path := paths[stored.image_ids[at]]) in seen:
            continue
        seconds = times.get(id, ())
        if {"\n", "\r"} & set(path) or len(vectors) != max(1, len(seconds)):
            left_out.append(path)
            continue
        if index.path_column is not None:
            seen.add(path)
        chosen.append(vectors)
        lines += lines_of(path, seconds)
    return _Named(len(chosen) - 1, np.concatenate(chosen), lines, left_out)
