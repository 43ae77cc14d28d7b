"""Links to the search pages in Datasette's menus, and search boxes above its lists of databases and tables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec

from datasette.app import Datasette
from datasette.database import Database
from datasette.utils.asgi import Request
from markupsafe import Markup

from ...search.query import image_term
from ..access.image_tables import (
    UNREADABLE,
    image_tables,
    sees_image_tables,
    visible_image_tables,
    visible_table,
)
from ..compat import can_view_table, table_title
from ..urls import TableUrls

Link = dict[str, str]

MOST_BOXES = 5
"""Search boxes on a page that lists tables or databases."""

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
    if await sees_image_tables(datasette, actor):
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
    """The search boxes of Datasette's home page."""
    return await _boxes(datasette, request, list(datasette.databases.values()))


async def above_tables(datasette: Datasette, request: Request, database: str) -> Markup:
    """The search boxes of the page of a database."""
    return await _boxes(datasette, request, [datasette.get_database(database)])


async def _visible(
    datasette: Datasette, request: Request, databases: Sequence[Database]
) -> AsyncIterator[tuple[str, str]]:
    """Database and name of the image tables that the actor may see, of no more databases than are asked for."""
    for database in databases:
        for name in await visible_image_tables(datasette, request.actor, database):
            yield database.name, name


async def _boxes(datasette: Datasette, request: Request, databases: Sequence[Database]) -> Markup:
    """A box for each of the first image tables that the actor may see; nothing if there are none."""
    boxes: list[dict[str, str]] = []
    others = None
    async for database, name in _visible(datasette, request, databases):
        if len(boxes) == MOST_BOXES:
            others = datasette.urls.path("/-/image-search")
            break
        title = await table_title(datasette, database, name)
        action = TableUrls(datasette, database, name).page()
        boxes.append({"action": action, "title": title, "database": database})
    titles = [box["title"] for box in boxes]
    for box in boxes:
        if titles.count(box["title"]) > 1:
            box["title"] = f"{box['database']}: {box['title']}"
    if not boxes:
        return Markup("")
    context = {"boxes": boxes, "others": others}
    return Markup(await datasette.render_template("_image_search_boxes.html", context))
