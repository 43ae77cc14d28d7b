"""
Errors that are no fault of ours: one sentence for the person, and no traceback on the terminal.

With the package rich installed, which our extra "transformers" brings along, Datasette prints each
error with the variables of all functions, on the thread that serves everybody: 0.6 seconds for a page
that is not there, and a minute for a long URL.
"""

from __future__ import annotations

import sqlite3
import types
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

from datasette.app import Datasette
from datasette.database import QueryInterrupted
from datasette.utils.asgi import Base400, NotFound, Request, Response
from datasette.views.base import DatasetteError
from markupsafe import Markup

from ..errors import ImageSearchError
from ..store.transactions import is_interrupted, is_locked

LOCKED = "another program is writing to this database just now; try again in a moment"

TOO_SLOW = "this database takes too long to read; try again in a moment"

TOO_LARGE = "this database holds a value that is too large for a page"

DAMAGED = "this database is damaged; restore a backup, or save what can be read with: sqlite3 PATH .recover"

HALF_WRITTEN = (
    "a program was killed while it wrote to this database, and this server may not repair it; open it once "
    "with a program that may write, such as: sqlite-utils tables PATH"
)

_HALF_WRITTEN = "attempt to write a readonly database"
"""SQLite's message for a read-only connection that would have to roll back the journal of a killed writer."""


_CORE = "datasette.handle_exception"

Handler = Callable[[Datasette, Request], Awaitable[Response]]


class TooLong(ImageSearchError):
    """Filters that need more time than Datasette allows."""


@contextmanager
def told_when_too_long(datasette: Datasette, *, is_filtered: bool) -> Iterator[None]:
    """A TooLong in place of the error of a search that ran into sql_time_limit_ms, with filters that a person can remove or without."""
    try:
        yield
    except (sqlite3.OperationalError, QueryInterrupted) as error:
        if not (isinstance(error, QueryInterrupted) or is_interrupted(error)):
            raise
        limit = datasette.setting("sql_time_limit_ms")
        raise TooLong(
            f"this search took more than the {limit:,} ms that sql_time_limit_ms allows; "
            + ("remove a filter, or " if is_filtered else "try again, or ")
            + "filter by a column with an index"
        ) from error


def told_when_locked(view: Handler) -> Handler:
    """The handler, with a DatasetteError in place of an error of SQLite."""

    @wraps(view)
    async def told(datasette: Datasette, request: Request) -> Response:
        try:
            return await view(datasette, request)
        except QueryInterrupted as error:
            raise DatasetteError(TOO_SLOW, title="Image search", status=503) from error
        except sqlite3.Error as error:
            sentence, status = _told(error)
            if sentence is None:
                raise
            raise DatasetteError(sentence, title="Image search", status=status) from error

    return told


def why_not_now(error: sqlite3.Error) -> str | None:
    """A sentence about the present state of the database; None for an error that the request caused."""
    sentence, _ = _told(error)
    return sentence if sentence in (LOCKED, HALF_WRITTEN) else None


def on_other_pages(exception: Exception) -> Response | None:
    """The answer of Datasette's own pages for a database that was left half written: Datasette has none."""
    if str(getattr(exception, "message", exception)) != _HALF_WRITTEN:
        return None
    return Response.text(HALF_WRITTEN, status=503)


def _told(error: sqlite3.Error) -> tuple[str | None, int]:
    """The sentence for a person and the status; None for a fault of ours."""
    if is_locked(error):
        return LOCKED, 503
    if str(error) == _HALF_WRITTEN:
        return HALF_WRITTEN, 503
    if is_interrupted(error):
        return TOO_SLOW, 503
    if str(error) == "string or blob too big":
        return TOO_LARGE, 400
    if "malformed" in str(error):
        return DAMAGED, 503
    if str(error).startswith(
        ("no such function", "unknown function", "no such collation", "no such module")
    ):
        return f"this database needs something that is not installed here: {error}", 400
    return None, 500


def told_when_missing(view: Handler) -> Handler:
    """The handler, with a short answer in place of Datasette's page for NotFound: a page asks for many pictures."""

    @wraps(view)
    async def told(datasette: Datasette, request: Request) -> Response:
        try:
            return await view(datasette, request)
        except NotFound as error:
            if "%" in request.path:
                raise  # Datasette redirects such URLs.
            return Response.text(str(error), status=404)

    return told


def wants_data(request: Request) -> bool:
    """Whether the answer is for a program; Datasette writes errors as JSON for a path that ends so."""
    return bool(request.url_vars.get("format")) or request.path.endswith(".json")


def told_with_the_list(view: Handler) -> Handler:
    """The handler of a page, with a link to the list of image tables beside the sentence of a NotFound."""

    @wraps(view)
    async def told(datasette: Datasette, request: Request) -> Response:
        try:
            return await view(datasette, request)
        except NotFound as error:
            if "%" in request.path or wants_data(request):
                raise  # Datasette redirects such URLs, and JSON has no links.
            raise DatasetteError(
                Markup('{}. <a href="{}">All image tables</a>').format(
                    str(error), datasette.urls.path("/-/image-search")
                ),
                title="Image search",
                status=404,
                message_is_html=True,
            ) from error

    return told


def without_traceback(
    datasette: Datasette, exception: Exception, responses: Sequence[Any]
) -> list[Any]:
    """
    The answers of the hooks for an exception. Datasette's own prints no traceback if the exception comes
    with a sentence; of all others, which are faults, it prints all it knows.
    """
    if datasette.pdb or not isinstance(exception, Base400 | DatasetteError):
        return list(responses)
    return [_quiet(response) for response in responses]


def _quiet(response: Any) -> Any:
    if not isinstance(response, types.FunctionType) or response.__module__ != _CORE:
        return response
    # Datasette prints while it makes the answer, and has no setting for that. So a copy of its function
    # that knows of no rich: to hide rich for a moment would hide it from other requests, too.
    copy = types.FunctionType(
        response.__code__,
        {**response.__globals__, "rich": None},
        response.__name__,
        response.__defaults__,
        response.__closure__,
    )
    copy.__kwdefaults__ = response.__kwdefaults__
    return copy
