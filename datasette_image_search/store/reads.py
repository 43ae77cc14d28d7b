"""Everything that is read from the tables, but for filters."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from sqlite_utils.db import quote_identifier

from .filters import Filter, bracketed, naming_the_filter
from .tables import (
    IMAGE_EVENTS,
    LAST,
    ROOTS,
    ImageTable,
    Index,
    Key,
    KnownFile,
    Location,
    OwnRow,
    Root,
    Rows,
    StoredVectors,
    StoreError,
    column_names,
    find_image_table,
    read_indexes,
    table_exists,
    trigger_name,
    vector_from_blob,
)

REQUIRED_COLUMNS = ("root_id", "path", "size", "mtime", "sha256")
"""What is needed to know a file again; a person may drop the other columns."""

LONGEST_VALUE = 200
"""Characters of a value that one image is told from another by: documents are not read for that."""

NORM_ERROR = 0.01
"""A vector whose squared norm is farther from 1 is none, and its scores would be no similarities."""


def roots(conn: sqlite3.Connection) -> list[Root]:
    if not table_exists(conn, ROOTS):
        return []
    rows = conn.execute(f"select id, path from {ROOTS} order by id")
    # Paths that a person wrote there may end in a slash.
    return [Root(root_id, str(PurePath(path))) for root_id, path in rows]


def known_files(
    conn: sqlite3.Connection, name: str, index: Index | None = None
) -> dict[tuple[str, str], KnownFile]:
    """
    (path of the root, path below it) -> what is known of the file and of its vector in `index`;
    empty for a new table.

    Raises StoreError for a table that is not of ours.
    """
    if not table_exists(conn, name):
        return {}
    table = find_image_table(conn, name)
    columns = column_names(conn, name)
    missing = [column for column in REQUIRED_COLUMNS if column not in columns]
    if missing:
        raise StoreError(
            f"table {name!r} cannot take images: it has no column {missing[0]!r}; "
            "choose the name of a table that is not there yet, or embed the images that the table "
            "has with --path-column or --content-column"
        )
    names = table.quoted()
    root_paths = {root.id: root.path for root in roots(conn)}
    vector = "0"
    if index is not None:
        vector = (
            "exists (select 1 from {vectors} as side where side.image_id = {images}.{key} "
            "and side.index_id = ? and side.sha256 is {images}.sha256)"
        )
    known = {}
    for image_id, root_id, path, size, mtime, has_vector in conn.execute(
        f"select {{key}}, root_id, path, size, mtime, {vector} from {{images}}".format(**names),
        [index.id] if index else [],
    ):
        file = root_paths.get(root_id, ""), path
        known[file] = KnownFile(image_id, size, mtime, has_vector=bool(has_vector))
    for root_id, path, size, mtime in _failures(conn, table):
        file = root_paths.get(root_id, ""), path
        # A picture that went bad keeps its row, and is not tried again either.
        before = known.get(file)
        known[file] = KnownFile(
            before.image_id if before else None,
            size,
            mtime,
            failed=True,
            has_vector=before.has_vector if before else False,
        )
    return known


def _failures(conn: sqlite3.Connection, table: ImageTable) -> Iterator[tuple[int, str, int, str]]:
    if table_exists(conn, table.failures):
        yield from conn.execute(
            "select root_id, path, size, mtime from {failures}".format(**table.quoted())
        )


def own_rows(
    conn: sqlite3.Connection, table: ImageTable, index: Index | None, column: str, *, is_path: bool
) -> list[OwnRow]:
    """
    The rows of a person's own table that have something in the column of their path or BLOB, in the
    order of their keys.

    Raises StoreError where there is no such column.
    """
    columns = column_names(conn, table.name)
    if column not in columns:
        raise StoreError(
            f"table {table.name!r} has no column {column!r}; it has {', '.join(columns)}"
        )
    names = {**table.quoted(), "column": quote_identifier(column)}
    known: dict[Key, KnownFile] = {}
    if index is not None and table_exists(conn, table.sources):
        known = {
            image_id: KnownFile(image_id, size, mtime, has_vector=bool(has_vector))
            for image_id, size, mtime, has_vector in conn.execute(
                "select image_id, size, mtime, exists (select 1 from {vectors} where "
                "{vectors}.image_id = {sources}.image_id and index_id = ?) from {sources}".format(
                    **names
                ),
                [index.id],
            )
        }
    failed = {path: (size, mtime) for _, path, size, mtime in _failures(conn, table)}
    source = "{column}" if is_path else "length({column})"
    empty = "{column} is null or {column} = ''"
    rows = []
    for image_id, value in conn.execute(
        f"select {{key}}, {source} from {{images}} where not ({empty}) order by {{key}}".format(
            **names
        )
    ):
        state = failed.get(own_label(image_id))
        failure = KnownFile(image_id, *state, failed=True, has_vector=False) if state else None
        rows.append(OwnRow(image_id, value, known.get(image_id), failure))
    return rows


def own_label(image_id: Key) -> str:
    """What stands for the path of a file where an image is a row of a person's own table."""
    return f"#{image_id}"


def own_content(
    conn: sqlite3.Connection,
    table: ImageTable,
    column: str,
    image_id: Key,
    *,
    at_most: int = LAST,
) -> bytes:
    """The BLOB of an image; empty where the row is gone, or holds none or one of more bytes."""
    row = conn.execute(
        "select {column} from {images} where {key} = ? and length({column}) <= ?".format(
            column=quote_identifier(column), **table.quoted()
        ),
        [image_id, at_most],
    ).fetchone()
    return row[0] if row and isinstance(row[0], bytes) else b""


def images_with_content(
    conn: sqlite3.Connection, table: ImageTable, index: Index, sha256: str
) -> list[tuple[Key, Location]]:
    """The images, and where they are, whose file had these bytes and that have a vector."""
    rows = conn.execute(
        "select {images}.{key}, {roots}.path, {images}.path from {images} "
        "join {roots} on {roots}.id = {images}.root_id "
        "join {vectors} as side on side.image_id = {images}.{key} and side.index_id = ? "
        "where {images}.sha256 = ? and side.sha256 = {images}.sha256".format(
            roots=ROOTS, **table.quoted()
        ),
        [index.id, sha256],
    )
    return [(image_id, Location(root, path)) for image_id, root, path in rows]


def count_vectors(conn: sqlite3.Connection, index: Index, *, up_to: int | None = None) -> int:
    table = find_image_table(conn, index.image_table)
    if up_to is None and len(read_indexes(conn, index.image_table)) == 1:
        # SQLite counts all rows of a table by its pages: a million in 3 ms instead of 80.
        return conn.execute("select count(*) from {vectors}".format(**table.quoted())).fetchone()[0]
    # The plus keeps SQLite on the index, which has all it needs, and off the vectors themselves.
    sql = "select count(*) from {vectors} where index_id = ? and +id <= ?".format(**table.quoted())
    return conn.execute(sql, [index.id, LAST if up_to is None else up_to]).fetchone()[0]


def count_images(
    conn: sqlite3.Connection,
    table: ImageTable,
    filter: Filter | None = None,
    *,
    limit: int | None = None,
) -> int:
    """How many images there are, or pass a filter; counted up to `limit`."""
    sql = "select count(*) from {images} where {filter}"
    if limit is not None:
        sql = f"select count(*) from (select 1 from {{images}} where {{filter}} limit {limit})"
    with naming_the_filter(table, filter):
        return conn.execute(
            sql.format(filter=bracketed(filter), **table.quoted()),
            dict(filter.params) if filter else {},
        ).fetchone()[0]


def count_with_vector(
    conn: sqlite3.Connection, index: Index, *, unusable: Sequence[int] = ()
) -> int:
    """How many images a search finds: not what has no row any more, nor what is `unusable`."""
    table = find_image_table(conn, index.image_table)
    # In this order it takes a third of the time of asking for each image whether there is a vector.
    sql = (
        "select count(*) from {vectors} as side cross join {images} on {images}.{key} = side.image_id "
        "where side.index_id = ? and side.id not in (select value from json_each(?))"
    )
    params = [index.id, json.dumps(list(unusable))]
    return conn.execute(sql.format(**table.quoted()), params).fetchone()[0]


def images_with_vector(conn: sqlite3.Connection, index: Index) -> set[Key]:
    table = find_image_table(conn, index.image_table)
    sql = "select image_id from {vectors} where index_id = ?".format(**table.quoted())
    return {key for (key,) in conn.execute(sql, [index.id])}


def some_images(conn: sqlite3.Connection, index: Index, limit: int) -> list[Key]:
    """Ids of images that have a vector, picked at random."""
    table = find_image_table(conn, index.image_table)
    sql = "select image_id from {vectors} where index_id = ? order by random() limit ?"
    return [key for (key,) in conn.execute(sql.format(**table.quoted()), [index.id, limit])]


def vector_ids(conn: sqlite3.Connection, index: Index) -> np.ndarray:
    """The ids of all vectors of an index, in any order, int64."""
    table = find_image_table(conn, index.image_table)
    # The plus keeps SQLite on the index, as in count_vectors, and one long text is read in a third of
    # the time of as many rows.
    sql = "select group_concat(id) from (select +id as id from {vectors} where index_id = ?)"
    ((text,),) = conn.execute(sql.format(**table.quoted()), [index.id]).fetchall()
    return np.fromstring(text or "", dtype=np.int64, sep=",")


def has_triggers(conn: sqlite3.Connection, table: ImageTable) -> bool:
    """Whether the triggers on an image table are there, without which its vectors may be stale."""
    names = [trigger_name(table, event) for event in IMAGE_EVENTS]
    sql = "select count(*) from sqlite_master where type = 'trigger' and name in (?, ?, ?)"
    return conn.execute(sql, names).fetchone()[0] == len(names)


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
        _select_vectors(conn, table)
        + "where side.id > ? and side.id <= ? and side.index_id = ? order by side.id",
        [after, LAST if up_to is None else up_to, index.id],
    )
    while rows := cursor.fetchmany(size):
        yield _stored_vectors(rows, index, with_tokens=len(rows[0]) > 3)


def _select_vectors(conn: sqlite3.Connection, table: ImageTable) -> str:
    """Id, image, vector and token, of rows of the table that is called `side`."""
    if not table_exists(conn, table.tokens):
        return "select side.id, side.image_id, side.vector from {vectors} as side ".format(
            **table.quoted()
        )
    return (
        "select side.id, side.image_id, side.vector, cast(coalesce(token, 0) as integer) from {vectors} as side "
        "left join {tokens} on vector_id = side.id ".format(**table.quoted())
    )


def _stored_vectors(
    rows: Sequence[tuple[Any, ...]], index: Index, *, with_tokens: bool = False
) -> StoredVectors:
    """Without rows that are no vectors of this index: others can write to the table too."""
    read = None
    if with_tokens:
        read = Rows(*(np.array([row[at] for row in rows], dtype=np.int64) for at in (0, 3)))
    rows = [row for row in rows if len(row[2]) == 4 * index.dimensions]
    vectors = np.frombuffer(b"".join(row[2] for row in rows), dtype="<f4")
    vectors = vectors.reshape(len(rows), index.dimensions)
    sound = are_unit(vectors)
    if not sound.all():
        rows = [row for row, is_sound in zip(rows, sound, strict=True) if is_sound]
        vectors = vectors[sound]
    return StoredVectors(
        np.array([row[0] for row in rows], dtype=np.int64), [row[1] for row in rows], vectors, read
    )


def are_unit(vectors: np.ndarray) -> np.ndarray:
    """Whether each has unit norm, as far as float16 can tell: not what holds NaN or infinity."""
    return np.abs(np.einsum("...i,...i", vectors, vectors) - 1) < NORM_ERROR


def image_vector(
    conn: sqlite3.Connection, index: Index, image_id: Key, table: ImageTable | None = None
) -> np.ndarray | None:
    """The vector of an image, or None where it has none. `table` spares looking it up."""
    table = table or find_image_table(conn, index.image_table)
    row = conn.execute(
        "select vector from {vectors} as side where image_id = ? and index_id = ? "
        "and {owned}".format(owned=table.owns("side"), **table.quoted()),
        [image_id, index.id],
    ).fetchone()
    if row is None or len(row[0]) != 4 * index.dimensions:
        return None
    vector = vector_from_blob(row[0])
    return vector if are_unit(vector) else None


def vectors_by_id(
    conn: sqlite3.Connection, index: Index, ids: Sequence[int], table: ImageTable | None = None
) -> StoredVectors:
    """Those of the vectors with these ids that are still there, in any order."""
    table = table or find_image_table(conn, index.image_table)
    rows = conn.execute(
        "select id, image_id, vector from {vectors} "
        "where id in (select value from json_each(?)) and index_id = ?".format(**table.quoted()),
        [json.dumps(list(ids)), index.id],
    ).fetchall()
    return _stored_vectors(rows, index)


def rows_by_id(conn: sqlite3.Connection, index: Index, ids: Sequence[int]) -> StoredVectors:
    """As vectors_by_id() does, in the order of ids, and of a database with tokens these too."""
    table = find_image_table(conn, index.image_table)
    rows = conn.execute(
        _select_vectors(conn, table)
        + "where side.id in (select value from json_each(?)) and side.index_id = ? order by side.id",
        [json.dumps(list(ids)), index.id],
    ).fetchall()
    return _stored_vectors(rows, index, with_tokens=table_exists(conn, table.tokens))


def thumbnail(conn: sqlite3.Connection, table: ImageTable, image_id: Key) -> bytes | None:
    if not table_exists(conn, table.thumbnails):
        return None
    row = conn.execute(
        "select webp from {thumbnails} as side where image_id = ? and {owned}".format(
            owned=table.owns("side"), **table.quoted()
        ),
        [image_id],
    ).fetchone()
    return row[0] if row else None


def has_thumbnail(conn: sqlite3.Connection, table: ImageTable, image_id: Key) -> bool:
    if not table_exists(conn, table.thumbnails):
        return False
    row = conn.execute(
        "select 1 from {thumbnails} as side where image_id = ? and {owned}".format(
            owned=table.owns("side"), **table.quoted()
        ),
        [image_id],
    ).fetchone()
    return row is not None


def image_rows(
    conn: sqlite3.Connection, table: ImageTable, ids: Sequence[Key], *, without: str | None = None
) -> dict[Key, dict[str, Any]]:
    """Id -> the row as a dict, for those ids that exist; `without` is a column to leave out."""
    cursor = conn.execute(
        "select {columns} from {images} where {key} in (select value from json_each(?))".format(
            columns=_columns_but(conn, table, without), **table.quoted()
        ),
        [json.dumps(list(ids))],
    )
    return {row[table.key]: row for row in _dicts(cursor)}


def newest_ids(
    conn: sqlite3.Connection,
    table: ImageTable,
    limit: int,
    filter: Filter | None = None,
    *,
    offset: int = 0,
    few_match: bool = False,
) -> list[Key]:
    """
    The latest photos first, those without a date last, after the first `offset` of them.

    SQLite likes to go through the index of the dates until enough have passed the filter, which
    takes long where few do: then `few_match` has those looked for, and sorted.
    """
    order = ""
    if "taken_at" in column_names(conn, table.name):
        order = "+taken_at desc, " if few_match else "taken_at desc, "
    sql = (
        "select {key} from {images} where {filter} order by {order}{key} desc "
        "limit :_img_limit offset :_img_offset"
    )
    with naming_the_filter(table, filter):
        rows = conn.execute(
            sql.format(filter=bracketed(filter), order=order, **table.quoted()),
            {**(filter.params if filter else {}), "_img_limit": limit, "_img_offset": offset},
        ).fetchall()
    return [row[0] for row in rows]


def _columns_but(conn: sqlite3.Connection, table: ImageTable, without: str | None) -> str:
    names = column_names(conn, table.name)
    return ", ".join(quote_identifier(name) for name in names if name != without)


def _dicts(cursor: sqlite3.Cursor) -> list[dict[str, Any]]:
    columns = [column[0] for column in cursor.description]
    return [dict(zip(columns, row, strict=True)) for row in cursor]


def images_with_vectors(
    conn: sqlite3.Connection, index: Index, ids: Sequence[Key], column: str | None = None
) -> list[tuple[int, Key, str | None, Any]]:
    """
    (vector id, image id, path, value of `column`) of those of the images with these ids, all different,
    that have a vector, in any order. The path is None where the images are BLOBs, the value where there
    is no column, and where it is a BLOB; of a text it is the first LONGEST_VALUE characters.
    """
    table = find_image_table(conn, index.image_table)
    names = table.quoted()
    images = names["images"]
    path_column = "path" if table.is_ours else index.path_column
    path, value = (
        "null" if name is None else f"{images}.{quote_identifier(name)}"
        for name in (path_column, column)
    )
    # With the triggers in place a vector is of the picture that its image has, and the index of their
    # ids has all that is needed; to compare the pictures would read every vector.
    same = ""
    if table.is_ours and not has_triggers(conn, table):
        same = f"and {images}.sha256 is _img_vector.sha256"
    # CROSS JOIN keeps json_each outermost; the names are ours, so that no column is in two tables.
    sql = f"""
        select _img_vector.id, {images}.{names["key"]}, {path},
            case typeof({value})
                when 'blob' then null
                when 'text' then substr({value}, 1, {LONGEST_VALUE})
                else {value}
            end
        from json_each(?) as _img_candidate
        cross join {images} on {images}.{names["key"]} = _img_candidate.value
        cross join {names["vectors"]} as _img_vector
            on _img_vector.image_id = {images}.{names["key"]} and _img_vector.index_id = ? {same}
    """
    return conn.execute(sql, [json.dumps(list(ids)), index.id]).fetchall()


def images_of_vectors(conn: sqlite3.Connection, index: Index, ids: Sequence[int]) -> list[Key]:
    """The ids of the images of those of the vectors that are still there, in any order."""
    table = find_image_table(conn, index.image_table)
    sql = "select image_id from {vectors} where id in (select value from json_each(?))"
    return [key for (key,) in conn.execute(sql.format(**table.quoted()), [json.dumps(list(ids))])]


def locations(conn: sqlite3.Connection, index: Index, ids: Sequence[Key]) -> dict[Key, Location]:
    """
    Id -> where the original is, for those ids that exist; the root is "" where that is not known,
    as for BLOBs and for the paths of a person's own table.
    """
    table = find_image_table(conn, index.image_table)
    column = quote_identifier(index.path_column or table.key)
    names = {**table.quoted(), "roots": ROOTS, "column": column}
    if table.is_ours:
        place = "coalesce((select path from {roots} where {roots}.id = root_id), ''), path"
    elif index.path_column is not None:
        place = "'', {column}"
    else:
        place = "'', '#' || {key}"
    rows = conn.execute(
        f"select {{key}}, {place} from {{images}} "
        "where {key} in (select value from json_each(?))".format(**names),
        [json.dumps(list(ids))],
    )
    return {image_id: Location(root, str(path)) for image_id, root, path in rows}
