"""
A random number for each vector, and of these the state of an index: what proves which vectors there are.

Ids do not prove it. A backup that was restored gives ids again that were other pictures' in between, and a
counter comes to the same number on another way. The generation of an index is the XOR of the tokens of
its vectors, so that a process which holds vectors and their tokens knows, without reading them again,
whether they are those of the database that it sees: however that came to be what it is.

Triggers keep it, whichever tool writes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

import numpy as np
from sqlite_utils import Database

from .soundness import is_stored_table
from .stored_vectors import Rows
from .tables import INDEXES, ImageTable, Index, Key

EVENTS = ("token_added", "token_deleted")
"""The triggers on the table of tokens, which are never away."""


def token_triggers(table: ImageTable) -> dict[str, str]:
    """Event -> what happens then. SQLite has no XOR, but this is one."""
    names = table.quoted()
    change = (
        f"update {INDEXES} set generation = (generation | {{row}}.token) - (generation & {{row}}.token) "
        "where id = {row}.index_id;"
    )
    added, deleted = EVENTS
    return {
        added: f"after insert on {names['tokens']} begin {change.format(row='new')} end",
        deleted: f"after delete on {names['tokens']} begin {change.format(row='old')} end",
        "vector_replaced": (
            # REPLACE fires no delete trigger. (Where SQLite chooses the id, it is -1 here.)
            f"before insert on {names['vectors']} begin delete from {names['vectors']} "
            "where id = new.id or (image_id = new.image_id and index_id = new.index_id); end"
        ),
        "vector_added": (
            f"after insert on {names['vectors']} begin insert into {names['tokens']} "
            "(vector_id, index_id, token) values (new.id, new.index_id, random()); end"
        ),
    }


def give_tokens(db: Database, table: ImageTable, after: int) -> None:
    """To the vectors with ids above, where no trigger has done it."""
    db.execute(
        "insert into {tokens} (vector_id, index_id, token) "
        "select id, index_id, random() from {vectors} where id > ?".format(**table.quoted()),
        [after],
    )


def take_tokens(db: Database, table: ImageTable, where: str, rows: Iterable[Sequence[Key]]) -> None:
    """Of the vectors that a WHERE clause names for each row, before they are deleted without triggers."""
    db.conn.executemany(
        "delete from {tokens} where vector_id in (select id from {vectors} where {where})".format(
            where=where, **table.quoted()
        ),
        rows,
    )


def renew_tokens(db: Database, table: ImageTable) -> None:
    """
    All of them, for a table of an older version, or one whose triggers were away: nothing that anybody
    holds or wrote to a sidecar is believed any more.
    """
    names = table.quoted()
    db.execute("delete from {tokens}".format(**names))
    db.execute(
        f"update {INDEXES} set generation = 0 where image_table = ? collate nocase", [table.name]
    )
    give_tokens(db, table, after=0)


def has_tokens(conn: sqlite3.Connection, index: Index) -> bool:
    """Whether the generation of an index is proof of its rows; it is none in a database of version 0.1."""
    return is_stored_table(conn, index.table.tokens)


def rows_after(conn: sqlite3.Connection, index: Index, id: int) -> Rows:
    """The rows of an index with higher ids, of a database with tokens."""
    sql = "select vector_id, cast(token as integer) from {tokens} where vector_id > ? and index_id = ? order by vector_id"
    found = conn.execute(sql.format(**index.table.quoted()), [id, index.id]).fetchall()
    ids, tokens = np.array(found, dtype=np.int64).reshape(-1, 2).T.copy()
    return Rows(ids, tokens)
