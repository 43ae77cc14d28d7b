"""What is done when Datasette starts, before the first request."""

from __future__ import annotations

from datasette.app import Datasette

from . import labels, side_tables, warm_up
from .configuration import log_problems


async def start(datasette: Datasette) -> None:
    log_problems(datasette)
    labels.hide_from_strangers(datasette)
    # Opens each database, from which on it is known how.
    await side_tables.hide_in_all(datasette)
    warm_up.start(datasette)
