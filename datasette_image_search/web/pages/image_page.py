"""The page of an image: the picture, all that is known of it, the most alike, and its neighbours in a search."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from datasette.app import Datasette
from datasette.utils import tilde_decode
from datasette.utils.asgi import NotFound, Request, Response
from datasette.views.base import DatasetteError
from markupsafe import Markup

from ...decoding.formats import THUMBNAIL_SIZE
from ...errors import ImageSearchError
from ...search.hits import Count
from ...search.query import image_term
from ...store import Key
from ...store.by_date import beside_by_date
from ...store.companions import names_of
from ..access.requested_table import RequestedTable, requested_table
from ..errors import wants_data
from ..facets.words import ALBUMS, words_of_image
from ..media.originals import is_played
from ..media.pictures import original_type
from ..server.preparing import is_prepared
from ..urls import POSITION, check_url, pairs_of, replaced
from .album_form import album_form, search_of
from .cards import Card, image_card, query_in_words
from .counts import count_in_time
from .facts import MOST_COMPANIONS, facts
from .lines import lines_in_picture, written
from .results import found_images
from .search_page import is_ready, shows_originals, table_context
from .search_request import DEEPEST, SearchRequest, read_request
from .shown_images import ShownImage, shown_image
from .timed_reads import in_time

ALIKE = 10

AROUND = 4
"""Places before and after the one in the URL at which the image is looked for: others may have come or gone."""

PATIENCE = 0.5
"""Seconds that the page waits for a model, which only its neighbours need."""


@dataclass(frozen=True)
class _Neighbours:
    """
    The URLs of the pages of the images before and after this one in a search, None at its ends; the image as the
    search found it, None if it is not there; and its place among all that it found, such as "2 of 314".
    """

    previous_url: str | None = None
    next_url: str | None = None
    found: ShownImage | None = None
    place: str = ""


async def image_page(datasette: Datasette, request: Request) -> Response:
    """/-/image-search/DATABASE/TABLE/ID, with the query string of the search and `_position` in it."""
    check_url(request)
    requested = await requested_table(datasette, request)
    text = tilde_decode(request.url_vars["id"])
    image_id = requested.table.parse_key(text)
    image = None if image_id is None else await shown_image(requested, image_id)
    if image is None:
        sentence = f"There is no image {text!r} in {requested.name!r}"
        if wants_data(request):
            raise NotFound(sentence)
        raise DatasetteError(
            Markup('{}. <a href="{}">All images</a>').format(sentence, requested.urls.page()),
            title="Image search",
            status=404,
            message_is_html=True,
        )
    error, wanted, neighbours = None, None, _Neighbours()
    alike: tuple[ShownImage, ...] = ()
    try:
        wanted = await read_request(requested)
        alike = await _alike(requested, wanted, image.id)
        neighbours = await _neighbours(requested, wanted, image.id)
    except ImageSearchError as problem:
        error = str(problem)
    return await _html(requested, image, wanted, neighbours, alike, error)


async def _alike(
    requested: RequestedTable, wanted: SearchRequest, image_id: Key
) -> tuple[ShownImage, ...]:
    """The closest to this image of the whole table or view; none if it has no vector."""
    asked = wanted.like(requested, image_id, ALIKE + 1)
    try:
        await is_prepared(requested, asked.query)
        images = await found_images(requested, asked)
    except ImageSearchError:
        return ()
    return tuple(each for each in images if each.id != image_id)[:ALIKE]


async def _neighbours(
    requested: RequestedTable, wanted: SearchRequest, image_id: Key
) -> _Neighbours:
    """Those beside this image, if it still is at about `_position`; by date for a URL of no search."""
    position = wanted.position
    if not requested.request.query_string and requested.view is None:
        return await _beside_by_date(requested, image_id)
    if position is None or (wanted.query and position + AROUND >= DEEPEST):
        return _Neighbours()
    if wanted.query and not await is_ready(requested, wanted, PATIENCE):
        return _Neighbours()
    first = max(position - AROUND, 1)
    images, count = await asyncio.gather(
        found_images(requested, wanted.part(first - 1, 2 * AROUND + 1)),
        count_in_time(requested, wanted),
    )
    at = next((at for at, each in enumerate(images) if each.id == image_id), None)
    if at is None:
        return _Neighbours()

    def url(neighbour: int) -> str | None:
        if not 0 <= neighbour < len(images):
            return None
        pairs = replaced(pairs_of(requested.request), **{POSITION: first + neighbour})
        return requested.urls.image_page(images[neighbour].id, pairs)

    return _Neighbours(
        url(at - 1), url(at + 1), images[at], _place_in_words(wanted, first + at, count)
    )


def _place_in_words(wanted: SearchRequest, position: int, count: Count) -> str:
    # What the query leaves out is counted too.
    if count.number is None or wanted.is_limited:
        return f"number {position:,}"
    if wanted.end is not None and wanted.end <= count.number:
        return f"{position:,} of {wanted.end:,}"
    known = count.but_not_below(position)
    return f"{position:,} of {'' if known.is_exact else f'{known.extent} '}{known.number:,}"


async def _beside_by_date(requested: RequestedTable, image_id: Key) -> _Neighbours:
    newer, older = await in_time(
        requested, partial(beside_by_date, table=requested.table, image_id=image_id)
    )
    url = requested.urls.image_page
    return _Neighbours(None if newer is None else url(newer), None if older is None else url(older))


async def _html(
    requested: RequestedTable,
    image: ShownImage,
    wanted: SearchRequest | None,
    neighbours: _Neighbours,
    alike: tuple[ShownImage, ...],
    error: str | None,
) -> Response:
    datasette, request, urls = requested.datasette, requested.request, requested.urls
    query, position = (wanted.query, wanted.position) if wanted else ("", None)
    # The page of the search that has this image.
    before = (
        wanted.size * ((position - 1) // wanted.size) if wanted and position and wanted.size else 0
    )
    pairs = replaced(pairs_of(request), _next=before or None, **{POSITION: None})
    # Both may wait for storage.
    original, companions = await asyncio.gather(
        original_type(requested, image.id), _companions(requested, image)
    )
    names = requested.database.name, requested.name
    known = {name: value for name, value in image.row.items() if name != requested.table.key}
    # The paths of an image table are below its roots.
    is_ours = requested.table.path_column is not None
    words = await words_of_image(datasette, request, *names, image.id)
    lines = await lines_in_picture(requested, image.id)
    albums = await album_form(requested, search_of([image.id]) or "", 1)
    if albums is not None:
        member_of = words.get(ALBUMS.argument, ())
        came_from = request.query_string
        albums = replace(
            albums, image=str(image.id), came_from=came_from, member_of=member_of, album=""
        )
    context: dict[str, Any] = {
        **await table_context(requested),
        # Of a film, the scene that was searched for.
        "image": _card(requested, neighbours.found or image),
        "facts": facts(known, words, urls.page, urls.earth, is_ours=is_ours) + written(lines),
        # In a picture of unknown size nobody knows where they are.
        "lines": lines if image.row.get("width") and image.row.get("height") else (),
        "alike": [_card(requested, each) for each in alike],
        "alike_url": urls.page([("q", image_term(image.id))]),
        "search_url": urls.page(pairs),
        "searched": query_in_words(query) if query else "",
        "neighbours": neighbours,
        "original": original,
        "is_played": is_played(original),
        "companions": companions,
        "thumbnail_width": _width_of_thumbnail(image),
        "originals": shows_originals(requested),
        "download_url": urls.download(image.id),
        "preview_url": urls.preview(image.id),
        "album_form": albums,
        "error": error,
    }
    html = await datasette.render_template("image_search_image.html", context, request=request)
    return Response.html(html, status=400 if error else 200)


def _width_of_thumbnail(image: ShownImage) -> int:
    width, height = image.row.get("width"), image.row.get("height")
    if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
        return THUMBNAIL_SIZE
    return round(width * min(THUMBNAIL_SIZE / max(width, height), 1))


@dataclass(frozen=True)
class _Companion:
    """Another file of the photo that may be opened: its name, and where it can be played, None for other files, and saved."""

    name: str
    played_url: str | None
    download_url: str


async def _companions(requested: RequestedTable, image: ShownImage) -> list[_Companion]:
    paths = names_of(image.row.get("companions"))[:MOST_COMPANIONS]
    types = await asyncio.gather(*(original_type(requested, image.id, path) for path in paths))
    found = []
    for path, media_type in zip(paths, types, strict=True):
        if media_type is not None:
            url = requested.urls.original(image.id, companion=path)
            found.append(
                _Companion(
                    PurePosixPath(path).name,
                    url if is_played(media_type) else None,
                    requested.urls.download(image.id, path),
                )
            )
    return found


def _card(requested: RequestedTable, image: ShownImage) -> Card:
    return image_card(requested.urls, image, requested.index.path_column)
