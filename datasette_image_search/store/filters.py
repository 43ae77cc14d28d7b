"""Which images pass a WHERE clause."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..errors import ImageSearchError
from .ownership import has_triggers, owned, same_picture
from .tables import (
    LAST,
    ImageTable,
    Index,
    Key,
)


class FilterError(ImageSearchError):
    """A WHERE clause that SQLite does not take."""


@dataclass(frozen=True)
class Filter:
    """
    A WHERE clause over an image table, with named parameters. Ours begin with "_img". `written` is
    what a person wrote of it, None for all. `keys` is SQL that selects as image_id the keys that it asks for, perhaps those
    of images that are gone too, if it asks for nothing else.
    """

    where: str
    params: Mapping[str, Any] = field(default_factory=dict)
    written: str | None = None
    keys: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.where, str):
            raise FilterError(f"where is {self.where!r:.60}; it must be SQL, such as id > 100")
        if not isinstance(self.params, Mapping):
            raise FilterError(
                f"params is {self.params!r:.60}; it must be a dict of the :names in where"
            )


@dataclass(frozen=True)
class IdSet:
    """Exactly the images with these keys, integers or texts; of the key of no image, nothing comes."""

    ids: Sequence[Key] | np.ndarray

    def keys(self) -> list[Key]:
        return self.ids.tolist() if isinstance(self.ids, np.ndarray) else list(self.ids)

    def as_filter(self, table: ImageTable, param: str = "_img_among") -> Filter:
        """`param` names the parameter: two filters that are put together need different ones."""
        names = table.quoted()
        where = f"{names['images']}.{names['key']} in (select value from json_each(:{param}))"
        return Filter(where, {param: json.dumps(self.keys())})


Where = str | Filter | IdSet
"""SQL that is true for the rows to look at, or the ids of these."""


Access = Literal["found", "compared", "read"]
"""
An index finds what passes a filter; or it has all columns that the filter compares, and a scan of it reads
a tenth of the table; or the table is read.
"""


def both_of(first: Filter | None, second: Filter | None) -> Filter | None:
    """What passes two filters, which give their parameters different names or the same values."""
    if first is None or second is None:
        return first or second
    written = " and ".join(each.written or each.where for each in (first, second))
    return Filter(all_of([first.where, second.where]), {**first.params, **second.params}, written)


def row_filter(where: str | None, params: Mapping[str, Any] | None) -> Filter | None:
    """The filter of a person's SQL and the values of its :names. Raises FilterError for other things."""
    if where is None:
        if params:
            raise FilterError("params sets the :names in where; add where, or leave params out")
        return None
    return Filter(where, {} if params is None else params)


def passing(
    conn: sqlite3.Connection,
    index: Index,
    ids: Sequence[int],
    filter: Filter | None,
) -> list[int]:
    """Those of the vector ids, in the order given, whose image exists and passes the filter."""
    # CROSS JOIN keeps json_each outermost, hence its order, and SQLite from scanning the table.
    # The filter sees the columns of the image table and of _img_ranked, so no name but "_img..."
    # can be anything else than the image table's.
    sql = """
        select _img_vector_id
        from (
            select _img_candidate.value as _img_vector_id, _img_vector.image_id as _img_image_id,
                _img_vector.sha256 as _img_sha256
            from json_each(:_img_ids) as _img_candidate
            cross join {vectors} as _img_vector
                on _img_vector.id = _img_candidate.value and _img_vector.index_id = :_img_index
        ) as _img_ranked
        where exists (
            select 1 from {images}
            where {images}.{key} = _img_ranked._img_image_id{same} and {filter}
        )
    """
    ours = {"_img_ids": json.dumps(list(ids)), "_img_index": index.id}
    same = same_picture(conn, index.table, "_img_sha256")
    return [id for (id,) in _filtered(conn, sql, index.table, filter, ours, same=same)]


def there(
    conn: sqlite3.Connection, index: Index, ids: Sequence[int], image_ids: np.ndarray | None
) -> list[int]:
    """
    Those of the vector ids, in the order given, whose image exists, and has the picture that they are of. If the ids of
    their images are known, integers, one for each, it reads a fifth as much.
    """
    # Without the triggers the hash beside the vector tells, and its row fills a page.
    if (
        image_ids is None
        or not _finds_vectors(conn, index.table)
        or not has_triggers(conn, index.table)
    ):
        return passing(conn, index, ids, None)
    sql = """
        select _img_vector.id
        from json_each(:_img_ids) as _img_image
        cross join {vectors} as _img_vector
            on _img_vector.image_id = _img_image.value and _img_vector.index_id = :_img_index
        where exists (select 1 from {images} where {images}.{key} = _img_image.value)
    """
    ours = {"_img_ids": json.dumps(np.unique(image_ids).tolist()), "_img_index": index.id}
    found = {id for (id,) in _filtered(conn, sql, index.table, None, ours)}
    return [id for id in ids if id in found]


def _finds_vectors(conn: sqlite3.Connection, table: ImageTable) -> bool:
    """
    Whether the index of our tables is there, by which an image has one vector. In a table that others have made, to look for
    20 images may read all of its rows 20 times.
    """
    sql = """
        select 1 from pragma_index_list(?) as its
        where its."unique" and not its.partial and 'image_id BINARY, index_id BINARY' = (
            select group_concat(name || ' ' || coll, ', ')
            from (select name, coll from pragma_index_xinfo(its.name) where key order by seqno)
        )
    """
    return conn.execute(sql, [table.vectors]).fetchone() is not None


def passing_images(
    conn: sqlite3.Connection,
    index: Index,
    ids: np.ndarray,
    filter: Filter,
) -> np.ndarray:
    """
    Those of the images with these keys that pass the filter, in any order, int64: for tables whose
    keys are integers, and several times as fast as `passing`, which also looks at the vectors.
    """
    sql = """
        select _img_key
        from (select value as _img_key from json_each(:_img_ids)) as _img_ranked
        where exists (
            select 1 from {images} where {images}.{key} = _img_ranked._img_key and {filter}
        )
    """
    # In the order of the table, whose pages are then read once: 3,000 of 200,000 rows take half of the time.
    ours = {"_img_ids": json.dumps(np.sort(ids).tolist())}
    return _as_array(_filtered(conn, sql, index.table, filter, ours))


def passing_rows(
    conn: sqlite3.Connection,
    table: ImageTable,
    rows: str,
    params: Mapping[str, Any],
    filter: Filter | IdSet | None,
    limit: int,
) -> list[tuple[Any, ...]]:
    """
    The first `limit` of some rows whose column _img_key is that of an image that passes the filter, in their order.
    `rows` is the SQL of them; the names of all its columns and of `params` begin with _img.
    """
    if isinstance(filter, IdSet):
        filter = filter.as_filter(table)
    sql = """
        select * from ({rows}) as _img_rows
        where exists (
            select 1 from {images} where {images}.{key} = _img_rows._img_key and {filter}
        )
        limit :_img_limit
    """
    return _filtered(conn, sql, table, filter, {**params, "_img_limit": limit}, rows=rows)


def matching(
    conn: sqlite3.Connection,
    index: Index,
    filter: Filter | IdSet,
) -> np.ndarray:
    """
    The ids of the vectors of all images that pass the filter, in any order, int64. `passing` knows
    which of them are still of the picture that their image has: to ask here would read every vector.
    """
    if isinstance(filter, IdSet):
        filter = filter.as_filter(index.table)
    sql = """
        select _img_vector.id
        from (select {key} as _img_key from {images} where {filter})
        cross join {vectors} as _img_vector
            on _img_vector.image_id = _img_key and _img_vector.index_id = :_img_index
    """
    return _as_array(_filtered(conn, sql, index.table, filter, {"_img_index": index.id}))


def vectors_by_content(
    conn: sqlite3.Connection, index: Index, filter: Filter | None
) -> list[tuple[int, bool]]:
    """
    The ids of the vectors of all images that pass the filter, in an order that has images of the
    same bytes side by side, and whether each is a copy of the one before. Those are left out that
    are of another picture than their image has.
    """
    sql = """
        select _img_vector.id, _img_vector.sha256 = lag(_img_vector.sha256) over _img_order
        from (select {key} as _img_key from {images} where {filter})
        cross join {vectors} as _img_vector on _img_vector.image_id = _img_key
            and _img_vector.index_id = :_img_index and {owned}
        window _img_order as (order by _img_vector.sha256, _img_vector.id)
        order by _img_vector.sha256, _img_vector.id
    """
    ours = {"_img_index": index.id}
    rows = _filtered(
        conn, sql, index.table, filter, ours, owned=owned(conn, index.table, "_img_vector")
    )
    return [(id, bool(is_copy)) for id, is_copy in rows]


def matching_images(
    conn: sqlite3.Connection,
    index: Index,
    filter: Filter,
    limit: int = LAST,
) -> np.ndarray:
    """
    The keys of the first `limit` images that pass the filter, in any order, int64: for tables whose
    keys are integers, and several times as fast as `matching`.
    """
    # One long text is read in half the time of as many rows.
    sql = """
        select group_concat(_img_key)
        from (select {key} as _img_key from {images} where {filter} limit :_img_limit)
    """
    ((text,),) = _filtered(conn, sql, index.table, filter, {"_img_limit": limit})
    return _numbers(text)


def _numbers(text: str | None) -> np.ndarray:
    return np.fromstring(text or "", dtype=np.int64, sep=",")


def asked_images(
    conn: sqlite3.Connection,
    index: Index,
    filter: Filter,
    limit: int = LAST,
) -> np.ndarray:
    """
    As matching_images(), for who finds out himself which of them are still there: to look at each of a hundred thousand
    reads as many pages of a disk, and their keys lie together.
    """
    if filter.keys is None:
        return matching_images(conn, index, filter, limit)
    sql = """
        select group_concat(_img_key)
        from (
            select image_id as _img_key from ({keys}) where typeof(image_id) = 'integer' limit :_img_limit
        )
    """
    ours = {"_img_limit": limit}
    ((text,),) = _filtered(conn, sql, index.table, filter, ours, keys=filter.keys)
    return _numbers(text)


def image_ids(
    conn: sqlite3.Connection, table: ImageTable, filter: Filter | None, *, limit: int = LAST
) -> list[Key]:
    """The keys of up to `limit` images that pass the filter, in their order. Raises FilterError."""
    sql = "select {key} from {images} where {filter} order by {key} limit :_img_limit"
    rows = _filtered(conn, sql, table, filter, {"_img_limit": limit})
    return [key for (key,) in rows if table.is_key(key)]


def access_to(conn: sqlite3.Connection, index: Index, filter: Filter) -> Access:
    """How SQLite finds what passes the filter."""
    sql = "select {key} from {images} where {filter}"
    steps = [
        step for *_, step in _filtered(conn, f"explain query plan {sql}", index.table, filter, {})
    ]
    name = rf"{re.escape(index.table.name)}(?!\w)"
    of_images = [step for step in steps if re.match(rf"(SCAN|SEARCH) {name}", step)]
    if of_images and all(step.startswith("SEARCH") for step in of_images):
        return "found"
    # Whatever else the filter reads for each image, and each function that it calls, may take longer than the image itself.
    if len(steps) == 1 and re.match(rf"SCAN {name} USING COVERING INDEX", steps[0]):
        opcodes = [
            opcode for _, opcode, *_ in _filtered(conn, f"explain {sql}", index.table, filter, {})
        ]
        if not any("Func" in opcode for opcode in opcodes):
            return "compared"
    return "read"


def _as_array(rows: list[tuple[Any, ...]]) -> np.ndarray:
    return np.array([id for (id,) in rows], dtype=np.int64)


def _filtered(
    conn: sqlite3.Connection,
    sql: str,
    table: ImageTable,
    filter: Filter | None,
    ours: Mapping[str, Any],
    **conditions: str,
) -> list[tuple[Any, ...]]:
    with naming_the_filter(table, filter):
        return conn.execute(
            sql.format(filter=bracketed(filter), **conditions, **table.quoted()),
            {**(filter.params if filter else {}), **ours},
        ).fetchall()


def bracketed(filter: Filter | None) -> str:
    """SQL to put after WHERE or AND."""
    return closed(filter.where) if filter else "1"


def closed(clause: str) -> str:
    """
    A person's clause to put among others: in parentheses, because it may have an "or" in it. The
    line break ends a comment.
    """
    return f"({clause}\n)"


def _opened(clause: str) -> str:
    """As a person may have written it: without the line breaks of `closed`."""
    return clause.replace("\n)", ")")


def all_of(clauses: Iterable[str]) -> str:
    """The clause of all of them."""
    return " and ".join(map(closed, clauses))


@contextmanager
def naming_the_filter(table: ImageTable, filter: Filter | None) -> Iterator[None]:
    """What SQLite has against a filter, as a FilterError; other errors stay what they are."""
    try:
        yield
    except (sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
        if filter is None or _is_not_about_the_sql(error):
            raise
        said = "half of a character" if isinstance(error, UnicodeEncodeError) else error
        raise FilterError(
            f"the filter {_opened(filter.written or filter.where)!r} does not work on {table.name!r}: {said}"
        ) from error


def _is_not_about_the_sql(error: Exception) -> bool:
    return str(error).startswith(
        ("interrupted", "database is locked", "database table is locked", "disk I/O error")
    ) or str(error) in ("database disk image is malformed", "database or disk is full")
