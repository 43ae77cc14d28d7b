"""
Pages of a long set of images, which have it in their path instead of in their query string: links that are relative to such a
page have the set without repeating it, where a page of sixty pictures would repeat it three hundred times.
"""

from __future__ import annotations

from functools import wraps
from urllib.parse import urlencode

from datasette.app import Datasette
from datasette.utils import tilde_decode
from datasette.utils.asgi import Request, Response

from ..access.requested_table import requested_table
from ..errors import Handler
from ..urls import AMONG, check_url, long_set, pairs_of


def of_a_set(view: Handler) -> Handler:
    """The handler for a path with a set in it, which it finds in the query string, as everywhere."""

    @wraps(view)
    async def seen(datasette: Datasette, request: Request) -> Response:
        pairs = [(AMONG, tilde_decode(request.url_vars["among"])), *pairs_of(request)]
        # In place: Datasette keeps messages on the request that it knows.
        request.scope = {**request.scope, "query_string": urlencode(pairs).encode()}
        return await view(datasette, request)

    return seen


def with_short_links(view: Handler) -> Handler:
    """The handler, with a redirect to the path with the set in it if the query string has a long one."""

    @wraps(view)
    async def redirected(datasette: Datasette, request: Request) -> Response:
        pairs = pairs_of(request)
        if request.url_vars.get("format") or long_set(pairs) is None:
            return await view(datasette, request)
        check_url(request)
        urls = (await requested_table(datasette, request)).urls
        id = request.url_vars.get("id")
        return Response.redirect(
            urls.page(pairs) if id is None else urls.image_page(tilde_decode(id), pairs)
        )

    return redirected
