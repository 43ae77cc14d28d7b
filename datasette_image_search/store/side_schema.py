"""The tables beside every image table, made."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import get_type_hints

from sqlite_utils import Database
from sqlite_utils.db import quote_identifier

from ..metadata.columns import Metadata
from .image_record import ImageRecord
from .sources import SOURCE_COLUMNS
from .tables import INDEXES, Failure, ImageTable, column_names, folded

WORD_COLUMNS = ("title", "description", "rating", "artist", "copyright", "taken_at_offset")

FILM_COLUMNS = ("duration",)

PAIR_COLUMNS = ("companions",)

ADDED_COLUMNS = (*WORD_COLUMNS, *FILM_COLUMNS, *PAIR_COLUMNS)
"""Columns of ours that version 0.1 did not have, so that a person may have made one of that name."""


def ensure_side_tables(db: Database, table: ImageTable) -> None:
    """Make whatever is missing of the tables beside an image table that each one has."""
    key_type = int if table.key_is_integer else str
    if not db.table(table.vectors).exists():
        # sqlite-utils has no AUTOINCREMENT, and without it the id of a deleted vector comes back.
        db.execute(
            f"""
            create table {quote_identifier(table.vectors)} (
                id INTEGER PRIMARY KEY AUTOINCREMENT,
                index_id INTEGER NOT NULL REFERENCES {INDEXES}(id),
                image_id {"INTEGER" if table.key_is_integer else "TEXT"} NOT NULL,
                sha256 TEXT,
                vector BLOB NOT NULL,
                times TEXT,
                UNIQUE (image_id, index_id)
            )
            """
        )
    elif "times" not in db.table(table.vectors).columns_dict:
        db.table(table.vectors).add_column("times", str)
    # `webp` is JPEG or WebP: versions up to 0.1 wrote only that.
    if not db.table(table.thumbnails).exists():
        db.table(table.thumbnails).create(
            {"image_id": key_type, "sha256": str, "webp": bytes}, pk="image_id"
        )
    if not db.table(table.scenes).exists():
        db.table(table.scenes).create(
            {"image_id": key_type, "at": float, "sha256": str, "webp": bytes},
            pk=("image_id", "at"),
            not_null={"image_id", "at"},
        )
    if not db.table(table.failures).exists():
        db.table(table.failures).create(column_types(Failure), pk=("root_id", "path"))
    if not db.table(table.tokens).exists():
        db.table(table.tokens).create(
            {"vector_id": int, "index_id": int, "token": int},
            pk="vector_id",
            not_null={"index_id", "token"},
        )
    if table.hash_column is None and not db.table(table.sources).exists():
        db.table(table.sources).create({"image_id": key_type, **SOURCE_COLUMNS}, pk="image_id")
    if table.root_column is not None:
        ensure_beside(db, table)


def ensure_beside(db: Database, table: ImageTable) -> None:
    """Make the table of the .xmp files beside the images of a table from folders, if there is none."""
    if not db.table(table.beside).exists():
        key_type = int if table.key_is_integer else str
        db.table(table.beside).create({"image_id": key_type, "files": str}, pk="image_id")


def column_types(record: type) -> dict[str, type]:
    """Field -> int, float, bool or str, for a dataclass that is a row of a table."""
    return dict(_column_types(record))


@cache
def _column_types(record: type) -> dict[str, type]:
    # Python compiles each annotation anew whenever it is asked for them.
    optional = {str | None: str, int | None: int, float | None: float}
    hints = get_type_hints(record).items()
    # The table and the file of an Index are no columns of its row.
    beside = (ImageTable, Path | None)
    return {name: optional.get(kind, kind) for name, kind in hints if kind not in beside}


def image_columns() -> dict[str, type]:
    """Column -> type, of an image table of ours, less its id."""
    columns = column_types(ImageRecord) | column_types(Metadata)
    del columns["metadata"], columns["keywords"]
    return columns


def record_own_columns(
    db: Database, table: ImageTable, names: Sequence[str] = ADDED_COLUMNS
) -> None:
    """Note those of the names of our columns that a table has already, which are a person's."""
    own = set(names) & set(map(folded, column_names(db.conn, table.name)))
    if own and not db.table(table.own_columns).exists():
        db.table(table.own_columns).create({"name": str}, pk="name")
    if own:
        db.table(table.own_columns).insert_all({"name": name} for name in sorted(own))
