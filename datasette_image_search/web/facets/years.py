"""?_facet_year=taken_at: a column of ISO dates, counted by year, also on the table page."""

from __future__ import annotations

from typing import Any

from datasette.utils import escape_sqlite

from .linked import LinkedColumnFacet

YEAR = "[0-9][0-9][0-9][0-9]"


class YearFacet(LinkedColumnFacet):
    """
    Years with their counts, the latest first. A link filters by column__gte and column__lt, which the
    table page understands, and which can use an index of the column.
    """

    type = "year"
    column_is_indexed = False
    """Whether `sql` is a whole table with an index of the column. Then each year is counted in the index,
    without sorting a million dates."""
    with_months = False
    """Whether the year that the filter is in comes with the counts of its months."""

    async def result_of(self, column: str, source: str) -> dict[str, Any]:
        size = self.get_facet_size()
        sql = _INDEXED_SQL if self.column_is_indexed else _SQL
        counted = await self.counted(
            sql.format(column=escape_sqlite(column), sql=self.sql, year=YEAR, limit=size + 1)
        )
        pairs = self.get_querystring_pairs()
        values = []
        for row in counted.rows[:size]:
            limits = limits_of_year(column, int(row["value"]))
            selected = all(limit in pairs for limit in limits.items())
            values.append(self.value(row["value"], row["count"], limits, selected))
        year = self._chosen_year(column) if self.with_months else None
        return {
            "name": column,
            "type": self.type,
            "results": values,
            **({"months": await self._months(column, year)} if year else {}),
            "hideable": source != "metadata",
            "toggle_url": self.without({"_facet_year": column}),
            "truncated": len(counted.rows) > size,
        }

    def _chosen_year(self, column: str) -> str | None:
        """The year that the filters of a URL are within; None if they are not."""
        pairs = dict(self.get_querystring_pairs())
        begin, end = pairs.get(f"{column}__gte", ""), pairs.get(f"{column}__lt", "")
        year = begin[:4]
        if not (len(year) == 4 and year.isascii() and year.isdigit()):
            return None
        return year if begin < end <= f"{int(year) + 1:04}" else None

    async def _months(self, column: str, year: str) -> dict[str, int]:
        """The counts of the months of a year, "2021-05" and so on."""
        counted = await self.counted(
            _MONTHS_SQL.format(column=escape_sqlite(column), sql=self.sql, year=year)
        )
        return {row["value"]: row["count"] for row in counted.rows}


def limits_of_year(column: str, year: int) -> dict[str, str]:
    """The filters of a year, as names and values of a query string."""
    return {f"{column}__gte": f"{year:04}", f"{column}__lt": f"{year + 1:04}"}


# Grouped and ordered by number, because a table may have a column called value.
_SQL = """
    select substr({column}, 1, 4) as value, count(*) as count from ({sql})
    where {column} glob '{year}*'
    group by 1 order by 1 desc limit {limit}
"""

_INDEXED_SQL = """
    with recursive image_years(value) as (
        select substr(max({column}), 1, 4) from ({sql})
        union all
        select substr((select max({column}) from ({sql}) where {column} < image_years.value), 1, 4)
        from image_years where image_years.value is not null
    )
    select value, (
        select count(*) from ({sql})
        where {column} >= image_years.value and {column} < image_years.value || char(1114111)
    ) as count
    from image_years where value glob '{year}' limit {limit}
"""

_MONTHS_SQL = """
    select substr({column}, 1, 7) as value, count(*) as count from ({sql})
    where {column} glob '{year}-[0-1][0-9]*'
    group by 1 order by 1
"""
