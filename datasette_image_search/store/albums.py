"""The albums of an image table: which there are, what is in them, and every change of that."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime, timezone

from sqlite_utils import Database

from ..errors import most_similar
from .album_rows import Album
from .indexes import check_index
from .schema import ensure_albums
from .tables import ImageTable, Index, Key, StoreError
from .transactions import insert_row, transaction
from .triggers import has_albums

LONGEST_NAME = 200
"""Characters."""


def read_albums(conn: sqlite3.Connection, table: ImageTable) -> list[Album]:
    """All albums in the order of their names, also those without images."""
    if not has_albums(conn, table):
        return []
    # Others can write to the tables too.
    sql = """
        select id, name, case when length(created) <= 40 then created end, (
            select count(*) from {album_members} as _member
            join {images} as _image on _image.{key} = _member.image_id
            where _member.album_id = _album.id
        ), (
            select _image.{key} from {album_members} as _member
            join {images} as _image on _image.{key} = _member.image_id
            where _member.album_id = _album.id order by added desc, image_id desc limit 1
        )
        from {albums} as _album where typeof(name) = 'text' and typeof(id) = 'integer'
        order by name collate nocase, name
    """
    return [Album(*row) for row in conn.execute(sql.format(**table.quoted()))]


def album_members(conn: sqlite3.Connection, table: ImageTable, name: str) -> list[Key]:
    """The ids of its images that are still there, those that were added first first. Raises StoreError."""
    album = find_album(conn, table, name)
    rows = conn.execute(
        "select image_id from {album_members} join {images} on {images}.{key} = image_id "
        "where album_id = ? order by added, image_id".format(**table.quoted()),
        [album.id],
    )
    return [key for (key,) in rows if table.is_key(key)]


def album_name(conn: sqlite3.Connection, table: ImageTable, id: int) -> str | None:
    """None if there is no album with this id."""
    if not has_albums(conn, table):
        return None
    sql = "select name from {albums} where id = ? and typeof(name) = 'text'"
    row = conn.execute(sql.format(**table.quoted()), [id]).fetchone()
    return row[0] if row else None


def find_album(conn: sqlite3.Connection, table: ImageTable, name: str) -> Album:
    """Raises StoreError, with the most similar name that there is."""
    known = {album.name: album for album in read_albums(conn, table)}
    if name not in known:
        closest = most_similar(name, list(known))
        raise StoreError(
            f"{table.name!r} has no album {name!r}"
            + (f"; did you mean {closest!r}?" if closest else "; add images to make it")
        )
    return known[name]


def check_album_name(name: str) -> str:
    """The name without blanks around it. Raises StoreError for one that nobody could read or write."""
    stripped = name.strip()
    if not stripped:
        raise StoreError("the name of an album is empty; give it one")
    if len(stripped) > LONGEST_NAME:
        raise StoreError(f"the name of an album has at most {LONGEST_NAME} characters; shorten it")
    if not stripped.isprintable():
        raise StoreError(
            f"the name {stripped!r:.100} has a character that cannot be seen; leave it out"
        )
    return stripped


def add_to_album(db: Database, index: Index, name: str, ids: Sequence[Key]) -> int:
    """
    The number of images that were not in the album before. The album is made if there is none, also for no images.
    Ids of no image are passed over. Raises StoreError.
    """
    name, table, now = check_album_name(name), index.table, _now()
    names = table.quoted()
    with transaction(db):
        check_index(db.conn, index)
        ensure_albums(db, table, index.path_column or index.content_column)
        found = db.execute("select id from {albums} where name = ?".format(**names), [name])
        row = found.fetchone()
        if row is None:
            album_id = insert_row(db, table.side("albums"), {"name": name, "created": now})
        else:
            (album_id,) = row
        return _changed(
            db,
            "insert or ignore into {album_members} (album_id, image_id, added) select ?, {key}, ? from {images} "
            "where {key} in (select value from json_each(?))".format(**names),
            [album_id, now, json.dumps(list(ids))],
        )


def remove_from_album(db: Database, table: ImageTable, name: str, ids: Sequence[Key]) -> int:
    """The number of images that were in the album. Raises StoreError if there is no such album."""
    with transaction(db):
        album = find_album(db.conn, table, name)
        return _changed(
            db,
            "delete from {album_members} where album_id = ? and image_id in (select value from json_each(?))".format(
                **table.quoted()
            ),
            [album.id, json.dumps(list(ids))],
        )


def rename_album(db: Database, table: ImageTable, name: str, new: str) -> None:
    """Raises StoreError if there is no such album, or another one has the new name."""
    new = check_album_name(new)
    with transaction(db):
        album = find_album(db.conn, table, name)
        if new != name and any(each.name == new for each in read_albums(db.conn, table)):
            raise StoreError(
                f"there is an album {new!r} already; choose another name, or add the images to it"
            )
        db.execute(
            "update {albums} set name = ? where id = ?".format(**table.quoted()), [new, album.id]
        )


def delete_album(db: Database, table: ImageTable, name: str) -> int:
    """The number of images that were in it; these stay. Raises StoreError if there is no such album."""
    with transaction(db):
        album = find_album(db.conn, table, name)
        members = "delete from {album_members} where album_id = ?".format(**table.quoted())
        db.execute(members, [album.id])
        db.table(table.side("albums")).delete(album.id)
    return album.images


def _changed(db: Database, sql: str, params: Sequence[object]) -> int:
    before: int = db.conn.total_changes
    db.execute(sql, params)
    return db.conn.total_changes - before


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
