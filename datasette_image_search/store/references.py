"""
The reference queries of an index: vectors of texts of all kinds, which tell how close each picture is to any
text. The row of the index names their hash, so that what was computed from others is known to be old, and what
somebody else wrote is left aside. The texts themselves are not kept: they may be a person's searches.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from sqlite_utils import Database

from .indexes import read_indexes, update_index
from .soundness import is_stored_table
from .stored_vectors import vector_from_blob, vector_to_blob
from .tables import INDEXES, REFERENCES, Index
from .transactions import transaction

MOST_REFERENCES = 10_000
"""Reference queries of an index. Each makes the ranking of a picture a little slower."""


@dataclass(frozen=True)
class References:
    """Unit vectors of n texts, shape (n, dimensions), float32."""

    vectors: np.ndarray

    @cached_property
    def precise(self) -> np.ndarray:
        """The vectors as float64."""
        return self.vectors.astype(np.float64)

    @cached_property
    def token(self) -> str:
        """The name of these, and of no others."""
        return hashlib.sha256(vector_to_blob(self.vectors)).hexdigest()[:32]


def with_references(index: Index, references: References | None) -> Index:
    """The row of an index as it names these; None for a model that has no use for any."""
    return replace(index, references_token="" if references is None else references.token)


def read_references(conn: sqlite3.Connection, index: Index) -> References | None:
    """Those of an index; None if it has none, or if they are gone or not the ones that it names."""
    if not index.references_token or not is_stored_table(conn, REFERENCES, "index_id", "vectors"):
        return None
    size = 4 * index.dimensions
    row = conn.execute(
        f"select vectors from {REFERENCES} where index_id = ? and typeof(vectors) = 'blob' "
        "and length(vectors) between ? and ? and length(vectors) % ? = 0",
        [index.id, size, size * MOST_REFERENCES, size],
    ).fetchone()
    if row is None:
        return None
    references = References(vector_from_blob(row[0]).reshape(-1, index.dimensions))
    # A vector of any other length would make a bias that no code can hold.
    lengths = np.linalg.norm(references.vectors, axis=1)
    is_sound = np.allclose(lengths, 1, atol=1e-3) and references.token == index.references_token
    return references if is_sound else None


def are_back(conn: sqlite3.Connection, index: Index, before: References | None) -> bool:
    """
    Whether an index has reference queries that were lost `before`, because a run has read them again. The row of
    the index does not tell, as it has kept their name.
    """
    return before is None and read_references(conn, index) is not None


def record_references(db: Database, index: Index, references: References | None) -> None:
    """Keep the references that an index names, in the place of those that it had, if they are not there yet."""
    if _are_recorded(db.conn, index, references):
        return
    table = db.table(REFERENCES)
    with transaction(db):
        update_index(db, index, {"references_token": index.references_token})
        if references is not None and not table.exists():
            table.create(
                {"index_id": int, "vectors": bytes},
                pk="index_id",
                foreign_keys=[("index_id", INDEXES, "id")],
            )
        if table.exists():
            table.delete_where("index_id = ?", [index.id])
        if references is not None:
            table.insert({"index_id": index.id, "vectors": vector_to_blob(references.vectors)})


def _are_recorded(conn: sqlite3.Connection, index: Index, references: References | None) -> bool:
    rows = read_indexes(conn, index.image_table, with_unfinished=True)
    tokens = [row.references_token for row in rows if row.id == index.id]
    is_named = tokens == [index.references_token]
    return is_named and (references is None or read_references(conn, index) is not None)
