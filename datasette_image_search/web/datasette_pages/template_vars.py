"""Template variables and style sheets for Datasette's own pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasette.app import Datasette
from datasette.database import Database
from datasette.utils.asgi import Request
from jinja2 import Environment

from ..access.image_tables import pictured_tables
from ..access.linked_tables import links
from ..compat import add_templates, has_places_on_pages
from ..sql_errors import query_page_vars
from .menus import above_databases, above_tables
from .table_page import table_page_vars

TEMPLATES_0_65 = Path(__file__).parents[2] / "templates_0_65"


def prepare(env: Environment) -> None:
    """Puts search boxes at the top of pages, if Datasette has no hooks for it."""
    if not has_places_on_pages():
        add_templates(env, TEMPLATES_0_65)


async def of_page(
    datasette: Datasette,
    request: Request | None,
    template: str | None,
    database: str | None,
    table: str | None,
    columns: Sequence[str] | None,
) -> dict[str, Any]:
    if request is None or template is None:
        return {}
    kind = _kind(template)
    if not has_places_on_pages() and kind in ("index", "database"):
        above = (
            above_databases(datasette, request)
            if database is None
            else above_tables(datasette, request, database)
        )
        return {"image_search_boxes": await above}
    if database is None:
        return {}
    if kind == "table" and table is not None:
        return await table_page_vars(datasette, request, database, table)
    # A query that failed has no columns.
    if kind == "query" and not columns:
        return await query_page_vars(datasette, request, database)
    return {}


async def css_urls(
    datasette: Datasette, template: str | None, database: str | None, table: str | None
) -> list[str]:
    """The style sheet, on pages of image tables, of tables that lead to them, and of queries in databases that have some."""
    if template is None or database is None or _kind(template) not in ("table", "row", "query"):
        return []
    served = datasette.get_database(database)
    tables = await pictured_tables(served)
    if not tables or (
        table is not None and table not in tables and not await _leads(served, table)
    ):
        return []
    return [datasette.urls.static_plugins("datasette-image-search", "image-search-tables.css")]


async def _leads(database: Database, table: str) -> bool:
    return table in await links(database)


def _kind(template: str) -> str:
    """The page that a template is for, also for a person's own template: query-photos.html."""
    return template.removesuffix(".html").split("-")[0]
