"""What is written of the metadata of images: their columns, their keywords, and the files it was read from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlite_utils import Database
from sqlite_utils.db import quote_identifier

from ..metadata.cameras import named_once
from .image_record import ReadMetadata
from .schema import ensure_keywords
from .side_schema import ADDED_COLUMNS
from .tables import ImageTable, Key, column_names, folded, table_exists
from .transactions import transaction
from .triggers import has_keywords
from .written_texts import texts_written_once


def writable(db: Database, table: ImageTable, row: Mapping[str, Any]) -> dict[str, Any]:
    """
    The values of the columns that are there, and ours: a person may have dropped or renamed columns that nothing
    here depends on, or have had one of that name before.
    """
    columns = set(map(folded, column_names(db.conn, table.name)))
    if table_exists(db.conn, table.own_columns):
        columns -= {name for (name,) in db.execute(_OWN.format(**table.quoted()))}
    return {name: value for name, value in row.items() if name in columns}


_OWN = "select name from {own_columns}"


def write_keywords(
    db: Database, table: ImageTable, key: Key, keywords: Sequence[str], beside: str | None
) -> None:
    """
    The keywords of an image and the state of the .xmp files beside it, in place of those it had. None is for
    metadata that is to be read again.
    """
    if beside != "":
        db.table(table.beside).upsert({"image_id": key, "files": beside}, pk="image_id")
    else:
        db.table(table.beside).delete_where("image_id = ?", [key])
    if ensure_keywords(db, table) if keywords else has_keywords(db.conn, table):
        with texts_written_once(db, table, "keywords", [key]):
            db.table(table.keywords).delete_where("image_id = ?", [key])
            rows = ({"image_id": key, "keyword": keyword} for keyword in keywords)
            db.table(table.keywords).insert_all(rows)


def copy_keywords(db: Database, table: ImageTable, source: Key, key: Key) -> None:
    """Give an image, whose columns are those of another one, the keywords of that one too."""
    keywords = []
    if has_keywords(db.conn, table):
        sql = "select keyword from {keywords} where image_id = ? order by keyword"
        keywords = [row[0] for row in db.execute(sql.format(**table.quoted()), [source])]
    sql = "select files from {beside} where image_id = ?"
    state = db.execute(sql.format(**table.quoted()), [source]).fetchone()
    write_keywords(db, table, key, keywords, state[0] if state else "")


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
    with transaction(db, committed):
        for image in images:
            found = db.execute(
                "select {key} from {images} where root_id = ? and path = ?".format(
                    **table.quoted()
                ),
                [image.root_id, image.path],
            ).fetchone()
            if found is None:
                continue  # Deleted since the survey.
            row = writable(db, table, image.row())
            before = db.table(table.name).get(found[0])
            renamed = _CAMERA if _is_same_camera(before, row) else ()
            kept = {
                name: f"coalesce({quote_identifier(name)}, ?)"
                for name in row
                if name not in (*ADDED_COLUMNS, *renamed) and not image.is_said_beside(name)
            }
            if row:
                db.table(table.name).update(found[0], row, conversions=kept)
            write_keywords(db, table, found[0], image.metadata.keywords, image.beside)


_CAMERA = ("camera_make", "camera_model")


def _is_same_camera(before: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    make, model = (before.get(name) for name in _CAMERA)
    if not isinstance(make, str) or not isinstance(model, str | None):
        return False
    return named_once(make, model) == tuple(row.get(name) for name in _CAMERA)
