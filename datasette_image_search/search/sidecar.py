"""
The sidecar files of an index, memory-mapped: its float16 codes, if they are many once more in bytes, and, if it is
large or a person asked for it, an approximate FAISS index that proposes candidates.

They are caches, and are used only if they prove to be the ones that the database names. Layout:

    a FAISS index, as faiss.write_index writes it; padding up to a multiple of 64 bytes
    in the file of codes, if they are many: the same as byte_codes.py writes them, and padding
    n vector ids, int64, ascending; what FAISS has at a position is the vector at that position
    in the file of codes, where keys are integers: n ids of images, int64
    in the file of codes: the ids of the r rows that were read, and their tokens, int64
    a header: JSON in UTF-8
    the CRC-32 of the header, 4 bytes little-endian; its length, 8 bytes; MAGIC

The description is at the end of the file, so that a truncated file is recognised. It has the CRC-32 of
all bytes before it, which reveals damage. Computing that takes about a second per gigabyte, so opening
checks only small files, and callers that have the time ask for more.

Anybody may have put the file there. It is mapped into our own memory, and FAISS sees it only after its
description was found to be as written here: see faiss_files.py.
"""

from __future__ import annotations

import errno
import glob
import json
import mmap
import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, BinaryIO

import faiss
import numpy as np

from ..files.special_files import special_kind
from ..files.whole_files import put_in_place, sync, temporary_beside
from ..progress import Report, silent
from ..store import Index
from ..store.code_dimensions import ALIGNMENT, code_dimensions
from ..store.stored_vectors import Rows
from .approximate import MOST_ZEROS, Approximate
from .byte_codes import ByteCodes, encoded, read_byte_codes
from .codes import Codes
from .faiss_files import NotOurs, flat_prefix, read_approximate, read_flat
from .held import Held
from .segment import Segment
from .tuning import Tuning

MAGIC = b"IMGSRCH4"
MAGIC_OF_0_1 = b"IMGSRCH3"
"""The magic of files of version 0.1, which have no rows, and no CRC-32 of the header."""

_TRAILER = struct.Struct("<IQ8s")
_TRAILER_OF_0_1 = struct.Struct("<Q8s")
_LONGEST_HEADER = 2**16
_ALIGNMENT = 64

_PARAMETERS = re.compile(r"(?:nprobe=[1-9]\d{0,6}|efSearch=[1-9]\d{0,4})?")
"""The parameters of a search, in a sensible range."""

CHECKED_WHEN_OPENED = 64 * 2**20
"""Bytes up to which a file is checked as a whole when it is opened; that takes some 50 ms."""


class SidecarUnusable(Exception):
    """The file is missing, damaged, or not the one that the database names; the message says which."""


@dataclass(frozen=True)
class Header:
    """
    The description of a file. It holds the vectors of the index up to `vector_id`, in the database that
    knows `token`. `ids_at` is the end of the first part, `arrays` the number of arrays of n ids after it,
    and `rows` the length of the two of rows; None if the database had no tokens. `references` is the token of
    the reference queries by which codes have biases, and more components than vectors: `code_dimensions`. `checksum` is of all
    that, and `tuning` is None for codes. `engine` has the vectors of a file without a FAISS index. Codes in bytes
    begin at `byte_codes_at`.
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
    rows: int | None = None
    references: str | None = None
    code_dimensions: int | None = None
    engine: str | None = None
    byte_codes_at: int | None = None

    @property
    def described(self) -> int:
        """The position of the header."""
        return self.ids_at + 8 * self.arrays * self.vectors + 16 * (self.rows or 0)

    @property
    def components(self) -> int:
        """Of a code."""
        return self.code_dimensions or self.dimensions

    def is_sound(self) -> bool:
        """Whether all numbers are possible: anybody may have written the file."""
        counts = self.vectors, self.ids_at, self.arrays, self.dimensions, self.rows or 0
        numbers = *counts, self.checksum, self.vector_id, self.index_id
        return (
            all(type(number) is int for number in numbers)
            and all(0 <= count < 2**48 for count in counts)
            and self.dimensions > 0
            and self.ids_at % 8 == 0
            and (self.code_dimensions is None or type(self.code_dimensions) is int)
            and self.dimensions <= self.components <= self.dimensions + ALIGNMENT + MOST_ZEROS
            and (self.tuning is None or isinstance(self.tuning, dict))
            and isinstance(self.token, str)
            and (self.engine is None or isinstance(self.engine, str))
            and isinstance(self.fingerprint, str)
            and (self.byte_codes_at is None or type(self.byte_codes_at) is int)
            and 0 <= (self.byte_codes_at or 0) <= self.ids_at
        )


_FIELDS = {field.name for field in fields(Header)}

Made = Segment | Approximate

FileState = tuple[int, ...]
"""A value that changes when a file is written to, cut or replaced."""


def file_state(path: Path) -> FileState | None:
    """None if there is none."""
    try:
        return _state_of(path.stat())
    except OSError:
        return None


def _state_of(status: os.stat_result) -> FileState:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def sidecar_path(database: Path, index: Index) -> Path:
    """Beside the database, and named so that Datasette does not take it for a database."""
    return database.with_name(f"{database.name}-image-search-{index.id}.faiss")


def approximate_path(database: Path, index: Index) -> Path:
    return sidecar_path(database, index).with_suffix(".approximate.faiss")


def text_tower_path(database: Path, index: Index) -> Path:
    return sidecar_path(database, index).with_suffix(".text.onnx")


def sidecar_paths(database: Path) -> list[Path]:
    """All sidecars of a database, of any index and kind, its text towers, and no other files."""
    pattern = f"{glob.escape(database.name)}-image-search-*"
    return sorted(
        path
        for path in database.parent.glob(pattern)
        if _OURS.fullmatch(path.name[len(database.name) :]) and path.is_file()
    )


_OURS = re.compile(r"-image-search-[0-9]+(\.faiss|\.approximate\.faiss|\.text\.onnx)")


def write_sidecar(
    path: Path, index: Index, made: Made, like: Path | None = None, report: Report = silent
) -> None:
    """
    Write the codes of an index, or an approximate index that belongs to the codes that `index` names: beside,
    synced, renamed, so that a reader of `path` finds the old file or the new one, complete. It gets the
    permissions of the file `like`, otherwise it is for its owner only. Its header has `index.sidecar` and
    `index.sidecar_vector_id`.
    """
    with written_beside(path, index, made, like, report) as temporary:
        put_in_place(temporary, path)


def open_sidecar(path: Path, index: Index, *, check: bool = False) -> Codes:
    """
    Memory-mapped, in time that does not grow with the file beyond CHECKED_WHEN_OPENED bytes, unless it
    is to be checked as a whole. Raises SidecarUnusable.
    """
    opened = open_file(path, index, check=check)
    header = opened.header
    if header.tuning is not None or header.arrays not in (1, 2) or header.engine is not None:
        raise SidecarUnusable(f"{path.name} holds no codes")
    try:
        faiss_index = read_flat(opened.faiss_part(), header.components, header.vectors)
        in_bytes = opened.in_bytes()
    except NotOurs:
        raise SidecarUnusable(f"{path.name} is damaged") from None
    vector_ids, *image_ids = opened.arrays()
    return Codes(
        faiss_index,
        vector_ids,
        image_ids[0] if image_ids else None,
        opened.rows(),
        opened.state,
        opened.data,
        header.references is not None,
        in_bytes,
    )


def open_approximate(
    path: Path, index: Index, *, mapped: bool = True, check: bool = False
) -> Approximate:
    """
    Like open_sidecar(), but only the one that belongs to the sidecar that the database names. An index
    that will grow must not be mapped: FAISS would kill the process, even for a clone.
    """
    opened = open_file(path, index, check=check)
    header = opened.header
    if header.tuning is None or header.arrays != 1:
        raise SidecarUnusable(f"{path.name} is no approximate index")
    try:
        tuning = Tuning.believed(header.tuning, _PARAMETERS)
        data = opened.faiss_part()
        faiss_index = read_approximate(data, header.components, header.vectors, mapped=mapped)
        (vector_ids,) = opened.arrays()
        mapping = (opened.state, opened.data) if mapped else (None, None)
        return Approximate(faiss_index, vector_ids, tuning, *mapping).prepared()
    except (NotOurs, TypeError, ValueError, RuntimeError) as error:
        raise SidecarUnusable(f"{path.name} is damaged") from error


def check_sidecar(path: Path, index: Index) -> None:
    """Read all of a file, of either kind. Raises SidecarUnusable if it is not as it was written."""
    open_file(path, index, check=True)


# --- Bytes -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Opened:
    """A mapped file, with its header."""

    data: np.ndarray
    state: FileState
    header: Header

    def faiss_part(self) -> np.ndarray:
        return self.data[: self.header.ids_at]

    def in_bytes(self) -> ByteCodes | None:
        """None if there are none. Raises NotOurs."""
        header = self.header
        if header.byte_codes_at is None:
            return None
        data = self.data[header.byte_codes_at : header.ids_at]
        return read_byte_codes(data, header.components, header.vectors)

    def arrays(self) -> list[np.ndarray]:
        return [
            self._array(at * self.header.vectors, self.header.vectors)
            for at in range(self.header.arrays)
        ]

    def rows(self) -> Rows | None:
        if self.header.rows is None:
            return None
        start = self.header.arrays * self.header.vectors
        ids, tokens = (
            self._array(start + at * self.header.rows, self.header.rows) for at in (0, 1)
        )
        return Rows(ids, tokens)

    def _array(self, start: int, length: int) -> np.ndarray:
        at = self.header.ids_at + 8 * start
        return self.data[at : at + 8 * length].view("<i8")


def open_file(path: Path, index: Index, *, check: bool = False) -> Opened:
    """Opens the file that the database names; `check` makes sure that it is undamaged. Raises SidecarUnusable."""
    data, state = _mapped(path)
    header = _read_header(path, data)
    if header.token != index.sidecar:
        raise SidecarUnusable(f"{path.name} is not the sidecar that the database names")
    if header.fingerprint != index.fingerprint or header.dimensions != index.dimensions:
        raise SidecarUnusable(f"{path.name} belongs to another model")
    if header.references != (index.references_token or None):
        raise SidecarUnusable(f"{path.name} belongs to other reference queries")
    if (check or len(data) <= CHECKED_WHEN_OPENED) and (
        _checksum(data[: header.described]) != header.checksum
    ):
        raise SidecarUnusable(f"{path.name} is damaged")
    return Opened(data, state, header)


def _checksum(data: np.ndarray) -> int:
    return zlib.crc32(data.data)


def _mapped(path: Path) -> tuple[np.ndarray, FileState]:
    """The bytes of a regular file, and its state; does not wait for a FIFO."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise SidecarUnusable(f"{path.name} is missing") from None
    except OSError as error:
        raise SidecarUnusable(f"{path.name} cannot be opened ({error.strerror})") from error
    try:
        status = os.fstat(descriptor)
        kind = special_kind(status.st_mode)
        if kind is not None:
            raise SidecarUnusable(f"{path.name} is {kind}")
        if status.st_size < _TRAILER_OF_0_1.size:
            raise SidecarUnusable(f"{path.name} is damaged or was cut short")
        mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise SidecarUnusable(f"{path.name} cannot be read ({error.strerror})") from error
    finally:
        os.close(descriptor)
    return np.frombuffer(mapped, dtype=np.uint8), _state_of(status)


def _read_header(path: Path, data: np.ndarray) -> Header:
    cut = SidecarUnusable(f"{path.name} is damaged or was cut short")
    trailer = _TRAILER
    *_, magic = _TRAILER_OF_0_1.unpack(data[-_TRAILER_OF_0_1.size :].data)
    if magic == MAGIC_OF_0_1:
        trailer = _TRAILER_OF_0_1
    elif magic != MAGIC or len(data) < _TRAILER.size:
        raise cut
    *crcs, length, _ = trailer.unpack(data[-trailer.size :].data)
    end = len(data) - trailer.size
    if length > min(end, _LONGEST_HEADER):
        raise cut
    text = data[end - length : end].tobytes()
    if crcs and zlib.crc32(text) != crcs[0]:
        raise SidecarUnusable(f"{path.name} is damaged")
    try:
        described = json.loads(text)
        if crcs and isinstance(described, dict) and not described.keys() <= _FIELDS:
            raise SidecarUnusable(f"{path.name} was written by another version")
        header = Header(**described)
        sound = header.is_sound()
    except (ValueError, TypeError) as error:
        raise SidecarUnusable(f"{path.name} is damaged") from error
    if not sound or header.described != end - length:
        raise cut
    return header


# --- Writing ---------------------------------------------------------------------------------------


@contextmanager
def written_beside(
    path: Path, index: Index, made: Made, like: Path | None = None, report: Report = silent
) -> Iterator[Path]:
    """
    The file of write_sidecar(), written, synced and read again, under the name that is given: for the
    caller to put_in_place(). It is removed if the caller does not.
    """
    with temporary_beside(path, like) as temporary:
        with temporary.open("wb") as file:
            _write(file, index, made, report)
            sync(file)
        try:
            # A disk does not report all its errors to a writer.
            open_file(temporary, replace(index, sidecar=str(index.sidecar)), check=True)
        except SidecarUnusable as unusable:
            raise OSError(errno.EIO, "the new file cannot be read back") from unusable
        yield temporary


def _write(file: BinaryIO, index: Index, made: Made, report: Report) -> None:
    """The CRC-32 is of the bytes that were meant, so that reading them back proves that they were written."""
    writer = _Writer(file)
    arrays, rows, tuning = [made.vector_ids], None, None
    byte_codes_at = None
    if not isinstance(made, Approximate):
        if isinstance(made, Codes):
            writer.write(flat_prefix(made.faiss_index.d, len(made)))
            writer.write(made.as_bytes())
            parts = encoded(made.blocks, len(made), made.faiss_index.d, report)
            if parts is not None:
                byte_codes_at = writer.aligned()
                for part in parts:
                    writer.write(np.ascontiguousarray(part).reshape(-1).view(np.uint8))
        arrays += [] if made.image_ids is None else [made.image_ids]
        rows = made.rows
    else:
        faiss.write_index(made.faiss_index, faiss.PyCallbackIOWriter(writer.write))
        tuning = asdict(made.tuning)
    ids_at = writer.aligned()
    for array in (*arrays, *((rows.ids, rows.tokens) if rows else ())):
        writer.write(np.ascontiguousarray(array, dtype="<i8").view(np.uint8))
    header = Header(
        token=str(index.sidecar),
        image_table=index.image_table,
        index_id=index.id,
        fingerprint=index.fingerprint,
        dimensions=index.dimensions,
        vector_id=index.sidecar_vector_id,
        vectors=len(made.vector_ids),
        ids_at=ids_at,
        arrays=len(arrays),
        checksum=writer.checksum,
        tuning=tuning,
        rows=len(rows.ids) if rows else None,
        references=index.references_token or None,
        code_dimensions=made.faiss_index.d
        if hasattr(made, "faiss_index")
        else code_dimensions(index),
        engine=made.engine_name if isinstance(made, Held) else None,
        byte_codes_at=byte_codes_at,
    )
    text = json.dumps(asdict(header)).encode()
    file.write(text + _TRAILER.pack(zlib.crc32(text), len(text), MAGIC))


@dataclass
class _Writer:
    """Counts the bytes written, and computes their CRC-32."""

    file: BinaryIO
    length: int = 0
    checksum: int = 0

    def aligned(self) -> int:
        """The length, after as many zeros as make it a multiple of _ALIGNMENT."""
        self.write(bytes(-self.length % _ALIGNMENT))
        return self.length

    def write(self, content: bytes | np.ndarray) -> None:
        block = content.data if isinstance(content, np.ndarray) else content
        self.file.write(block)
        self.length += len(block)
        self.checksum = zlib.crc32(block, self.checksum)
