"""
A proof that vectors which were read before, by this process or for a sidecar, are those of the database
now. A backup may have been restored, or another file moved into the place of the database: then the same
ids are other pictures, and deleted vectors may be back. So ids, counts and times prove nothing. The
tokens of all rows must add up to the generation of the index, which the same connection read in the same
snapshot.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import numpy as np

from ..store import Index
from ..store.stored_vectors import Rows, StoredVectors
from ..store.vectors import rows_by_id, vector_ids
from .ids import is_in

NOBODY = np.empty(0, dtype=np.int64)


class Unproven(Exception):
    """The earlier rows are from another database, or from a state that this one does not descend from."""


def gone(
    conn: sqlite3.Connection,
    index: Index,
    known: Sequence[Rows],
    before: np.ndarray,
    state: int,
    newer: Rows,
) -> np.ndarray:
    """
    The ids of known rows that are gone, ascending. `before` are those of an earlier state, which had the
    generation `state`, and `newer` the rows with higher ids than any of them.

    Finding deleted rows takes some 300 ms for a million; finding that none was deleted takes no time.
    Raises Unproven where rows are there that are not known, or others by the same ids.
    """
    if state ^ newer.state() == index.generation:
        return before
    ids, tokens = _sorted([*known, newer])
    there = vector_ids(conn, index)
    is_there = is_in(ids, there)
    if is_there.sum() != len(there) or _state(tokens[is_there]) != index.generation:
        raise Unproven
    return ids[~is_there]


def gone_and_unknown(
    conn: sqlite3.Connection, index: Index, known: Sequence[Rows]
) -> tuple[np.ndarray, StoredVectors]:
    """
    The ids of the known rows that this connection does not see, ascending, and what it sees besides.
    Raises Unproven if it sees others by the same ids.
    """
    ids, tokens = _sorted(known)
    there = vector_ids(conn, index)
    is_there = is_in(ids, there)
    unknown = rows_by_id(conn, index, there[~is_in(there, ids)].tolist())
    assert unknown.rows is not None
    if _state(tokens[is_there]) ^ unknown.rows.state() != index.generation:
        raise Unproven
    return ids[~is_there], unknown


def _sorted(parts: Sequence[Rows]) -> tuple[np.ndarray, np.ndarray]:
    """Ids, ascending, and tokens."""
    ids = np.concatenate([part.ids for part in parts])
    tokens = np.concatenate([part.tokens for part in parts])
    if (np.diff(ids) > 0).all():
        return ids, tokens
    order = np.argsort(ids, kind="stable")
    return ids[order], tokens[order]


def _state(tokens: np.ndarray) -> int:
    return int(np.bitwise_xor.reduce(tokens))
