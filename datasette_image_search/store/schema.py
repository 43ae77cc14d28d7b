"""Makes the tables, and the triggers that keep their promises."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_type_hints

from sqlite_utils import Database
from sqlite_utils.db import quote_identifier

from .finding import check_key, check_not_renamed, renamed_from
from .tables import (
    INDEXES,
    LABEL_SETS,
    OWN_ROOT,
    ROOTS,
    SIDE_TABLES,
    DuplicateRow,
    Failure,
    ImageRecord,
    ImageTable,
    Index,
    SourceState,
    StoreError,
    TagRow,
    column_names,
    find_image_table,
    generated_columns,
    table_exists,
    trigger_name,
)
from .tokens import EVENTS, ensure_token_table, renew_tokens, token_triggers
from .transactions import transaction

FACET_INDEXES = (
    ("camera_make", "camera_model", "folder", "taken_at"),
    ("camera_model", "folder", "taken_at", "camera_make"),
    ("taken_at", "camera_model", "folder", "camera_make"),
    ("folder",),
)
"""To filter and to group by camera, time and folder. The first three cover what the others filter and
group by: counting then reads a tenth of what the table has, and under a filter only its part of that.
At 1,000,000 images a facet takes 20 to 110 ms with them and 250 to 950 without; each is 75 MB."""


def ensure_tables(db: Database, name: str, own_column: str | None = None) -> ImageTable:
    """
    Make whatever is missing of an image table, its side tables and their triggers. A new table has
    nothing of a dropped one of the same name, whose ids were of other images.

    `own_column` is where a person's own table has the path or the bytes of its images.
    """
    with transaction(db):
        if not db.table(ROOTS).exists():
            db.table(ROOTS).create(
                {"id": int, "path": str, "label": str}, pk="id", not_null={"path"}
            )
            db.table(ROOTS).create_index(["path"], unique=True)
        if not db.table(INDEXES).exists():
            db.table(INDEXES).create(
                _column_types(Index),
                pk="id",
                not_null={"image_table", "model", "fingerprint", "dimensions"},
                defaults={"generation": 0, "sidecar_vector_id": 0, "unfinished": 0},
            )
        for column in _column_types(Index).keys() - db.table(INDEXES).columns_dict.keys():
            # A database of an older version.
            default = 0 if column == "unfinished" else None
            kind = _column_types(Index)[column]
            db.table(INDEXES).add_column(column, kind, not_null_default=default)
        _ensure_one_of_a_model(db)
        if not table_exists(db.conn, name):
            if not name.strip() or name.startswith("sqlite_") or name in db.view_names():
                raise StoreError(f"{name!r} cannot be an image table; choose another name")
            check_not_renamed(db.conn, name)
            _forget_dropped(db, name)
            _create_image_table(db, name)
        table = find_image_table(db.conn, name)
        check_key(db.conn, table)
        _forget_former(db, table)
        _ensure_side_tables(db, table)
        _ensure_indexes(db, table)
        _ensure_triggers(db, table, own_column)
        _forget_rowless(db, table)
    return table


def _ensure_one_of_a_model(db: Database) -> None:
    """A table has one index by a model, and one beside it that is made in its place."""
    for index in db.table(INDEXES).indexes:
        if index.unique and index.columns == ["image_table", "model"]:
            # Of an older version.
            db.execute(f"drop index {quote_identifier(index.name)}")
    columns = ["image_table", "model", "unfinished"]
    db.table(INDEXES).create_index(columns, unique=True, if_not_exists=True)


def _forget_dropped(db: Database, name: str) -> None:
    """What `drop-table` leaves of an image table: its side tables and indexes."""
    dropped = db.execute(
        f"select id, image_table from {INDEXES} where image_table = ? collate nocase", [name]
    ).fetchall()
    for index_id, stored_name in dropped:
        table = ImageTable(stored_name, "id", key_is_integer=True)
        for side in existing_side_tables(db.conn, table):
            db.table(side).drop()
        if table_exists(db.conn, LABEL_SETS):
            db.table(LABEL_SETS).delete_where("index_id = ?", [index_id])
        db.table(INDEXES).delete(index_id)


def _forget_rowless(db: Database, table: ImageTable) -> None:
    """
    What is known of images whose row is gone without a trigger: REPLACE over another column than the key
    fires none. The index of the image ids tells, which is a small part of the table of vectors.
    """
    names = table.quoted()
    gone = db.execute(
        "select distinct image_id from {vectors} left join {images} on {images}.{key} = image_id "
        "where {images}.{key} is null".format(**names)
    ).fetchall()
    if gone:
        for side in ("vectors", "thumbnails"):
            db.conn.executemany(f"delete from {{{side}}} where image_id = ?".format(**names), gone)
        _clear_derived(db, table)


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
        _forget_dropped(db, former)


def _create_image_table(db: Database, name: str) -> None:
    db.table(name).create(
        {"id": int, **_column_types(ImageRecord)},
        pk="id",
        not_null={"root_id", "path"},
        foreign_keys=[("root_id", ROOTS, "id")],
    )
    db.table(name).create_index(["root_id", "path"], unique=True)
    db.table(name).create_index(["sha256"])


def _ensure_indexes(db: Database, table: ImageTable) -> None:
    """Put back the indexes that facets, and the newest first, are fast by."""
    columns = db.table(table.name).columns_dict.keys()
    for index in FACET_INDEXES:
        if table.is_ours and set(index) <= columns:
            db.table(table.name).create_index(index, if_not_exists=True)


def _ensure_side_tables(db: Database, table: ImageTable) -> None:
    key_type = int if table.key_is_integer else str
    if not db.table(table.vectors).exists():
        # sqlite-utils has no AUTOINCREMENT, and without it the id of a deleted vector comes back.
        db.execute(
            f"""
            create table {quote_identifier(table.vectors)} (
                id INTEGER PRIMARY KEY AUTOINCREMENT,
                index_id INTEGER NOT NULL REFERENCES {INDEXES}(id),
                image_id {"INTEGER" if table.key_is_integer else "TEXT"} NOT NULL,
                sha256 TEXT,
                vector BLOB NOT NULL,
                UNIQUE (image_id, index_id)
            )
            """
        )
    if not db.table(table.thumbnails).exists():
        db.table(table.thumbnails).create(
            {"image_id": key_type, "sha256": str, "webp": bytes}, pk="image_id"
        )
    if not table.is_ours and not db.table(table.sources).exists():
        db.table(table.sources).create(
            {"image_id": key_type, **_column_types(SourceState)}, pk="image_id"
        )
    if not db.table(table.failures).exists():
        db.table(table.failures).create(_column_types(Failure), pk=("root_id", "path"))


def ensure_duplicates(db: Database, table: ImageTable, own_column: str | None) -> None:
    """The table of near-duplicates, and the triggers that keep it true from now on."""
    if not column_names(db.conn, table.duplicates):
        key_type = int if table.key_is_integer else str
        db.table(table.duplicates).create(
            {"id": int, **_column_types(DuplicateRow), "image_id": key_type},
            pk="id",
            foreign_keys=[("image_id", table.name, table.key)],
        )
        db.table(table.duplicates).create_index(["image_id"], unique=True)
        db.table(table.duplicates).create_index(["group_id"])
    if not has_duplicates(db.conn, table):
        raise StoreError(
            f"the table {table.duplicates!r} was not made by find-duplicates; rename it"
        )
    _ensure_triggers(db, table, own_column)


def has_duplicates(conn: sqlite3.Connection, table: ImageTable) -> bool:
    """Whether there is a table of near-duplicates, and not somebody else's of the same name."""
    return _is_table_of(conn, table.duplicates, DuplicateRow)


def clear_duplicates(db: Database, table: ImageTable) -> None:
    """
    Without pictures that are gone or are others now, and groups that this leaves without the one to
    keep, or with that one only.
    """
    owned = table.owns("side")
    names = {**table.quoted(), "owned": owned}
    db.execute(
        "delete from {duplicates} where group_id in "
        "(select group_id from {duplicates} as side where keep and not {owned})".format(**names)
    )
    db.execute("delete from {duplicates} as side where not {owned}".format(**names))
    db.execute(
        "delete from {duplicates} where group_id in "
        "(select group_id from {duplicates} group by group_id having count(*) = 1)".format(**names)
    )


def ensure_tags(db: Database, table: ImageTable, own_column: str | None) -> None:
    """The table of tags, that of their labels, and the triggers that keep the tags true from now on."""
    if not table_exists(db.conn, LABEL_SETS):
        db.table(LABEL_SETS).create(
            {
                "id": int,
                "index_id": int,
                "labels": str,
                "templates": str,
                "top": int,
                "threshold": float,
                "last_vector_id": int,
            },
            pk="id",
            foreign_keys=[("index_id", INDEXES, "id")],
        )
    if not column_names(db.conn, table.tags):
        key_type = int if table.key_is_integer else str
        db.table(table.tags).create(
            {**_column_types(TagRow), "image_id": key_type},
            pk=("image_id", "tag", "label_set_id"),
            foreign_keys=[
                ("image_id", table.name, table.key),
                ("label_set_id", LABEL_SETS, "id"),
            ],
        )
        db.table(table.tags).create_index(["tag", "image_id"])
    if not has_tags(db.conn, table):
        raise StoreError(f"the table {table.tags!r} was not made by tag-images; rename it")
    _ensure_triggers(db, table, own_column)


def has_tags(conn: sqlite3.Connection, table: ImageTable) -> bool:
    """Whether there is a table of tags, and not somebody else's of the same name."""
    return _is_table_of(conn, table.tags, TagRow)


def _is_table_of(conn: sqlite3.Connection, name: str, record: type) -> bool:
    """Whether there is a table, and no view, that has at least the columns of a record."""
    columns = set(column_names(conn, name))
    return table_exists(conn, name) and _column_types(record).keys() <= columns


def existing_side_tables(conn: sqlite3.Connection, table: ImageTable) -> list[str]:
    """What is made of an image table, and not somebody else's of the same name."""
    ours = {"duplicates": has_duplicates, "tags": has_tags}
    return [
        table.side(kind)
        for kind in SIDE_TABLES
        if (ours[kind](conn, table) if kind in ours else table_exists(conn, table.side(kind)))
    ]


def _clear_derived(db: Database, table: ImageTable) -> None:
    """Duplicates and tags without those of vectors and images that are gone."""
    if has_duplicates(db.conn, table):
        clear_duplicates(db, table)
    if has_tags(db.conn, table):
        _clear_tags(db, table)


def _clear_tags(db: Database, table: ImageTable) -> None:
    """Without tags of vectors and images that are gone."""
    db.execute(
        "delete from {tags} where not exists "
        "(select 1 from {images} where {images}.{key} = {tags}.image_id) "
        "or (vector_id is not null and not exists (select 1 from {vectors} "
        "where {vectors}.id = {tags}.vector_id and {vectors}.image_id = {tags}.image_id))".format(
            **table.quoted()
        )
    )


def _column_types(record: type) -> dict[str, type]:
    """Field -> int, float, bool or str, for a dataclass that is a row of a table."""
    optional = {str | None: str, int | None: int, float | None: float}
    return {name: optional.get(kind, kind) for name, kind in get_type_hints(record).items()}


def _ensure_triggers(db: Database, table: ImageTable, own_column: str | None) -> None:
    """Put the triggers (back) where `sqlite-utils transform` or an older version left none."""
    ensure_token_table(db, table)
    existing = dict(
        db.execute("select name, sql from sqlite_master where type = 'trigger'").fetchall()
    )
    with_duplicates, with_tags = has_duplicates(db.conn, table), has_tags(db.conn, table)
    wanted = _triggers(
        table,
        own_column,
        content_is_generated=own_column in generated_columns(db.conn, table.name),
        with_duplicates=with_duplicates,
        with_tags=with_tags,
    )
    for name, sql in wanted.items():
        if existing.get(name) != sql:
            db.execute(f"drop trigger if exists {quote_identifier(name)}")
            db.execute(sql)
    # Only those that keep tokens prove anything, and only if they did so all the time: that tags have come,
    # which one of them takes along, changes nothing.
    proving = {trigger_name(table, event) for event in token_triggers(table)}
    keeping = [
        existing.get(trigger_name(table, f"vector_{event}")) for event in ("added", "deleted")
    ]
    tokens = table.quoted()["tokens"]
    if not proving <= existing.keys() or any(tokens not in (sql or "") for sql in keeping):
        renew_tokens(db, table)
    if not wanted.keys() <= existing.keys():
        for side in (table.vectors, table.thumbnails):
            side = quote_identifier(side)
            db.execute(f"delete from {side} where not {table.owns(side)}")
        _clear_derived(db, table)


def _triggers(
    table: ImageTable,
    own_column: str | None,
    *,
    content_is_generated: bool,
    with_duplicates: bool,
    with_tags: bool,
) -> dict[str, str]:
    """Name -> SQL. `forget` is how all that is known of an image leaves with it."""
    names = table.quoted()
    forget = (
        "delete from {vectors} where image_id = {row}.{key}; "
        "delete from {thumbnails} where image_id = {row}.{key};"
    )
    if not table.is_ours:
        forget += f" delete from {{failures}} where root_id = {OWN_ROOT} and path = '#' || {{row}}.{{key}};"
    if with_duplicates:
        # Without the one to keep, the others would be copies of nothing.
        forget += (
            " delete from {duplicates} where group_id = "
            "(select group_id from {duplicates} where image_id = {row}.{key} and keep); "
            "delete from {duplicates} where image_id = {row}.{key};"
        )
        renumber = "update {duplicates} set image_id = new.{key} where image_id = old.{key}; "
    else:
        renumber = ""
    forget_vector = ""
    if with_tags:
        forget += " delete from {tags} where image_id = {row}.{key};"
        # A tag is of a vector, and leaves with it: another vector may be of another picture.
        forget_vector = "delete from {tags} where image_id = old.image_id and vector_id = old.id; "
        renumber += (
            "update {tags} set image_id = new.{key}, vector_id = (select moved.id from {vectors} as "
            "moved join {vectors} as before on moved.index_id = before.index_id where before.id = "
            "vector_id and moved.image_id = new.{key}) where image_id = old.{key}; "
        )
    forget_old = forget.format(row="old", **names)
    forget_new = forget.format(row="new", **names)
    bodies = {
        **token_triggers(table),
        # REPLACE fires no delete trigger, but the row that comes instead fires this one.
        "inserted": f"after insert on {names['images']} begin {forget_new} end",
        "deleted": f"after delete on {names['images']} begin {forget_old} end",
        "renumbered": (
            # Not "of {key}": an update of "rowid" renumbers too.
            f"after update on {names['images']} "
            f"when old.{names['key']} is not new.{names['key']} begin {forget_new} "
            + "insert into {vectors} (index_id, image_id, sha256, vector) "
            "select index_id, new.{key}, sha256, vector from {vectors} where image_id = old.{key}; "
            "update {thumbnails} set image_id = new.{key} where image_id = old.{key}; ".format(
                **names
            )
            + renumber.format(**names)
            + f"{forget_old} end"
        ),
        "vector_deleted": f"after delete on {names['vectors']} begin "
        + ("delete from {tokens} where vector_id = old.id; " + forget_vector).format(**names)
        + "end",
        "vector_changed": (
            f"before update on {names['vectors']} begin "
            "select raise(abort, 'a vector is never changed in place: delete it and insert'); end"
        ),
    }
    content = "sha256" if table.is_ours else own_column
    if content is not None:
        column = quote_identifier(content)
        # No update is one of a generated column, which others change.
        of = "" if content_is_generated else f"of {column} "
        bodies["content_changed"] = (
            f"after update {of}on {names['images']} "
            f"when old.{column} is not new.{column} begin {forget_old} {forget_new} end"
        )
    return {
        trigger_name(table, event): (
            f"CREATE TRIGGER {quote_identifier(trigger_name(table, event))} {body}"
        )
        for event, body in bodies.items()
    }


@contextmanager
def without_triggers(db: Database, table: ImageTable) -> Iterator[None]:
    """
    Our own triggers of a table are away meanwhile, which makes writing a million rows twice as fast.
    Within a transaction, so that nobody ever sees the table without them; the caller does their work. Those
    of the tokens stay: they keep the state of the index.
    """
    triggers = [
        (name, sql)
        for name, sql in db.execute(
            "select name, sql from sqlite_master where type = 'trigger'"
        ).fetchall()
        if name.startswith(trigger_name(table, ""))
        and not any(name == trigger_name(table, event) for event in EVENTS)
    ]
    with transaction(db):
        for name, _ in triggers:
            db.execute(f"drop trigger {quote_identifier(name)}")
        yield
        for _, sql in triggers:
            db.execute(sql)
        if has_tags(db.conn, table):
            _clear_tags(db, table)
