"""The page of the albums of an image table, also as JSON, and the short URL of an album."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from datasette.app import Datasette
from datasette.utils.asgi import Request, Response
from datasette.views.base import DatasetteError
from markupsafe import Markup

from ...store import Key, reads
from ...store.album_rows import Album
from ...store.albums import album_name, read_albums
from ..access.album_rights import album_rights
from ..access.requested_table import RequestedTable, requested_table
from ..compat import csrf_token
from ..facets.words import ALBUMS
from ..reading import read_bounded
from ..urls import check_url, whole_number
from .album_changes import change_albums
from .responses import as_json, json_head
from .search_page import table_context


@dataclass(frozen=True)
class ShownAlbum:
    """`url` is the search of its images, `short_url` stays the same when it gets another name."""

    id: int
    name: str
    images: int
    url: str
    short_url: str
    cover_url: str | None


async def albums_page(datasette: Datasette, request: Request) -> Response:
    """
    /-/image-search/DATABASE/TABLE/albums and .json, and the POST that changes them. The JSON has the rights of the
    actor and the token to send as x-csrftoken.
    """
    if request.method == "POST":
        return await change_albums(datasette, request)
    check_url(request)
    requested = await requested_table(datasette, request)
    rights = await album_rights(requested)
    albums = await _shown_albums(requested) if rights.see else []
    if request.url_vars.get("format"):
        known = [
            {"id": album.id, "name": album.name, "images": album.images, "url": album.url}
            for album in albums
        ]
        may = {"add": rights.add, "create": rights.create, "remove": rights.remove}
        token = csrf_token(request) if rights.change else ""
        answer = {**json_head(requested), "albums": known, "may": may, "csrftoken": token}
        response = as_json(datasette, answer)
        response.headers["cache-control"] = "no-store"
        return response
    context = {
        **await table_context(requested),
        "albums": albums,
        "rights": rights,
        # A page with a token cannot be cached.
        "token": csrf_token(request) if rights.change else "",
        "page_url": requested.urls.page(),
        "albums_url": requested.urls.albums(),
    }
    html = await datasette.render_template("image_search_albums.html", context, request=request)
    return Response.html(html)


async def album(datasette: Datasette, request: Request) -> Response:
    """/-/image-search/DATABASE/TABLE/album/ID: goes to the search of the images in it."""
    requested = await requested_table(datasette, request)
    id, rights = whole_number(request.url_vars["album"]), await album_rights(requested)
    name = None
    if rights.see and id is not None:
        name = await read_bounded(
            requested.database, lambda conn: album_name(conn, requested.table, id)
        )
    if name is None:
        raise DatasetteError(
            Markup('There is no album {}. <a href="{}">All albums</a>').format(
                request.url_vars["album"], requested.urls.albums()
            ),
            title="Albums",
            status=404,
            message_is_html=True,
        )
    return Response.redirect(requested.urls.page([(ALBUMS.argument, name)]))


async def _shown_albums(requested: RequestedTable) -> list[ShownAlbum]:
    urls, table, view = requested.urls, requested.table, requested.view
    shown = view.images(None) if view is not None else None

    def read(conn: sqlite3.Connection) -> tuple[list[Album], dict[Key, str | None]]:
        albums = read_albums(conn, table, shown)
        covers = [album.cover for album in albums if album.cover is not None]
        return albums, reads.versions(conn, table, covers)

    albums, versions = await read_bounded(requested.database, read)
    return [
        ShownAlbum(
            album.id,
            album.name,
            album.images,
            urls.page([(ALBUMS.argument, album.name)]),
            urls.album(album.id),
            None if album.cover is None else urls.thumbnail(album.cover, versions.get(album.cover)),
        )
        for album in albums
    ]
