"""The lines of text in pictures, and which pictures were read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlite_utils import Database

from .filters import Filter, bracketed, naming_the_filter
from .line_rows import Line, LineRow, ReadingRow
from .side_schema import column_types
from .sources import sources_of
from .tables import (
    ImageTable,
    Index,
    Key,
    StoreError,
    column_names,
    table_exists,
)
from .triggers import ensure_triggers, has_lines
from .written_texts import LONGEST_TEXT, texts_written_once

MOST_LINES = 1_000
"""Of an image. The models look for no more."""

LONGEST_BOX = 200
"""Characters of four numbers."""

NO_HASH = ""
"""In the place of a hash in a reading that is to be tried again: no picture has it."""


@dataclass(frozen=True, slots=True)
class UnreadPicture:
    """
    The images with one picture, which was not read yet; or only its thumbnail was. `sha256` is None for a picture
    whose hash is not known, which is of one image.
    """

    sha256: str | None
    ids: tuple[Key, ...]
    was_gone: bool = False


@dataclass(frozen=True, slots=True)
class ReadPicture:
    """
    A picture with its lines from the top, or with the `reason` why it could not be read. It is tried again if the
    reason `may_pass`.
    """

    picture: UnreadPicture
    lines: Sequence[Line] = ()
    reason: str | None = None
    of_thumbnail: bool = False
    may_pass: bool = False


def ensure_lines(db: Database, index: Index) -> None:
    """The two tables, and the triggers that keep them true from now on. Within a transaction. Raises StoreError."""
    table = index.table
    key_type = int if table.key_is_integer else str
    if not column_names(db.conn, table.lines):
        if table_exists(db.conn, table.readings):
            # A person dropped the lines, and wants them back.
            db.table(table.readings).drop()
        db.table(table.lines).create(
            {**column_types(LineRow), "image_id": key_type},
            foreign_keys=[("image_id", table.name, table.key)],
        )
        db.table(table.lines).create_index(["image_id"])
    if not column_names(db.conn, table.readings):
        db.table(table.readings).create(
            {**column_types(ReadingRow), "image_id": key_type}, pk="image_id"
        )
        db.table(table.readings).create_index(["sha256"])
    if not has_lines(db.conn, table):
        raise StoreError(
            f"the table {table.lines!r} or {table.readings!r} was not made by read-images; rename it"
        )
    ensure_triggers(db, table, index.path_column or index.content_column)


def unread(
    conn: sqlite3.Connection,
    table: ImageTable,
    filter: Filter | None = None,
    *,
    retry_failed: bool = False,
) -> list[UnreadPicture]:
    """
    The pictures of the images that pass the filter that were not read, or of which only the thumbnail was; also those
    that could not be read if `retry_failed`. Raises FilterError.
    """
    sql = """
        select {key} from {images} where {key} in (
            select _image.{key} from {images} as _image
            left join {state} as _source on _source.image_id = _image.{key}
            left join {readings} as _reading on _reading.image_id = _image.{key}
            where _reading.image_id is null or _reading.sha256 is not _source.sha256
            or _reading.of_thumbnail or (:_img_retry and _reading.reason is not null)
        ) and {filter} order by {key}
    """
    names = {**table.quoted(), "state": sources_of(conn, table)}
    params = {**(filter.params if filter else {}), "_img_retry": retry_failed}
    with naming_the_filter(table, filter):
        rows = conn.execute(sql.format(filter=bracketed(filter), **names), params)
        keys = [key for (key,) in rows if table.is_key(key)]
    images: dict[object, list[Key]] = {}
    gone = set()
    for key, sha256, was_gone in _states(conn, table, keys):
        images.setdefault(sha256 or (key,), []).append(key)
        gone |= {key} if was_gone else set()
    return [
        UnreadPicture(same if isinstance(same, str) else None, tuple(ids), gone.issuperset(ids))
        for same, ids in images.items()
    ]


def _states(
    conn: sqlite3.Connection, table: ImageTable, keys: Sequence[Key]
) -> Iterator[tuple[Key, str | None, bool]]:
    """Id, hash, and whether only the thumbnail of that picture was read."""
    sql = """
        select _wanted.value, _source.sha256, ifnull(_reading.of_thumbnail, 0)
        from json_each(?) as _wanted
        left join {state} as _source on _source.image_id = _wanted.value
        left join {readings} as _reading
        on _reading.image_id = _wanted.value and _reading.sha256 is _source.sha256
    """
    names = {**table.quoted(), "state": sources_of(conn, table)}
    yield from conn.execute(sql.format(**names), [json.dumps(list(keys))])


def lines_of_twins(
    conn: sqlite3.Connection, table: ImageTable, pictures: Collection[UnreadPicture]
) -> Iterator[ReadPicture]:
    """Those of the pictures that another image has too, with which they were read."""
    wanted = {each.sha256: each for each in pictures if each.sha256 is not None}
    twins = """
        select sha256, min(image_id) from {readings}
        where sha256 in (select value from json_each(?)) and reason is null and not of_thumbnail
        group by sha256
    """
    for sha256, twin in conn.execute(
        twins.format(**table.quoted()), [json.dumps(list(wanted))]
    ).fetchall():
        yield ReadPicture(wanted[sha256], tuple(lines_of_image(conn, table, twin)))


def lines_of_image(conn: sqlite3.Connection, table: ImageTable, key: Key) -> Iterator[Line]:
    """The lines of one image, from the top; others can write to the table too, and what is no line is left out."""
    sql = (
        "select text, score, box from {lines} where image_id = ? "
        f"and length(text) <= {LONGEST_TEXT} and length(box) <= {LONGEST_BOX} order by rowid limit {MOST_LINES}"
    )
    for text, score, box in conn.execute(sql.format(**table.quoted()), [key]):
        numbers = _box(box)
        if isinstance(text, str) and isinstance(score, float) and numbers is not None:
            yield Line(text, score, numbers)


def _box(written: object) -> tuple[float, float, float, float] | None:
    try:
        left, top, right, bottom = numbers = [float(each) for each in json.loads(str(written))]
    except (TypeError, ValueError, RecursionError):
        return None
    return (left, top, right, bottom) if all(0 <= each <= 1 for each in numbers) else None


def write_lines(db: Database, table: ImageTable, pictures: Iterable[ReadPicture]) -> None:
    """What was read, for the images that still have the same picture. Within a transaction."""
    names = {**table.quoted(), "state": sources_of(db.conn, table)}
    same = (
        "select 1 from {images} left join {state} as _source on _source.image_id = {images}.{key} "
        "where {images}.{key} = ? and _source.sha256 is ?"
    ).format(**names)
    add_line = "insert into {lines} (image_id, text, score, box) values (?, ?, ?, ?)"
    set_reading = "insert or replace into {readings} (image_id, sha256, reason, of_thumbnail) values (?, ?, ?, ?)"
    for read in pictures:
        sha256 = NO_HASH if read.may_pass else read.picture.sha256
        lines = [(line.text, line.score, json.dumps(list(line.box))) for line in read.lines]
        for key in read.picture.ids:
            if db.execute(same, [key, read.picture.sha256]).fetchone() is None:
                continue
            with texts_written_once(db, table, "lines", [key]):
                db.table(table.lines).delete_where("image_id = ?", [key])
                db.conn.executemany(add_line.format(**names), [(key, *line) for line in lines])
            reading = [key, sha256, read.reason, read.of_thumbnail]
            db.execute(set_reading.format(**names), reading)
