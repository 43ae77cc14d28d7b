"""The codes of vectors, read from the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ..progress import Report
from ..store import Index
from ..store.references import References
from ..store.stored_vectors import StoredVectors
from ..store.vectors import count_vectors, vector_batches
from .codes import Codes, encode


def stored_codes(
    conn: sqlite3.Connection,
    index: Index,
    references: References | None,
    *,
    after: int = 0,
    up_to: int | None = None,
    report: Report | None = None,
    folder: Path | None = None,
) -> Codes:
    """
    The codes of the vectors with ids in (after, up_to], from the database, with biases by the references. If they are too
    many for memory, they are in a file in `folder`; OSError says that it has no room.
    """
    batches = vector_batches(conn, index, after=after, up_to=up_to)
    expected = 0
    if folder is not None or report is not None:
        expected = count_vectors(conn, index, up_to=up_to)
    if report is not None:
        batches = _reported(batches, expected, report)
    return encode(index, batches, references, folder=folder, expected=expected)


def _reported(
    batches: Iterator[StoredVectors], count: int, report: Report
) -> Iterator[StoredVectors]:
    done = 0
    for batch in batches:
        report("Reading", done, count)
        yield batch
        done += len(batch.vector_ids)
    report("Reading", count, count)
