"""
`?_among=`: a set of images in a URL, such as those of a lasso on the map, or of a selection to search among.

It is a filter like any other, so it holds for pages, facets, JSON, CSV, maps and the table page, and pages of results
follow from it as from each filter. It names images by their keys: an image that is deleted is missing from it, and a key
that is given to another image names that. What must last longer belongs into an album.

The value is ORIGIN.KEYS, where the origin says in headings what the set is; without one it is a selection. The keys are
ascending whole numbers in a code of about one character each for dense sets and three for sparse ones of 100,000, or a JSON
list if some are texts, negative, or from 2^53 on: `static/image-among.js` writes the same.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase, digits

from datasette.utils.asgi import Request

from ..errors import counted
from ..store import Key
from .urls import AMONG, RequestError

ORIGINS = {"map": "from the map", "": "from a selection"}

MOST = 100_000
"""Images of a set. A few characters can name any number of them that are in a row."""

ALPHABET = ascii_uppercase + ascii_lowercase + digits + "-_"
"""Of base64 in URLs: six bits for each character."""

LARGEST = 2**53
"""JavaScript cannot tell whole numbers apart from here on."""

UNREADABLE = f"{AMONG} cannot be read: a part of the link may be missing; make the link again"


@dataclass(frozen=True)
class Among:
    """The keys of some images, and a key of ORIGINS."""

    keys: tuple[Key, ...]
    origin: str = ""

    @property
    def words(self) -> str:
        """'from the map', to follow a number of images."""
        return ORIGINS[self.origin]

    @property
    def saying(self) -> str:
        """'one of 74 images from the map'"""
        return f"one of {counted(len(self.keys), 'image')} {self.words}"

    @property
    def description(self) -> str:
        """The same to follow 'where' or 'and'."""
        return f"id is {self.saying}"


def among_value(keys: Collection[Key], origin: str = "") -> str:
    """The value of AMONG for some images, in any order. Raises ValueError if there are more than MOST."""
    if len(keys) > MOST:
        raise ValueError(f"a set in a URL has {MOST:,} images at most")
    whole = [key for key in keys if isinstance(key, int) and 0 <= key < LARGEST]
    if len(whole) < len(keys):
        code = json.dumps(list(keys), ensure_ascii=False, separators=(",", ":"))
    else:
        code = "".join(map(_code_of, _steps(sorted(set(whole)))))
    return f"{origin}.{code}" if origin else code


def read_among(request: Request) -> Among | None:
    """The set that a request names, None if it names none. Raises RequestError for a value that is no such set."""
    values = [value for value in request.args.getlist(AMONG) if value]
    if not values:
        return None
    if len(values) > 1:
        raise RequestError(f"a URL can have one {AMONG}; this one has {len(values):,}")
    return among_of(values[0])


def among_of(value: str) -> Among:
    """The set of a value of AMONG. Raises RequestError."""
    before, dot, after = value.partition(".")
    origin, code = (before, after) if dot and before in ORIGINS else ("", value)
    keys = _read_list(code) if code.startswith("[") else list(_read_code(code))
    if not keys:
        raise RequestError(UNREADABLE)
    return Among(tuple(keys), origin)


def _steps(keys: list[int]) -> Iterator[int]:
    """
    The distance of each key from the one before, the first from -1. Two or more that follow in a row are 0 and
    their number instead.
    """
    last, at = -1, 0
    while at < len(keys):
        run = at
        while run < len(keys) and keys[run] == last + 1 + run - at:
            run += 1
        if run - at > 1:
            yield from (0, run - at)
            at = run
        else:
            yield keys[at] - last
            at += 1
        last = keys[at - 1]


def _code_of(number: int) -> str:
    """Five bits of a number to a character, the lowest first; the sixth says that more follow."""
    code = ""
    while True:
        number, low = number >> 5, number & 31
        code += ALPHABET[low | (32 if number else 0)]
        if not number:
            return code


def _numbers(code: str) -> Iterator[int]:
    number = shift = 0
    for character in code:
        bits = ALPHABET.find(character)
        if bits < 0 or shift > 60:
            raise RequestError(UNREADABLE)
        number |= (bits & 31) << shift
        shift += 5
        if bits < 32:
            yield number
            number = shift = 0
    if shift:
        raise RequestError(UNREADABLE)


def _read_code(code: str) -> Iterator[int]:
    last, count = -1, 0
    numbers = _numbers(code)
    for number in numbers:
        length = 1 if number else next(numbers, 0)
        first = last + (number or 1)
        last = first + length - 1
        count += length
        if not length or last >= LARGEST:
            raise RequestError(UNREADABLE)
        if count > MOST:
            raise RequestError(f"{AMONG} can name {MOST:,} images; add a filter instead")
        yield from range(first, last + 1)


def _read_list(code: str) -> list[Key]:
    try:
        keys = json.loads(code)
    except (ValueError, RecursionError) as error:
        raise RequestError(UNREADABLE) from error
    for key in keys:
        is_whole = isinstance(key, int) and not isinstance(key, bool) and -(2**63) <= key < 2**63
        if not (is_whole or isinstance(key, str)):
            raise RequestError(UNREADABLE)
    return keys
