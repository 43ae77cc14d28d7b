"""The column `companions`: a JSON array with the paths of the other files of a photo, as its own path is written."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from .tables import ImageTable, Key, column_names

COLUMN = "companions"


def names_of(companions: object) -> list[str]:
    """The paths in a JSON array, none of what is no such thing: people can write anything into a column."""
    if not isinstance(companions, str):
        return []
    try:
        names = json.loads(companions)
    except (ValueError, RecursionError):
        return []
    if not isinstance(names, list):
        return []
    # JSON has half characters, which nothing can write.
    return [name for name in names if isinstance(name, str) and _is_text(name)]


def _is_text(name: str) -> bool:
    return name.encode(errors="ignore").decode() == name


def companions_of(
    conn: sqlite3.Connection, table: ImageTable, ids: Sequence[Key]
) -> dict[Key, list[str]]:
    """Id -> those of the image, for images that have some in a table that was made from folders; none in other tables."""
    if table.path_column is None or COLUMN not in column_names(conn, table.name):
        return {}
    sql = (
        f"select {{key}}, {COLUMN} from {{images}} where {COLUMN} is not null "
        "and {key} in (select value from json_each(?))"
    ).format(**table.quoted())
    rows = conn.execute(sql, [json.dumps(list(ids))])
    return {image_id: names_of(companions) for image_id, companions in rows}
