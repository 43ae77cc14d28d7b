"""Codes of so many vectors that memory should not hold them: in a file without a name, before they are a sidecar."""

from __future__ import annotations

import tempfile
from pathlib import Path

import faiss
import numpy as np

from ..progress import Report
from .byte_codes import Blocks, ByteCodes, encoded, read_byte_codes
from .faiss_files import flat_prefix, read_flat
from .scanning import rows_of

MOST_IN_MEMORY = 1_000_000_000
"""Bytes of codes, those of a million vectors of 512 dimensions."""


class CodesOnDisk:
    """
    Takes vectors as the FAISS index does that it goes on from. Its file, in a folder, is gone with the last who uses it.
    """

    def __init__(self, folder: Path, begun: faiss.IndexScalarQuantizer) -> None:
        self._coder, self._count = (
            faiss.IndexScalarQuantizer(begun.d, begun.sq.qtype, begun.metric_type),
            begun.ntotal,
        )
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._file.write(flat_prefix(begun.d, 0))
        self._file.write(rows_of(begun).data)

    def add(self, vectors: np.ndarray) -> None:
        """Of shape (n, dimensions), float32. Raises OSError if there is no room."""
        self._file.write(self._coder.sa_encode(vectors).data)
        self._count += len(vectors)

    def mapped(self) -> tuple[faiss.IndexScalarQuantizer, np.ndarray]:
        """The index of all of them, and the memory that must live as long. Nothing can be added any more."""
        with self._file:
            self._file.seek(0)
            self._file.write(flat_prefix(self._coder.d, self._count))
            self._file.flush()
            memory = np.memmap(self._file, np.uint8, "r")
        return read_flat(memory, self._coder.d, self._count), memory


def byte_codes_on_disk(
    folder: Path, blocks: Blocks, count: int, dimensions: int, report: Report
) -> ByteCodes | None:
    """Those of so many vectors, in such a file; None if they are not worth it. Raises OSError if there is no room."""
    parts = encoded(blocks, count, dimensions, report)
    if parts is None:
        return None
    with tempfile.TemporaryFile(dir=folder) as file:
        for part in parts:
            file.write(np.ascontiguousarray(part).data)
        file.flush()
        memory = np.memmap(file, np.uint8, "r")
    return read_byte_codes(memory, dimensions, count)
