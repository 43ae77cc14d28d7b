"""
The sidecar files of an index, memory-mapped: its float16 codes, and where it is large (or a person
asked for it) an approximate FAISS index beside them, which proposes candidates.

They are caches, and one is believed only when it proves to be the one that the database names. Layout:

    a FAISS index, as faiss.write_index writes it; padding up to a multiple of 64 bytes
    n vector ids, int64, ascending; what FAISS has at a position is the vector at that position
    in the file of codes, where keys are integers: n ids of images, int64
    a header: JSON in UTF-8
    the length of the header, 8 bytes little-endian
    MAGIC

What describes the file stands at its end, so that a file cut short anywhere is recognised, with the
CRC-32 of all that comes before it, so that damage within is. To compute that takes about a second for
a gigabyte, so opening does it for small files only, and who has the time asks for it.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import faiss
import numpy as np

from ..ingest.special_files import special_kind
from ..store import Index
from .approximate import Approximate, Tuning
from .codes import Codes, is_float16

MAGIC = b"IMGSRCH3"
_LENGTH_BYTES = 8
_ALIGNMENT = 64
_BLOCK = 2**20

CHECKED_WHEN_OPENED = 64 * 2**20
"""Bytes up to which a file is read as a whole before it is believed; that takes some 50 ms."""

ABANDONED = 3600
"""Seconds after which a file that was to be renamed is one of a process that was killed."""


class SidecarUnusable(Exception):
    """The file is missing, damaged, or not the one that the database names; the message says which."""


@dataclass(frozen=True)
class Header:
    """
    Which vectors the file holds: those of the index up to `vector_id`, in the database that knows
    `token`. `ids_at` is where the first part ends, `arrays` how many arrays of ids follow, `checksum`
    is of both, and `tuning` is None for codes.
    """

    token: str
    image_table: str
    index_id: int
    fingerprint: str
    dimensions: int
    vector_id: int
    vectors: int
    ids_at: int
    arrays: int
    checksum: int
    tuning: dict[str, Any] | None = None


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


def approximate_path(database: Path, index: Index) -> Path:
    return sidecar_path(database, index).with_suffix(".approximate.faiss")


def sidecar_paths(database: Path) -> list[Path]:
    """All sidecars there are of a database, of whichever index and kind, and nothing named alike."""
    pattern = f"{glob.escape(database.name)}-image-search-*.faiss"
    return sorted(
        path
        for path in database.parent.glob(pattern)
        if _OURS.fullmatch(path.name[len(database.name) :]) and path.is_file()
    )


_OURS = re.compile(r"-image-search-[0-9]+(\.approximate)?\.faiss")
_TEMPORARY = re.compile(r"[a-z0-9_]{8}\.tmp")
"""What tempfile.mkstemp() puts behind the name of a sidecar."""


def write_sidecar(path: Path, index: Index, codes: Codes, like: Path | None = None) -> None:
    """
    Write beside, sync, rename: whoever opens `path` finds the old file or the new, whole. It gets
    the permissions of the file `like`, or else is for its owner only.

    `index.sidecar` and `index.sidecar_vector_id` are what the file says of itself.
    """
    with codes_beside(path, index, codes, like) as temporary:
        temporary.replace(path)


def write_approximate(
    path: Path, index: Index, approximate: Approximate, like: Path | None = None
) -> None:
    """As write_sidecar() does. It belongs to the sidecar that `index` names."""
    with approximate_beside(path, index, approximate, like) as temporary:
        temporary.replace(path)


def codes_beside(
    path: Path, index: Index, codes: Codes, like: Path | None = None
) -> AbstractContextManager[Path]:
    """
    The file of write_sidecar(), written and synced, under the name that is given: for the caller to
    rename. It is removed where that was not done.
    """
    arrays = [codes.vector_ids] + ([] if codes.image_ids is None else [codes.image_ids])
    return _beside(path, index, codes.faiss_index, arrays, None, like)


def approximate_beside(
    path: Path, index: Index, approximate: Approximate, like: Path | None = None
) -> AbstractContextManager[Path]:
    """As codes_beside() does, for write_approximate()."""
    arrays = [approximate.vector_ids]
    return _beside(path, index, approximate.faiss_index, arrays, approximate.tuning, like)


@contextmanager
def _beside(
    path: Path,
    index: Index,
    faiss_index: faiss.Index,
    arrays: list[np.ndarray],
    tuning: Tuning | None,
    like: Path | None,
) -> Iterator[Path]:
    _check_is_file(path)
    for left_behind in path.parent.glob(f"{glob.escape(path.name)}.*.tmp"):
        if not _TEMPORARY.fullmatch(left_behind.name[len(path.name) + 1 :]):
            continue
        with suppress(OSError):
            if time.time() - left_behind.stat().st_mtime > ABANDONED:
                left_behind.unlink()
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        with _name_for_faiss(temporary) as name:
            faiss.write_index(faiss_index, name)
        with temporary.open("r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(bytes(-file.tell() % _ALIGNMENT))
            ids_at = file.tell()
            for array in arrays:
                file.write(array.astype("<i8").tobytes())
            header = Header(
                token=str(index.sidecar),
                image_table=index.image_table,
                index_id=index.id,
                fingerprint=index.fingerprint,
                dimensions=index.dimensions,
                vector_id=index.sidecar_vector_id,
                vectors=len(arrays[0]),
                ids_at=ids_at,
                arrays=len(arrays),
                checksum=_checksum(file, file.tell()),
                tuning=asdict(tuning) if tuning else None,
            )
            text = json.dumps(asdict(header)).encode()
            file.write(text + len(text).to_bytes(_LENGTH_BYTES, "little") + MAGIC)
            file.flush()
            os.fsync(file.fileno())
        if like is not None:
            shutil.copymode(like, temporary)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _check_is_file(path: Path) -> None:
    """Raises OSError where something stands at a path that is not ours to replace."""
    with suppress(FileNotFoundError):
        kind = special_kind(path.stat().st_mode)
        if kind is not None:
            raise FileExistsError(errno.EEXIST, f"it is {kind}; remove it", str(path))


def open_sidecar(path: Path, index: Index, *, check: bool = False) -> Codes:
    """
    Memory-mapped, in time that does not grow with the file beyond CHECKED_WHEN_OPENED bytes, unless it
    is to be checked as a whole. Raises SidecarUnusable.
    """
    state = file_state(path)
    header = _read_header(path, index, check=check)
    if header.tuning is not None:
        raise SidecarUnusable(f"{path.name} holds no codes")
    codes = _read_faiss(path, header)
    if not is_float16(codes):
        raise SidecarUnusable(f"{path.name} holds no codes")
    vector_ids, *image_ids = _arrays(path, header)
    _check_unchanged(path, state)
    return Codes(codes, vector_ids, image_ids[0] if image_ids else None, state)


def open_approximate(
    path: Path, index: Index, *, mapped: bool = True, check: bool = False
) -> Approximate:
    """
    As open_sidecar() does; only what belongs to the sidecar that the database names. To add to it, it
    must not be mapped: FAISS would end the process, also for a clone.
    """
    state = file_state(path)
    header = _read_header(path, index, check=check)
    if header.tuning is None:
        raise SidecarUnusable(f"{path.name} is no approximate index")
    faiss_index = _read_faiss(path, header, mapped=mapped)
    (vector_ids,) = _arrays(path, header)
    _check_unchanged(path, state)
    try:
        tuning = Tuning.of_json(header.tuning)
        return Approximate(faiss_index, vector_ids, tuning, state if mapped else None).prepared()
    except (TypeError, ValueError, RuntimeError) as error:
        raise SidecarUnusable(f"{path.name} is damaged") from error


def check_sidecar(path: Path, index: Index) -> None:
    """Read all of a file, of either kind. Raises SidecarUnusable where it is not as it was written."""
    _read_header(path, index, check=True)


def _check_unchanged(path: Path, state: tuple[int, ...] | None) -> None:
    """It is opened several times, and what takes its place in between would not fit what was read."""
    if file_state(path) != state:
        raise SidecarUnusable(f"{path.name} was replaced while it was opened")


@contextmanager
def _name_for_faiss(path: Path) -> Iterator[str]:
    """FAISS takes names in UTF-8 only. Where one is not, the name of the open file is."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            yield f"/dev/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        yield str(path)


def _read_faiss(path: Path, header: Header, *, mapped: bool = True) -> faiss.Index:
    try:
        with _name_for_faiss(path) as name:
            faiss_index = faiss.read_index(name, faiss.IO_FLAG_MMAP_IFC if mapped else 0)
    except (OSError, RuntimeError) as error:
        raise SidecarUnusable(f"{path.name} cannot be read by FAISS") from error
    if faiss_index.ntotal != header.vectors or faiss_index.d != header.dimensions:
        raise SidecarUnusable(f"{path.name} does not hold what its header says")
    return faiss_index


def _arrays(path: Path, header: Header) -> list[np.ndarray]:
    if not header.vectors:
        return [np.empty(0, dtype=np.int64)] * header.arrays
    shape = header.arrays, header.vectors
    return list(np.memmap(path, "<i8", "r", offset=header.ids_at, shape=shape))


def _checksum(file: BinaryIO, length: int) -> int:
    """The CRC-32 of the first bytes of a file, which is left behind them."""
    file.seek(0)
    checksum = 0
    while length and (block := file.read(min(length, _BLOCK))):
        checksum = zlib.crc32(block, checksum)
        length -= len(block)
    return checksum


def _read_header(path: Path, index: Index, *, check: bool) -> Header:
    """The header of a file that is the one the database names, and as it was written where checked."""
    try:
        kind = special_kind(path.stat().st_mode)
        if kind is not None:
            raise SidecarUnusable(f"{path.name} is {kind}")
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
            described = header.ids_at + 8 * header.arrays * header.vectors
            is_whole = size == described + length + tail
            is_ours = header.token == index.sidecar
            if is_whole and is_ours and (check or size <= CHECKED_WHEN_OPENED):
                is_intact = _checksum(file, described) == header.checksum
            else:
                is_intact = True
    except FileNotFoundError:
        raise SidecarUnusable(f"{path.name} is missing") from None
    except (OSError, ValueError, TypeError) as error:
        raise SidecarUnusable(f"{path.name} is damaged") from error
    if not is_whole:
        raise SidecarUnusable(f"{path.name} is damaged or was cut short")
    if not is_intact:
        raise SidecarUnusable(f"{path.name} is damaged")
    if not is_ours:
        raise SidecarUnusable(f"{path.name} is not the sidecar that the database names")
    if header.fingerprint != index.fingerprint or header.dimensions != index.dimensions:
        raise SidecarUnusable(f"{path.name} is of another model")
    return header
