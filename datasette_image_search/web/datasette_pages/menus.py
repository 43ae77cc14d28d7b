"""Links to the search pages in Datasette's menus, and above its lists of databases and tables in 1.0."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, ParamSpec

from datasette.app import Datasette
from datasette.utils.asgi import Request
from markupsafe import Markup

from ...search.query import image_term
from ..access.image_tables import (
    UNREADABLE,
    image_tables,
    visible_image_tables,
    visible_table,
)
from ..compat import can_view_table
from ..urls import TableUrls

Link = dict[str, str]

P = ParamSpec("P")


def _if_readable(links: Callable[P, Awaitable[list[Link]]]) -> Callable[P, Awaitable[list[Link]]]:
    """The links, or none of a database that cannot be read: a page is worth more than what is added to it."""

    @wraps(links)
    async def found(*args: P.args, **options: P.kwargs) -> list[Link]:
        try:
            return await links(*args, **options)
        except UNREADABLE:
            return []

    return found


async def menu(datasette: Datasette, actor: dict[str, Any] | None) -> list[Link]:
    """One link, for everybody who may see an image table."""
    for database in list(datasette.databases.values()):
        if await visible_image_tables(datasette, actor, database):
            return [{"href": datasette.urls.path("/-/image-search"), "label": "Search images"}]
    return []


async def of_database(
    datasette: Datasette, actor: dict[str, Any] | None, database: str
) -> list[Link]:
    names = await visible_image_tables(datasette, actor, datasette.get_database(database))
    return [
        {
            "href": TableUrls(datasette, database, name).page(),
            "label": f"Search images of {name}",
            "description": "By words, by a picture, or both",
        }
        for name in names
    ]


@_if_readable
async def of_table(
    datasette: Datasette, actor: dict[str, Any] | None, database: str, table: str
) -> list[Link]:
    """Links of an image table, or of a view of one."""
    served = datasette.get_database(database)
    if await visible_table(datasette, actor, served, table) is None:
        return []
    return [
        {
            "href": TableUrls(datasette, database, table).page(),
            "label": "Search images",
            "description": "By words, by a picture, or both",
        }
    ]


@_if_readable
async def of_row(
    datasette: Datasette, actor: dict[str, Any] | None, database: str, table: str, row: Any
) -> list[Link]:
    shown = (await image_tables(datasette.get_database(database))).get(table)
    if shown is None or not await can_view_table(datasette, actor, database, table):
        return []
    key = row[shown.table.key]
    if not shown.table.is_key(key):
        return []
    return [
        {
            "href": TableUrls(datasette, database, table).page([("q", image_term(key))]),
            "label": "More like this",
            "description": "The images closest to this one",
        }
    ]


async def above_databases(datasette: Datasette, request: Request) -> Markup:
    return _paragraph(await menu(datasette, request.actor))


async def above_tables(datasette: Datasette, request: Request, database: str) -> Markup:
    return _paragraph(await of_database(datasette, request.actor, database))


def _paragraph(links: list[Link]) -> Markup:
    """A paragraph of links; nothing if there are none."""
    anchors = [Markup('<a href="{}">{}</a>').format(each["href"], each["label"]) for each in links]
    return Markup("<p>{}</p>").format(Markup(", ").join(anchors)) if anchors else Markup("")
