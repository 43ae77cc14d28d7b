"""Template variables and style sheets for Datasette's own pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasette.app import Datasette
from datasette.utils.asgi import Request

from ..access.image_tables import pictured_tables
from ..sql_errors import query_page_vars
from .table_page import table_page_vars


async def of_page(
    datasette: Datasette,
    request: Request | None,
    template: str | None,
    database: str | None,
    table: str | None,
    columns: Sequence[str] | None,
) -> dict[str, Any]:
    if request is None or template is None or database is None:
        return {}
    kind = _kind(template)
    if kind == "table" and table is not None:
        return await table_page_vars(datasette, request, database, table)
    # A query that failed has no columns.
    if kind == "query" and not columns:
        return await query_page_vars(datasette, request, database)
    return {}


async def css_urls(
    datasette: Datasette, template: str | None, database: str | None, table: str | None
) -> list[str]:
    """The style sheet, on pages of image tables, and of queries in databases that have some."""
    if template is None or database is None or _kind(template) not in ("table", "row", "query"):
        return []
    tables = await pictured_tables(datasette.get_database(database))
    if not tables or (table is not None and table not in tables):
        return []
    return [datasette.urls.static_plugins("datasette-image-search", "image-search-tables.css")]


def _kind(template: str) -> str:
    """The page that a template is for, also for a person's own template: query-photos.html."""
    return template.removesuffix(".html").split("-")[0]
