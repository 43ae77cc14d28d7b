"""
What a row of an image table is called in other tables and in facets, by `label_column`: for those who
may see the image table. Datasette 1.0 asks that itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from datasette.app import Datasette

from .compat import labels_ignore_actors
from .side_tables import is_about_images
from .visits import visitor_sees


def hide_from_strangers(datasette: Datasette) -> None:
    if not labels_ignore_actors(datasette):
        return
    labels_of = datasette.expand_foreign_keys

    async def expand_foreign_keys(
        database: str, table: str, column: str, values: Iterable[Any]
    ) -> dict[tuple[str, Any], str]:
        served = datasette.get_database(database)
        for key in await served.foreign_keys_for_table(table):
            other = key["other_table"]
            if (
                key["column"] == column
                and await is_about_images(datasette, served, other)
                and not await visitor_sees(datasette, database, other)
            ):
                return {}
        labels: dict[tuple[str, Any], str] = await labels_of(database, table, column, values)
        return labels

    datasette.expand_foreign_keys = expand_foreign_keys
