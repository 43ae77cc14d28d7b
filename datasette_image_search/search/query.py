"""
A typed query -> one unit vector. One grammar for SQL, pages, JSON and the command line:

    a red sports car                     words
    #42                                  the image with id 42
    #42 + at night - people              terms joined by " + " and " - "
    red -blue, red+blue                  as other search boxes have it; a hyphen inside a word is no minus
    2:golden retriever + 0.5:#42         weights
    "black + white"                      quotes make any text one literal term, and keep its blanks
    #"a - b.jpg"                         and any text an id, where ids are texts
    "5"" disk"                           a quote within quotes is written twice
    text:wifi, text:"no entry"           words to look for in what is written about images, not in what they show
    vec:BASE64                           a vector: float16, little-endian, base64url
"""

from __future__ import annotations

import base64
import binascii
import re
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import lru_cache
from typing import Any

import numpy as np

from ..embedders.fingerprints import precision_of
from ..embedders.protocol import (
    Embedder,
    EmbedderError,
    ModelRequest,
    TextEncoder,
    TextNotUnderstood,
    UnknownModel,
)
from ..embedders.registry import load_embedder
from ..errors import ImageSearchError, counted
from ..store import Index, Key
from ..store.indexes import WeightsOf, recorded_weights
from ..store.stored_vectors import vector_from_blob
from ..store.tables import IMPORTED
from ..store.vectors import image_vector
from .text_towers import TowerUnusable, exported_tower

LONGEST_QUERY = 16_384
"""Characters: a vec: of 6,000 dimensions."""

MOST_LETTERS = 1000
"""The most letters of the words of a query together, several times what any model reads. The tokens of CLIP
take time with the square of a word: 12 s for one of 16,000 letters, a tenth of a second for one of these."""

MOST_TERMS = 32
"""Each may take a model 60 ms, in which no time limit interrupts it."""

CANCELLED = 1e-3
"""A weighted sum of unit vectors shorter than this has no direction to search in."""


class QueryError(ImageSearchError):
    """The query cannot be searched for; the message names the term."""


class Kind(Enum):
    WORDS = "words"
    TEXT = "text"
    IMAGE = "image"
    VECTOR = "vector"
    FILE = "file"


@dataclass(frozen=True)
class Term:
    """
    `text` is the words, to see or to look for in texts, the id of the image, the base64 of the vector, or the path of the picture. A minus is a
    negative weight. Words that are `quoted` mean the same to a model, but in texts they are looked for next to each other.
    """

    kind: Kind
    text: str
    weight: float = 1.0
    quoted: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class QueryVector:
    """
    A query for one index: `vector` of shape (dimensions,), float32, unit norm. `words` and `pictures` are the
    weights of its terms in that, (1,) and () for one of words. `warnings` are sentences to show beside the
    hits. `bank` are vectors of other words, if the model has no hubs, whose index would have them.
    """

    index: Index
    vector: np.ndarray
    warnings: tuple[str, ...] = ()
    words: tuple[float, ...] = ()
    pictures: tuple[float, ...] = (1.0,)
    bank: np.ndarray | None = None


# --- Text -> terms -------------------------------------------------------------------------------

PLUS = "+\uff0b"
MINUS = "\u2212\uff0d-"
"""Signs between terms, as keyboards, word processors (U+2212) and Chinese and Japanese input (U+FF0D) have them."""

# The look-behind makes it try each run of blanks once, not once from each blank.
_SIGN = re.compile(
    rf"""(?<!\s)\s+([{PLUS}{MINUS}])(?:\s+|(?=[\w#".]))|(?<=[\w"])([{PLUS}])(?=[\w#"])"""
)
_WEIGHT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+):\s*(?=\S)")
_END = rf"(?=\s*$|{_SIGN.pattern})"
_QUOTED = re.compile(rf'\s*(#|text:|)"((?:[^"]|"")*)"{_END}')
_LOOSELY_QUOTED = re.compile(rf'\s*(#|text:|)"(.*?)"{_END}', re.DOTALL)
"""If inner quotes were not written twice, the term ends at the first quote that can end it."""


IsFile = Callable[[str], bool]
"""Whether words are the path of a picture to search with. Queries of SQL and of pages never are."""


def parse_query(text: str, is_file: IsFile | None = None) -> tuple[Term, ...]:
    """
    The terms of a query. Words outside quotes are a file if `is_file` says so. Raises QueryError if the query, a
    term, a word or a weight is empty or too long.
    """
    if len(text) > LONGEST_QUERY:
        raise QueryError(
            f"the query has {len(text):,} characters; shorten it to {LONGEST_QUERY:,} or fewer"
        )
    if not is_text(text):
        raise QueryError(
            f"the query {text!r:.200} is not valid text: half of a character is missing"
        )
    if not text.strip():
        raise QueryError("the query is empty; type some words, or #ID for an image like that one")
    terms = []
    written = f" {text.strip()} "
    sign = _SIGN.match(written)
    at = sign.end() if sign else 0
    while True:
        term, at = _parse_term(written, at, text, is_file)
        terms.append(_signed(term, sign))
        if len(terms) > MOST_TERMS:
            raise QueryError(f"the query has more than {MOST_TERMS} terms; remove some")
        sign = _SIGN.match(written, at)
        if sign is None:
            words = (each.text for each in terms if each.kind in (Kind.WORDS, Kind.TEXT))
            check_letters("the query", *words)
            return tuple(terms)
        at = sign.end()


def check_letters(
    name: str, *texts: str, error: Callable[[str], ImageSearchError] = QueryError
) -> None:
    """Raises an error if texts for a model are much longer than it reads."""
    letters = sum(map(len, texts))
    if letters > MOST_LETTERS:
        raise error(
            f"{name} has {letters:,} letters; at most {MOST_LETTERS:,} are allowed, and models read fewer: "
            "shorten it"
        )


def is_text(text: str) -> bool:
    """
    Whether a text has no half of a character, such as "\ud800", which JSON and arguments of commands can
    contain.
    """
    return not _HALVES.search(text)


_HALVES = re.compile("[\ud800-\udfff]")


def _signed(term: Term, sign: re.Match[str] | None) -> Term:
    if sign is not None and sign[0].strip() in MINUS:
        return replace(term, weight=-term.weight)
    return term


def _parse_term(written: str, start: int, query: str, is_file: IsFile | None) -> tuple[Term, int]:
    """The term that begins there, after any blanks, and where it ends."""
    weight = 1.0
    if match := _WEIGHT.match(written, start):
        weight = float(match[1])
        start = match.end()
        if not 0 < weight < 1e6:
            raise QueryError(f"the weight {match[1]!r:.40} must be above 0 and below a million")
    if quoted := _QUOTED.match(written, start):
        text = quoted[2].replace('""', '"')
    elif quoted := _LOOSELY_QUOTED.match(written, start):
        text = quoted[2]
    if quoted:
        if quoted[1] == "#":
            return Term(Kind.IMAGE, text, weight), quoted.end()
        if not text.strip():
            raise QueryError(f"there is nothing between the quotes in {query!r:.200}")
        kind = Kind.TEXT if quoted[1] else Kind.WORDS
        return Term(kind, text, weight, quoted=True), quoted.end()
    sign = _SIGN.search(written, start)
    end = sign.start() if sign else len(written)
    body = written[start:end].strip()
    if not body or _SIGN.match(f" {body} "):
        raise QueryError(
            f"a term is missing in {query!r:.200}; put something on both sides of + and -"
        )
    if body.count('"') == 1 and body.removeprefix("text:").startswith('"'):
        raise QueryError(f"the quote before {body.partition(chr(34))[2]!r:.200} is never closed")
    if body.startswith("#"):
        return Term(Kind.IMAGE, body[1:].strip(), weight), end
    if body.startswith("vec:"):
        return Term(Kind.VECTOR, body[4:].strip(), weight), end
    if body.startswith("text:"):
        if not body[5:].strip():
            raise QueryError(f"there is nothing after text: in {query!r:.200}")
        return Term(Kind.TEXT, body[5:].strip(), weight), end
    kind = Kind.FILE if is_file and is_file(body) else Kind.WORDS
    return Term(kind, body, weight), end


# --- Terms -> vector -----------------------------------------------------------------------------


def query_vector(
    conn: sqlite3.Connection,
    index: Index,
    query: str | bytes | Sequence[Term],
    weights_of: WeightsOf = recorded_weights,
    picture_vector: Callable[[str], np.ndarray] | None = None,
) -> QueryVector:
    """
    The vector to search an index with. Bytes are a vector as `image_vector()` returns it. Terms that are files need
    `picture_vector`, which makes the vector of one.

    Loads the embedder only if the query has words. Raises QueryError or EmbedderError with a sentence
    that names the term.
    """
    if isinstance(query, bytes):
        return QueryVector(index, _unit(_checked(_from_blob(query), index, "the vector")))
    terms = parse_query(query) if isinstance(query, str) else query
    warnings = []
    # Relative to the heaviest: the squares of tiny weights would underflow.
    heaviest = max(abs(term.weight) for term in terms)
    total = np.zeros(index.dimensions)
    words: list[float] = []
    pictures: list[float] = []
    bank = None
    # A model takes seconds to load: what is wrong without it is said first.
    for term in sorted(terms, key=lambda term: (term.kind is Kind.WORDS, term.kind is Kind.FILE)):
        if term.kind is Kind.WORDS:
            embedder = text_encoder_of(index, weights_of)
            vector, warning = _text_vector(embedder, term.text)
            bank = None if embedder.has_hubs else _usual_words(embedder)
            warnings += [warning] if warning else []
        elif term.kind is Kind.TEXT:
            raise QueryError(
                f"'text:{term.text:.200}' is looked for in what is written, so it needs a search by text or by both"
            )
        elif term.kind is Kind.IMAGE:
            vector = _vector_of_image(conn, index, term.text)
        elif term.kind is Kind.FILE:
            assert picture_vector is not None
            vector = picture_vector(term.text)
        else:
            vector = _unit(_checked(_from_base64(term.text), index, "vec:"))
        total += term.weight / heaviest * vector.astype(np.float64)
        (words if term.kind is Kind.WORDS else pictures).append(term.weight / heaviest)
    if np.linalg.norm(total) < CANCELLED:
        written = query if isinstance(query, str) else format_query(terms)
        raise QueryError(f"the terms of {written!r:.200} cancel each other out; remove one")
    length = float(np.linalg.norm(total))
    of_words, of_pictures = (tuple(each / length for each in some) for some in (words, pictures))
    said = tuple(dict.fromkeys(warnings))
    return QueryVector(index, _unit(total), said, of_words, of_pictures, bank)


def prepare_words(index: Index, query: str, weights_of: WeightsOf = recorded_weights) -> None:
    """
    Load the embedder of an index, and keep the vectors of the words in a query for `query_vector`,
    which then takes no time. The first call may take many seconds; it needs no connection, so that
    a server need not spend one on it. An empty query only loads.

    Raises QueryError or EmbedderError.
    """
    if not query.strip():
        text_encoder_of(index, weights_of, words_only=False)
        return
    for term in parse_query(query):
        if term.kind is Kind.WORDS:
            _text_vector(text_encoder_of(index, weights_of, words_only=False), term.text)


def format_query(terms: Sequence[Term]) -> str:
    """The inverse of `parse_query`."""
    text = ""
    for term in terms:
        sign = "-" if term.weight < 0 else "+" if text else ""
        text = f"{text} {sign} {_format_term(term)}".strip()
    return text


def _format_term(term: Term) -> str:
    weight = abs(term.weight)
    prefix = "" if weight == 1 else np.format_float_positional(weight, trim="-") + ":"
    if term.kind is Kind.IMAGE:
        return prefix + image_term(term.text)
    if term.kind is Kind.VECTOR:
        return f"{prefix}vec:{term.text}"
    if term.kind is Kind.FILE:
        return prefix + term.text
    mark = "text:" if term.kind is Kind.TEXT else ""
    is_plain = not term.quoted and _reads_as(mark + term.text, term.kind, term.text)
    return prefix + mark + (term.text if is_plain else _quoted(term.text))


def with_words(query: str, words: str) -> str:
    """A query with the terms that a person typed after it."""
    words = words.strip()
    sign = " " if words.startswith(tuple(PLUS + MINUS)) else " + "
    return f"{query}{sign}{words}" if words else query


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _reads_as(text: str, kind: Kind, term: str) -> bool:
    """Whether a text is one term of that kind, whatever comes after it."""
    if text.startswith(('"', '#"', 'text:"')):
        return False  # A quote further on could be the end.
    try:
        return parse_query(f"{text} - x") == (Term(kind, term), Term(Kind.WORDS, "x", -1.0))
    except QueryError:
        return False


def image_term(image_id: Key) -> str:
    """The id of an image as a term of a query."""
    return f"#{written_id(image_id)}"


def written_id(image_id: Key) -> str:
    """The id of an image as a person types it after a #, in quotes if it needs them."""
    text = str(image_id)
    return text if text and _reads_as(f"#{text}", Kind.IMAGE, text) else _quoted(text)


def vector_to_term(vector: np.ndarray) -> str:
    """A vector as a term of a query that can be typed, linked to and bookmarked."""
    return "vec:" + base64.urlsafe_b64encode(vector.astype("<f2").tobytes()).decode().rstrip("=")


def text_encoder_of(
    index: Index, weights_of: WeightsOf = recorded_weights, *, words_only: bool = True
) -> TextEncoder:
    """
    What reads words for the vectors of an index: its exported text tower if that can be used, otherwise its embedder,
    as embedder_of() has it. Raises EmbedderError if neither is here.
    """
    try:
        exported = exported_tower(index)
    except TowerUnusable as unusable:
        try:
            return embedder_of(index, weights_of, words_only=words_only)
        except EmbedderError as error:
            raise EmbedderError(f"{unusable}; without it, {error}") from error
    return exported or embedder_of(index, weights_of, words_only=words_only)


def embedder_of(index: Index, weights_of: WeightsOf = recorded_weights, **asked: Any) -> Embedder:
    """
    The embedder that made the vectors of an index, and no other. Never downloads. For imported vectors
    the name is taken for granted. `asked` are fields of ModelRequest. Raises EmbedderError if it is not here.
    """
    request = ModelRequest(index.model, weights=weights_of(index), **asked)
    if (precision := precision_of(index.fingerprint)) is not None:
        # The only one with such vectors; words are read in float32 by it too.
        request = replace(request, device="cpu", precision=precision)
    try:
        embedder = load_embedder(request)
    except UnknownModel as error:
        raise EmbedderError(
            f"{index.image_table!r} has vectors of {index.model}, a model that no installed package has; "
            "install its package, or search by an image in the table, as # and its id"
        ) from error
    if index.fingerprint == IMPORTED:
        if embedder.dimensions == index.dimensions:
            return embedder
        raise EmbedderError(
            f"the vectors of {index.image_table!r} were imported as those of {index.model}, which has "
            f"{embedder.dimensions} dimensions, but they have {index.dimensions}; import them with "
            "the --model that made them, and --replace-model"
        )
    if embedder.fingerprint != index.fingerprint:
        raise EmbedderError(
            f"the vectors of {index.image_table!r} are of {index.model} with fingerprint "
            f"{index.fingerprint}, and the model here has {embedder.fingerprint}; "
            "search with the weights they were made with, or embed again with --replace-model"
        )
    if embedder.dimensions != index.dimensions:
        raise EmbedderError(
            f"the vectors of {index.image_table!r} should have {index.dimensions:,} dimensions, but "
            f"{index.model} makes {embedder.dimensions:,}; embed again with --replace-model"
        )
    return embedder


@lru_cache(maxsize=1024)
def _text_vector(embedder: TextEncoder, text: str) -> tuple[np.ndarray, str | None]:
    """Cached per process: the same words come again and again, in SQL once per row."""
    return embedder.encode_texts([text])[0], embedder.text_warning(text)


@lru_cache(maxsize=16)
def _usual_words(embedder: TextEncoder) -> np.ndarray | None:
    """The vectors of the words that people use with a model without hubs, shape (n, dimensions), if it has some."""
    try:
        return embedder.encode_texts(list(embedder.usual_words)) if embedder.usual_words else None
    except TextNotUnderstood:
        return None


def _vector_of_image(conn: sqlite3.Connection, index: Index, text: str) -> np.ndarray:
    image_id = index.table.parse_key(text)
    if image_id is None:
        raise QueryError(
            f"'#{text:.200}' is not an image of {index.table.name!r}, whose ids are whole numbers; "
            f'for the words, put quotes around them: "#{text:.200}"'
        )
    vector = image_vector(conn, index, image_id)
    if vector is None:
        raise QueryError(
            f"there is no image {image_term(image_id):.200} with a vector in {index.table.name!r}"
        )
    return vector


def _from_base64(text: str) -> np.ndarray:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True)
        return np.frombuffer(raw, dtype="<f2").astype(np.float32)
    except (binascii.Error, ValueError):
        raise QueryError(
            "the text after vec: is not a vector; it must be float16 in base64url"
        ) from None


def _from_blob(blob: bytes) -> np.ndarray:
    if len(blob) % 4:
        raise QueryError("the vector is not float32: its length is not a multiple of 4 bytes")
    return vector_from_blob(blob)


def _checked(vector: np.ndarray, index: Index, name: str) -> np.ndarray:
    if len(vector) != index.dimensions:
        raise QueryError(
            f"{name} has {counted(len(vector), 'dimension')}, and the vectors of "
            f"{index.image_table!r}, by {index.model}, have {index.dimensions:,}; take a whole vector "
            "of that model, as a search in this table or image_vector() gives it"
        )
    if not np.isfinite(vector).all() or not vector.any():
        raise QueryError(f"{name} has no direction: it contains NaN, infinity, or only zeros")
    return vector


def _unit(vector: np.ndarray) -> np.ndarray:
    # In float64, where the squares of tiny and huge numbers are still numbers.
    vector = vector.astype(np.float64)
    return (vector / np.linalg.norm(vector)).astype(np.float32)
