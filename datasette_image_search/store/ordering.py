"""Images in the order of a column. Images without a value come last, in either direction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlite_utils.db import quote_identifier

from ..checked import check_text
from ..errors import ImageSearchError, most_similar
from .filters import Filter, bracketed, naming_the_filter
from .tables import ImageTable, Index, Key, column_names
from .views import ImageView


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
    view: ImageView | None = None,
) -> list[Key]:
    """
    Those of the images that exist, by a column of the table or of a view of it. Images with equal values stay in
    the order that they were in.
    """
    rows, key, column = _names(table, order, view)
    # CROSS JOIN keeps SQLite from going through the table in order to sort a few of its rows.
    sql = (
        f"select _img_ranked.value from json_each(:_img_ids) as _img_ranked "
        f"cross join {rows} on {key} = _img_ranked.value "
        f"order by {column} {_direction(order)}, _img_ranked.key"
    )
    found = conn.execute(sql, {"_img_ids": json.dumps(list(ids))})
    # A view may have several rows of an image.
    return list(dict.fromkeys(id for (id,) in found))


def sorted_ids(
    conn: sqlite3.Connection,
    table: ImageTable,
    order: Order,
    limit: int,
    filter: Filter | None = None,
    *,
    offset: int = 0,
    view: ImageView | None = None,
) -> list[Key]:
    """
    The first images by a column, after `offset` of them; equal values by key. `filter` is on the rows of the
    view, if there is one. There an image with several rows counts by its lowest value.
    """
    rows, key, column = _names(table, order, view)
    kind = "integer" if table.key_is_integer else "text"
    where = f"typeof({key}) = '{kind}' and {bracketed(filter)}"
    if view is not None:
        where += f" and {view.is_image()} group by {key}"
        column = f"min({column})"
    sql = (
        f"select {key} from {rows} where {where} order by {column} {_direction(order)}, {key} "
        "limit :_img_limit offset :_img_offset"
    )
    with naming_the_filter(table, filter):
        found = conn.execute(
            sql,
            {**(filter.params if filter else {}), "_img_limit": limit, "_img_offset": offset},
        )
        return [id for (id,) in found]


def _names(table: ImageTable, order: Order, view: ImageView | None) -> tuple[str, str, str]:
    """SQL for the rows to sort, their key, and the column."""
    names = table.quoted()
    rows = names["images"] if view is None else view.quoted()["view"]
    return rows, f"{rows}.{names['key']}", f"{rows}.{quote_identifier(order.column)}"


def _direction(order: Order) -> str:
    # Said like this, SQLite can still use an index of the column.
    return "desc" if order.descending else "asc nulls last"
