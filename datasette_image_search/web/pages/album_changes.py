"""
Changes of albums, as a POST of a form: `action`, `album`, and the new `name` to rename it to. The images to add or to
remove are those that the query string of the URL finds, as on the search page; or the query string in the field `search`,
for sets that are too long for a URL.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from datasette.app import Datasette
from datasette.utils.asgi import Request, Response
from datasette.views.base import DatasetteError
from sqlite_utils import Database

from ...errors import ImageSearchError
from ...store import Key
from ...store.albums import (
    add_to_album,
    album_id,
    delete_album,
    named_album,
    remove_from_album,
    rename_album,
)
from ...store.connections import plain_rows, wrapped
from ..access.album_rights import album_rights
from ..access.requested_table import RequestedTable, requested_table
from ..errors import told_when_locked
from ..facets.words import ALBUMS
from ..reading import read_bounded
from ..urls import RequestError, check_url, pairs_of
from .responses import accepts_json, as_json, told_to_programs
from .result_set import found_ids

FORM = "application/x-www-form-urlencoded"


class NotAllowed(ImageSearchError):
    """A change that this actor may not make."""


@told_to_programs
@told_when_locked
async def change_albums(datasette: Datasette, request: Request) -> Response:
    """
    Answers a browser with the page of the albums, and a program that accepts JSON with the album: its name, URL and
    number of images, and how many were added or removed.
    """
    check_url(request)
    requested = await requested_table(datasette, request)
    try:
        name, changed = await _change(requested)
    except (ImageSearchError, DatasetteError) as error:
        sentence = str(getattr(error, "message", error))
        status = 403 if isinstance(error, NotAllowed) else getattr(error, "status", 400)
        raise DatasetteError(sentence, title="Albums", status=status) from error
    if not accepts_json(request):
        return Response.redirect(requested.urls.albums())
    database, table = requested.database, requested.table
    album = await read_bounded(database, lambda conn: named_album(conn, table, name))
    name = album.name if album else name
    answer = {
        "ok": True,
        "album": name,
        "images": album.images if album else None,
        "changed": changed,
        "url": requested.urls.page([(ALBUMS.argument, name)]),
    }
    return as_json(datasette, answer)


async def _change(requested: RequestedTable) -> tuple[str, int]:
    """The name that the album has now, and the number of images that came or left."""
    rights = await album_rights(requested)
    if not rights.change:
        # Before anything else is read, which might tell what there is.
        raise NotAllowed("you may not change albums here; sign in as somebody who may")
    form = await _form(requested.request)
    action, new = form.get("action", ""), form.get("name", "")
    album = form.get("album", "")
    database, table = requested.database, requested.table
    is_new = await read_bounded(database, lambda conn: album_id(conn, table, album)) is None
    allowed = {
        "add": rights.create if is_new else rights.add,
        "create": rights.create,
        "remove": rights.remove,
        "rename": rights.rename,
        "delete": rights.delete,
    }
    if action not in allowed:
        raise RequestError(f"action must be one of {', '.join(allowed)}")
    if not allowed[action]:
        what = (
            "make albums"
            if is_new
            else f"{action} {'images' if action in _OF_IMAGES else 'albums'}"
        )
        raise NotAllowed(f"you may not {what} here; sign in as somebody who may")
    ids: list[Key] = []
    if action in _OF_IMAGES:
        searched = _searching(requested, form.get("search"))
        if not pairs_of(searched.request):
            raise RequestError("the URL names no images; add the parameters of their search to it")
        ids = await found_ids(searched)

    def change(db: Database) -> int:
        if action in ("add", "create"):
            # What there is, others may have changed meanwhile.
            return add_to_album(
                db,
                requested.index,
                album,
                ids,
                may_create=rights.create,
                must_be_new=action == "create" or not rights.add,
            )
        if action == "remove":
            return remove_from_album(db, requested.table, album, ids)
        if action == "rename":
            rename_album(db, requested.table, album, new)
            return 0
        return delete_album(db, requested.table, album)

    def write(conn: sqlite3.Connection) -> int:
        with plain_rows(conn):
            return change(wrapped(conn))

    changed = await requested.database.execute_write_fn(write)
    return new if action == "rename" else album, changed


_OF_IMAGES = ("add", "remove")


async def _form(request: Request) -> dict[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != FORM:
        raise RequestError(f"the change was sent as {kind[:100]!r}; send it as a form, as {FORM}")
    try:
        return await request.post_vars()
    except UnicodeDecodeError as error:
        raise RequestError("the form is not in UTF-8; send it in UTF-8") from error


def _searching(requested: RequestedTable, search: str | None) -> RequestedTable:
    """The same with another query string, if there is one."""
    if search is None:
        return requested
    if not search.isascii():
        raise RequestError("search is no query string; write other letters than ASCII with %")
    scope = {**requested.request.scope, "query_string": search.encode()}
    return replace(requested, request=Request(scope, requested.request.receive))
