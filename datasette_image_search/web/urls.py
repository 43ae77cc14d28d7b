"""The URLs of an image table: its search page, its pictures, its rows; and how long a URL may be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlencode

from datasette.app import Datasette
from datasette.utils import filters_should_redirect, tilde_encode
from datasette.utils.asgi import Request
from datasette.views.base import DatasetteError

from ..errors import ImageSearchError
from ..store import Key

VERSION = "v"

LONGEST = 65_536
"""Bytes of a query string. Servers refuse longer ones, but not all of them."""

MOST_REPEATED = 8_000_000
"""Bytes of links on a page, each of which repeats the URL that was asked for."""

Pairs = Iterable[tuple[str, str]]
"""The names and values of a query string."""


class RequestError(ImageSearchError):
    """A URL that asks for what there is not."""


@dataclass(frozen=True)
class Links:
    """
    All begin with Datasette's base URL. `images_of` is the image table if `table` is a view of it: its
    pictures and rows have no URLs of their own.
    """

    datasette: Datasette
    database: str
    table: str
    images_of: str = ""

    def page(self, pairs: Pairs = (), format: str = "") -> str:
        """The search page, or what it says as `format` "json" or "csv"."""
        return self._path(f".{format}" if format else "", pairs)

    def upload(self) -> str:
        return self._path("/upload")

    def map(self, pairs: Pairs = (), format: str = "") -> str:
        """The map of the images, or what it shows as `format` "json"."""
        return self._path(f"/map.{format}" if format else "/map", pairs)

    def images(self) -> str:
        """What the URLs of thumbnails and originals begin with."""
        return self._of_images("")

    def thumbnail(self, image_id: Key, version: str | None) -> str:
        """With the version of its picture, caches may keep it for ever: another one has another URL."""
        pairs = [(VERSION, version)] if version else []
        return self._of_images(f"/{tilde_encode(str(image_id))}/thumbnail", pairs)

    def original(self, image_id: Key) -> str:
        return self._of_images(f"/{tilde_encode(str(image_id))}/image")

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

    def _path(self, rest: str, pairs: Pairs = ()) -> str:
        names = f"{tilde_encode(self.database)}/{tilde_encode(self.table)}"
        return _with(self.datasette.urls.path(f"/-/image-search/{names}{rest}"), pairs)


def _with(path: str, pairs: Pairs) -> str:
    query_string = urlencode(list(pairs))
    return f"{path}?{query_string}" if query_string else str(path)


def path_below_base_url(request: Request) -> str:
    """
    The path of a request as Datasette routes it, to put its base URL before: some proxies pass that on
    with the path, others do not.
    """
    return str(request.scope.get("route_path") or request.path)


def pairs_of(request: Request) -> list[tuple[str, str]]:
    """The query string of a request, in its order."""
    return parse_qsl(request.query_string, keep_blank_values=True)


def column_pairs(request: Request) -> list[tuple[str, str]]:
    """The column filters of a query string, by core's rule."""
    return [
        (name, value)
        for name in request.args
        if not name.startswith("_") or "__" in name
        for value in request.args.getlist(name)
    ]


def pairs_with_filters(request: Request) -> list[tuple[str, str]] | None:
    """
    The same with the filters that the fields of the filter rows describe, as the table page makes
    them, in the place of the fields; None where there are no such fields.
    """
    changes = filters_should_redirect(request.args)
    if not changes:
        return None
    # Datasette's own path_with_added_args loses the filters that are there with a blank value.
    fields = {name for name, value in changes if value is None}
    kept = [(name, value) for name, value in pairs_of(request) if name not in fields]
    return kept + [(name, value) for name, value in changes if value is not None]


def whole_number(text: str) -> int | None:
    """None for what is none; int() would take other digits too, and endless ones slowly."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def replaced(pairs: Pairs, **values: object) -> list[tuple[str, str]]:
    """The pairs with other values for some names; None leaves a name out."""
    kept = [(name, value) for name, value in pairs if name not in values]
    return kept + [(name, str(value)) for name, value in values.items() if value is not None]


class TooMuchRepeated(ImageSearchError):
    """A page of more links than can be sent for so long a URL."""


def check_url(request: Request) -> None:
    """Raises DatasetteError for a URL that is too long to be looked at."""
    if len(request.query_string) > LONGEST:
        raise DatasetteError(
            f"the URL has more than {LONGEST:,} characters after its question mark; leave some out",
            title="Image search",
            status=414,
        )


def check_repetition(request: Request, links: int, what: str) -> None:
    """Raises TooMuchRepeated if so many links with the URL in them are too many; `what` there are."""
    length = len(request.query_string)
    if length * links > MOST_REPEATED:
        raise TooMuchRepeated(
            f"a URL of {length:,} characters is too long for a page with {what}; ask for fewer of "
            "them, or leave something out of the URL"
        )
