"""
The tables: schema, reads and writes. The only module that knows the columns of its own tables.

For an image table "images":

    images                     one row per image
    image_search_roots         the folders that were embedded
    image_search_indexes       one row per image table and embedder
    _images_vectors            (index, image) -> vector
    _images_thumbnails         image -> WebP
    _images_failures           (root, path) -> why it could not be embedded

Two promises make caches of the vectors simple. The id of a vector is never used again
(AUTOINCREMENT), and a vector never changes in place: another picture, another row. So "every vector
up to id N" names the same vectors for ever, less those that were deleted since. Triggers keep the
promises whichever tool writes: what replaces, deletes or renumbers an image row takes its vector
and thumbnail along. Triggers have holes (`sqlite-utils transform` drops them), so vectors and
thumbnails also carry the sha256 of their picture, and readers skip those of another one.

Readers take a sqlite3 connection, because Datasette hands out those; writers take a sqlite-utils
Database.
"""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from sqlite_utils import Database
from sqlite_utils.db import quote_identifier

from .errors import ImageSearchError

ROOTS = "image_search_roots"
INDEXES = "image_search_indexes"

LAST = 2**63 - 1
"""No id is higher."""

Key = int | str
"""The primary key of an image table."""


class StoreError(ImageSearchError):
    """A table that is not there, or not of the kind that is needed."""


class FilterError(ImageSearchError):
    """A WHERE clause that SQLite does not take."""


@dataclass(frozen=True)
class ImageTable:
    """An image table: ours, or a person's own with any integer or text primary key."""

    name: str
    key: str
    key_is_integer: bool
    has_sha256: bool = False

    @property
    def vectors(self) -> str:
        return f"_{self.name}_vectors"

    @property
    def thumbnails(self) -> str:
        return f"_{self.name}_thumbnails"

    @property
    def failures(self) -> str:
        return f"_{self.name}_failures"

    def parse_key(self, text: str) -> Key | None:
        """The key that a person or a URL wrote down, or None where it can be the key of no row."""
        if not self.key_is_integer:
            return text
        return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None

    def owns(self, side: str) -> str:
        """SQL: whether a row of a side table, by its alias, is of the picture that its image has."""
        images, key = quote_identifier(self.name), quote_identifier(self.key)
        same = f" and {images}.sha256 is {side}.sha256" if self.has_sha256 else ""
        return f"exists (select 1 from {images} where {images}.{key} = {side}.image_id{same})"

    def quoted(self) -> dict[str, str]:
        """Identifiers for str.format in SQL."""
        return {
            "images": quote_identifier(self.name),
            "key": quote_identifier(self.key),
            "vectors": quote_identifier(self.vectors),
            "thumbnails": quote_identifier(self.thumbnails),
        }


@dataclass(frozen=True)
class Index:
    """
    The vectors of one image table by one embedder.

    `generation` grows with every vector that is added or deleted. `sidecar` is the token of the
    sidecar file that was last written, which holds every vector up to `sidecar_vector_id`.
    """

    id: int
    image_table: str
    model: str
    weights: str | None
    fingerprint: str
    dimensions: int
    generation: int
    sidecar: str | None
    sidecar_vector_id: int
    identity: str = ""
    """A random name, by which the index of another database file at the same path is told."""


@dataclass(frozen=True)
class Root:
    id: int
    path: str


@dataclass(frozen=True)
class Location:
    """Where an original is: an absolute folder, and a POSIX path relative to it."""

    root: str
    path: str


@dataclass(frozen=True)
class ImageRecord:
    """The columns of an image table of ours, less its id. The order is the order of the columns."""

    root_id: int
    path: str
    folder: str
    filename: str
    format: str
    width: int
    height: int
    size: int
    mtime: str
    sha256: str
    taken_at: str | None = None
    camera_make: str | None = None
    camera_model: str | None = None
    lens: str | None = None
    focal_length: float | None = None
    f_number: float | None = None
    exposure_time: float | None = None
    iso: int | None = None
    latitude: float | None = None
    longitude: float | None = None
    altitude: float | None = None


@dataclass(frozen=True)
class EmbeddedImage:
    """What a batch is made of. `image_id` is None for an image that has no row yet."""

    image_id: Key | None
    record: ImageRecord
    vector: np.ndarray
    thumbnail: bytes | None


@dataclass(frozen=True)
class KnownFile:
    """
    What the tables know of a file: the row it has, if any, and the size and mtime of what was
    embedded last, or of what could not be (`failed`).
    """

    image_id: Key | None
    size: int
    mtime: str
    failed: bool = False


@dataclass(frozen=True)
class Failure:
    """A file that could not be embedded, and why. It is tried again when size or mtime change."""

    root_id: int
    path: str
    size: int
    mtime: str
    reason: str


@dataclass(frozen=True)
class Filter:
    """A WHERE clause over an image table, with named parameters. Ours begin with "_img"."""

    where: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredVectors:
    """Some vectors of an index in the order of their ids; `vectors` has shape (n, dimensions)."""

    vector_ids: np.ndarray
    image_ids: list[Key]
    vectors: np.ndarray


# --- Names ---------------------------------------------------------------------------------------


def find_image_table(conn: sqlite3.Connection, name: str) -> ImageTable:
    """Raises StoreError where there is no such table, or it has no single-column primary key."""
    columns = conn.execute("select name, type, pk from pragma_table_info(?)", [name]).fetchall()
    name = _stored_name(conn, name) or name
    if not columns:
        raise StoreError(f"there is no table {name!r} in this database")
    keys = [(column, type_) for column, type_, pk in columns if pk]
    if len(keys) != 1:
        raise StoreError(
            f"table {name!r} has no primary key of one column, so its images have no lasting name; "
            "give it one with: sqlite-utils transform PATH TABLE --pk COLUMN"
        )
    ((key, type_),) = keys
    # By SQLite's rule any type with INT in it holds whole numbers.
    has_sha256 = any(column == "sha256" for column, _, _ in columns)
    return ImageTable(name, key, "INT" in type_.upper(), has_sha256)


def image_table_names(conn: sqlite3.Connection) -> list[str]:
    """The tables that have an index, in alphabetical order; none where nothing was embedded."""
    if not _exists(conn, INDEXES):
        return []
    return [
        name
        for (name,) in conn.execute(f"select distinct image_table from {INDEXES} order by 1")
        if _exists(conn, name)
    ]


def find_index(conn: sqlite3.Connection, table: str | None = None) -> Index:
    """
    The index of an image table; `table` may be left out where the database has one.

    Raises StoreError with a sentence that names what there is.
    """
    names = image_table_names(conn)
    if not names:
        raise StoreError(
            "this database has no image table; make one with: "
            "sqlite-utils embed-images PATH TABLE FOLDER"
        )
    listed = ", ".join(repr(name) for name in names)
    if table is None:
        if len(names) > 1:
            raise StoreError(f"this database has several image tables; name one of {listed}")
        table = names[0]
    index = read_index(conn, table)
    if index is None:
        raise StoreError(f"{table!r} is not an image table; this database has {listed}")
    return index


def read_index(conn: sqlite3.Connection, table: str) -> Index | None:
    if not _exists(conn, INDEXES):
        return None
    columns = ", ".join(field.name for field in fields(Index))
    row = conn.execute(
        f"select {columns} from {INDEXES} where image_table = ? collate nocase order by id limit 1",
        [table],
    ).fetchone()
    return Index(*row) if row else None


def _exists(conn: sqlite3.Connection, table: str) -> bool:
    return _stored_name(conn, table) is not None


def _stored_name(conn: sqlite3.Connection, table: str) -> str | None:
    """A table's name as it was written first: for SQLite, "Images" is the same table."""
    row = conn.execute(
        "select name from sqlite_master where type = 'table' and name = ? collate nocase", [table]
    ).fetchone()
    return row[0] if row else None


# --- Schema --------------------------------------------------------------------------------------


def ensure_tables(db: Database, name: str) -> ImageTable:
    """Make whatever is missing of an image table, its side tables and their triggers."""
    with db.atomic():
        if not db[ROOTS].exists():
            db[ROOTS].create({"id": int, "path": str, "label": str}, pk="id", not_null={"path"})
            db[ROOTS].create_index(["path"], unique=True)
        if not db[INDEXES].exists():
            db[INDEXES].create(
                {
                    name: str if kind in (str, str | None) else int
                    for name, kind in get_type_hints(Index).items()
                },
                pk="id",
                not_null={"image_table", "model", "fingerprint", "dimensions"},
                defaults={"generation": 0, "sidecar_vector_id": 0},
            )
            db[INDEXES].create_index(["image_table", "model"], unique=True)
        if not _exists(db.conn, name):
            _create_image_table(db, name)
        table = find_image_table(db.conn, name)
        _ensure_side_tables(db, table)
        _ensure_triggers(db, table)
    return table


def _create_image_table(db: Database, name: str) -> None:
    kinds = {str | None: str, int | None: int, float | None: float}
    columns = {
        column: kinds.get(kind, kind) for column, kind in get_type_hints(ImageRecord).items()
    }
    db[name].create(
        {"id": int, **columns},
        pk="id",
        not_null={"root_id", "path"},
        foreign_keys=[("root_id", ROOTS, "id")],
    )
    db[name].create_index(["root_id", "path"], unique=True)


def _ensure_side_tables(db: Database, table: ImageTable) -> None:
    key_type = "INTEGER" if table.key_is_integer else "TEXT"
    if not db[table.vectors].exists():
        # sqlite-utils has no AUTOINCREMENT, and without it the id of a deleted vector comes back.
        db.execute(
            f"""
            create table {quote_identifier(table.vectors)} (
                id INTEGER PRIMARY KEY AUTOINCREMENT,
                index_id INTEGER NOT NULL REFERENCES {INDEXES}(id),
                image_id {key_type} NOT NULL,
                sha256 TEXT,
                vector BLOB NOT NULL,
                UNIQUE (image_id, index_id)
            )
            """
        )
    if not db[table.thumbnails].exists():
        db[table.thumbnails].create(
            {"image_id": int if table.key_is_integer else str, "sha256": str, "webp": bytes},
            pk="image_id",
        )
    if not db[table.failures].exists():
        db[table.failures].create(
            {
                field: str if kind == "str" else int
                for field, kind in Failure.__annotations__.items()
            },
            pk=("root_id", "path"),
        )


def _ensure_triggers(db: Database, table: ImageTable) -> None:
    """Put the triggers (back) where `sqlite-utils transform` or an older version left none."""
    existing = dict(
        db.execute("select name, sql from sqlite_master where type = 'trigger'").fetchall()
    )
    wanted = _triggers(db, table)
    for name, sql in wanted.items():
        if existing.get(name) != sql:
            db.execute(f"drop trigger if exists {quote_identifier(name)}")
            db.execute(sql)
    if not wanted.keys() <= existing.keys():
        for side in (table.vectors, table.thumbnails):
            side = quote_identifier(side)
            db.execute(f"delete from {side} where not {table.owns(side)}")


def _triggers(db: Database, table: ImageTable) -> dict[str, str]:
    """Name -> SQL. `forget` is how a vector and a thumbnail leave with the image they are of."""
    names = table.quoted()
    forget = (
        "delete from {vectors} where image_id = {row}.{key}; "
        "delete from {thumbnails} where image_id = {row}.{key};"
    )
    forget_old = forget.format(row="old", **names)
    forget_new = forget.format(row="new", **names)
    count = f"update {INDEXES} set generation = generation + 1 where id = "
    bodies = {
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
            + f"{forget_old} end"
        ),
        "vector_added": f"after insert on {names['vectors']} begin {count} new.index_id; end",
        "vector_deleted": f"after delete on {names['vectors']} begin {count} old.index_id; end",
        "vector_changed": (
            f"before update on {names['vectors']} begin "
            "select raise(abort, 'a vector is never changed in place: delete it and insert'); end"
        ),
    }
    if table.has_sha256:
        bodies["content_changed"] = (
            f"after update of sha256 on {names['images']} "
            f"when old.sha256 is not new.sha256 begin {forget_old} {forget_new} end"
        )
    prefix = f"_{table.name}_image_search_"
    return {
        prefix + event: f"CREATE TRIGGER {quote_identifier(prefix + event)} {body}"
        for event, body in bodies.items()
    }


# --- Writing -------------------------------------------------------------------------------------


def ensure_index(
    db: Database,
    table: ImageTable,
    *,
    model: str,
    weights: str | None,
    fingerprint: str,
    dimensions: int,
) -> Index:
    """The index of a table, made if there is none; the caller has checked that the models agree."""
    if read_index(db.conn, table.name) is None:
        db[INDEXES].insert(
            {
                "image_table": table.name,
                "model": model,
                "weights": weights,
                "fingerprint": fingerprint,
                "dimensions": dimensions,
                "identity": secrets.token_hex(8),
            }
        )
    return find_index(db.conn, table.name)


def ensure_root(db: Database, path: str) -> Root:
    """The root with this absolute path, made if there is none; its label is the folder's name."""
    for root in roots(db.conn):
        if root.path == path:
            return root
    row = {"path": path, "label": Path(path).name or path}
    return Root(db[ROOTS].insert(row).last_pk, path)


def write_batch(
    db: Database,
    table: ImageTable,
    index: Index,
    images: Sequence[EmbeddedImage],
    failures: Sequence[Failure] = (),
) -> None:
    """Rows, vectors, thumbnails and failures in one transaction: all of them, or none."""
    with db.atomic():
        for image in images:
            key = _write_image(db, table, image)
            db[table.vectors].delete_where("image_id = ? and index_id = ?", [key, index.id])
            db[table.vectors].insert(
                {
                    "index_id": index.id,
                    "image_id": key,
                    "sha256": image.record.sha256,
                    "vector": vector_to_blob(image.vector),
                }
            )
            if image.thumbnail is not None:
                db[table.thumbnails].upsert(
                    {"image_id": key, "sha256": image.record.sha256, "webp": image.thumbnail},
                    pk="image_id",
                )
            db[table.failures].delete_where(
                "root_id = ? and path = ?", [image.record.root_id, image.record.path]
            )
        for failure in failures:
            db[table.failures].upsert(asdict(failure), pk=("root_id", "path"))


def _write_image(db: Database, table: ImageTable, image: EmbeddedImage) -> Key:
    record = asdict(image.record)
    if image.image_id is None:
        return db[table.name].insert(record).last_pk
    db[table.name].update(image.image_id, record)
    return image.image_id


def record_sidecar(db: Database, index: Index) -> None:
    """Believe, from now on, the sidecar that `index` names."""
    db[INDEXES].update(
        index.id, {"sidecar": index.sidecar, "sidecar_vector_id": index.sidecar_vector_id}
    )


# --- Reading -------------------------------------------------------------------------------------


def roots(conn: sqlite3.Connection) -> list[Root]:
    if not _exists(conn, ROOTS):
        return []
    return [Root(*row) for row in conn.execute(f"select id, path from {ROOTS} order by id")]


def known_files(conn: sqlite3.Connection, name: str) -> dict[tuple[str, str], KnownFile]:
    """(path of the root, path below it) -> what is known of the file; empty for a new table."""
    if not _exists(conn, name):
        return {}
    table = find_image_table(conn, name)
    columns = {row[0] for row in conn.execute("select name from pragma_table_info(?)", [name])}
    missing = [field.name for field in fields(ImageRecord) if field.name not in columns]
    if missing:
        raise StoreError(
            f"table {name!r} cannot take images: it has no column {missing[0]!r}; "
            "choose the name of a table that is not there yet"
        )
    known = {}
    root_paths = {root.id: root.path for root in roots(conn)}
    rows = "select {key}, root_id, path, size, mtime from {images}".format(**table.quoted())
    for image_id, root_id, path, size, mtime in conn.execute(rows):
        known[root_paths.get(root_id, ""), path] = KnownFile(image_id, size, mtime)
    if not _exists(conn, table.failures):
        return known
    failures = f"select root_id, path, size, mtime from {quote_identifier(table.failures)}"
    for root_id, path, size, mtime in conn.execute(failures):
        file = root_paths.get(root_id, ""), path
        # A picture that went bad keeps its row, and is not tried again either.
        image_id = known[file].image_id if file in known else None
        known[file] = KnownFile(image_id, size, mtime, failed=True)
    return known


def count_vectors(conn: sqlite3.Connection, index: Index, *, up_to: int | None = None) -> int:
    table = find_image_table(conn, index.image_table)
    sql = "select count(*) from {vectors} where index_id = ? and id <= ?".format(**table.quoted())
    return conn.execute(sql, [index.id, LAST if up_to is None else up_to]).fetchone()[0]


def count_images(conn: sqlite3.Connection, table: ImageTable) -> int:
    return conn.execute("select count(*) from {images}".format(**table.quoted())).fetchone()[0]


def vector_batches(
    conn: sqlite3.Connection,
    index: Index,
    *,
    after: int = 0,
    up_to: int | None = None,
    size: int = 10_000,
) -> Iterator[StoredVectors]:
    """The vectors with ids in (after, up_to], in the order of their ids, `size` at a time."""
    table = find_image_table(conn, index.image_table)
    cursor = conn.execute(
        "select id, image_id, vector from {vectors} "
        "where id > ? and id <= ? and index_id = ? order by id".format(**table.quoted()),
        [after, LAST if up_to is None else up_to, index.id],
    )
    while rows := cursor.fetchmany(size):
        yield _stored_vectors(rows, index)


def _stored_vectors(rows: Sequence[tuple[int, Key, bytes]], index: Index) -> StoredVectors:
    return StoredVectors(
        np.array([row[0] for row in rows], dtype=np.int64),
        [row[1] for row in rows],
        np.frombuffer(b"".join(row[2] for row in rows), dtype="<f4").reshape(
            len(rows), index.dimensions
        ),
    )


def image_vector(conn: sqlite3.Connection, index: Index, image_id: Key) -> np.ndarray | None:
    """The vector of an image, or None where it has none."""
    table = find_image_table(conn, index.image_table)
    row = conn.execute(
        "select vector from {vectors} as side where image_id = ? and index_id = ? "
        "and {owned}".format(owned=table.owns("side"), **table.quoted()),
        [image_id, index.id],
    ).fetchone()
    return vector_from_blob(row[0]) if row else None


def vectors_by_id(conn: sqlite3.Connection, index: Index, ids: Sequence[int]) -> StoredVectors:
    """Those of the vectors with these ids that are still there, in any order."""
    table = find_image_table(conn, index.image_table)
    rows = conn.execute(
        "select id, image_id, vector from {vectors} "
        "where id in (select value from json_each(?)) and index_id = ?".format(**table.quoted()),
        [json.dumps(list(ids)), index.id],
    ).fetchall()
    return _stored_vectors(rows, index)


def passing(
    conn: sqlite3.Connection, index: Index, ids: Sequence[int], filter: Filter | None
) -> list[int]:
    """Those of the vector ids, in the order given, whose image exists and passes the filter."""
    table = find_image_table(conn, index.image_table)
    # CROSS JOIN keeps json_each outermost, hence its order, and SQLite from scanning the table.
    # The filter sees the columns of the image table and of _img_ranked, so no name but "_img..."
    # can be anything else than the image table's.
    same = " and {images}.sha256 is _img_sha256" if table.has_sha256 else ""
    sql = f"""
        select _img_vector_id
        from (
            select _img_candidate.value as _img_vector_id, _img_vector.image_id as _img_image_id,
                _img_vector.sha256 as _img_sha256
            from json_each(:_img_ids) as _img_candidate
            cross join {{vectors}} as _img_vector
                on _img_vector.id = _img_candidate.value and _img_vector.index_id = :_img_index
        ) as _img_ranked
        where exists (
            select 1 from {{images}}
            where {{images}}.{{key}} = _img_ranked._img_image_id{same} and {{filter}}
        )
    """
    ours = {"_img_ids": json.dumps(list(ids)), "_img_index": index.id}
    return _filtered(conn, sql, table, filter, ours)


def matching(conn: sqlite3.Connection, index: Index, filter: Filter) -> list[int]:
    """
    The ids of the vectors of all images that pass the filter, in any order. `passing` knows which of
    them are still of the picture that their image has: to ask here would read every vector.
    """
    table = find_image_table(conn, index.image_table)
    sql = """
        select _img_vector.id
        from (select {key} as _img_key from {images} where {filter})
        cross join {vectors} as _img_vector
            on _img_vector.image_id = _img_key and _img_vector.index_id = :_img_index
    """
    return _filtered(conn, sql, table, filter, {"_img_index": index.id})


def filter_of_ids(table: ImageTable, ids: Sequence[Key]) -> Filter:
    """The filter that lets exactly these images pass."""
    where = "{images}.{key} in (select value from json_each(:_img_among))".format(**table.quoted())
    return Filter(where, {"_img_among": json.dumps(list(ids))})


def _filtered(
    conn: sqlite3.Connection,
    sql: str,
    table: ImageTable,
    filter: Filter | None,
    ours: Mapping[str, Any],
) -> list[int]:
    # The line break ends a comment at the end of a person's WHERE clause.
    where = f"({filter.where}\n)" if filter else "1"
    try:
        rows = conn.execute(
            sql.format(filter=where, **table.quoted()),
            {**(filter.params if filter else {}), **ours},
        ).fetchall()
    except sqlite3.Error as error:
        if filter is None or _is_not_about_the_sql(error):
            raise
        raise FilterError(
            f"the filter {filter.where!r} does not work on {table.name!r}: {error}"
        ) from error
    return [row[0] for row in rows]


def _is_not_about_the_sql(error: sqlite3.Error) -> bool:
    return str(error).startswith(
        ("interrupted", "database is locked", "database table is locked", "disk I/O error")
    ) or str(error) in ("database disk image is malformed", "database or disk is full")


def thumbnail(conn: sqlite3.Connection, table: ImageTable, image_id: Key) -> bytes | None:
    if not _exists(conn, table.thumbnails):
        return None
    row = conn.execute(
        "select webp from {thumbnails} as side where image_id = ? and {owned}".format(
            owned=table.owns("side"), **table.quoted()
        ),
        [image_id],
    ).fetchone()
    return row[0] if row else None


def image_rows(
    conn: sqlite3.Connection, table: ImageTable, ids: Sequence[Key]
) -> dict[Key, dict[str, Any]]:
    """Id -> the whole row as a dict, for those ids that exist."""
    cursor = conn.execute(
        "select * from {images} where {key} in (select value from json_each(?))".format(
            **table.quoted()
        ),
        [json.dumps(list(ids))],
    )
    return {row[table.key]: row for row in _dicts(cursor)}


def newest_images(conn: sqlite3.Connection, table: ImageTable, limit: int) -> list[dict[str, Any]]:
    """Whole rows as dicts: the latest photos first, those without a date last."""
    columns = {
        row[0] for row in conn.execute("select name from pragma_table_info(?)", [table.name])
    }
    order = "taken_at is null, taken_at desc, " if "taken_at" in columns else ""
    return _dicts(
        conn.execute(
            "select * from {images} order by {order}{key} desc limit ?".format(
                order=order, **table.quoted()
            ),
            [limit],
        )
    )


def _dicts(cursor: sqlite3.Cursor) -> list[dict[str, Any]]:
    columns = [column[0] for column in cursor.description]
    return [dict(zip(columns, row, strict=True)) for row in cursor]


def locations(
    conn: sqlite3.Connection, table: ImageTable, ids: Sequence[Key]
) -> dict[Key, Location]:
    """Id -> where the original is, for those ids that exist."""
    rows = conn.execute(
        "select {images}.{key}, {roots}.path, {images}.path from {images} "
        "join {roots} on {roots}.id = {images}.root_id "
        "where {images}.{key} in (select value from json_each(?))".format(
            roots=ROOTS, **table.quoted()
        ),
        [json.dumps(list(ids))],
    )
    return {image_id: Location(root, path) for image_id, root, path in rows}


# --- Vectors as BLOBs ----------------------------------------------------------------------------


def vector_to_blob(vector: np.ndarray) -> bytes:
    """Little-endian float32, the format that llm, sqlite-vec and datasette-faiss share."""
    return np.ascontiguousarray(vector, dtype="<f4").tobytes()


def vector_from_blob(blob: bytes) -> np.ndarray:
    return np.frombuffer(blob, dtype="<f4")
