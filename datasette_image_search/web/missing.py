"""A picture that is not there: a sentence, and none of what Datasette does for a page that is not there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps

from datasette.app import Datasette
from datasette.utils.asgi import NotFound, Request, Response

View = Callable[[Datasette, Request], Awaitable[Response]]


def told_when_missing(view: View) -> View:
    """The view, with a short answer in the place of the exception: a page asks for many pictures."""

    @wraps(view)
    async def told(datasette: Datasette, request: Request) -> Response:
        try:
            return await view(datasette, request)
        except NotFound as error:
            if "%" in request.path:
                raise  # Datasette knows where such a URL is to go.
            return Response.text(str(error), status=404)

    return told
