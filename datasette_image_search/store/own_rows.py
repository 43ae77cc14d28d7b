"""The images of a person's own table: which rows are some, and what is in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlite_utils.db import quote_identifier

from .content_values import ENCODED, LONGEST_HEAD, QUOTED, content_of
from .ownership import has_triggers
from .reads import failed_files
from .sources import replaced_contents, sources_of
from .tables import (
    LAST,
    OWN_ROOT,
    Failure,
    ImageTable,
    Index,
    Key,
    KnownSource,
    StoreError,
    column_names,
)

LONGEST_LABEL = 200
"""Characters of a value that stands for a row."""

NULL = "NULL"


@dataclass(frozen=True, slots=True)
class OwnRow:
    """
    A row of a person's own image table: its path, or the length of its BLOB or text (None for what can be
    no such thing), what is known of the image that was embedded last, and of one that could not be
    embedded since.
    """

    image_id: Key
    source: str | int | None
    known: KnownSource | None
    failed: KnownSource | None = None


def own_rows(
    conn: sqlite3.Connection, table: ImageTable, index: Index | None, column: str, *, is_path: bool
) -> tuple[list[OwnRow], list[Failure]]:
    """
    The rows of a person's own table that have something in the column of their path or content, in the
    order of their keys; and why some of them can be no images, as they have no key that names them.

    Raises StoreError where there is no such column.
    """
    columns = column_names(conn, table.name)
    if column not in columns:
        raise StoreError(
            f"table {table.name!r} has no column {column!r}; it has {', '.join(columns)}"
        )
    names = {**table.quoted(), "column": quote_identifier(column)}
    known: dict[Key, KnownSource] = {}
    if index is not None:
        known = {
            image_id: KnownSource(image_id, size, mtime, has_vector=bool(has_vector))
            for image_id, size, mtime, has_vector in conn.execute(
                "select image_id, size, mtime, exists (select 1 from {vectors} where "
                "{vectors}.image_id = source.image_id and index_id = ?) from {state} as source".format(
                    state=sources_of(conn, table), **names
                ),
                [index.id],
            )
        }
        if not (is_path or has_triggers(conn, table)):
            for image_id in replaced_contents(conn, table, column):
                del known[image_id]
    failed = {path: (size, mtime) for _, path, size, mtime in failed_files(conn, table)}
    of_type = "typeof({column}) != 'blob'" if is_path else "typeof({column}) in ('blob', 'text')"
    source = "{column}" if is_path else "length({column})"
    empty = "{column} is null or {column} = ''"
    sql = (
        f"select {{key}}, case when {of_type} then {source} end from {{images}} "
        f"where not ({empty}) order by {{key}}"
    ).format(**names)
    rows: list[OwnRow] = []
    unusable: dict[str, Failure] = {}
    with _any_text(conn):
        for image_id, value in conn.execute(sql):
            if not table.is_key(image_id):
                label = _literal(image_id)
                times = sum(each.startswith(label) for each in unusable) + 1 if label == NULL else 1
                label = f"{label} ({times})" if times > 1 else label
                unusable[label] = Failure(OWN_ROOT, label, 0, "", _no_key(table, image_id))
                continue
            state = failed.get(own_label(image_id))
            failure = (
                KnownSource(image_id, *state, failed=True, has_vector=False) if state else None
            )
            rows.append(OwnRow(image_id, value, known.get(image_id), failure))
    return rows, list(unusable.values())


@contextmanager
def _any_text(conn: sqlite3.Connection) -> Iterator[None]:
    """Texts are read that are not UTF-8, which SQLite keeps as well, as Python reads names of files."""
    before = conn.text_factory
    conn.text_factory = lambda text: text.decode(errors="surrogateescape")
    try:
        yield
    finally:
        conn.text_factory = before


def _fault_of(key: str) -> str | None:
    """Why a text names no row, if it does not."""
    if "\0" in key:
        return "a text with a null character, where SQLite ends it"
    try:
        key.encode()
    except UnicodeEncodeError:
        return "a text that is not UTF-8"
    return None


def _literal(value: object) -> str:
    """A value that is no key, as SQL writes it, so that a person finds its row."""
    if value is None:
        return NULL
    if isinstance(value, bytes):
        return f"X'{value.hex().upper()[:LONGEST_LABEL]}'"
    if isinstance(value, str):
        text = value.replace("'", "''").replace("\0", "\\0")
        text = text.encode(errors="backslashreplace").decode()
        return f"'{text[:LONGEST_LABEL]}'"
    return str(value)


def _no_key(table: ImageTable, value: object) -> str:
    kinds = {bytes: "a BLOB", float: "a fraction", str: "a text"}
    what = NULL if value is None else kinds.get(type(value), "a number")
    if isinstance(value, str) and not table.key_is_integer:
        what = _fault_of(value) or what
    wanted = "a whole number" if table.key_is_integer else "a text"
    return f"its key {table.key!r} is {what}; give the row {wanted} for a key"


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
    """The bytes of an image; none where the row is gone, or holds no picture or one of more bytes."""
    row = conn.execute(
        "select {column} from {images} where {key} = ? and length({column}) <= case "
        "when typeof({column}) != 'text' then ? "
        "when {head} like '%data:%' and {head} not like '%;base64,%' then ? else ? end".format(
            column=quote_identifier(column),
            head=f"substr({quote_identifier(column)}, 1, {LONGEST_HEAD})",
            **table.quoted(),
        ),
        [image_id, at_most, QUOTED * at_most + LONGEST_HEAD, ENCODED * at_most + LONGEST_HEAD],
    ).fetchone()
    content = content_of(row[0]) if row else b""
    return content if len(content) <= at_most else b""
