"""
What brings the tables of an older database to those of this version: each migration once, in their order.

Commands that write apply them, in one transaction with the list of those that were applied: a database has the
old tables or the new ones. Whoever only reads works with both.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime, timezone

from sqlite_utils import Database
from sqlite_utils.db import quote_identifier

from .finding import check_vectors
from .schema_version import APPLIED, MIGRATIONS, applied, check_version
from .soundness import is_stored_table
from .tables import (
    INDEXES,
    ImageTable,
    StoreError,
    find_image_table,
    image_table_names,
    read_indexes,
    table_exists,
)
from .transactions import transaction
from .triggers import ensure_triggers


def migrate(db: Database) -> bool:
    """
    Whether tables of an older version were there, and are of this one now.

    Raises NewerVersion, or StoreError where something else has the name of a table of ours.
    """
    check_version(db.conn)
    if applied(db.conn) == set(MIGRATIONS):
        return False
    with transaction(db):
        # Another program may have done it while this one waited for it.
        check_version(db.conn)
        before = applied(db.conn)
        if not is_stored_table(db.conn, APPLIED, "name"):
            _create(db)
        is_older = table_exists(db.conn, INDEXES)
        for name, step in zip(MIGRATIONS, _STEPS, strict=True):
            if name not in before:
                if is_older:
                    step(db)
                now = datetime.now(timezone.utc).isoformat(timespec="seconds")
                db.table(APPLIED).insert({"name": name, "applied_at": now})
    return is_older and before != set(MIGRATIONS)


def _create(db: Database) -> None:
    try:
        db.execute(f"create table {APPLIED} (name text primary key, applied_at text)")
    except sqlite3.OperationalError as error:
        raise StoreError(
            f"{APPLIED!r} is not the table of that name that this program keeps, in which it notes what it "
            "made of this database; rename it"
        ) from error


def _models_side_by_side(db: Database) -> None:
    """Version 0.1 had one index of a table and a model, and no other that was made in its place."""
    indexes = db.table(INDEXES)
    columns = {"index_type": str, "identity": str, "unfinished": int}
    for column in columns.keys() - indexes.columns_dict.keys():
        default = 0 if column == "unfinished" else None
        indexes.add_column(column, columns[column], not_null_default=default)
    for index in indexes.indexes:
        if index.unique and index.columns == ["image_table", "model"]:
            db.execute(f"drop index {quote_identifier(index.name)}")
    indexes.create_index(["image_table", "model", "unfinished"], unique=True, if_not_exists=True)


def _tokens(db: Database) -> None:
    """Vectors of version 0.1 had none."""
    for table, own_column in _image_tables(db.conn):
        ensure_triggers(db, table, own_column)


def _sources(db: Database) -> None:
    """Those of deleted images stayed."""
    for table, _ in _image_tables(db.conn):
        if is_stored_table(db.conn, table.sources):
            db.execute(
                "delete from {sources} where image_id not in (select {key} from {images})".format(
                    **table.quoted()
                )
            )


_STEPS: tuple[Callable[[Database], None], ...] = (_models_side_by_side, _tokens, _sources)


def _image_tables(conn: sqlite3.Connection) -> Iterator[tuple[ImageTable, str | None]]:
    """
    Those that have their vectors, and where a person's own has its images. A table that somebody has changed so
    that they are not its own any more is left as it is, for ensure_tables() to say so.
    """
    for name in image_table_names(conn):
        try:
            check_vectors(conn, name)
        except StoreError:
            continue
        index = read_indexes(conn, name)[-1]
        yield find_image_table(conn, name), index.path_column or index.content_column
