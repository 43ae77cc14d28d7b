"""
The sidecar file: the vectors of an index as FAISS codes, memory-mapped.

It is a cache and is believed only when it proves to be the one that the database names. Layout:

    a FAISS index, as faiss.write_index writes it: n float16 codes, inner product
    n vector ids, int64, ascending; the code at a position is of the vector at that position
    a header: JSON in UTF-8
    the length of the header, 8 bytes little-endian
    MAGIC

What describes the file stands at its end, so that a file cut short anywhere is recognised.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import faiss
import numpy as np

from ..store import Index, StoredVectors

MAGIC = b"IMGSRCH1"
_LENGTH_BYTES = 8


class SidecarUnusable(Exception):
    """The file is missing, damaged, or not the one that the database names; the message says which."""


@dataclass(frozen=True)
class Header:
    """
    Which vectors the file holds: those of the index up to `vector_id`, in the database that knows
    `token`. `faiss_bytes` is the length of the first part.
    """

    token: str
    image_table: str
    index_id: int
    fingerprint: str
    dimensions: int
    vector_id: int
    vectors: int
    faiss_bytes: int


@dataclass(frozen=True)
class Codes:
    """
    n vectors in float16 for FAISS, with their ids, ascending, by position. `file` tells the file
    that they are mapped from, as it was, from any other; None where they are in memory.
    """

    faiss_index: faiss.Index
    vector_ids: np.ndarray
    file: tuple[int, ...] | None = None


def file_state(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is written to, cut or replaced; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def sidecar_path(database: Path, index: Index) -> Path:
    """Beside the database, and named so that Datasette does not take it for a database."""
    return database.with_name(f"{database.name}-image-search-{index.id}.faiss")


def sidecar_paths(database: Path) -> list[Path]:
    """All sidecars there are of a database, of whichever index."""
    pattern = f"{glob.escape(database.name)}-image-search-*.faiss"
    return sorted(database.parent.glob(pattern))


def encode(index: Index, batches: Iterator[StoredVectors]) -> Codes:
    """Float16 codes of all batches: half the memory of float32, an error under 5e-4 in a score."""
    codes = faiss.IndexScalarQuantizer(
        index.dimensions, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    ids = [np.empty(0, dtype=np.int64)]
    for batch in batches:
        codes.add(batch.vectors)
        ids.append(batch.vector_ids)
    return Codes(codes, np.concatenate(ids))


def write_sidecar(path: Path, index: Index, codes: Codes, like: Path | None = None) -> None:
    """
    Write beside, sync, rename: whoever opens `path` finds the old file or the new, whole. It gets
    the permissions of the file `like`, or else is for its owner only.

    `index.sidecar` and `index.sidecar_vector_id` are what the file says of itself.
    """
    for left_behind in path.parent.glob(f"{glob.escape(path.name)}.*.tmp"):
        # By a process that was killed; a reader that writes just now will find no harm done.
        left_behind.unlink(missing_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        faiss.write_index(codes.faiss_index, name)
        header = Header(
            token=str(index.sidecar),
            image_table=index.image_table,
            index_id=index.id,
            fingerprint=index.fingerprint,
            dimensions=index.dimensions,
            vector_id=index.sidecar_vector_id,
            vectors=len(codes.vector_ids),
            faiss_bytes=temporary.stat().st_size,
        )
        text = json.dumps(asdict(header)).encode()
        with temporary.open("ab") as file:
            file.write(codes.vector_ids.astype("<i8").tobytes())
            file.write(text + len(text).to_bytes(_LENGTH_BYTES, "little") + MAGIC)
            file.flush()
            os.fsync(file.fileno())
        if like is not None:
            shutil.copymode(like, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def open_sidecar(path: Path, index: Index) -> Codes:
    """Memory-mapped, in time that does not grow with the file. Raises SidecarUnusable."""
    state = file_state(path)
    header = _read_header(path)
    if header.token != index.sidecar:
        raise SidecarUnusable(f"{path.name} is not the sidecar that the database names")
    if header.fingerprint != index.fingerprint or header.dimensions != index.dimensions:
        raise SidecarUnusable(f"{path.name} is of another model")
    try:
        codes = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise SidecarUnusable(f"{path.name} cannot be read by FAISS") from error
    if codes.ntotal != header.vectors or codes.d != header.dimensions:
        raise SidecarUnusable(f"{path.name} does not hold what its header says")
    vector_ids = (
        np.memmap(path, "<i8", "r", offset=header.faiss_bytes, shape=(header.vectors,))
        if header.vectors
        else np.empty(0, dtype=np.int64)
    )
    return Codes(codes, vector_ids, state)


def _read_header(path: Path) -> Header:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            tail = _LENGTH_BYTES + len(MAGIC)
            file.seek(max(0, size - tail))
            ending = file.read()
            if not ending.endswith(MAGIC):
                raise SidecarUnusable(f"{path.name} is damaged or was cut short")
            length = int.from_bytes(ending[:_LENGTH_BYTES], "little")
            if length > size - tail:
                raise SidecarUnusable(f"{path.name} is damaged or was cut short")
            file.seek(size - tail - length)
            header = Header(**json.loads(file.read(length)))
            expected = header.faiss_bytes + 8 * header.vectors + length + tail
    except FileNotFoundError:
        raise SidecarUnusable(f"{path.name} is missing") from None
    except (OSError, ValueError, TypeError) as error:
        raise SidecarUnusable(f"{path.name} is damaged") from error
    if size != expected:
        raise SidecarUnusable(f"{path.name} is damaged or was cut short")
    return header
