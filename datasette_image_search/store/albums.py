"""The albums of an image table: which there are, what is in them, and every change of that."""

from __future__ import annotations

import json
import sqlite3
import unicodedata
from collections.abc import Sequence
from datetime import datetime, timezone

from sqlite_utils import Database

from ..errors import most_similar, printable
from .album_rows import Album
from .filters import Filter, bracketed
from .indexes import check_index
from .schema import ensure_albums
from .tables import ImageTable, Index, Key, StoreError
from .transactions import insert_row, transaction
from .triggers import has_albums

LONGEST_NAME = 200
"""Characters."""

NEWEST = 100
"""Members that are looked at for a cover, if not all are."""


def read_albums(
    conn: sqlite3.Connection, table: ImageTable, filter: Filter | None = None, *, exact: bool = True
) -> list[Album]:
    """
    All albums in the order of their names, also those without images. Images that do not pass the filter are not
    counted, and no covers. If not `exact`, members that are not there any more are counted too: to look for each of a
    hundred thousand takes seconds.
    """
    return _read(conn, table, filter, "1", exact=exact) if has_albums(conn, table) else []


def named_album(conn: sqlite3.Connection, table: ImageTable, name: str) -> Album | None:
    """The album that `album_id` tells, None if there is none."""
    id = album_id(conn, table, name)
    return None if id is None else next(iter(_read(conn, table, None, f"id = {id}")), None)


def _read(
    conn: sqlite3.Connection,
    table: ImageTable,
    filter: Filter | None,
    albums: str,
    *,
    exact: bool = True,
) -> list[Album]:
    # Others can write to the tables too.
    members = newest = "{album_members} as _member"
    if exact or filter is not None:
        members += " join {images} on {images}.{key} = _member.image_id"
    else:
        newest = (
            "(select * from {album_members} where album_id = _album.id "
            f"order by added desc, image_id desc limit {NEWEST}) as _member"
        )
    sql = """
        select id, name, case when length(created) <= 40 then created end, (
            select count(*) from {members}
            where _member.album_id = _album.id and {filter}
        ), (
            select {images}.{key} from {newest}
            join {images} on {images}.{key} = _member.image_id
            where _member.album_id = _album.id and {filter} order by added desc, image_id desc limit 1
        )
        from {albums} as _album where typeof(name) = 'text' and typeof(id) = 'integer' and {which}
        order by name collate nocase, name
    """.format(
        members=members.format(**table.quoted()),
        newest=newest.format(**table.quoted()),
        filter=bracketed(filter),
        which=albums,
        **table.quoted(),
    )
    return [Album(*row) for row in conn.execute(sql, filter.params if filter else {})]


def album_names(conn: sqlite3.Connection, table: ImageTable, limit: int) -> list[str]:
    """The first names of albums in their order."""
    if not has_albums(conn, table):
        return []
    sql = "select name from {albums} where typeof(name) = 'text' order by name collate nocase, name limit ?"
    return [name for (name,) in conn.execute(sql.format(**table.quoted()), [limit])]


def album_members(conn: sqlite3.Connection, table: ImageTable, name: str) -> list[Key]:
    """The ids of its images that are still there, those that were added first first. Raises StoreError."""
    rows = conn.execute(
        "select image_id from {album_members} join {images} on {images}.{key} = image_id "
        "where album_id = ? order by added, image_id".format(**table.quoted()),
        [find_album(conn, table, name)],
    )
    return [key for (key,) in rows if table.is_key(key)]


def album_name(conn: sqlite3.Connection, table: ImageTable, id: int) -> str | None:
    """None if there is no album with this id."""
    if not has_albums(conn, table):
        return None
    sql = "select name from {albums} where id = ? and typeof(name) = 'text'"
    row = conn.execute(sql.format(**table.quoted()), [id]).fetchone()
    return row[0] if row else None


def album_id(conn: sqlite3.Connection, table: ImageTable, name: str) -> int | None:
    """
    Of the album with this name, or with the one that an album made by it would have: other programs give names that
    nobody could here. None if there is none.
    """
    if not has_albums(conn, table):
        return None
    sql = "select id from {albums} where name = ? and typeof(id) = 'integer'"
    for each in (name, _written(name)):
        row = conn.execute(sql.format(**table.quoted()), [each]).fetchone()
        if row:
            return int(row[0])
    return None


def find_album(conn: sqlite3.Connection, table: ImageTable, name: str) -> int:
    """The id of an album, as above. Raises StoreError, with the most similar name that there is."""
    id = album_id(conn, table, name)
    if id is not None:
        return id
    closest = None
    if has_albums(conn, table):
        known = conn.execute(
            "select name from {albums} where typeof(name) = 'text'".format(**table.quoted())
        )
        closest = most_similar(name, [each for (each,) in known])
    raise StoreError(
        f"{table.name!r} has no album {name!r}"
        + (f"; did you mean {closest!r}?" if closest else "; add images to make it")
    )


def check_album_name(name: str) -> str:
    """The name as it is written, see below. Raises StoreError for one that nobody could read or write."""
    written = _written(name)
    # Joiners and the like are part of words and of emoji, and nothing by themselves.
    if all(unicodedata.category(character) == "Cf" for character in written):
        raise StoreError("the name of an album is empty; give it one")
    if len(written) > LONGEST_NAME:
        raise StoreError(f"the name of an album has at most {LONGEST_NAME} characters; shorten it")
    if printable(written) != written:
        raise StoreError(
            f"the name {printable(written)!r:.100} has a character that cannot be seen; leave it out"
        )
    return written


def _written(name: str) -> str:
    """A name without blanks around it; blanks of all kinds are one kind, and so are letters that look the same."""
    composed = unicodedata.normalize("NFC", name.strip())
    return "".join(" " if unicodedata.category(each) == "Zs" else each for each in composed)


def add_to_album(
    db: Database,
    index: Index,
    name: str,
    ids: Sequence[Key],
    *,
    may_create: bool = True,
    must_be_new: bool = False,
) -> list[Key]:
    """
    The images that were not in the album before. The album is made if there is none, also for no images, unless this
    `may_create` none. Ids of no image are passed over.

    Raises StoreError, also if there is an album that `must_be_new`.
    """
    table, now = index.table, _now()
    names = table.quoted()
    with transaction(db):
        check_index(db.conn, index)
        id = album_id(db.conn, table, name) if may_create else find_album(db.conn, table, name)
        if id is not None and must_be_new:
            raise StoreError(f"there is an album {name.strip()!r} already; choose another name")
        written = check_album_name(name) if id is None else None
        ensure_albums(db, table, index.path_column or index.content_column)
        if written is not None:
            id = insert_row(db, table.side("albums"), {"name": written, "created": now})
        return _changed(
            db,
            "insert or ignore into {album_members} (album_id, image_id, added) select ?, {key}, ? from {images} "
            "where {key} in (select value from json_each(?)) returning image_id".format(**names),
            [id, now, json.dumps(list(ids))],
        )


def remove_from_album(db: Database, table: ImageTable, name: str, ids: Sequence[Key]) -> list[Key]:
    """Those of the images that were in the album. Raises StoreError if there is no such album."""
    with transaction(db):
        return _changed(
            db,
            "delete from {album_members} where album_id = ? "
            "and image_id in (select value from json_each(?)) returning image_id".format(
                **table.quoted()
            ),
            [find_album(db.conn, table, name), json.dumps(list(ids))],
        )


def rename_album(db: Database, table: ImageTable, name: str, new: str) -> None:
    """Raises StoreError if there is no such album, or another one has the new name."""
    with transaction(db):
        id, new = find_album(db.conn, table, name), check_album_name(new)
        if album_id(db.conn, table, new) not in (None, id):
            raise StoreError(
                f"there is an album {new!r} already; choose another name, or add the images to it"
            )
        db.execute("update {albums} set name = ? where id = ?".format(**table.quoted()), [new, id])


def delete_album(db: Database, table: ImageTable, name: str) -> int:
    """The number of images that were in it; these stay. Raises StoreError if there is no such album."""
    with transaction(db):
        id = find_album(db.conn, table, name)
        members = "delete from {album_members} where album_id = ? returning image_id"
        deleted = _changed(db, members.format(**table.quoted()), [id])
        db.table(table.side("albums")).delete(id)
    return len(deleted)


def _changed(db: Database, sql: str, params: Sequence[object]) -> list[Key]:
    return [key for (key,) in db.execute(sql, params).fetchall()]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
