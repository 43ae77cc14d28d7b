"""
Changes of albums, as the fields of a form: `action`, `album`, and the new `name` to rename it to. The images to add or to
remove are those that the query string of the URL finds, as on the search page; or the query string in the field `search`,
for sets that are too long for a URL.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace

from datasette.utils.asgi import Request
from sqlite_utils import Database

from ...errors import ImageSearchError
from ...store import Key
from ...store.albums import (
    add_to_album,
    album_id,
    album_members,
    delete_album,
    remove_from_album,
    rename_album,
)
from ...store.connections import plain_rows, wrapped
from ..access.album_rights import AlbumRights
from ..access.requested_table import RequestedTable
from ..reading import read_bounded
from ..urls import RequestError, pairs_of
from .result_set import found_ids

FORM = "application/x-www-form-urlencoded"


class NotAllowed(ImageSearchError):
    """A change that this actor may not make."""


@dataclass(frozen=True)
class Fields:
    """
    Those of the form. `image` and `came_from` are of the page of an image that has it. `undo` is UNDO or UNDO_NEW for a form that
    undoes a change, else "".
    """

    action: str
    album: str
    name: str
    search: str | None
    image: str
    came_from: str
    undo: str


UNDO, UNDO_NEW = "1", "new"
"""Of any change, and of one that made the album, which is then deleted if nothing else is in it."""


@dataclass(frozen=True)
class Change:
    """
    The name that the album has now, and how many images came or left: `ids`, but of an album that is deleted. `is_new` if the
    change made the album.
    """

    album: str
    images: int
    ids: tuple[Key, ...] = ()
    is_new: bool = False


async def read_fields(request: Request) -> Fields:
    """Raises RequestError for a body that is no form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != FORM:
        raise RequestError(f"the change was sent as {kind[:100]!r}; send it as a form, as {FORM}")
    try:
        form = await request.post_vars()
    except UnicodeDecodeError as error:
        raise RequestError("the form is not in UTF-8; send it in UTF-8") from error
    return Fields(
        action=form.get("action", ""),
        album=form.get("album", ""),
        name=form.get("name", ""),
        search=form.get("search"),
        image=form.get("image", ""),
        came_from=form.get("came_from", ""),
        undo=form.get("undo", ""),
    )


async def change_albums(requested: RequestedTable, rights: AlbumRights, fields: Fields) -> Change:
    """Raises ImageSearchError or DatasetteError with a sentence; NotAllowed if the actor may not."""
    action, album = fields.action, fields.album
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
            "make albums" if is_new else f"{action} {'images' if action in OF_IMAGES else 'albums'}"
        )
        raise NotAllowed(f"you may not {what} here; sign in as somebody who may")
    ids: list[Key] = []
    if action in OF_IMAGES:
        searched = _searching(requested, fields.search)
        if not pairs_of(searched.request):
            raise RequestError("the URL names no images; add the parameters of their search to it")
        ids = await found_ids(searched)
        if fields.image and fields.image not in map(str, ids):
            raise RequestError(f"there is no image {fields.image[:100]!r} here any more")

    def change(db: Database) -> Change:
        if action in ("add", "create"):
            # What there is, others may have changed meanwhile.
            added = add_to_album(
                db,
                requested.index,
                album,
                ids,
                may_create=rights.create and not fields.undo,
                must_be_new=action == "create" or not rights.add,
            )
            return Change(album, len(added), tuple(added), is_new=is_new)
        if action == "remove":
            removed = remove_from_album(db, table, album, ids)
            if (
                fields.undo == UNDO_NEW
                and rights.delete
                and not album_members(db.conn, table, album)
            ):
                delete_album(db, table, album)
            return Change(album, len(removed), tuple(removed))
        if action == "rename":
            rename_album(db, table, album, fields.name)
            return Change(fields.name, 0)
        return Change(album, delete_album(db, table, album))

    def write(conn: sqlite3.Connection) -> Change:
        with plain_rows(conn):
            return change(wrapped(conn))

    return await database.execute_write_fn(write)


OF_IMAGES = {"add": "remove", "remove": "add"}
"""The actions that images come or leave by, and the one that undoes each."""


def _searching(requested: RequestedTable, search: str | None) -> RequestedTable:
    """The same with another query string, if there is one."""
    if search is None:
        return requested
    if not search.isascii():
        raise RequestError("search is no query string; write other letters than ASCII with %")
    scope = {**requested.request.scope, "query_string": search.encode()}
    return replace(requested, request=Request(scope, requested.request.receive))
