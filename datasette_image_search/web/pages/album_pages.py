"""The page of the albums of an image table, also as JSON, and the short URL of an album."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import parse_qsl

from datasette.app import Datasette
from datasette.utils.asgi import Request, Response
from datasette.views.base import DatasetteError
from markupsafe import Markup

from ...errors import ImageSearchError, counted
from ...store import Key, reads
from ...store.album_rows import Album
from ...store.albums import album_name, named_album, read_albums
from ..access.album_rights import AlbumRights, album_rights
from ..access.requested_table import RequestedTable, requested_table
from ..compat import csrf_token
from ..errors import told_when_locked
from ..facets.words import ALBUMS
from ..reading import read_bounded
from ..urls import LONGEST, check_url, whole_number
from .album_changes import (
    OF_IMAGES,
    UNDO,
    UNDO_NEW,
    Change,
    Fields,
    NotAllowed,
    change_albums,
    read_fields,
)
from .album_form import album_form, search_of
from .responses import accepts_json, as_json, json_head, told_to_programs
from .search_page import table_context
from .timed_reads import in_time


@dataclass(frozen=True)
class ShownAlbum:
    """
    `url` is the search of its images, `short_url` stays the same when it gets another name. `is_about` says that some of the
    `images` may be gone.
    """

    id: int
    name: str
    images: int
    url: str
    short_url: str
    cover_url: str | None
    is_about: bool = False


@dataclass(frozen=True)
class Told:
    """
    What is told of images that came into an album or left it, with the form that undoes exactly that, None if nothing can; and
    the search of what the form was for.
    """

    sentence: str
    album: str
    url: str
    undo: dict[str, str] | None
    back_url: str | None


async def albums_page(datasette: Datasette, request: Request) -> Response:
    """
    /-/image-search/DATABASE/TABLE/albums and .json, and the POST that changes them. The JSON has the rights of the
    actor and the token to send as x-csrftoken.
    """
    if request.method == "POST":
        return await _changed(datasette, request)
    check_url(request)
    requested = await requested_table(datasette, request)
    rights = await album_rights(requested)
    if not request.url_vars.get("format"):
        return await _html(requested, rights)
    known = [
        {
            "id": album.id,
            "name": album.name,
            "images": album.images,
            "is_about": album.is_about,
            "url": album.url,
        }
        for album in await _shown_albums(requested, rights)
    ]
    may = {"add": rights.add, "create": rights.create, "remove": rights.remove}
    token = csrf_token(request) if rights.change else ""
    answer = {**json_head(requested), "albums": known, "may": may, "csrftoken": token}
    response = as_json(datasette, answer)
    response.headers["cache-control"] = "no-store"
    return response


@told_to_programs
@told_when_locked
async def _changed(datasette: Datasette, request: Request) -> Response:
    """
    The page of the albums, or of the image that the form was on; for a program that accepts JSON, the album: its name, URL
    and number of images, how many were added or removed, and the form that undoes it.
    """
    check_url(request)
    requested = await requested_table(datasette, request)
    rights, fields = await album_rights(requested), None
    try:
        if not rights.change:
            # Before anything else is read, which might tell what there is.
            raise NotAllowed("you may not change albums here; sign in as somebody who may")
        fields = await read_fields(request)
        change = await change_albums(requested, rights, fields)
    except (ImageSearchError, DatasetteError) as error:
        sentence = str(getattr(error, "message", error))
        status = 403 if isinstance(error, NotAllowed) else getattr(error, "status", 400)
        if fields is None or accepts_json(request) or status >= 500:
            raise DatasetteError(sentence, title="Albums", status=status) from error
        return await _html(requested, rights, fields=fields, error=sentence, status=status)
    # With the first album, the tables came that rights are to.
    rights = await album_rights(requested)
    database, table = requested.database, requested.table
    album = await read_bounded(database, lambda conn: named_album(conn, table, change.album))
    name = album.name if album else change.album
    url = requested.urls.page([(ALBUMS.argument, name)])
    undo = _undo(rights, fields.action, name, change) if album else None
    if accepts_json(request):
        answer = {
            "ok": True,
            "album": name,
            "images": album.images if album else None,
            "changed": change.images,
            "undo": undo,
            "url": url,
        }
        return as_json(datasette, answer)
    if fields.action not in OF_IMAGES:
        return Response.redirect(requested.urls.albums())
    sentence = f"{counted(change.images, 'image')} {SAID[fields.action]}"
    if fields.image:
        datasette.add_message(request, f"{sentence} {name}.")
        is_long = len(fields.came_from) > LONGEST
        came_from = [] if is_long else parse_qsl(fields.came_from, keep_blank_values=True)
        return Response.redirect(requested.urls.image_page(fields.image, came_from))
    back = request.query_string if fields.search is None else fields.search
    back_url = requested.urls.page(parse_qsl(back, keep_blank_values=True))
    is_short = len(back) <= LONGEST
    told = Told(sentence, name, url, undo, back_url if is_short else None)
    return await _html(requested, rights, told=told)


SAID = {"add": "added to", "remove": "taken out of"}


def _undo(rights: AlbumRights, action: str, album: str, change: Change) -> dict[str, str] | None:
    """The fields of the form that takes out exactly what came, or brings back what left."""
    may = {"add": rights.remove, "remove": rights.add}
    search = search_of(change.ids)
    if search is None or not may.get(action):
        return None
    undo = UNDO_NEW if change.is_new else UNDO
    return {"action": OF_IMAGES[action], "album": album, "search": search, "undo": undo}


async def _html(
    requested: RequestedTable,
    rights: AlbumRights,
    *,
    told: Told | None = None,
    fields: Fields | None = None,
    error: str = "",
    status: int = 200,
) -> Response:
    """With an `error`, `fields` are what was typed into the form that it is about."""
    images = None
    if fields is not None and fields.action in OF_IMAGES:
        search = requested.request.query_string if fields.search is None else fields.search
        images = await album_form(requested, search, 1 if fields.image else None)
    if images is not None and fields is not None:
        images = replace(
            images, album=fields.album, error=error, image=fields.image, came_from=fields.came_from
        )
    context = {
        **await table_context(requested),
        "albums": await _shown_albums(requested, rights),
        "rights": rights,
        # A page with a token cannot be cached.
        "token": csrf_token(requested.request) if rights.change else "",
        "page_url": requested.urls.page(),
        "albums_url": requested.urls.albums(),
        "told": told,
        "typed": fields,
        "error": error,
        "album_form": images,
    }
    html = await requested.datasette.render_template(
        "image_search_albums.html", context, request=requested.request
    )
    return Response.html(html, status=status)


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


async def _shown_albums(requested: RequestedTable, rights: AlbumRights) -> list[ShownAlbum]:
    if not rights.see:
        return []
    urls, table, view = requested.urls, requested.table, requested.view
    shown = view.images(None) if view is not None else None

    def read(
        conn: sqlite3.Connection, *, exact: bool = True
    ) -> tuple[list[Album], dict[Key, str | None], bool]:
        albums = read_albums(conn, table, shown, exact=exact)
        covers = [album.cover for album in albums if album.cover is not None]
        return albums, reads.versions(conn, table, covers), not exact

    albums, versions, is_about = await in_time(requested, read, partial(read, exact=False))
    return [
        ShownAlbum(
            album.id,
            album.name,
            album.images,
            urls.page([(ALBUMS.argument, album.name)]),
            urls.album(album.id),
            None if album.cover is None else urls.thumbnail(album.cover, versions.get(album.cover)),
            is_about,
        )
        for album in albums
    ]
