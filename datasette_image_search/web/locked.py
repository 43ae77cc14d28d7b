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

DAMAGED = (
    "this database is damaged; take a backup, or what .recover of the command sqlite3 finds in it"
)

HALF_WRITTEN = (
    "a program was ended while it wrote to this database, which this server may not put right; let a program "
    "that may write open it once, such as: sqlite-utils tables PATH"
)

_HALF_WRITTEN = "attempt to write a readonly database"
"""What SQLite says of it: nobody writes here, but the journal of another would have to be played back."""


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


def why_not_now(error: sqlite3.Error) -> str | None:
    """A sentence about the whole database as it is just now, None for what is about the request."""
    sentence, _ = _told(error)
    return sentence if sentence in (LOCKED, HALF_WRITTEN) else None


def on_other_pages(exception: Exception) -> Response | None:
    """Of Datasette itself, which has no answer for a database that was left half written."""
    if str(getattr(exception, "message", exception)) != _HALF_WRITTEN:
        return None
    return Response.text(HALF_WRITTEN, status=503)


def _told(error: sqlite3.Error) -> tuple[str | None, int]:
    """The sentence for a person and the status, or None for what is a fault of ours."""
    if is_locked(error):
        return LOCKED, 503
    if str(error) == _HALF_WRITTEN:
        return HALF_WRITTEN, 503
    if str(error) == "interrupted":
        return TOO_SLOW, 503
    if str(error) == "string or blob too big":
        return TOO_LARGE, 400
    if "malformed" in str(error):
        return DAMAGED, 503
    if str(error).startswith(
        ("no such function", "unknown function", "no such collation", "no such module")
    ):
        return f"this database needs what is not installed here: {error}", 400
    return None, 500
