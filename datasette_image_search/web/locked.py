"""
A database that cannot be read just now, because another program has locked it or was killed while it wrote:
a 503 that says so, and no traceback.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from functools import wraps

from datasette.app import Datasette
from datasette.utils.asgi import Request, Response
from datasette.views.base import DatasetteError

LOCKED = "another program is writing to this database just now; try again in a moment"

HALF_WRITTEN = (
    "a program was ended while it wrote to this database, which this server may not put right; let a program "
    "that may write open it once, such as: sqlite-utils tables PATH"
)

_SENTENCES = {
    # Word for word: the names of tables and columns are in other messages.
    "database is locked": LOCKED,
    # Nobody writes here: it is the journal of another that would have to be played back first.
    "attempt to write a readonly database": HALF_WRITTEN,
}

View = Callable[[Datasette, Request], Awaitable[Response]]


def why_not_now(error: Exception) -> str | None:
    """A sentence, or None where something else is wrong."""
    return _SENTENCES.get(str(error)) if isinstance(error, sqlite3.OperationalError) else None


def told_when_locked(view: View) -> View:
    """The view, with a DatasetteError in the place of SQLite's error."""

    @wraps(view)
    async def told(datasette: Datasette, request: Request) -> Response:
        try:
            return await view(datasette, request)
        except sqlite3.OperationalError as error:
            sentence = why_not_now(error)
            if sentence is None:
                raise
            raise DatasetteError(sentence, title="Image search", status=503) from error

    return told


def on_other_pages(exception: Exception) -> Response | None:
    """Of Datasette itself, which has no answer for a database that was left half written."""
    sentence = getattr(exception, "message", None) or str(exception)
    if _SENTENCES.get(sentence) != HALF_WRITTEN:
        return None
    return Response.text(HALF_WRITTEN, status=503)
