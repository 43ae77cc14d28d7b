"""How the tables are written to: all of a batch, or none of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlite_utils import Database


@contextmanager
def transaction(db: Database) -> Iterator[None]:
    """
    All that is written, or nothing. The lock is taken at once, where waiting for other writers is
    possible; SQLite refuses at once to turn a read lock into one for writing.
    """
    if db.conn.in_transaction:
        with db.atomic():
            yield
        return
    db.execute("begin immediate")
    try:
        yield
    except BaseException:
        db.rollback()
        raise
    else:
        db.commit()
