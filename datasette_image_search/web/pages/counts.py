"""How many images a page is of, as far as they can be counted in time."""

from __future__ import annotations

import sqlite3
from contextlib import suppress

from ... import store
from ...search.hits import Count
from ...store.reads import count_images
from ...store.sampling import sample_of
from ...store.vectors import count_with_vector
from ..access.requested_table import RequestedTable
from ..reading import read_bounded
from .search_request import SearchRequest
from .timed_reads import Interrupted, no_longer_than

COUNTED = 10_000
"""If matching rows cannot be counted in time, the page says whether there are more than these."""


async def count_in_time(requested: RequestedTable, wanted: SearchRequest) -> Count:
    """How many images pass the filters, as far as facet_time_limit_ms lets them be counted; else about how many."""
    patience = requested.datasette.setting("facet_time_limit_ms")
    table, filter = requested.table, wanted.filter

    def count(conn: sqlite3.Connection) -> Count:
        sample = sample_of(conn, table)
        if sample is None or filter is not None or not sample.is_needed(patience):
            with suppress(Interrupted), no_longer_than(conn, patience):
                return Count(count_images(conn, table, filter))
        if sample is not None:
            # It takes no longer than it takes.
            limit = requested.datasette.setting("sql_time_limit_ms")
            with suppress(Interrupted), no_longer_than(conn, limit):
                estimated = sample.estimated(count_images(conn, table, filter, sample=sample))
                if estimated is not None:
                    return Count(estimated, "about")
        with suppress(Interrupted), no_longer_than(conn, patience):
            number = count_images(conn, table, filter, limit=COUNTED + 1)
            return Count(min(number, COUNTED), "more than" if number > COUNTED else "all")
        return Count(None)

    return await read_bounded(requested.database, count)


async def count_without_vector(requested: RequestedTable, wanted: SearchRequest) -> int | None:
    """The number of images of the table that no query finds, None without a query or if they cannot be counted in time."""
    patience = requested.datasette.setting("facet_time_limit_ms")

    def count(conn: sqlite3.Connection) -> int | None:
        sample = sample_of(conn, requested.table)
        if sample is not None and sample.is_needed(patience):
            return None
        with suppress(Interrupted), no_longer_than(conn, patience), store.snapshot(conn):
            images = count_images(conn, requested.table)
            return images - count_with_vector(conn, requested.index)
        return None

    return await read_bounded(requested.database, count) if wanted.query else None
