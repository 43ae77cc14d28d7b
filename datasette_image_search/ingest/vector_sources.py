"""
Readers for vectors that other programs made. The content tells the kind of a source. All are read in
blocks, never whole: a file of numpy is mapped, a database is read row by row.
"""

from __future__ import annotations

import math
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import counted
from ..files.special_files import check_is_file
from ..files.states import iso_time
from ..files.vector_files import NoDirection, VectorSourceError, mapped_array, unit_vectors
from ..store.connections import open_to_read
from ..store.tables import column_names

BLOCK = 8192
"""Vectors per block; 16 MB with 512 dimensions in float32."""

SQLITE = b"SQLite format 3\0"
NUMPY = b"\x93NUMPY"

LLM_MODELS = {"clip": "ViT-B-32-quickgelu/openai"}
"""Models of llm's plugins for pictures -> our ids."""

RCLIP_MODEL = "ViT-B-32-256/datacomp_s34b_b86k"
RCLIP_MODEL_BEFORE_3 = "ViT-B-32-quickgelu/openai"
"""rclip's models, by the version in its table db_version, which it raised to 3 for the change."""


@dataclass(frozen=True, slots=True)
class FileState:
    """The state of a file when its vector was made: bytes, and ISO 8601 in UTC to the microsecond."""

    size: int
    mtime: str


@dataclass(frozen=True)
class VectorSource:
    """
    n vectors and the paths of their pictures, in the same order. `blocks` yields the vectors from the
    beginning each time, as they are stored: arrays of shape (m, dimensions) of any float type. `model`
    and `states` are for sources that know them.
    """

    name: str
    paths: Sequence[str]
    dimensions: int
    blocks: Callable[[], Iterator[np.ndarray]]
    model: str | None = None
    states: Sequence[FileState] | None = None


@contextmanager
def open_source(
    path: Path, *, paths: Path | None = None, collection: str | None = None
) -> Iterator[VectorSource]:
    """
    The vectors of a .npy file (`paths` is a text file with a path a line), of rclip's database, of a
    folder of clip-retrieval, or of a collection of llm (None: the only one there is).

    Raises VectorSourceError with a sentence for anything else, or an incomplete source.
    """
    if not path.is_dir():
        check_is_file(path, "vectors to import")
    kind = _kind_of(path)
    if paths is not None and kind != "npy":
        raise VectorSourceError(f"{str(path)!r} contains paths of its own; leave --paths out")
    if collection is not None and kind != "llm":
        raise VectorSourceError(f"{str(path)!r} is not a database of llm; leave --collection out")
    if kind == "npy":
        yield _open_npy(path, paths)
    elif kind == "clip-retrieval":
        yield _open_clip_retrieval(path)
    else:
        with _read_only(path) as conn:
            yield _open_llm(conn, path, collection) if kind == "llm" else _open_rclip(conn, path)


def unit_blocks(source: VectorSource) -> Iterator[np.ndarray]:
    """
    The vectors as float32 of unit norm, block by block.

    Raises VectorSourceError that names the first picture whose vector has no direction.
    """
    at = 0
    for block in source.blocks():
        try:
            yield unit_vectors(block)
        except NoDirection as error:
            number = at + error.at
            raise VectorSourceError(
                f"the vector of {source.paths[number]!r} (number {number + 1:,} of {source.name}) "
                f"{error}; nothing was imported"
            ) from error
        at += len(block)


def _kind_of(path: Path) -> str:
    """npy, rclip, clip-retrieval or llm."""
    if path.is_dir():
        if (path / "img_emb").is_dir():
            return "clip-retrieval"
        raise VectorSourceError(
            f"the folder {str(path)!r} is not one of clip-retrieval: it has no folder 'img_emb'"
        )
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except FileNotFoundError:
        raise VectorSourceError(f"there is no file or folder {str(path)!r}") from None
    except OSError as error:
        raise VectorSourceError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    if start.startswith(NUMPY):
        return "npy"
    if start == SQLITE:
        with _read_only(path) as conn, _reading(path):
            if {"collection_id", "id", "embedding"} <= set(column_names(conn, "embeddings")):
                return "llm"
            if {"filepath", "vector"} <= set(column_names(conn, "images")):
                return "rclip"
    raise VectorSourceError(
        f"{str(path)!r} is neither a .npy file nor a database of rclip or llm; for clip-retrieval, name "
        "its folder"
    )


# --- numpy ---------------------------------------------------------------------------------------


def _open_npy(path: Path, paths: Path | None) -> VectorSource:
    array = mapped_array(path)
    if paths is None:
        raise VectorSourceError(
            f"{str(path)!r} has {len(array):,} vectors and no paths; name a text file with one path on "
            "each line with --paths"
        )
    names = _read_paths(paths)
    if len(names) != len(array):
        raise VectorSourceError(
            f"{str(path)!r} has {len(array):,} vectors, and {str(paths)!r} {len(names):,} paths"
        )
    return VectorSource(path.name, names, array.shape[1], lambda: _blocks_of([array]))


def _blocks_of(arrays: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    for array in arrays:
        for start in range(0, len(array), BLOCK):
            yield array[start : start + BLOCK]


def _read_paths(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise VectorSourceError(f"there is no file {str(path)!r} with paths") from None
    except OSError as error:
        raise VectorSourceError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise VectorSourceError(f"{str(path)!r} is not UTF-8 text") from None
    # Not splitlines(), which splits at characters that names of files may have.
    return text.removesuffix("\n").split("\n") if text else []


# --- clip-retrieval ------------------------------------------------------------------------------


def _open_clip_retrieval(folder: Path) -> VectorSource:
    files = _numbered(folder / "img_emb", "img_emb_*.npy")
    tables = _numbered(folder / "metadata", "metadata_*.parquet")
    if not files:
        raise VectorSourceError(f"there is no img_emb_*.npy in {str(folder / 'img_emb')!r}")
    if files.keys() != tables.keys():
        lonely = min(files.keys() ^ tables.keys())
        raise VectorSourceError(
            f"{str(folder)!r} is incomplete: it has only one of img_emb_{lonely}.npy and "
            f"metadata_{lonely}.parquet"
        )
    arrays: list[np.ndarray] = []
    paths: list[str] = []
    for number in sorted(files):
        array, names = mapped_array(files[number]), _image_paths(tables[number])
        if len(array) != len(names):
            raise VectorSourceError(
                f"{files[number].name} has {len(array):,} vectors, and {tables[number].name} "
                f"{len(names):,} paths"
            )
        if arrays and array.shape[1] != arrays[0].shape[1]:
            raise VectorSourceError(
                f"the vectors of {files[number].name} have {counted(array.shape[1], 'dimension')}, those "
                f"before them {arrays[0].shape[1]}"
            )
        arrays.append(array)
        paths += names
    return VectorSource(folder.name, paths, arrays[0].shape[1], lambda: _blocks_of(arrays))


def _numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """The files of a folder by the number at the end of their names."""
    found = {}
    for path in folder.glob(pattern):
        if number := re.search(r"_(\d+)$", path.stem):
            found[int(number[1])] = path
    return found


def _image_paths(path: Path) -> list[str]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise VectorSourceError(
            "folders of clip-retrieval need an extra: pip install 'datasette-image-search[parquet]'"
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            if "image_path" not in file.schema_arrow.names:
                raise VectorSourceError(f"{str(path)!r} has no column 'image_path'")
            names = file.read(["image_path"]).column(0).to_pylist()
    except (ArrowException, OSError) as error:
        raise VectorSourceError(f"{str(path)!r} is damaged, or not parquet") from error
    return ["" if name is None else str(name) for name in names]


# --- Databases -----------------------------------------------------------------------------------


@contextmanager
def _read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that sees one state of the database, even if others write meanwhile."""
    with _reading(path):
        conn = open_to_read(path)
    with closing(conn):
        # A path with a letter replaced would be that of no file.
        conn.text_factory = str
        conn.execute("begin")
        yield conn


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise VectorSourceError(f"{str(path)!r} cannot be read: {error}") from error


def _open_rclip(conn: sqlite3.Connection, path: Path) -> VectorSource:
    where = "from images where deleted is null"
    with _reading(path):
        rows = conn.execute(f"select filepath, size, modified_at {where} order by id").fetchall()
        version = 1
        if column_names(conn, "db_version"):
            version = (conn.execute("select version from db_version").fetchone() or (1,))[0]
    return VectorSource(
        path.name,
        paths := [filepath for filepath, _, _ in rows],
        *_of_blobs(conn, f"select vector {where} order by id", [], paths, path),
        model=RCLIP_MODEL if version >= 3 else RCLIP_MODEL_BEFORE_3,
        states=[_state(filepath, size, seconds) for filepath, size, seconds in rows],
    )


def _state(path: str, size: int, seconds: Any) -> FileState:
    """rclip keeps the mtime as a float, which may be a microsecond off; "" if it is not a number."""
    if not isinstance(seconds, int | float) or not math.isfinite(seconds * 1e6):
        return FileState(size, "")
    try:
        exact = os.stat(path).st_mtime_ns // 1000  # noqa: PTH116 (a Path costs more than the call)
    except (OSError, ValueError):
        exact = 0
    microseconds = int(seconds * 1e6)
    if abs(exact - microseconds) <= 1:
        microseconds = exact
    return FileState(size, iso_time(microseconds))


def _open_llm(conn: sqlite3.Connection, path: Path, collection: str | None) -> VectorSource:
    with _reading(path):
        collections = conn.execute(
            "select id, name, model from collections order by name"
        ).fetchall()
    listed = ", ".join(repr(name) for _, name, _ in collections) or "none"
    chosen = [row for row in collections if collection in (None, row[1])]
    if not chosen:
        raise VectorSourceError(
            f"{str(path)!r} has no collection {collection!r}; it has {listed}"
            if collection is not None
            else f"{str(path)!r} has no collection"
        )
    if len(chosen) > 1:
        raise VectorSourceError(
            f"{str(path)!r} has several collections; name one with --collection: {listed}"
        )
    ((collection_id, name, model),) = chosen
    where = "from embeddings where collection_id = ? order by id"
    with _reading(path):
        paths = [str(key) for (key,) in conn.execute(f"select id {where}", [collection_id])]
    return VectorSource(
        name,
        paths,
        *_of_blobs(conn, f"select embedding {where}", [collection_id], paths, path),
        model=LLM_MODELS.get(model),
    )


def _of_blobs(
    conn: sqlite3.Connection, sql: str, params: Sequence[int], paths: Sequence[str], path: Path
) -> tuple[int, Callable[[], Iterator[np.ndarray]]]:
    """The dimensions and the blocks of vectors that are little-endian float32 in the rows of a query."""
    with _reading(path):
        first = conn.execute(sql, params).fetchone()
    if first is None:
        raise VectorSourceError(f"there are no vectors in {str(path)!r}")
    length = len(first[0] or b"")

    def blocks() -> Iterator[np.ndarray]:
        with _reading(path):
            cursor = conn.execute(sql, params)
        at = 0
        while rows := _fetch(cursor, path):
            for number, (blob,) in enumerate(rows, at):
                if len(blob or b"") != length or length % 4 or not length:
                    raise VectorSourceError(
                        f"the vector of {paths[number]!r} has {len(blob or b'') / 4:g} dimensions, "
                        f"the first of {str(path)!r} has {length / 4:g}; nothing was imported"
                    )
            joined = b"".join(blob for (blob,) in rows if blob)
            yield np.frombuffer(joined, dtype="<f4").reshape(len(rows), length // 4)
            at += len(rows)

    return length // 4, blocks


def _fetch(cursor: sqlite3.Cursor, path: Path) -> list[tuple[bytes | None]]:
    with _reading(path):
        return cursor.fetchmany(BLOCK)
