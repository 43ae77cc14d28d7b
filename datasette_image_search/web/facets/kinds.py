"""?_facet_kind=format: how many films and how many photos, also on the table page."""

from __future__ import annotations

from typing import Any

from datasette.utils import escape_sqlite, path_with_replaced_args

from ...decoding.formats import FILM_FORMATS
from .linked import LinkedColumnFacet

PHOTOS, FILMS = "photos", "films"

_FILM_FORMATS = ",".join(sorted(FILM_FORMATS))


def filters_of_kinds(column: str) -> dict[str, tuple[str, str]]:
    """Kind -> its filter, as name and value of a query string, which the table page understands."""
    return {
        PHOTOS: (f"{column}__notin", _FILM_FORMATS),
        FILMS: (f"{column}__in", _FILM_FORMATS),
    }


class KindFacet(LinkedColumnFacet):
    """Photos and films with their counts, by a column of formats. A link chooses one of them instead of the other."""

    type = "kind"

    async def result_of(self, column: str, source: str) -> dict[str, Any]:
        counted = await self.counted(
            _SQL.format(
                column=escape_sqlite(column),
                sql=self.sql,
                formats=", ".join(f"'{each}'" for each in sorted(FILM_FORMATS)),
            )
        )
        counts = {FILMS if row["is_film"] else PHOTOS: row["count"] for row in counted.rows}
        return {
            "name": column,
            "type": self.type,
            "results": [
                self._kind(column, kind, counts[kind]) for kind in (PHOTOS, FILMS) if kind in counts
            ],
            "hideable": source != "metadata",
            "toggle_url": self.without({"_facet_kind": column}),
            "truncated": False,
        }

    def _kind(self, column: str, kind: str, count: int) -> dict[str, Any]:
        filters = filters_of_kinds(column)
        name, value = filters[kind]
        replaced: dict[str, str | None] = {each: None for each, _ in filters.values()}
        replaced[name] = value
        selected = (name, value) in self.get_querystring_pairs()
        chosen = self._url(path_with_replaced_args, replaced)
        said = self.value(kind, count, {name: value}, selected)
        return said if selected else {**said, "toggle_url": chosen}


_SQL = """
    select {column} in ({formats}) as is_film, count(*) as count from ({sql})
    where {column} is not null group by 1
"""
