"""All images that the URL of a search finds, not only those of one page: what is added to an album, or downloaded."""

from __future__ import annotations

import sqlite3

from ...store import Key
from ...store.filters import image_ids, naming_the_filter
from ..access.requested_table import RequestedTable
from ..errors import told_when_too_long
from ..urls import RequestError
from .results import found_images, within_limits
from .search_page import is_ready
from .search_request import DEEPEST, read_request
from .timed_reads import in_time


async def found_ids(requested: RequestedTable) -> list[Key]:
    """
    The ids of the images that the URL of a request finds, each once. By a query, they are those within its limits, such
    as its matches, or those that are sorted.

    Raises an ImageSearchError with a sentence for the person, also if the query only says which images come first.
    """
    wanted = await read_request(requested)
    filtered = bool(wanted.filter_words)
    if wanted.query:
        await is_ready(requested, wanted, None)
    if wanted.limit is not None or (wanted.query and wanted.order):
        shown = await found_images(requested, wanted.part(0, wanted.limit or DEEPEST))
        return [image.id for image in shown]
    with (
        told_when_too_long(requested.datasette, is_filtered=filtered),
        naming_the_filter(requested.table, wanted.filter),
    ):
        if wanted.query:
            if not wanted.is_limited:
                raise RequestError(
                    "this search puts all images in an order; choose its matches only, or some of the images"
                )
            wanted, _ = await within_limits(requested, wanted, is_bounded=False)
        filter = wanted.filter

        def read(conn: sqlite3.Connection) -> list[Key]:
            return image_ids(conn, requested.table, filter)

        return await in_time(requested, read)
