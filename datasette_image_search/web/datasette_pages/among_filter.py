"""`?_among=` as a filter, on the table page as on ours."""

from __future__ import annotations

from dataclasses import replace

from datasette.app import Datasette
from datasette.filters import FilterArguments
from datasette.utils.asgi import Request
from datasette.views.base import DatasetteError

from ...store.filters import IdSet
from ..access.image_tables import pictured_tables
from ..among import read_among
from ..urls import AMONG, RequestError


async def filter_among(
    datasette: Datasette, request: Request, database: str, table: str
) -> FilterArguments | None:
    """
    The filter for the images of the set in the URL; None if there is none.

    Raises DatasetteError, status 400, for what is no set, or a table without images.
    """
    try:
        among = read_among(request)
    except RequestError as error:
        raise DatasetteError(str(error), title="Image search", status=400) from error
    if among is None:
        return None
    shown = (await pictured_tables(datasette.get_database(database))).get(table)
    if shown is None:
        raise DatasetteError(
            f"{table!r} has no images, so {AMONG} cannot filter it",
            title="Image search",
            status=400,
        )
    filter = IdSet(among.keys).as_filter(replace(shown.table, name=table), "_img_set")
    return FilterArguments([filter.where], dict(filter.params), [among.description])
