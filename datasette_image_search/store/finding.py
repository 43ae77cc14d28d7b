"""The index of an image table, or a sentence that says what somebody did to the table since it was made."""

from __future__ import annotations

import sqlite3

from sqlite_utils.db import quote_identifier

from .indexes import image_table_names, read_indexes
from .soundness import stored_columns
from .tables import (
    INDEXES,
    ImageTable,
    Index,
    StoreError,
    column_names,
    folded,
    trigger_name,
)


def find_index(
    conn: sqlite3.Connection, table: str | None = None, model: str | None = None
) -> Index:
    """
    The index of an image table; `table` may be left out where the database has one, `model` is for
    a table that was embedded with several, and without it the oldest is taken.

    Raises StoreError with a sentence that names what there is, or that the vectors are gone.
    """
    if table is None:
        table = _only_table(conn)
    indexes = read_indexes(conn, table)
    if not indexes:
        check_not_renamed(conn, table)
        listed = _listed(_names(conn))
        raise StoreError(f"{table!r} is not an image table; this database has {listed}")
    check_vectors(conn, indexes[0].table)
    for index in indexes:
        if model in (None, index.model):
            return index
    models = ", ".join(index.model for index in indexes)
    raise StoreError(f"{table!r} is not embedded with {model}, but with {models}")


def _only_table(conn: sqlite3.Connection) -> str:
    names = _names(conn)
    if len(names) > 1:
        raise StoreError(f"this database has several image tables; name one of {_listed(names)}")
    return names[0]


def _names(conn: sqlite3.Connection) -> list[str]:
    """The image tables. Raises StoreError for none, with what became of them where that is known."""
    names = image_table_names(conn)
    if not names:
        for name in _renamed(conn):
            check_not_renamed(conn, name)
        _check_not_attached(conn)
        raise StoreError(
            "this database has no image table; make one with: "
            "sqlite-utils embed-images PATH TABLE FOLDER"
        )
    return names


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names))


def _check_not_attached(conn: sqlite3.Connection) -> None:
    """Raises StoreError if image tables are in a database that is attached, which is not looked into."""
    for _, name, _ in conn.execute("pragma database_list").fetchall():
        schema = quote_identifier(name)
        found = conn.execute(f"select 1 from {schema}.sqlite_master where name = ?", [INDEXES])
        if name not in ("main", "temp") and found.fetchone():
            raise StoreError(
                f"the image tables of the attached database {name!r} can be searched in that database "
                "only; run this on it, and attach the others to it"
            )


def check_vectors(conn: sqlite3.Connection, table: ImageTable) -> None:
    """Raises StoreError where somebody dropped the vectors of an image table, or changed its key."""
    columns = stored_columns(conn, table.vectors)
    if not columns:
        raise StoreError(
            f"the vectors of {table.name!r} are gone, because there is no table {table.vectors!r}; embed "
            "everything again, with --replace-model of embed-images"
        )
    _check_key(conn, table, columns)


def check_key(conn: sqlite3.Connection, table: ImageTable) -> None:
    """Raises StoreError where the images of a table have another key than when they were embedded."""
    _check_key(conn, table, stored_columns(conn, table.vectors))


def _check_key(conn: sqlite3.Connection, table: ImageTable, of_vectors: dict[str, str]) -> None:
    """The same, given the columns of its vectors with their types, none if there are no vectors."""
    # A table from folders was made with this one, which has another name only if it was given one.
    was_id = (
        table.root_column is not None
        and table.key != "id"
        and "id" in column_names(conn, table.name)
    )
    kind = "integer" if "INT" in of_vectors.get("image_id", "INTEGER").upper() else "text"
    is_same = not of_vectors or kind == ("integer" if table.key_is_integer else "text")
    if not was_id and is_same:
        return
    if not was_id and _has_the_same_keys(conn, table):
        raise StoreError(
            f"the primary key {table.key!r} of {table.name!r} has another type than its vectors; change it "
            f"back with: sqlite-utils transform PATH {table.name} --type {table.key} {kind}"
        )
    before = "id" if was_id else "COLUMN"
    raise StoreError(
        f"the primary key of {table.name!r} is now {table.key!r}, but its vectors use another one; make "
        f"that the key again with: sqlite-utils transform PATH {table.name} --pk {before}"
    )


def _has_the_same_keys(conn: sqlite3.Connection, table: ImageTable) -> bool:
    """Whether SQLite finds an image by the key that a vector has."""
    sql = "select 1 from {vectors} join {images} on {images}.{key} = {vectors}.image_id"
    return conn.execute(sql.format(**table.quoted())).fetchone() is not None


def check_not_renamed(conn: sqlite3.Connection, name: str) -> None:
    """
    Raises StoreError where an image table was renamed, and this is its name before or after that, unless
    it was embedded again since.
    """
    for new, old in _renamed(conn).items():
        if folded(name) in (folded(new), folded(old)) and not read_indexes(conn, name):
            raise StoreError(
                f"the image table {old!r} was renamed to {new!r}, where its vectors are not found; embed "
                "everything again under the new name, with --replace-model of embed-images, or rename it "
                f"back, with: sqlite-utils rename-table PATH {new} {old}"
            )


def renamed_from(conn: sqlite3.Connection, name: str) -> str | None:
    """The name that an image table had before it was renamed, where its vectors are still."""
    return {folded(new): old for new, old in _renamed(conn).items()}.get(folded(name))


def _renamed(conn: sqlite3.Connection) -> dict[str, str]:
    """New name -> old name."""
    return {new: old for new, old in named_by_triggers(conn) if folded(new) != folded(old)}


def named_by_triggers(conn: sqlite3.Connection) -> list[tuple[str, str]]:
    """
    Of each image table the name it has, and the one it was embedded as. Triggers go with their table:
    away when it is dropped, along when it is renamed.
    """
    before, after = trigger_name(ImageTable("\0", "", key_is_integer=True), "inserted").split("\0")
    triggers = conn.execute("select name, tbl_name from sqlite_master where type = 'trigger'")
    return [
        (table, name[len(before) : -len(after)])
        for name, table in triggers
        if name.startswith(before) and name.endswith(after)
    ]
