"""The foreign keys of all tables of a database."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True)
class ForeignKey:
    """A column that leads to a column of another table; `other_column` is None for its primary key."""

    table: str
    column: str
    other_table: str
    other_column: str | None


def foreign_keys(conn: sqlite3.Connection) -> list[ForeignKey]:
    """Those of one column. SQLite does not check that the other table exists."""
    sql = """
        select _table.name, min(_key."from"), min(_key."table"), min(_key."to")
        from sqlite_master as _table, pragma_foreign_key_list(_table.name) as _key
        where _table.type = 'table'
        group by _table.name, _key.id having count(*) = 1
    """
    return [ForeignKey(*row) for row in conn.execute(sql)]
