"""The URLs of an image table: its search page, its pictures, its rows; and how long a URL may be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, quote_plus, urlencode

from datasette.app import Datasette
from datasette.utils import filters_should_redirect, tilde_encode
from datasette.utils.asgi import Request
from datasette.views.base import DatasetteError

from ..errors import ImageSearchError
from ..search.query import with_words
from ..store import Key

VERSION = "v"

AT = "at"

LARGE = "large"
"""A thumbnail for a screen with small pixels."""

LONGEST = 65_536
"""Bytes of a query string. Servers refuse longer ones, but not all of them."""

MOST_REPEATED = 12_000_000
"""Bytes of links on a page, each of which repeats the URL that was asked for."""

DESCENDING = "_sort_by_desc"
"""The field of a form for the direction of an order, as the table page calls it."""

NEWEST = "-taken_at"
"""The value of `_sort` in a form that is `_sort_desc=taken_at`: people look for "newest first", not for "descending"."""

PICTURE = "_picture"
"""The field of a form for terms of the query that are not shown in its box."""

DOWNLOAD = "_dl"

COMPANION = "_companion"
"""The path of another file of the photo, as the row of the image has it."""

POSITION = "_position"
"""The place of an image in the search that its page comes from, from 1."""

FORM_FIELDS = ("q", "_by", "_sort", "_limit")
"""Fields that say nothing if they are empty."""

AMONG = "_among"
"""A set of images, see among.py."""

LONGEST_SET = 500
"""Characters of a set in a query string. A longer one is in the path of a page, so that the links of the page, which are relative to
it, need not repeat it."""

PAGES = ("albums", "duplicates", "earth", "map", "upload")
"""What follows the table in our URLs, and can be the key of an image too."""

Pairs = Iterable[tuple[str, str]]
"""The names and values of a query string."""


class RequestError(ImageSearchError):
    """A URL with a parameter that is wrong."""


@dataclass(frozen=True)
class TableUrls:
    """
    URLs that begin with Datasette's base URL. `images_of` is the image table if `table` is a view of it:
    a view has no URLs for pictures and rows. `among` is the set in the path of the page that the URLs are for.
    """

    datasette: Datasette
    database: str
    table: str
    images_of: str = ""
    among: str = ""

    def page(self, pairs: Pairs = (), format: str = "") -> str:
        """The search page, or its data as `format` "json" or "csv"."""
        return self._path(f".{format}", pairs) if format else self._within_set("", pairs)

    def upload(self) -> str:
        return self._path("/upload")

    def map(self, pairs: Pairs = (), format: str = "") -> str:
        """The map of the images, or its data as `format` "json"."""
        return self._path(f"/map.{format}" if format else "/map", pairs)

    def earth(self, pairs: Pairs = (), format: str = "") -> str:
        """The map of the earth, or the cells of a view as `format` "json"."""
        return self._path(f"/earth.{format}" if format else "/earth", pairs)

    def duplicates(self, pairs: Pairs = (), format: str = "") -> str:
        """The groups of duplicates, or a list of what was ticked there as `format` "txt" or "csv"."""
        return self._path(f"/duplicates.{format}" if format else "/duplicates", pairs)

    def albums(self) -> str:
        """The page of the albums, which also takes their changes."""
        return self._path("/albums")

    def album(self, album_id: int) -> str:
        """A short URL of the search of an album."""
        return self._path(f"/album/{album_id}")

    def archive(self, pairs: Pairs, *, is_preview: bool) -> str:
        """A ZIP of the originals that a search finds, or of previews of them."""
        return self._path("/previews.zip" if is_preview else "/originals.zip", pairs)

    def images(self) -> str:
        """The beginning of the URLs of thumbnails and originals."""
        return self._of_images("")

    def thumbnail(
        self,
        image_id: Key,
        version: str | None,
        at: float | None = None,
        *,
        is_large: bool = False,
    ) -> str:
        """
        Has the version of the picture in it, so that caches may keep the thumbnail for ever. `at` are the seconds of
        the frame of a film.
        """
        pairs = [(VERSION, version)] if version else []
        if is_large:
            pairs.append((LARGE, "1"))
        if at is not None:
            pairs.append((AT, f"{at:g}"))
        return self._of_images(f"/{tilde_encode(str(image_id))}/thumbnail", pairs)

    def original(self, image_id: Key, at: float | None = None, companion: str | None = None) -> str:
        """`at` are the seconds where a film begins to play; `companion` is another file of the photo."""
        begin = "" if at is None else f"#t={at:g}"
        pairs = [] if companion is None else [(COMPANION, companion)]
        return self._of_images(f"/{tilde_encode(str(image_id))}/image", pairs) + begin

    def download(self, image_id: Key, companion: str | None = None) -> str:
        """The original, or a companion, as a file to save."""
        pairs = [] if companion is None else [(COMPANION, companion)]
        return self._of_images(f"/{tilde_encode(str(image_id))}/image", [(DOWNLOAD, "1"), *pairs])

    def preview(self, image_id: Key) -> str:
        """The original, no larger than a screen."""
        return self._of_images(f"/{tilde_encode(str(image_id))}/preview")

    def image_page(self, image_id: Key, pairs: Pairs = ()) -> str:
        """The page of an image; `pairs` are of the search that found it."""
        key = tilde_encode(str(image_id))
        if key in PAGES:
            key = f"~{ord(key[0]):02X}{key[1:]}"
        return self._within_set(f"/{key}", pairs)

    def row(self, image_id: Key) -> str:
        table = self.images_of or self.table
        return self.datasette.urls.row(self.database, table, tilde_encode(str(image_id)))

    def blob(self, image_id: Key, column: str) -> str:
        """The bytes in a column of the row."""
        key = tilde_encode(str(image_id))
        table = self.images_of or self.table
        return self.datasette.urls.row_blob(self.database, table, key, column)

    def rows(self, pairs: Pairs = ()) -> str:
        """The table page."""
        return _with(self.datasette.urls.table(self.database, self.table), pairs)

    def _of_images(self, rest: str, pairs: Pairs = ()) -> str:
        return replace(self, table=self.images_of or self.table)._path(rest, pairs)

    def _within_set(self, rest: str, pairs: Pairs) -> str:
        pairs = list(pairs)
        among = long_set(pairs)
        if among is None:
            return self._path(rest, pairs)
        below = rest.removeprefix("/")
        without = [pair for pair in pairs if pair[0] != AMONG]
        if among == self.among:
            return _with(f"./{below}", without)
        return self._path(f"/among/{tilde_encode(among)}/{below}", without)

    def _path(self, rest: str, pairs: Pairs = ()) -> str:
        names = f"{tilde_encode(self.database)}/{tilde_encode(self.table)}"
        return _with(self.datasette.urls.path(f"/-/image-search/{names}{rest}"), pairs)


def _with(path: str, pairs: Pairs) -> str:
    query_string = urlencode(list(pairs))
    return f"{path}?{query_string}" if query_string else str(path)


def long_set(pairs: Pairs) -> str | None:
    """The set of a query string, if pages have it in their path."""
    sets = [value for name, value in pairs if name == AMONG and value]
    return sets[0] if len(sets) == 1 and len(sets[0]) > LONGEST_SET else None


def path_below_base_url(request: Request) -> str:
    """
    The path of a request as Datasette routes it, without its base URL, which some proxies pass on and
    others do not.
    """
    return str(request.scope.get("route_path") or request.path)


def pairs_of(request: Request) -> list[tuple[str, str]]:
    """The query string of a request, in its order."""
    return parse_qsl(request.query_string, keep_blank_values=True)


def column_pairs(request: Request) -> list[tuple[str, str]]:
    """The pairs of a query string that are column filters to Datasette."""
    return [
        (name, value)
        for name in request.args
        if not name.startswith("_") or "__" in name
        for value in request.args.getlist(name)
    ]


def pairs_of_form(request: Request) -> list[tuple[str, str]] | None:
    """
    The pairs of a query string with what the fields of a form mean in their place, as the table page has them: the
    fields of a filter row become column__lookup=value, a column to sort by and a tick at "descending" become
    _sort_desc, and pictures that the box does not show come before its words. None if there are no such fields.
    """
    changes = filters_should_redirect(request.args)
    is_newest = request.args.get("_sort") == NEWEST
    if not (changes or is_newest or DESCENDING in request.args or PICTURE in request.args):
        return None
    # Datasette's own path_with_added_args loses filters with a blank value.
    fields = {DESCENDING, PICTURE, *(name for name, value in changes if value is None)}
    sort = "_sort_desc" if is_newest or DESCENDING in request.args else "_sort"
    pairs = pairs_of(request)
    if picture := request.args.get(PICTURE):
        pairs = [("q", with_words(picture, request.args.get("q") or "")), *replaced(pairs, q=None)]
    kept = [
        (sort, value.removeprefix("-") if is_newest else value)
        if name == "_sort"
        else (name, value)
        for name, value in pairs
        if name not in fields and (value or name not in FORM_FIELDS)
    ]
    return kept + [(name, value) for name, value in changes if value is not None]


def whole_number(text: str) -> int | None:
    """None for other texts. int() accepts more than ASCII digits, and takes long for long texts."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def replaced(pairs: Pairs, **values: object) -> list[tuple[str, str]]:
    """The pairs with other values for some names; None removes a name."""
    kept = [(name, value) for name, value in pairs if name not in values]
    return kept + [(name, str(value)) for name, value in values.items() if value is not None]


class TooMuchRepeated(ImageSearchError):
    """A page whose links would repeat a long URL too often."""


def check_url(request: Request) -> None:
    """Raises DatasetteError for a URL that is too long."""
    if len(request.query_string) > LONGEST:
        raise DatasetteError(
            f"the URL has more than {LONGEST:,} characters after its question mark; shorten it",
            title="Image search",
            status=414,
        )


def links_within(request: Request, characters: int) -> int:
    """How many links with the URL in them are no longer than that; at least one."""
    return max(characters // (1 + _repeated(request)), 1)


def _repeated(request: Request) -> int:
    """Characters of the query string that links repeat: not a set that pages have in their path."""
    in_path = long_set(pairs_of(request))
    return len(request.query_string) - len(quote_plus(in_path) if in_path else "")


def check_repetition(request: Request, links: int, what: str) -> None:
    """Raises TooMuchRepeated if `links` links with the URL in them are too long; `what` names them."""
    length = _repeated(request)
    if length * links > MOST_REPEATED:
        raise TooMuchRepeated(
            f"a URL of {length:,} characters is too long for a page with {what}; ask for fewer of "
            "them, or shorten the URL"
        )
