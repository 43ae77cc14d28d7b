"""The codes of vectors, read from the database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ..progress import Report
from ..store import Index
from ..store.held_vectors import code_dimensions
from ..store.references import References
from ..store.tables import StoredVectors
from ..store.vectors import count_vectors, vector_batches
from .codes import Codes, encode
from .codes_on_disk import MOST_IN_MEMORY


def stored_codes(
    conn: sqlite3.Connection,
    index: Index,
    references: References | None,
    *,
    after: int = 0,
    up_to: int | None = None,
    report: Report | None = None,
    beside: Path | None = None,
) -> Codes:
    """
    The codes of the vectors with ids in (after, up_to], from the database, with biases by the references. If they are more
    than MOST_IN_MEMORY, they are in a file in the folder of `beside`, a database; OSError says that it has no room.
    """
    batches = vector_batches(conn, index, after=after, up_to=up_to)
    size = count_vectors(conn, index, up_to=up_to) * 2 * code_dimensions(index) if beside else 0
    on_disk = beside.parent if beside is not None and size > MOST_IN_MEMORY else None
    if report is not None:
        batches = _reported(batches, count_vectors(conn, index, up_to=up_to), report)
    return encode(index, batches, references, on_disk=on_disk)


def _reported(
    batches: Iterator[StoredVectors], count: int, report: Report
) -> Iterator[StoredVectors]:
    done = 0
    for batch in batches:
        report("Reading", done, count)
        yield batch
        done += len(batch.vector_ids)
    report("Reading", count, count)
