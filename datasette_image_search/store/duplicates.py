"""What is shown of near-duplicates, and the table that they are written to."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter

from sqlite_utils import Database

from .reads import locations
from .schema import ensure_duplicates
from .sources import sources_of
from .tables import (
    DuplicateRow,
    Index,
    Key,
    Location,
    column_names,
)
from .transactions import transaction
from .triggers import clear_duplicates

CHUNK = 10_000
"""Ids in one statement."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """
    The file of an image, to tell the better one of two copies: pixels of the upright picture, bytes of
    the file, and its time in ISO 8601, each None if unknown. `has_companions` says that others are the same photo.
    """

    vector_id: int
    image_id: Key
    sha256: str | None
    location: Location
    width: int | None
    height: int | None
    size: int | None
    mtime: str | None
    has_companions: bool = False


def image_files(
    conn: sqlite3.Connection, index: Index, vector_ids: Sequence[int]
) -> dict[int, ImageFile]:
    """Vector id -> file, for those whose image exists."""
    table = index.table
    # A person's own table may have width and height; ours may have lost them.
    columns = {name.lower() for name in column_names(conn, table.name)}
    shape = [f"_image.{name}" if name in columns else "null" for name in ("width", "height")]
    is_paired = table.root_column is not None and "companions" in columns
    others = "_image.companions is not null" if is_paired else "0"
    sql = """
        select _vector.id, _vector.image_id, _vector.sha256, {shape}, _source.size, _source.mtime, {others}
        from json_each(?) as _wanted
        cross join {vectors} as _vector on _vector.id = _wanted.value and _vector.index_id = ?
        cross join {images} as _image on _image.{key} = _vector.image_id
        left join {state} as _source on _source.image_id = _vector.image_id
    """
    sql = sql.format(
        shape=", ".join(shape), others=others, state=sources_of(conn, table), **table.quoted()
    )
    found = {}
    for start in range(0, len(vector_ids), CHUNK):
        wanted = json.dumps(list(vector_ids[start : start + CHUNK]))
        rows = [row for row in conn.execute(sql, [wanted, index.id]) if table.is_key(row[1])]
        places = locations(conn, index, [image_id for _, image_id, *_ in rows])
        for vector_id, image_id, sha256, width, height, size, mtime, has_companions in rows:
            if image_id in places:
                width, height, size = (
                    value if isinstance(value, int) else None for value in (width, height, size)
                )
                mtime = mtime if isinstance(mtime, str) else None
                place = places[image_id]
                found[vector_id] = ImageFile(
                    vector_id,
                    image_id,
                    sha256,
                    place,
                    width,
                    height,
                    size,
                    mtime,
                    bool(has_companions),
                )
    return found


def write_duplicates(
    db: Database,
    index: Index,
    rows: Iterable[DuplicateRow],
    committed: Callable[[], None] = lambda: None,
) -> str:
    """Replace the table of duplicates, in one transaction, and say what it is called."""
    table = index.table
    with transaction(db, committed):
        ensure_duplicates(db, table, index.path_column or index.content_column)
        db.execute("delete from {duplicates}".format(**table.quoted()))
        columns = [field.name for field in fields(DuplicateRow)]
        db.conn.executemany(
            "insert into {{duplicates}} ({}) values ({})".format(
                ", ".join(columns), ", ".join("?" * len(columns))
            ).format(**table.quoted()),
            # Not astuple, which copies every value deeply and takes longer than SQLite does.
            map(attrgetter(*columns), rows),
        )
        clear_duplicates(db, table)
    return table.duplicates
