"""What is written of the metadata of images: their columns, their keywords, and the files it was read from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlite_utils import Database
from sqlite_utils.db import quote_identifier

from ..metadata.cameras import named_once
from .image_record import ReadMetadata
from .schema import ensure_keywords
from .side_schema import ADDED_COLUMNS
from .tables import ImageTable, Key, column_names, folded, table_exists
from .transactions import transaction, upsert_rows
from .triggers import has_keywords
from .written_texts import texts_written_once


def writable_columns(db: Database, table: ImageTable) -> set[str]:
    """
    The columns of an image table that are there, and ours: a person may have dropped or renamed columns that nothing
    here depends on, or have had one of that name before.
    """
    columns = set(map(folded, column_names(db.conn, table.name)))
    if table_exists(db.conn, table.own_columns):
        columns -= {name for (name,) in db.execute(_OWN.format(**table.quoted()))}
    return columns


_OWN = "select name from {own_columns}"


def write_keywords(db: Database, table: ImageTable, keywords: Mapping[Key, Sequence[str]]) -> None:
    """The keywords of some images, in place of those they had."""
    has_some = any(keywords.values())
    if not (ensure_keywords(db, table) if has_some else has_keywords(db.conn, table)):
        return
    n, ids = table.quoted(), json.dumps(list(keywords))
    sql = f"select distinct image_id from {n['keywords']} where image_id in (select value from json_each(?))"
    before = {key for (key,) in db.execute(sql, [ids])}
    changed = [key for key, some in keywords.items() if some or key in before]
    with texts_written_once(db, table, "keywords", changed):
        db.conn.executemany(
            f"delete from {n['keywords']} where image_id = ?", [(key,) for key in before]
        )
        db.table(table.keywords).insert_all(
            {"image_id": key, "keyword": keyword} for key in changed for keyword in keywords[key]
        )


def write_beside(db: Database, table: ImageTable, beside: Mapping[Key, str | None]) -> None:
    """
    The state of the .xmp files beside some images, which their metadata was read with; "" if there are none, None for
    metadata that is to be read again.
    """
    db.conn.executemany(
        "delete from {beside} where image_id = ?".format(**table.quoted()),
        [(key,) for key, files in beside.items() if files == ""],
    )
    rows = ({"image_id": key, "files": files} for key, files in beside.items() if files != "")
    upsert_rows(db, table.beside, rows, ["image_id"])


def copy_keywords(db: Database, table: ImageTable, sources: Mapping[Key, Key]) -> None:
    """Give images, whose columns are those of other ones, the keywords of these too: key -> that of its source."""
    keywords: dict[Key, list[str]] = {key: [] for key in sources}
    if has_keywords(db.conn, table):
        sql = "select keyword from {keywords} where image_id = ? order by keyword"
        for key, source in sources.items():
            found = db.execute(sql.format(**table.quoted()), [source])
            keywords[key] = [keyword for (keyword,) in found]
    sql = "select files from {beside} where image_id = ?".format(**table.quoted())
    write_keywords(db, table, keywords)
    states = {key: db.execute(sql, [source]).fetchone() for key, source in sources.items()}
    write_beside(db, table, {key: state[0] if state else "" for key, state in states.items()})


def write_metadata(
    db: Database,
    table: ImageTable,
    images: Sequence[ReadMetadata],
    committed: Callable[[], None] = lambda: None,
) -> None:
    """
    What was read again of images that are there already, in one transaction; ids, vectors and thumbnails stay.
    A person may have corrected a time, a place or a camera since: such a value stays, unless an .xmp file says
    another one. A camera that an older version wrote under another of its names gets the one that it has now.
    """
    keywords, beside = {}, {}
    with transaction(db, committed):
        columns = writable_columns(db, table)
        for image in images:
            found = db.execute(
                "select {key} from {images} where root_id = ? and path = ?".format(
                    **table.quoted()
                ),
                [image.root_id, image.path],
            ).fetchone()
            if found is None:
                continue  # Deleted since the survey.
            row = {name: value for name, value in image.row().items() if name in columns}
            before = db.table(table.name).get(found[0])
            renamed = _CAMERA if _is_same_camera(before, row) else ()
            kept = {
                name: f"coalesce({quote_identifier(name)}, ?)"
                for name in row
                if name not in (*ADDED_COLUMNS, *renamed) and not image.is_said_beside(name)
            }
            if row:
                db.table(table.name).update(found[0], row, conversions=kept)
            keywords[found[0]], beside[found[0]] = image.metadata.keywords, image.beside
        write_keywords(db, table, keywords)
        write_beside(db, table, beside)


_CAMERA = ("camera_make", "camera_model")


def _is_same_camera(before: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    make, model = (before.get(name) for name in _CAMERA)
    if not isinstance(make, str) or not isinstance(model, str | None):
        return False
    return named_once(make, model) == tuple(row.get(name) for name in _CAMERA)
