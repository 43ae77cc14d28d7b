"""What SQLite cannot read just now, or not within bounds: a sentence, and no traceback."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from functools import wraps

from datasette.app import Datasette
from datasette.utils.asgi import Request, Response
from datasette.views.base import DatasetteError

from ..store import is_locked

LOCKED = "another program is writing to this database just now; try again in a moment"

TOO_SLOW = "this database takes too long to read; try again in a moment"

TOO_LARGE = "this database holds a value that is too large to be read for a page"

View = Callable[[Datasette, Request], Awaitable[Response]]


def told_when_locked(view: View) -> View:
    """The view, with a DatasetteError in the place of SQLite's error."""

    @wraps(view)
    async def told(datasette: Datasette, request: Request) -> Response:
        try:
            return await view(datasette, request)
        except sqlite3.Error as error:
            sentence, status = _told(error)
            if sentence is None:
                raise
            raise DatasetteError(sentence, title="Image search", status=status) from error

    return told


def _told(error: sqlite3.Error) -> tuple[str | None, int]:
    """The sentence for a person and the status, or None for what is a fault of ours."""
    if is_locked(error):
        return LOCKED, 503
    if str(error) == "interrupted":
        return TOO_SLOW, 503
    if str(error) == "string or blob too big":
        return TOO_LARGE, 400
    return None, 500
