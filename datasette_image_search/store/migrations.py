"""
Migrations bring the tables of an older database to this version, each once and in order.

Commands that write apply them, in one transaction with the list of those that were applied, so that a database
has the old tables or the new ones. Readers work with both.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone

from sqlite_utils import Database
from sqlite_utils.db import quote_identifier

from .finding import check_vectors
from .indexes import image_table_names, read_indexes
from .schema_version import APPLIED, MIGRATIONS, applied, check_version
from .side_schema import (
    FILM_COLUMNS,
    PAIR_COLUMNS,
    WORD_COLUMNS,
    ensure_beside,
    image_columns,
    record_own_columns,
)
from .soundness import is_stored_table
from .tables import (
    INDEXES,
    ImageTable,
    StoreError,
    column_names,
    find_image_table,
    folded,
    stored_name,
    table_exists,
)
from .transactions import transaction
from .triggers import ensure_triggers


def migrate(db: Database) -> bool:
    """
    Apply the migrations that a database lacks. True if it had tables of an older version.

    Raises NewerVersion, or StoreError if the name of the list is taken.
    """
    check_version(db.conn)
    if applied(db.conn) == set(MIGRATIONS):
        return False
    with transaction(db):
        # Another program may have done it while this one waited for it.
        check_version(db.conn)
        before = applied(db.conn)
        if not is_stored_table(db.conn, APPLIED, "name", "applied_at"):
            _create(db)
        is_older = table_exists(db.conn, INDEXES)
        for name, step in zip(MIGRATIONS, _STEPS, strict=True):
            if is_older and name not in before:
                step(db)
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        db.table(APPLIED).insert_all(
            {"name": name, "applied_at": now} for name in MIGRATIONS if name not in before
        )
    return is_older and before != set(MIGRATIONS)


def _create(db: Database) -> None:
    try:
        db.execute(f"create table {APPLIED} (name text primary key, applied_at text)")
    except sqlite3.OperationalError as error:
        raise StoreError(
            f"the table or view {APPLIED!r} was not made by this program; rename it"
        ) from error


def _models_side_by_side(db: Database) -> None:
    """Version 0.1 had one index of a table and a model, and could not make another in its place."""
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
    """Vectors of version 0.1 have no tokens."""
    for table, own_column in _image_tables(db.conn):
        ensure_triggers(db, table, own_column)


def _sources(db: Database) -> None:
    """Older versions kept the sources of deleted images."""
    for table, _ in _image_tables(db.conn):
        if is_stored_table(db.conn, table.sources):
            db.execute(
                "delete from {sources} where image_id not in (select {key} from {images})".format(
                    **table.quoted()
                )
            )


def _warnings(db: Database) -> None:
    """All rows of the failures were of files that were not embedded."""
    for name in _stored_names(db.conn):
        failures = db.table(ImageTable(name, "", key_is_integer=True).failures)
        if failures.exists() and "embedded" not in failures.columns_dict:
            failures.add_column("embedded", int, not_null_default=0)


def _metadata(db: Database) -> None:
    """Older versions had no columns for what people say of a picture."""
    for table, own_column in _image_tables(db.conn):
        if table.root_column is not None:
            ensure_triggers(db, table, own_column)
    for table in _tables_from_folders(db.conn):
        _add_columns(db, table, WORD_COLUMNS)
        ensure_beside(db, table)
        # The next run fills them for all images.
        db.execute(
            "insert or replace into {beside} (image_id, files) select {key}, null from {images} "
            "where typeof({key}) = 'integer'".format(**table.quoted())
        )


def _add_columns(db: Database, table: ImageTable, names: Sequence[str]) -> None:
    """Columns of ours. Those that a person has made stay a person's."""
    record_own_columns(db, table, names)
    there = set(map(folded, column_names(db.conn, table.name)))
    types = image_columns()
    for name in names:
        if name not in there:
            db.table(table.name).add_column(name, types[name])


def _references(db: Database) -> None:
    """Older versions ranked by the score alone."""
    _add_to_indexes(db, "references_token")


def _add_to_indexes(db: Database, column: str) -> None:
    if column not in db.table(INDEXES).columns_dict:
        db.table(INDEXES).add_column(column, str)


def _texts(db: Database) -> None:
    """Older versions did not search what is written about images."""
    for table, own_column in _image_tables(db.conn):
        ensure_triggers(db, table, own_column)


def _several_vectors(db: Database) -> None:
    """In older versions each image had one vector."""
    for table, own_column in _image_tables(db.conn):
        ensure_triggers(db, table, own_column)


def _films(db: Database) -> None:
    """Older versions embedded pictures only."""
    for table, own_column in _image_tables(db.conn):
        ensure_triggers(db, table, own_column)
    for table in _tables_from_folders(db.conn):
        _add_columns(db, table, FILM_COLUMNS)


def _pairs(db: Database) -> None:
    """In older versions each file had a row of its own."""
    for table in _tables_from_folders(db.conn):
        _add_columns(db, table, PAIR_COLUMNS)


def _text_towers(db: Database) -> None:
    """Older versions read words by torch only."""
    _add_to_indexes(db, "text_tower")


def _engines(db: Database) -> None:
    """In older versions all vectors were ranked from sidecars."""
    for column in ("engine", "engine_uri"):
        _add_to_indexes(db, column)


def _vectors_elsewhere(db: Database) -> None:
    """In older versions the database had all vectors."""
    if "engine_only" not in db.table(INDEXES).columns_dict:
        db.table(INDEXES).add_column("engine_only", int, not_null_default=0)


_STEPS: tuple[Callable[[Database], None], ...] = (
    _models_side_by_side,
    _tokens,
    _sources,
    _warnings,
    _metadata,
    _references,
    _texts,
    _several_vectors,
    _films,
    _pairs,
    _text_towers,
    _engines,
    _vectors_elsewhere,
)


def _image_tables(conn: sqlite3.Connection) -> Iterator[tuple[ImageTable, str | None]]:
    """
    The image tables that have their vectors, each with the column of its images if it is a person's own. A table
    that lost its vectors, or got another key, is not one of them: ensure_tables() says what to do about it, and
    makes its triggers then. It makes no columns, so steps that add some must go by other lists.
    """
    for name in image_table_names(conn):
        try:
            check_vectors(conn, find_image_table(conn, name))
        except StoreError:
            continue
        index = read_indexes(conn, name)[-1]
        yield index.table, index.path_column or index.content_column


def _stored_names(conn: sqlite3.Connection) -> list[str]:
    """All image tables, by the names that sqlite-utils knows them by."""
    return [stored_name(conn, name) or name for name in image_table_names(conn)]


def _tables_from_folders(conn: sqlite3.Connection) -> Iterator[ImageTable]:
    """
    The image tables of ours, by the key that they were made with: also those without vectors, or with another key
    now, which somebody may put right when the migration is long over.
    """
    for name in _stored_names(conn):
        columns = set(column_names(conn, name))
        if {"root_id", "sha256"} <= columns:
            key = "id"
            if key not in columns:
                try:
                    key = find_image_table(conn, name).key
                except StoreError:
                    continue
            yield ImageTable(name, key, True, "root_id", "path", "sha256")
