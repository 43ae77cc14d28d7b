"""Makes the tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from sqlite_utils import Database
from sqlite_utils.db import quote_identifier

from .finding import check_key, check_not_renamed, renamed_from
from .migrations import migrate
from .side_schema import column_types, image_columns, record_own_columns
from .side_tables import embedded_names
from .tables import (
    INDEXES,
    LABEL_SETS,
    REFERENCES,
    ROOTS,
    DuplicateRow,
    ImageTable,
    Index,
    KeywordRow,
    LabelSet,
    StoreError,
    TagRow,
    column_names,
    find_image_table,
    folded,
    table_exists,
    trigger_name,
)
from .transactions import transaction
from .triggers import (
    clear_derived,
    ensure_triggers,
    existing_side_tables,
    forget_images,
    has_albums,
    has_duplicates,
    has_keywords,
    has_tags,
)
from .written_texts import forget_texts

FACET_INDEXES = (
    ("camera_make", "camera_model", "folder", "taken_at"),
    ("camera_model", "folder", "taken_at", "camera_make"),
    ("taken_at", "camera_model", "folder", "camera_make"),
    ("folder",),
)
"""To filter and to group by camera, time and folder. The first three cover what the others filter and
group by: counting then reads a tenth of what the table has, and under a filter only its part of that.
At 1,000,000 images a facet takes 20 to 110 ms with them and 250 to 950 without; each is 75 MB."""


def ensure_tables(
    db: Database,
    name: str,
    own_column: str | None = None,
    texts: Sequence[str] | None = None,
) -> ImageTable:
    """
    Make whatever is missing of an image table, its side tables and their triggers. A new table has
    nothing of a dropped one of the same name, whose ids were of other images.

    `own_column` is where a person's own table has the path or the bytes of its images, `texts` are the columns whose
    words are searched, None for the usual ones or those of before.
    """
    with transaction(db):
        migrate(db)
        if not db.table(ROOTS).exists():
            db.table(ROOTS).create(
                {"id": int, "path": str, "label": str}, pk="id", not_null={"path"}
            )
            db.table(ROOTS).create_index(["path"], unique=True)
        if not db.table(INDEXES).exists():
            db.table(INDEXES).create(
                column_types(Index),
                pk="id",
                not_null={"image_table", "model", "fingerprint", "dimensions"},
                defaults=dict.fromkeys(
                    ("generation", "sidecar_vector_id", "unfinished", "engine_only"), 0
                ),
            )
            # One index of a table by a model, and one beside it that is made in its place.
            db.table(INDEXES).create_index(["image_table", "model", "unfinished"], unique=True)
        before = {folded(each) for each, _ in embedded_names(db.conn)}
        is_persons = table_exists(db.conn, name) and folded(name) not in before
        if not table_exists(db.conn, name):
            check_new_name(db.conn, name)
            check_not_renamed(db.conn, name)
            _forget_dropped(db, name)
            _create_image_table(db, name)
        table = find_image_table(db.conn, name)
        if is_persons and table.root_column is not None:
            record_own_columns(db, table)
        check_key(db.conn, table)
        _forget_former(db, table)
        if own_column is None:
            _ensure_indexes(db, table)
        ensure_triggers(db, table, own_column, texts)
        _forget_rowless(db, table)
    return table


def check_new_name(conn: sqlite3.Connection, name: str) -> None:
    """Raises StoreError if no image table can be made with this name."""
    if not name.strip() or folded(name).startswith("sqlite_") or column_names(conn, name):
        raise StoreError(f"{name!r} cannot be an image table; choose another name")


def _forget_dropped(db: Database, name: str) -> None:
    """What `drop-table` leaves of an image table: its side tables and indexes."""
    dropped = db.execute(
        f"select id, image_table from {INDEXES} where image_table = ? collate nocase", [name]
    ).fetchall()
    for index_id, stored_name in dropped:
        table = ImageTable(stored_name, "id", key_is_integer=True)
        for side in existing_side_tables(db.conn, table):
            # FTS5 drops its own.
            db.execute(f"drop table if exists {quote_identifier(side)}")
        for kept in (LABEL_SETS, REFERENCES):
            if table_exists(db.conn, kept):
                db.table(kept).delete_where("index_id = ?", [index_id])
        db.table(INDEXES).delete(index_id)


def _forget_rowless(db: Database, table: ImageTable) -> None:
    """
    What is known of images whose row is gone without a trigger: REPLACE over another column than the key
    fires none. The index of the image ids tells, which is a small part of the table of vectors.
    """
    gone = db.execute(
        "select distinct _vector.image_id from {vectors} as _vector left join {images} as _image "
        "on _image.{key} = _vector.image_id where _image.{key} is null".format(**table.quoted())
    ).fetchall()
    if gone:
        forget_images(db, table, (key for (key,) in gone))
        clear_derived(db, table)
    forget_texts(
        db,
        table,
        "not exists (select 1 from {images} where {images}.{key} = {texts}.image_id)".format(
            **table.quoted()
        ),
    )


def _forget_former(db: Database, table: ImageTable) -> None:
    """What is left under the name that an image table had before somebody renamed it."""
    former = renamed_from(db.conn, table.name)
    if former is None:
        return
    triggers = db.execute(
        "select name from sqlite_master where type = 'trigger' and tbl_name = ?", [table.name]
    ).fetchall()
    for (name,) in triggers:
        if name.startswith(trigger_name(ImageTable(former, "", key_is_integer=True), "")):
            db.execute(f"drop trigger {quote_identifier(name)}")
    if not table_exists(db.conn, former):
        _keep_albums(db, replace(table, name=former), table)
        _forget_dropped(db, former)


def _keep_albums(db: Database, former: ImageTable, table: ImageTable) -> None:
    """
    A person made them, and no run makes them again: they follow a table that was renamed. Raises StoreError if
    something else has their new name.
    """
    if not has_albums(db.conn, former):
        return
    kinds = ("albums", "album_members")
    for kind in kinds:
        if column_names(db.conn, table.side(kind)):
            raise StoreError(
                f"the albums of {former.name!r} follow it to its new name, but there is a table "
                f"{table.side(kind)!r} already; rename that one"
            )
    trigger = quote_identifier(trigger_name(former, "album_deleted"))
    db.execute(f"drop trigger if exists {trigger}")
    try:
        for kind in kinds:
            db.rename_table(former.side(kind), table.side(kind))
    except sqlite3.OperationalError as error:
        # SQLite renames nothing as long as any view is of a table that is gone.
        raise StoreError(
            f"the albums of {former.name!r} cannot get its new name: {error}; drop what is broken, or mend it"
        ) from error


def _create_image_table(db: Database, name: str) -> None:
    db.table(name).create(
        {"id": int, **image_columns()},
        pk="id",
        not_null={"root_id", "path"},
        foreign_keys=[("root_id", ROOTS, "id")],
    )
    db.table(name).create_index(["root_id", "path"], unique=True)
    db.table(name).create_index(["sha256"])


def _ensure_indexes(db: Database, table: ImageTable) -> None:
    """Put back the indexes of a table from folders that facets, and the newest first, are fast by."""
    columns = db.table(table.name).columns_dict.keys()
    for index in FACET_INDEXES:
        if set(index) <= columns:
            db.table(table.name).create_index(index, if_not_exists=True)


def ensure_duplicates(db: Database, table: ImageTable, own_column: str | None) -> None:
    """The table of near-duplicates, and the triggers that keep it true from now on."""
    migrate(db)
    if not column_names(db.conn, table.duplicates):
        key_type = int if table.key_is_integer else str
        db.table(table.duplicates).create(
            {"id": int, **column_types(DuplicateRow), "image_id": key_type},
            pk="id",
            foreign_keys=[("image_id", table.name, table.key)],
        )
        db.table(table.duplicates).create_index(["image_id"], unique=True)
        db.table(table.duplicates).create_index(["group_id"])
    if not has_duplicates(db.conn, table):
        raise StoreError(
            f"the table {table.duplicates!r} was not made by find-duplicates; rename it"
        )
    ensure_triggers(db, table, own_column)


def ensure_tags(db: Database, table: ImageTable, own_column: str | None) -> None:
    """The table of tags, that of their labels, and the triggers that keep the tags true from now on."""
    migrate(db)
    if not table_exists(db.conn, LABEL_SETS):
        db.table(LABEL_SETS).create(
            {**column_types(LabelSet), "labels": str, "templates": str},
            pk="id",
            foreign_keys=[("index_id", INDEXES, "id")],
        )
    if not column_names(db.conn, table.tags):
        key_type = int if table.key_is_integer else str
        db.table(table.tags).create(
            {**column_types(TagRow), "image_id": key_type},
            pk=("image_id", "tag", "label_set_id"),
            foreign_keys=[
                ("image_id", table.name, table.key),
                ("label_set_id", LABEL_SETS, "id"),
            ],
        )
        db.table(table.tags).create_index(["tag", "image_id"])
    if not has_tags(db.conn, table):
        raise StoreError(f"the table {table.tags!r} was not made by tag-images; rename it")
    ensure_triggers(db, table, own_column)


def ensure_keywords(db: Database, table: ImageTable) -> bool:
    """
    The table of keywords, and the triggers that keep it true from now on. False if something else has its
    name: then the images have no keywords.
    """
    if not column_names(db.conn, table.keywords):
        db.table(table.keywords).create(
            {**column_types(KeywordRow), "image_id": int if table.key_is_integer else str},
            pk=("image_id", "keyword"),
            foreign_keys=[("image_id", table.name, table.key)],
        )
        db.table(table.keywords).create_index(["keyword", "image_id"])
        ensure_triggers(db, table, None)
    return has_keywords(db.conn, table)


def ensure_albums(db: Database, table: ImageTable, own_column: str | None) -> None:
    """The tables of albums and of what is in them, and the triggers that keep these true from now on."""
    migrate(db)
    names, kinds = table.quoted(), ("albums", "album_members")
    if not any(column_names(db.conn, table.side(kind)) for kind in kinds):
        # sqlite-utils has no AUTOINCREMENT, and without it the id of a deleted album, which links have, comes back.
        db.execute(
            "create table {albums} (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, created TEXT)".format(
                **names
            )
        )
        kind = "INTEGER" if table.key_is_integer else "TEXT"
        # Nothing cascades: it would empty all albums if somebody makes one of the other tables again.
        db.execute(
            f"""
            create table {names["album_members"]} (
                album_id INTEGER NOT NULL REFERENCES {names["albums"]}(id),
                image_id {kind} NOT NULL REFERENCES {names["images"]}({names["key"]}),
                added TEXT,
                PRIMARY KEY (album_id, image_id)
            )
            """
        )
        db.table(table.side("album_members")).create_index(["image_id"])
    if not has_albums(db.conn, table):
        albums, members = map(table.side, kinds)
        raise StoreError(
            f"the table {albums!r} or {members!r} was not made by album-images; rename it"
        )
    ensure_triggers(db, table, own_column)
