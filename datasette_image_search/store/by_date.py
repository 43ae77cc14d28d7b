"""The images before and after one in the order by date."""

from __future__ import annotations

import sqlite3

from .reads import indexes_of_texts
from .tables import ImageTable, Key

DATE = "taken_at"


def beside_by_date(
    conn: sqlite3.Connection, table: ImageTable, image_id: Key
) -> tuple[Key | None, Key | None]:
    """
    The next newer and the next older image, as `newest_ids` orders them; None at the ends, for an image without a
    date, and if SQLite would have to read the whole table for it.
    """
    if DATE not in indexes_of_texts(conn, table):
        return None, None
    names = table.quoted()
    sql = "select {key} from {images} where {key} = ? and taken_at is not null".format(**names)
    if conn.execute(sql, [image_id]).fetchone() is None:
        return None, None
    kind = "integer" if table.key_is_integer else "text"

    def closest(side: str, direction: str) -> Key | None:
        sql = (
            f"select {{key}} from {{images}} where typeof({{images}}.{{key}}) = '{kind}' and (taken_at, {{key}}) {side} "
            f"(select taken_at, {{key}} from {{images}} where {{key}} = ?) "
            f"order by taken_at {direction}, {{key}} {direction} limit 1"
        )
        row = conn.execute(sql.format(**names), [image_id]).fetchone()
        return None if row is None else row[0]

    return closest(">", "asc"), closest("<", "desc")
