"""Pictures over HTTP."""

from __future__ import annotations

import hashlib

from datasette.app import Datasette
from datasette.utils import tilde_decode
from datasette.utils.asgi import NotFound, Request, Response

from .. import store
from .access import viewed_table

SAFE_HEADERS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; sandbox",
}
"""Whatever the bytes are, a browser is to show them as a picture, or not at all."""


async def thumbnail(datasette: Datasette, request: Request) -> Response:
    """The stored WebP of one image; the same 404 for no row, no thumbnail and no WebP."""
    viewed = await viewed_table(datasette, request)
    text = tilde_decode(request.url_vars["id"])
    not_found = NotFound(f"There is no thumbnail of {text!r}")
    image_id = viewed.table.parse_key(text)
    if image_id is None:
        raise not_found
    webp = await viewed.database.execute_fn(
        lambda conn: store.thumbnail(conn, viewed.table, image_id)
    )
    if webp is None or webp[:4] != b"RIFF" or webp[8:12] != b"WEBP":
        raise not_found
    etag = f'"{hashlib.sha256(webp).hexdigest()[:32]}"'
    headers = {**SAFE_HEADERS, "etag": etag, "cache-control": "private, max-age=3600"}
    if request.headers.get("if-none-match") == etag:
        return Response("", status=304, headers=headers)
    return Response(webp, content_type="image/webp", headers=headers)
