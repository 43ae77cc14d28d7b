"""Which tables of a database are made of its image tables, and of which of them."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator

from .finding import named_by_triggers
from .soundness import is_stored_table
from .tables import (
    DATABASE_TABLES,
    INDEXES,
    OF_SQLITE,
    SIDE_TABLES,
    ImageTable,
    folded,
)
from .triggers import existing_side_tables
from .written_texts import TEXT_TABLES

FULL_TEXT = [kind for kind in SIDE_TABLES if kind.startswith("texts")]
"""Side tables with the words of other side tables."""


def side_tables(conn: sqlite3.Connection) -> dict[str, frozenset[str]]:
    """
    The name of each table that is made of image tables -> those image tables; a full-text index is also made of the
    side tables whose texts it has. Also of an image table that is gone or was renamed: what was made of it is still of
    its pictures.

    What is an image table itself is not here, whatever it is called.
    """
    tables = {
        folded(name): name
        for (name,) in conn.execute("select name from sqlite_master where type = 'table'")
    }
    made_of: dict[str, set[str]] = {}
    images: set[str] = set()
    for name, embedded_as in embedded_names(conn):
        images |= {name, embedded_as}
        table = ImageTable(embedded_as, "", key_is_integer=True)
        for side in existing_side_tables(conn, table):
            # A view of that name is a person's own.
            if folded(side) in tables:
                made_of.setdefault(tables[folded(side)], set()).update((name, embedded_as))
        texts = {
            tables[folded(side)] for side in map(table.side, TEXT_TABLES) if folded(side) in tables
        }
        for kind in FULL_TEXT:
            if (index := tables.get(folded(table.side(kind)))) in made_of:
                made_of[index] |= texts
    for name in (*DATABASE_TABLES, *OF_SQLITE):
        if images and name in tables:
            made_of[tables[name]] = images
    themselves = {folded(name) for name in images}
    return {side: frozenset(of) for side, of in made_of.items() if folded(side) not in themselves}


def is_named_like_side_table(name: str) -> bool:
    """For a database that cannot be read, where a name is all that is known."""
    return any(pattern.fullmatch(name) for pattern in _NAMES)


def told_together(side: str, images: Iterable[str]) -> list[str]:
    """
    The side tables of image tables that tell what is in this one, and this one: albums and what is in them. Whoever may
    not see one of them may see none. Empty for all other side tables.
    """
    for image in images:
        table = ImageTable(image, "", key_is_integer=True)
        albums = [table.side("albums"), table.side("album_members")]
        if folded(side) in map(folded, albums):
            return albums
    return []


def is_machinery(side: str) -> bool:
    """Whether a side table is for programs; the others were made for people to look at."""
    return side.startswith("_") or folded(side) in DATABASE_TABLES


_NAMES = [
    re.compile(name.replace("{}", "(.+)"), re.IGNORECASE | re.DOTALL)
    for name in (*DATABASE_TABLES, *SIDE_TABLES.values())
]


def _possible_names(conn: sqlite3.Connection) -> set[str]:
    """The tables there are, and those that others are named after, in SQLite's small letters."""
    possible = set()
    for (name,) in conn.execute("select name from sqlite_master where type = 'table'"):
        possible.add(folded(name))
        for pattern in _NAMES:
            named = pattern.fullmatch(name)
            possible |= {folded(part) for part in (named.groups() if named else ())}
    return possible


def embedded_names(conn: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """
    The image tables, each with the name it was embedded as, that of its side tables. The triggers
    tell a table that was renamed since, or whose last index was deleted.
    """
    if is_stored_table(conn, INDEXES):
        # A name of which there is no table can have any number of rows here, and means nothing.
        sql = (
            f"select distinct image_table from {INDEXES} where typeof(image_table) = 'text' "
            "and lower(image_table) in (select value from json_each(?))"
        )
        for (name,) in conn.execute(sql, [json.dumps(sorted(_possible_names(conn)))]):
            yield name, name
    yield from named_by_triggers(conn)
