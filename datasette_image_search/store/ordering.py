"""Images in the order of a column. Images without a value come last, in either direction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from sqlite_utils.db import quote_identifier

from ..checked import check_text
from ..errors import ImageSearchError, most_similar
from .filters import Filter, bracketed, naming_the_filter
from .reads import indexes_of_texts, most_images
from .tables import ImageTable, Index, Key, column_names
from .views import ImageView

IN_TURN = 10
"""Entries of an index that are gone through for each image to be sorted: in half of the time that its row takes, or a tenth of it on a cold disk ..."""

UNEVEN = 2
"""... if so many times fewer would do, were these images spread evenly."""


@dataclass(frozen=True)
class Order:
    """By a column of an image table, or of a view of it."""

    column: str
    descending: bool = False


def order_of(sort: str | None, sort_desc: str | None) -> Order | None:
    """The order that a person asks for: by `sort`, lowest first, or by `sort_desc`, highest first."""
    if sort is not None and sort_desc is not None:
        raise ImageSearchError("there are two columns to sort by; name one of them")
    column = sort if sort_desc is None else sort_desc
    if column is None:
        return None
    check_text("sort" if sort_desc is None else "sort_desc", column)
    return Order(column, sort_desc is not None)


def checked_order(
    conn: sqlite3.Connection, index: Index, sort: str | None, sort_desc: str | None
) -> Order | None:
    """`order_of` for the images of an index. Raises ImageSearchError also for a column that they do not have."""
    order = order_of(sort, sort_desc)
    if order is not None:
        columns = column_names(conn, index.image_table)
        check_order(order, index.image_table, [c for c in columns if c != index.content_column])
    return order


def check_order(order: Order, name: str, columns: Collection[str]) -> None:
    """Raises ImageSearchError if a table or view called `name` cannot be sorted by that."""
    if order.column not in columns:
        closest = most_similar(order.column, columns)
        said = f"did you mean {closest!r}?" if closest else f"it has {', '.join(columns)}"
        raise ImageSearchError(f"{name!r} has no column {order.column[:100]!r} to sort by; {said}")


def in_order(
    conn: sqlite3.Connection,
    table: ImageTable,
    ids: Sequence[Key],
    order: Order,
    filter: Filter | None = None,
    *,
    view: ImageView | None = None,
    most: int | None = None,
) -> list[Key]:
    """
    Those of the images that exist and pass the filter, as in `sorted_ids`, but images with equal values stay in the
    order that they were in. If `most` is given, so many of the first will do.
    """
    if most is not None and filter is None and view is None:
        return first_in_order(conn, table, ids, order, most)
    rows, key, where, by = _sorted(table, order, filter, view)
    # CROSS JOIN keeps SQLite from going through the table in order to sort a few of its rows. The names of
    # json_each() may be those of columns in the filter.
    sql = (
        f"select {key} from (select value as _img_id, key as _img_rank from json_each(:_img_ids)) "
        f"cross join {rows} on {key} = _img_id where {where} order by {by}, _img_rank"
    )
    with naming_the_filter(table, filter):
        found = conn.execute(
            sql, {**(filter.params if filter else {}), "_img_ids": json.dumps(list(ids))}
        )
        return [id for (id,) in found]


def first_in_order(
    conn: sqlite3.Connection, table: ImageTable, ids: Sequence[Key], order: Order, most: int
) -> list[Key]:
    """
    The first `most` as in_order() has them, and all that are equal to the last: by going through an index of the column until
    these are found, which reads none of the rows, or by the row of each if there is no such index, or they are not found soon.
    """
    found = _first_by_index(conn, table, ids, order, most)
    if found is not None:
        return found
    rows, key, _, by = _sorted(table, order, None, None)
    sql = (
        f"select _img_key from (select {key} as _img_key, _img_rank, rank() over (order by {by}) as _img_place "
        f"from (select value as _img_id, key as _img_rank from json_each(:_img_ids)) "
        f"cross join {rows} on {key} = _img_id) where _img_place <= :_img_most order by _img_place, _img_rank"
    )
    places = conn.execute(sql, {"_img_ids": json.dumps(list(ids)), "_img_most": most})
    return [id for (id,) in places]


def _first_by_index(
    conn: sqlite3.Connection, table: ImageTable, ids: Sequence[Key], order: Order, most: int
) -> list[Key] | None:
    # How many images a table with other keys has is not known at once.
    index = indexes_of_texts(conn, table).get(order.column) if table.key_is_integer else None
    if index is None or UNEVEN * most * most_images(conn, table) > IN_TURN * len(ids) ** 2:
        return None
    rows, key, _, by = _sorted(table, order, None, None)
    # Texts are compared by their bytes, which need not be UTF-8. A BLOB may have the same bytes.
    value = "typeof(_img_value), cast(_img_value as blob)"
    sql = (
        f"select _img_id, {value} from ("
        f"select {key} as _img_id, {quote_identifier(order.column)} as _img_value from {rows} "
        f"indexed by {quote_identifier(index)} order by {by} limit :_img_limit"
        ") where _img_id in (select value from json_each(:_img_ids))"
    )
    values = {"_img_ids": json.dumps(list(ids)), "_img_limit": IN_TURN * len(ids)}
    # An index in another collation than the column's has another order, and other values that are equal.
    if any("TEMP B-TREE" in step for *_, step in conn.execute(f"explain query plan {sql}", values)):
        return None
    rank = {id: at for at, id in enumerate(ids)}
    found: list[Key] = []
    with closing(conn.execute(sql, values)) as rows_in_turn:
        for _, equal in groupby(rows_in_turn, key=itemgetter(1, 2)):
            if len(found) >= most:
                return found
            found += sorted((id for id, *_ in equal), key=rank.__getitem__)
    return None


def sorted_ids(
    conn: sqlite3.Connection,
    table: ImageTable,
    order: Order,
    limit: int,
    filter: Filter | None = None,
    *,
    offset: int = 0,
    view: ImageView | None = None,
    in_turn: bool = False,
) -> list[Key]:
    """
    The first images by a column, after `offset` of them; equal values by key. `filter` is on the rows of the
    view, if there is one. There an image with several rows counts by the one that comes first. `in_turn` goes through an
    index of the column, if there is one, until enough have passed the filter, where SQLite would sort all that pass.
    """
    rows, key, where, by = _sorted(table, order, filter, view)
    index = indexes_of_texts(conn, table).get(order.column) if in_turn and view is None else None
    if index is not None:
        rows += f" indexed by {quote_identifier(index)}"
    kind = "integer" if table.key_is_integer else "text"
    sql = (
        f"select {key} from {rows} where typeof({key}) = '{kind}' and {where} order by {by}, {key} "
        "limit :_img_limit offset :_img_offset"
    )
    with naming_the_filter(table, filter):
        found = conn.execute(
            sql,
            {**(filter.params if filter else {}), "_img_limit": limit, "_img_offset": offset},
        )
        return [id for (id,) in found]


def _sorted(
    table: ImageTable, order: Order, filter: Filter | None, view: ImageView | None
) -> tuple[str, str, str, str]:
    """SQL for the rows to sort, their key, the end of a condition, and the order."""
    names = table.quoted()
    rows = names["images"] if view is None else view.quoted()["view"]
    key, column = f"{rows}.{names['key']}", f"{rows}.{quote_identifier(order.column)}"
    where = bracketed(filter)
    if view is not None:
        # A view may have several rows of an image.
        where += f" and {view.is_image()} group by {key}"
        column = f"{'max' if order.descending else 'min'}({column})"
    return rows, key, where, f"{column} {_direction(order)}"


def _direction(order: Order) -> str:
    # Said like this, SQLite can still use an index of the column.
    return "desc" if order.descending else "asc nulls last"
