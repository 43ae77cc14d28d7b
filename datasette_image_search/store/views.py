"""
Views whose rows are images: which image table a view is of, and which of its rows show which image.

What a view calls `id` may be the id of anything. So a row of a view is an image only if it also has
what the picture was made of, the path or the bytes, as the image of that id has it: then the picture
is that of what the row says, whatever the view did to get there.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlite_utils.db import quote_identifier

from .filters import Filter, bracketed
from .tables import ROOTS, ImageTable, Key, column_names


@dataclass(frozen=True)
class ImageView:
    """
    A view that has the key of an image table, and `column`, of which the pictures were made; and its
    root if `has_root`.
    """

    name: str
    table: ImageTable
    column: str
    column_is_blob: bool
    has_root: bool

    def quoted(self) -> dict[str, str]:
        """Identifiers for str.format in SQL."""
        return {
            **self.table.quoted(),
            "view": quote_identifier(self.name),
            "column": quote_identifier(self.column),
            "roots": ROOTS,
        }

    def is_image(self) -> str:
        """SQL: whether a row of the view is an image of the table."""
        names = self.quoted()
        root = "{view}.root_id".format(**names) if self.has_root else None
        return is_image(
            self.table,
            self.column,
            "{view}.{key}".format(**names),
            "{view}.{column}".format(**names),
            root,
        )

    def images(self, filter: Filter | None) -> Filter:
        """The images of those rows of the view that pass a filter of the view."""
        # BLOBs are compared where there are few of them: here it could be all.
        sure = "1" if self.column_is_blob else self.is_image()
        where = (
            "{images}.{key} in (select {view}.{key} from {view} where {filter} and {sure})".format(
                filter=bracketed(filter), sure=sure, **self.quoted()
            )
        )
        return Filter(where, filter.params if filter else {}, filter.where if filter else None)


def is_image(table: ImageTable, column: str, key: str, value: str, root: str | None) -> str:
    """
    SQL: whether there is an image with this key, of this path or these bytes, each an expression.
    Without its root, a path may be that of two files; then it is none of them.
    """
    names = {**table.quoted(), "column": quote_identifier(column), "roots": ROOTS}
    if table.root_column is None:
        certain = "1"
    elif root is not None:
        certain = f"_img_image.root_id is {root}"
    else:
        certain = (
            "not exists (select 1 from {roots} as _img_root cross join {images} as _img_other "
            "on _img_other.root_id = _img_root.id and _img_other.{column} = _img_image.{column} "
            "where _img_other.{key} is not _img_image.{key})"
        ).format(**names)
    return (
        "exists (select 1 from {images} as _img_image where _img_image.{key} = {of} "
        "and _img_image.{column} is {value} and {certain})"
    ).format(of=key, value=value, certain=certain, **names)


def find_view(
    conn: sqlite3.Connection, name: str, shown: Iterable[tuple[ImageTable, str, bool]]
) -> ImageView | None:
    """
    The image table, its column and whether that holds BLOBs, that a view is of: the only one that it
    reads. None for a view that reads several or none, lacks a column, or does not work.
    """
    try:
        columns = column_names(conn, name)
        read = _tables_read(conn, name)
    except sqlite3.Error:
        return None
    of = [each for each in shown if each[0].name in read]
    if len(of) != 1:
        return None
    table, column, column_is_blob = of[0]
    if table.key not in columns or column not in columns:
        return None
    if column not in column_names(conn, table.name):
        return None
    return ImageView(name, table, column, column_is_blob, table.root_column in columns)


def view_names(conn: sqlite3.Connection) -> list[str]:
    views = conn.execute("select name from sqlite_master where type = 'view' order by name")
    return [name for (name,) in views]


def _tables_read(conn: sqlite3.Connection, view: str) -> set[str]:
    """
    The tables that a view reads, by what SQLite would open for it. (Its authorizer would tell as well,
    but a connection has one only, which may be somebody else's.)
    """
    of_page = dict(
        conn.execute("select rootpage, tbl_name from sqlite_master where rootpage > 0").fetchall()
    )
    program = conn.execute(f"explain select * from {quote_identifier(view)}").fetchall()
    opened = (step for step in program if step[1] in ("OpenRead", "ReopenIdx"))
    return {of_page[step[3]] for step in opened if step[4] == 0 and step[3] in of_page}


def view_rows(
    conn: sqlite3.Connection, view: ImageView, ids: Sequence[Key]
) -> dict[Key, dict[str, Any]]:
    """Id -> the first row of the view of that image, without the bytes, for those that have one."""
    names = view.quoted()
    columns = ", ".join(
        quote_identifier(name)
        for name in column_names(conn, view.name)
        if not (view.column_is_blob and name == view.column)
    )
    cursor = conn.execute(
        "select {columns} from {view} where {key} in (select value from json_each(?)) and {sure}".format(
            columns=columns, sure=view.is_image(), **names
        ),
        [json.dumps(list(ids))],
    )
    described = [column[0] for column in cursor.description]
    rows: dict[Key, dict[str, Any]] = {}
    for values in cursor:
        row = dict(zip(described, values, strict=True))
        rows.setdefault(row[view.table.key], row)
    return rows


def image_of_row(
    conn: sqlite3.Connection,
    table: ImageTable,
    column: str,
    key: Key,
    value: str | bytes,
    root: Any = None,
) -> bool:
    """Whether a row of anything, with this key, path or bytes, and root if it has one, is an image."""
    sql = is_image(table, column, "?", "?", None if root is None else "?")
    given = [key, value] if root is None else [key, value, root]
    return bool(conn.execute(f"select {sql}", given).fetchone()[0])
