"""A database that another program has locked: a 503 that says to come again, and no traceback."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from functools import wraps

from datasette.app import Datasette
from datasette.utils.asgi import Request, Response
from datasette.views.base import DatasetteError

from ..store import is_locked

LOCKED = "another program is writing to this database just now; try again in a moment"

View = Callable[[Datasette, Request], Awaitable[Response]]


def told_when_locked(view: View) -> View:
    """The view, with a DatasetteError in the place of SQLite's error."""

    @wraps(view)
    async def told(datasette: Datasette, request: Request) -> Response:
        try:
            return await view(datasette, request)
        except sqlite3.OperationalError as error:
            if not is_locked(error):
                raise
            raise DatasetteError(LOCKED, title="Image search", status=503) from error

    return told
