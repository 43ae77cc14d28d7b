"""Values that a column cannot be compared with. SQLite has an order of them nevertheless, and says nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..access.requested_table import RequestedTable
from ..compat import column_filters
from ..urls import RequestError

DATES = ("taken_at", "mtime")
"""Columns of our own tables that hold dates of ISO 8601."""

COMPARISONS = {"gt", "gte", "lt", "lte"}

_BEGINS_AS_DATE = re.compile(r"\d{1,4}(?:-|\Z)", re.ASCII)

_IS_NUMERIC = re.compile("INT|REAL|FLOA|DOUB|NUM|DEC", re.IGNORECASE)
"""A declared type."""


class WrongValue(RequestError):
    """A filter, named as column__lookup, that compares a column with what it does not hold."""

    def __init__(self, sentence: str, filter: tuple[str, str]) -> None:
        super().__init__(sentence)
        self.filter = filter


async def check_values(requested: RequestedTable, pairs: Sequence[tuple[str, str]]) -> None:
    """
    `pairs` are filters, named as column__lookup. Raises WrongValue for one that compares a column of dates or of
    numbers with another text.
    """
    compared = [pair for pair in pairs if pair[0].rpartition("__")[2] in COMPARISONS]
    if not compared:
        return
    details = await requested.database.table_column_details(requested.name)
    numeric = {column.name for column in details if _IS_NUMERIC.search(column.type)}
    is_ours = requested.table.path_column is not None
    names = requested.database.name, requested.name
    for pair in compared:
        column, _, _ = pair[0].rpartition("__")
        # What SQLite is given: Datasette 0.65 can convert units.
        _, params = column_filters(requested.datasette, *names, [pair]).build_where_clauses(
            names[1]
        )
        value = next(iter(params.values()))
        if column in numeric and not _is_number(value):
            raise WrongValue(
                f"{column!r} holds numbers, and {pair[1][:100]!r} is none; write a number", pair
            )
        if is_ours and column in DATES and not _BEGINS_AS_DATE.match(str(value)):
            raise WrongValue(
                f"{column!r} holds dates, and {pair[1][:100]!r} is none; write it as 2021-06-30, 2021-06 or 2021",
                pair,
            )


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True
