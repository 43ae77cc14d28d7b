"""
`?_image_tag=cat` and `?_facet_tag=id`: the tags of an image table as a filter and as a facet.

Datasette has no facet for many-to-many, and its own `_through=` gives wrong answers beside a filter on a
column: both name their parameter :p0, in 0.65 and in 1.0.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from datasette.app import Datasette
from datasette.database import QueryInterrupted
from datasette.filters import FilterArguments
from datasette.utils import escape_sqlite
from datasette.utils.asgi import Request
from datasette.views.base import DatasetteError

from ...store import ImageTable
from ...store.triggers import has_tags
from ..access.image_tables import pictured_tables
from ..compat import can_view_table
from ..reading import read_bounded
from .linked import LinkedFacet

ARGUMENT = "_image_tag"


async def filter_by_tags(
    datasette: Datasette, request: Request, database: str, table: str
) -> FilterArguments:
    """
    The filter for images that have all tags of the request.

    Raises DatasetteError, status 400, for a table without tags, or with tags that the actor may not see.
    """
    tagged = await _tagged_table(datasette, database, table)
    if tagged is None or not await can_view_table(datasette, request.actor, database, tagged.tags):
        raise DatasetteError(
            f"{table!r} has no tags to filter by; add some with: sqlite-utils tag-images",
            title="Image search",
            status=400,
        )
    clauses, params, descriptions = [], {}, []
    for number, tag in enumerate(request.args.getlist(ARGUMENT)):
        clause = "{rows}.{key} in (select image_id from {tags} where tag = :{param})"
        param = f"_img_tag_{number}"
        clauses.append(clause.format(rows=escape_sqlite(table), param=param, **tagged.quoted()))
        params[param] = tag
        descriptions.append(f'tagged "{tag}"')
    return FilterArguments(clauses, params, descriptions)


async def _tagged_table(datasette: Datasette, database: str, table: str) -> ImageTable | None:
    """The image table of that name, or of the view of that name, if it has tags."""
    served = datasette.get_database(database)
    shown = (await pictured_tables(served)).get(table)
    if shown is None:
        return None

    def read(conn: sqlite3.Connection) -> ImageTable | None:
        return shown.table if has_tags(conn, shown.table) else None

    return await read_bounded(served, read)


class TagFacet(LinkedFacet):
    """Tags with the number of their images; a facet of the key of an image table."""

    type = "tag"

    async def suggest(self) -> list[dict[str, Any]]:
        tagged = await self._visible_table()
        if tagged is None or self.get_configs():
            return []
        url = self.adding({"_facet_tag": tagged.key})
        return [{"name": tagged.tags, "type": self.type, "toggle_url": url}]

    async def facet_results(self) -> tuple[list[dict[str, Any]], list[str]]:
        configs = self.get_configs()
        tagged = await self._visible_table() if configs else None
        if tagged is None:
            return [], []
        try:
            return [await self._result(tagged, configs[0])], []
        except QueryInterrupted:
            return [], [tagged.tags]

    async def _visible_table(self) -> ImageTable | None:
        if not self.table:
            return None
        tagged = await _tagged_table(self.ds, self.database, self.table)
        if tagged is None:
            return None
        visible = await can_view_table(self.ds, self.request.actor, self.database, tagged.tags)
        return tagged if visible else None

    async def _result(self, tagged: ImageTable, config: dict[str, Any]) -> dict[str, Any]:
        size = self.get_facet_size()
        counted = await self.ds.execute(
            self.database,
            _SQL.format(
                sql=self.sql, limit=size + 1, tags=escape_sqlite(tagged.tags),
                key=escape_sqlite(tagged.key),
            ),
            self.params,
            truncate=False,
            custom_time_limit=self.ds.setting("facet_time_limit_ms"),
        )  # fmt: skip
        chosen = self.request.args.getlist(ARGUMENT)
        values = [
            self.value(tag, count, {ARGUMENT: tag}, tag in chosen)
            for tag, count in counted.rows[:size]
        ]
        asked = config["config"]
        column = asked.get("column") or asked.get("simple")
        return {
            "name": tagged.tags,
            "type": self.type,
            "results": values,
            "hideable": config["source"] != "metadata",
            "toggle_url": self.without({"_facet_tag": column}),
            "truncated": len(counted.rows) > size,
        }


# Several label sets may give an image the same tag.
_SQL = """
    select tag, count(distinct image_id) as count from {tags}
    where image_id in (select {key} from ({sql}))
    group by tag order by count desc, tag limit {limit}
"""
