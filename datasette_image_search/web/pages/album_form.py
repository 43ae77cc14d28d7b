"""The form that puts images into an album or takes them out, on pages of them; it works without JavaScript."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from ...store import Key
from ...store.albums import album_names
from ..access.album_rights import album_rights
from ..access.requested_table import RequestedTable
from ..among import MOST, among_value
from ..compat import csrf_token
from ..facets.words import ALBUMS
from ..reading import read_bounded
from ..urls import AMONG

MOST_NAMES = 500
"""Albums that are offered as one types; others can be typed."""


@dataclass(frozen=True)
class AlbumForm:
    """
    `search` is the query string that finds the `images`, which is their number, None if nobody has counted them. `image` is the
    key of the one of a page of an image, "" elsewhere, and `came_from` the query string of that page. `names` are of albums;
    `album` is what was typed, and `error` what is wrong with it. `member_of` are the albums that the image is in.
    """

    url: str
    token: str
    search: str
    images: int | None
    may_add: bool
    may_remove: bool
    names: Sequence[str] = ()
    image: str = ""
    came_from: str = ""
    member_of: Sequence[str] = ()
    album: str = ""
    error: str = ""


async def album_form(
    requested: RequestedTable, search: str, images: int | None
) -> AlbumForm | None:
    """The form for the images that a query string finds, None if the actor may not change albums."""
    rights = await album_rights(requested)
    if not (rights.add or rights.create or rights.remove):
        return None
    names = await read_bounded(
        requested.database, lambda conn: album_names(conn, requested.table, MOST_NAMES)
    )
    chosen = [name for name in requested.request.args.getlist(ALBUMS.argument) if name]
    return AlbumForm(
        url=requested.urls.albums(),
        # A page with a token cannot be cached.
        token=csrf_token(requested.request),
        search=search,
        images=images,
        may_add=rights.add or rights.create,
        may_remove=rights.remove,
        names=names,
        album=chosen[0] if len(chosen) == 1 else "",
    )


def search_of(ids: Sequence[Key]) -> str | None:
    """The query string that finds exactly these images, None if none can."""
    return urlencode({AMONG: among_value(ids)}) if 0 < len(ids) <= MOST else None
