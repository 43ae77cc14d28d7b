"""A small picture in the cells of any table whose column is a foreign key to an image table."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any

from datasette.app import Datasette
from markupsafe import Markup

from ..access.linked_tables import known_links, links
from ..access.visits import current_visit, visitor_sees
from ..urls import TableUrls

# The picture is asked for without its version, which would be a look into the database for each cell. One that is not
# there takes no room, as its text is beside it.
_CELL = Markup(
    '<a class="image-search-linked" href="{page}">'
    '<img src="{src}" alt="" height="48" loading="lazy"> {label}</a>'
)
_KEY = Markup("&nbsp;<em>{key}</em>")


Cell = Coroutine[Any, Any, Markup | None]


def first_of(*cells: Cell | None) -> Cell | None:
    """The first of them that has something to show. All are awaited, as Datasette awaits none after that."""
    some = [cell for cell in cells if cell is not None]
    if len(some) < 2:
        return some[0] if some else None

    async def first() -> Markup | None:
        shown = [await cell for cell in some]
        return next((cell for cell in shown if cell is not None), None)

    return first()


def linked_cell(
    datasette: Datasette, database: str, table: str | None, column: str, value: Any
) -> Cell | None:
    """The picture of the image that a cell leads to, with its label, as a link to its page; else None."""
    # Nearly all cells return before a coroutine is made.
    if table is None or value is None:
        return None
    known = known_links(datasette.get_database(database))
    if known is not None and column not in known.get(table, ()):
        return None
    return _cell(datasette, database, table, column, value)


async def _cell(
    datasette: Datasette, database: str, table: str, column: str, value: Any
) -> Markup | None:
    images = (await links(datasette.get_database(database))).get(table, {}).get(column)
    # A foreign key comes as a mapping if it has a label.
    key, label = (value["value"], value["label"]) if isinstance(value, Mapping) else (value, None)
    if images is None or not images.is_key(key):
        return None
    if not await visitor_sees(datasette, database, images.name):
        return None
    if not current_visit().may_show_a_picture():
        return None
    urls = TableUrls(datasette, database, images.name)
    named = label not in (None, "") and str(label) != str(key)
    cell = _CELL.format(
        page=urls.image_page(key), src=urls.thumbnail(key, None), label=label if named else key
    )
    return cell + _KEY.format(key=key) if named else cell
