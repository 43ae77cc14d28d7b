"""Which images pass a WHERE clause."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import ImageSearchError
from .tables import (
    ImageTable,
    Index,
    Key,
    find_image_table,
)


class FilterError(ImageSearchError):
    """A WHERE clause that SQLite does not take."""


@dataclass(frozen=True)
class Filter:
    """A WHERE clause over an image table, with named parameters. Ours begin with "_img"."""

    where: str
    params: Mapping[str, Any] = field(default_factory=dict)


def passing(
    conn: sqlite3.Connection, index: Index, ids: Sequence[int], filter: Filter | None
) -> list[int]:
    """Those of the vector ids, in the order given, whose image exists and passes the filter."""
    table = find_image_table(conn, index.image_table)
    # CROSS JOIN keeps json_each outermost, hence its order, and SQLite from scanning the table.
    # The filter sees the columns of the image table and of _img_ranked, so no name but "_img..."
    # can be anything else than the image table's.
    same = " and {images}.sha256 is _img_sha256" if table.is_ours else ""
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
    return [id for (id,) in _filtered(conn, sql, table, filter, ours)]


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
    return [id for (id,) in _filtered(conn, sql, table, filter, {"_img_index": index.id})]


def vectors_by_content(
    conn: sqlite3.Connection, index: Index, filter: Filter | None
) -> list[tuple[int, bool]]:
    """
    The ids of the vectors of all images that pass the filter, in an order that has images of the
    same bytes side by side, and whether each is a copy of the one before. Those are left out that
    are of another picture than their image has.
    """
    table = find_image_table(conn, index.image_table)
    content = "sha256" if table.is_ours else "null"
    same = " and _img_vector.sha256 is _img_sha256" if table.is_ours else ""
    sql = f"""
        select _img_vector.id, _img_vector.sha256 = lag(_img_vector.sha256) over _img_order
        from (select {{key}} as _img_key, {content} as _img_sha256 from {{images}} where {{filter}})
        cross join {{vectors}} as _img_vector
            on _img_vector.image_id = _img_key and _img_vector.index_id = :_img_index{same}
        window _img_order as (order by _img_vector.sha256, _img_vector.id)
        order by _img_vector.sha256, _img_vector.id
    """
    rows = _filtered(conn, sql, table, filter, {"_img_index": index.id})
    return [(id, bool(is_copy)) for id, is_copy in rows]


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
) -> list[tuple]:
    # The line break ends a comment at the end of a person's WHERE clause.
    where = f"({filter.where}\n)" if filter else "1"
    try:
        return conn.execute(
            sql.format(filter=where, **table.quoted()),
            {**(filter.params if filter else {}), **ours},
        ).fetchall()
    except sqlite3.Error as error:
        if filter is None or _is_not_about_the_sql(error):
            raise
        raise FilterError(
            f"the filter {filter.where!r} does not work on {table.name!r}: {error}"
        ) from error


def _is_not_about_the_sql(error: sqlite3.Error) -> bool:
    return str(error).startswith(
        ("interrupted", "database is locked", "database table is locked", "disk I/O error")
    ) or str(error) in ("database disk image is malformed", "database or disk is full")
