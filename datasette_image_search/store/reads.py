"""What is read from the tables, but for vectors and filters."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

from sqlite_utils.db import quote_identifier

from ..files.remote_urls import is_url, joined
from .filters import Filter, bracketed, naming_the_filter
from .ownership import owned, same_picture
from .sampling import Sample
from .soundness import LARGEST_THUMBNAIL, is_stored_table
from .sources import sources_of
from .tables import (
    ROOTS,
    ImageTable,
    Index,
    Key,
    KnownSource,
    Location,
    Root,
    StoreError,
    Thumbnail,
    column_names,
    find_image_table,
    table_exists,
)

REQUIRED_COLUMNS = ("root_id", "path", "size", "mtime", "sha256")
"""What is needed to know a file again; a person may drop the other columns."""

LONGEST_VALUE = 200
"""Characters of a value that one image is told from another by: documents are not read for that."""

FIRST_ROWS = 5_000
"""Rows that are looked at to see whether a column is used."""

VERSION_LENGTH = 12
"""Of 64 characters: enough for the pictures that one image has had, and a map has 50,000 of them."""


def roots(conn: sqlite3.Connection) -> list[Root]:
    if not is_stored_table(conn, ROOTS):
        return []
    rows = conn.execute(f"select id, path from {ROOTS} order by id")
    # Paths that a person wrote there may end in a slash.
    return [Root(root_id, _without_slash(path)) for root_id, path in rows if isinstance(path, str)]


def _without_slash(root: str) -> str:
    return joined(root, "") if is_url(root) else str(PurePath(root))


def known_files(
    conn: sqlite3.Connection, name: str, index: Index | None = None
) -> dict[tuple[str, str], KnownSource]:
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
    if missing and index is not None and index.path_column is index.content_column is None:
        raise StoreError(
            f"the image table {name!r} has no column {missing[0]!r} any more; if it was renamed, give it "
            f"back its name, with: sqlite-utils transform PATH {name} --rename COLUMN {missing[0]}"
        )
    if missing:
        raise StoreError(
            f"table {name!r} cannot take images: it has no column {missing[0]!r}; "
            "choose the name of a table that is not there yet, or embed the images that the table "
            "has with --path-column or --content-column"
        )
    names = table.quoted()
    root_paths = {root.id: root.path for root in roots(conn)}
    vector = "0"
    if not is_stored_table(conn, table.vectors):
        index = None  # Somebody dropped them, and they are embedded again.
    if index is not None:
        vector = (
            "exists (select 1 from {vectors} as side where side.image_id = {images}.{key} "
            "and side.index_id = ? and side.sha256 is {images}.sha256)"
        )
    beside = _files_beside(conn, table)
    known = {}
    companions = "ifnull(companions, '')" if "companions" in columns else "''"
    for image_id, root_id, path, size, mtime, has_vector, others in conn.execute(
        f"select {{key}}, root_id, path, size, mtime, {vector}, {companions} from {{images}}".format(
            **names
        ),
        [index.id] if index else [],
    ):
        # Whatever else stands there is the path of no file that could be found.
        if table.is_key(image_id) and isinstance(path, str):
            file = root_paths.get(root_id, ""), path
            known[file] = KnownSource(
                image_id,
                size,
                mtime,
                has_vector=bool(has_vector),
                beside=beside.get(image_id, ""),
                companions=others,
            )
    for root_id, path, size, mtime in failed_files(conn, table):
        file = root_paths.get(root_id, ""), path
        # A picture that went bad keeps its row, and is not tried again either.
        before = known.get(file)
        known[file] = KnownSource(
            before.image_id if before else None,
            size,
            mtime,
            failed=True,
            has_vector=before.has_vector if before else False,
            companions=before.companions if before else "",
        )
    return known


def _files_beside(conn: sqlite3.Connection, table: ImageTable) -> dict[Key, str | None]:
    """
    The state of the .xmp files that the metadata of an image was read with, for those that had some, and None
    for images whose metadata is to be read again; all of an older version.
    """
    if table.root_column is None:
        return {}
    if not is_stored_table(conn, table.beside, "image_id", "files"):
        keys = conn.execute("select {key} from {images}".format(**table.quoted()))
        return {key: None for (key,) in keys if table.is_key(key)}
    return dict(conn.execute("select image_id, files from {beside}".format(**table.quoted())))


def failed_files(
    conn: sqlite3.Connection, table: ImageTable
) -> Iterator[tuple[int, str, int, str]]:
    """Root id, path, size and mtime of what could not be embedded."""
    if is_stored_table(conn, table.failures):
        # Tables of older versions have no warnings among the failures.
        has_warnings = is_stored_table(conn, table.failures, "embedded")
        yield from conn.execute(
            "select root_id, path, size, mtime from {failures} where typeof(path) = 'text'".format(
                **table.quoted()
            )
            + (" and not ifnull(embedded, 0)" if has_warnings else "")
        )


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


def count_images(
    conn: sqlite3.Connection,
    table: ImageTable,
    filter: Filter | None = None,
    *,
    limit: int | None = None,
    sample: Sample | None = None,
) -> int:
    """How many images there are, or pass a filter; counted up to `limit`, or of a `sample` only."""
    sql = "select count(*) from {rows} where {filter}"
    if limit is not None:
        sql = f"select count(*) from (select 1 from {{rows}} where {{filter}} limit {limit})"
    rows = table.quoted()["images"] if sample is None else sample.rows
    with naming_the_filter(table, filter):
        return conn.execute(
            sql.format(filter=bracketed(filter), rows=rows),
            dict(filter.params) if filter else {},
        ).fetchone()[0]


def most_images(conn: sqlite3.Connection, table: ImageTable) -> int:
    """At least as many as there are images. Without a count, which of millions takes longer than a page may."""
    if not table.key_is_integer:
        return count_images(conn, table)
    sql = "select (select max({key}) from {images}) - (select min({key}) from {images}) + 1"
    return conn.execute(sql.format(**table.quoted())).fetchone()[0] or 0


def some_images(conn: sqlite3.Connection, index: Index, limit: int) -> list[Key]:
    """Ids of images that have a vector, picked at random."""
    sql = "select image_id from {vectors} where index_id = ? order by random() limit ?"
    keys = conn.execute(sql.format(**index.table.quoted()), [index.id, limit])
    return [key for (key,) in keys if index.table.is_key(key)]


def thumbnail(
    conn: sqlite3.Connection, table: ImageTable, image_id: Key, at: float | None = None
) -> Thumbnail | None:
    """The one that was stored of the picture that an image has, or of the frame of a film at so many seconds."""
    row = None if at is None else _of_scene(conn, table, image_id, at)
    row = row or _of_thumbnail(conn, table, image_id, "webp, sha256")
    return Thumbnail(row[0], version_of(row[1])) if row else None


def thumbnail_version(conn: sqlite3.Connection, table: ImageTable, image_id: Key) -> str | None:
    """The version of the picture of a stored thumbnail, "" for an unknown one; None for no thumbnail."""
    row = _of_thumbnail(conn, table, image_id, "sha256")
    return (version_of(row[0]) or "") if row else None


def _of_thumbnail(
    conn: sqlite3.Connection, table: ImageTable, image_id: Key, columns: str
) -> tuple[Any, ...] | None:
    if not is_stored_table(conn, table.thumbnails):
        return None
    return conn.execute(
        "select {columns} from {thumbnails} as side "
        "where image_id = ? and length(webp) <= ? and {owned}".format(
            columns=columns, owned=owned(conn, table, "side"), **table.quoted()
        ),
        [image_id, LARGEST_THUMBNAIL],
    ).fetchone()


def _of_scene(
    conn: sqlite3.Connection, table: ImageTable, image_id: Key, at: float
) -> tuple[Any, ...] | None:
    if not is_stored_table(conn, table.scenes, "image_id", "at", "sha256", "webp"):
        return None
    return conn.execute(
        "select webp, sha256 from {scenes} as side "
        "where image_id = ? and at = ? and length(webp) <= ? and {owned}".format(
            owned=owned(conn, table, "side"), **table.quoted()
        ),
        [image_id, at, LARGEST_THUMBNAIL],
    ).fetchone()


def versions(
    conn: sqlite3.Connection, table: ImageTable, ids: Sequence[Key]
) -> dict[Key, str | None]:
    """
    Id -> version of the picture of an image, for those that exist, without a look at thumbnails, which
    are large.
    """
    rows = conn.execute(
        f"select image_id, sha256 from {sources_of(conn, table)} where image_id in (select value from json_each(?))",
        [json.dumps(list(ids))],
    )
    return {image_id: version_of(sha256) for image_id, sha256 in rows}


def bytes_of(conn: sqlite3.Connection, table: ImageTable, ids: Sequence[Key]) -> int:
    """The bytes of the files of images, as they were when they were embedded, as far as that is known."""
    (total,) = conn.execute(
        f"select total(size) from {sources_of(conn, table)} "
        "where image_id in (select value from json_each(?)) and typeof(size) = 'integer'",
        [json.dumps(list(ids))],
    ).fetchone()
    return int(total)


def version_of(sha256: object) -> str | None:
    """By what a picture is told from the one that an image had before, in URLs; None where unknown."""
    return sha256[:VERSION_LENGTH] if isinstance(sha256, str) and sha256 else None


def image_rows(
    conn: sqlite3.Connection,
    table: ImageTable,
    ids: Sequence[Key],
    *,
    without: str | None = None,
    largest: int | None = None,
) -> dict[Key, dict[str, Any]]:
    """
    Id -> the row as a dict, for those ids that exist; `without` is a column to leave out. A value of more
    characters or bytes than `largest` is None.
    """
    cursor = conn.execute(
        "select {columns} from {images} where {key} in (select value from json_each(?))".format(
            columns=_columns_but(conn, table, without, largest), **table.quoted()
        ),
        [json.dumps(list(ids))],
    )
    return {row[table.key]: row for row in _dicts(cursor)}


def has_films(conn: sqlite3.Connection, table: ImageTable) -> bool:
    """Without a look at each image."""
    if not is_stored_table(conn, table.scenes):
        return False
    sql = "select exists (select 1 from {scenes})".format(**table.quoted())
    return bool(conn.execute(sql).fetchone()[0])


def is_row(conn: sqlite3.Connection, table: ImageTable, value: Any) -> bool:
    """Whether a row has this for its key, whatever it is."""
    sql = "select 1 from {images} where {key} is ?".format(**table.quoted())
    return conn.execute(sql, [value]).fetchone() is not None


def values_among(
    conn: sqlite3.Connection, name: str, column: str, values: Sequence[str], limit: int
) -> list[str]:
    """Those of some texts that a column of a table or view has, written exactly so, at most `limit`."""
    quoted, among = quote_identifier(column), "(select value from json_each(:values))"
    # The first condition can use an index. It may be of another collation, or of numbers that look like texts.
    sql = (
        f"select distinct {quoted} collate binary from {quote_identifier(name)} "
        f"where {quoted} in {among} and typeof({quoted}) = 'text' "
        f"and {quoted} collate binary in {among} limit :limit"
    )
    found = conn.execute(sql, {"values": json.dumps(list(values)), "limit": limit})
    return [value for (value,) in found]


def columns_with_values(conn: sqlite3.Connection, name: str, columns: Sequence[str]) -> set[str]:
    """Those columns of a table or view that are not NULL in some of its first rows."""
    quoted = [quote_identifier(column) for column in columns]
    counts = ", ".join(f"count({column})" for column in quoted)
    first = f"select {', '.join(quoted)} from {quote_identifier(name)} limit {FIRST_ROWS}"
    (found,) = conn.execute(f"select {counts} from ({first})")
    return {column for column, count in zip(columns, found, strict=True) if count}


def indexes_of_texts(conn: sqlite3.Connection, table: ImageTable) -> dict[str, str]:
    """The columns of texts by which SQLite can go through a table in order, each with the name of an index for that."""
    rows = conn.execute(
        "select columns.name, list.name from pragma_table_info(:table) as columns "
        "join pragma_index_list(:table) as list on not list.partial "
        "join pragma_index_xinfo(list.name) as first "
        "on first.seqno = 0 and first.name = columns.name and first.coll = 'BINARY' "
        "where upper(columns.type) = 'TEXT'",
        {"table": table.name},
    )
    return dict(rows.fetchall())


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

    By `few_match`, those that pass the filter are looked for, and sorted, or the images are gone through by an index of
    the dates until enough have passed: SQLite, which does not know how many do, would sort a million.
    """
    order = by = ""
    if "taken_at" in column_names(conn, table.name) and _has_dates(conn, table):
        order = "+taken_at desc, " if few_match else "taken_at desc, "
        index = None if few_match else indexes_of_texts(conn, table).get("taken_at")
        by = "" if index is None else f"indexed by {quote_identifier(index)}"
    kind = "integer" if table.key_is_integer else "text"
    sql = (
        f"select {{key}} from {{images}} {by} where typeof({{images}}.{{key}}) = '{kind}' and {{filter}} "
        "order by {order}{key} desc limit :_img_limit offset :_img_offset"
    )
    with naming_the_filter(table, filter):
        rows = conn.execute(
            sql.format(filter=bracketed(filter), order=order, **table.quoted()),
            {**(filter.params if filter else {}), "_img_limit": limit, "_img_offset": offset},
        ).fetchall()
    return [row[0] for row in rows]


def _has_dates(conn: sqlite3.Connection, table: ImageTable) -> bool:
    """Without any, SQLite would sort all images by their keys, which they are in the order of."""
    sql = "select exists (select 1 from {images} where taken_at is not null)"
    return bool(conn.execute(sql.format(**table.quoted())).fetchone()[0])


def _columns_but(
    conn: sqlite3.Connection, table: ImageTable, without: str | None, largest: int | None
) -> str:
    names = [quote_identifier(name) for name in column_names(conn, table.name) if name != without]
    if largest is None:
        # A column that somebody hides by an authorizer of SQLite loses its name too.
        return ", ".join(f"{name} as {name}" for name in names)
    # The length first: SQLite knows it without making room for the value.
    return ", ".join(
        f"case when length({name}) <= {largest} then {name} end as {name}" for name in names
    )


def _dicts(cursor: sqlite3.Cursor) -> list[dict[str, Any]]:
    columns = [column[0] for column in cursor.description]
    return [dict(zip(columns, row, strict=True)) for row in cursor]


def images_with_vectors(
    conn: sqlite3.Connection, index: Index, ids: Sequence[Key], column: str | None = None
) -> list[tuple[int, Key, Any, Any]]:
    """
    (vector id, image id, path, value of `column`) of those of the images with these ids, all different,
    that have a vector, in any order. The path is None where the images are BLOBs, the value where there
    is no column, and where it is a BLOB; of a text it is the first LONGEST_VALUE characters.
    """
    names = index.table.quoted()
    images = names["images"]
    path_column = _path_column(conn, index.table, index)
    path, value = (
        "null" if name is None else f"{images}.{quote_identifier(name)}"
        for name in (path_column, column)
    )
    # The index of the ids has all that is needed; to compare the pictures would read every vector.
    same = same_picture(conn, index.table, "_img_vector.sha256")
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
            on _img_vector.image_id = {images}.{names["key"]} and _img_vector.index_id = ?{same}
    """
    return conn.execute(sql, [json.dumps(list(ids)), index.id]).fetchall()


def images_of_vectors(conn: sqlite3.Connection, index: Index, ids: Sequence[int]) -> list[Key]:
    """The ids of the images of those of the vectors that are still there, in any order."""
    sql = "select image_id from {vectors} where id in (select value from json_each(?))"
    keys = conn.execute(sql.format(**index.table.quoted()), [json.dumps(list(ids))])
    return [key for (key,) in keys if index.table.is_key(key)]


def _path_column(conn: sqlite3.Connection, table: ImageTable, index: Index) -> str | None:
    """Where a table has the paths of its images; None for BLOBs, and where somebody renamed the column."""
    column = table.path_column or index.path_column
    return column if column in column_names(conn, table.name) else None


def check_in_files(index: Index) -> None:
    """Raises StoreError if the images are BLOBs."""
    if index.content_column is not None:
        raise StoreError(f"the images of {index.image_table!r} are in the database, not in files")


def locations(conn: sqlite3.Connection, index: Index, ids: Sequence[Key]) -> dict[Key, Location]:
    """
    Id -> where the original is, for those ids that exist; the root is "" where that is not known,
    as for BLOBs and for the paths of a person's own table. Where there is no path, it is # and the id.
    """
    table = index.table
    column = _path_column(conn, table, index)
    names = {**table.quoted(), "roots": ROOTS, "column": quote_identifier(column or table.key)}
    path = "'#' || {key}" if column is None else "{column}"
    root = "''"
    if column is not None and table.root_column and is_stored_table(conn, ROOTS):
        root = "coalesce((select path from {roots} where {roots}.id = root_id), '')"
    rows = conn.execute(
        f"select {{key}}, {root}, {path} from {{images}} "
        "where {key} in (select value from json_each(?))".format(**names),
        [json.dumps(list(ids))],
    )
    return {image_id: Location(root, str(path)) for image_id, root, path in rows}
