"""The images that words are written about, by the tables of written_texts.py."""

from __future__ import annotations

import json
import re
import sqlite3
import unicodedata
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from sqlite_utils.db import quote_identifier

from .connections import in_memory
from .filters import Filter, IdSet, passing_rows
from .tables import ImageTable, Key, StoreError
from .transactions import is_interrupted, is_locked
from .written_texts import LONGEST_TEXT, TEXT_TABLES, definition, text_columns

SCANNED = 10_000
"""Matches that are looked at, the newest first. A word that more images have says little about any of them."""

MOST_WORDS = 64
"""Words of a term; nobody has written so many next to a picture."""

STOP_WORDS = frozenset(
    (
        *(
            "a",
            "an",
            "and",
            "are",
            "as",
            "at",
            "by",
            "for",
            "from",
            "in",
            "is",
            "it",
            "its",
            "my",
            "of",
            "on",
            "or",
        ),
        *("our", "some", "that", "the", "this", "to", "with"),
        *("image", "images", "photo", "photos", "pic", "pics", "picture", "pictures"),
    )
)
"""Words that nobody need have written: "a photo of a dog" finds the keyword "dog". A term of these only is one of words."""


RUN_ON = (
    *("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "HANGUL"),
    *("THAI", "LAO", "KHMER", "MYANMAR"),
)
"""
How Unicode's names begin of letters that are written without spaces between words, or, in Korean, with endings of other
words. FTS5 takes all up to the next space for one word.
"""

CALLED = {"lines": "the picture"}
"""What people call a table of TEXT_TABLES, if not as it is called here."""


class TextsDamaged(StoreError):
    """The tables of FTS5 cannot be read."""


@dataclass(frozen=True)
class Words:
    """
    Words that must all be written about an image, or, as a `phrase`, next to each other; also in its tags if `in_tags`,
    which a model gave it.
    """

    text: str
    is_phrase: bool = False
    in_tags: bool = True

    def parts(self) -> tuple[str, ...]:
        """
        The words, as FTS5 takes them; none if there is nothing to look for. An * at the end of a word is any ending, which
        words of RUN_ON have anyway.
        """
        if self.is_phrase:
            return (_part(self.text),) if _has_letters(self.text) else ()
        return tuple(
            _part(word.rstrip("*"), any_ending=word.endswith("*")) for word in self._telling()
        )

    def each(self) -> list[Words]:
        """Those of several words one by one; none for a phrase, or for one word."""
        words = () if self.is_phrase else self._telling()
        return [replace(self, text=word) for word in words] if len(words) > 1 else []

    def _telling(self) -> Sequence[str]:
        words = [word for word in self.text.split() if _has_letters(word)]
        telling = [word for word in words if word.lower() not in STOP_WORDS] or words
        return telling if len(telling) <= MOST_WORDS else ()


@dataclass(frozen=True)
class TextHit:
    """`rank` begins with 1; images that match equally well have the same."""

    id: Key
    rank: int


@dataclass(frozen=True)
class TextsFound:
    """
    `hits`, the best first; there may be more of them unless `is_complete`. `looked_at` is the number of matches of all terms.
    """

    hits: tuple[TextHit, ...] = ()
    looked_at: int = 0
    is_complete: bool = True


@dataclass(frozen=True)
class TextMatch:
    """A word or phrase of a query, and the text that it was found in: a column, "keywords", "tags" or "the picture"."""

    words: str
    text: str

    def __str__(self) -> str:
        return f"{self.words} in {self.text}"


def _has_letters(text: str) -> bool:
    return any(letter.isalnum() for letter in text)


def _part(text: str, *, any_ending: bool = False) -> str:
    return _quoted(text) + (" *" if any_ending or _runs_on(text) else "")


def _runs_on(text: str) -> bool:
    """Whether the next word may follow without a space."""
    last = next((letter for letter in reversed(text) if letter.isalnum()), "")
    return unicodedata.name(last, "").startswith(RUN_ON) if last else False


def _quoted(text: str) -> str:
    """A string of FTS5, in which nothing is syntax. It ends at a NUL, which is in no word."""
    return '"' + text.replace("\0", " ").replace('"', '""') + '"'


def _expression(
    columns: Sequence[str], table: ImageTable, wanted: Words, unwanted: Sequence[Words]
) -> str | None:
    """In the language of FTS5; None if there is nothing to look for. `columns` are those with texts."""
    parts = wanted.parts()
    looked_in = ""
    if not wanted.in_tags and table.tags in columns:
        looked_in = f"- {{{_quoted(table.tags)}}} : "
    others = [f"({' '.join(some)})" for words in unwanted if (some := words.parts())]
    if not parts:
        return None
    return f"({looked_in}({' '.join(parts)}))" + (f" NOT ({' OR '.join(others)})" if others else "")


def text_hits(
    conn: sqlite3.Connection,
    table: ImageTable,
    wanted: Sequence[Words],
    unwanted: Sequence[Words] = (),
    filter: Filter | IdSet | None = None,
    *,
    telling_only: bool = False,
) -> TextsFound:
    """
    The images that all words of at least one of `wanted` are written about, and those of none of `unwanted`, that pass
    the filter; the best by BM25 first, equal ones by id. A table without texts has none. With `telling_only`, those of `wanted` are passed over that more than half of all images have.

    Raises TextsDamaged, and FilterError if SQLite does not take the filter.
    """
    columns = text_columns(conn, table)
    if not columns:
        return TextsFound()
    looked_at, is_complete = 0, True
    relevance: dict[Key, float] = defaultdict(float)
    for words in wanted:
        expression = _expression(columns, table, words, unwanted)
        if expression is None:
            continue
        if telling_only and not _tells(conn, table, expression):
            continue
        found = _scanned(conn, table, expression, filter)
        looked_at += len(found)
        is_complete &= len(found) < SCANNED
        for key, value in found:
            # BM25 of several terms is the sum of that of each.
            relevance[key] += value
    best = sorted((value, key) for key, value in relevance.items() if table.is_key(key))
    return TextsFound(tuple(_ranked(best)), looked_at, is_complete)


def text_hits_of(
    conn: sqlite3.Connection,
    table: ImageTable,
    wanted: Sequence[Words],
    unwanted: Sequence[Words],
    ids: Sequence[Key],
) -> list[TextHit]:
    """
    As `text_hits`, of a few images, compared among themselves: a word that more than half of them have tells none of them
    from another.
    """
    columns = text_columns(conn, table)
    expressions = [
        each for words in wanted if (each := _expression(columns, table, words, unwanted))
    ]
    if not columns or not expressions or not ids:
        return []
    n = table.quoted()
    ranked = (
        f"select rowid, bm25({n['texts_fts']}) from {n['texts_fts']} where {n['texts_fts']} match ?"
    )
    relevance: dict[Key, float] = defaultdict(float)
    with _few(conn, table, columns, ids) as (few, keys):
        for expression in expressions:
            found = few.execute(ranked, [expression]).fetchall()
            if 2 * len(found) <= len(keys):
                for at, value in found:
                    relevance[keys[at]] += value
    return _ranked(sorted((value, key) for key, value in relevance.items()))


def not_about(
    conn: sqlite3.Connection, table: ImageTable, unwanted: Sequence[Words]
) -> Filter | None:
    """
    The filter that leaves out the images that all words of any of these are written about; None if there is nothing to
    leave out. Raises TextsDamaged.
    """
    expression = " OR ".join(f"({' '.join(some)})" for words in unwanted if (some := words.parts()))
    if not expression or not text_columns(conn, table):
        return None
    n = table.quoted()
    found = f"{n['texts_fts']} where {n['texts_fts']} match :_img_unwanted"
    ours = {"_img_unwanted": expression}
    with _naming_the_texts(table):
        conn.execute(f"select count(*) from {found}", ours).fetchone()
    where = f"""{n["images"]}.{n["key"]} not in (
        select image_id from {n["texts"]}
        where id in (select rowid from {found}) and image_id is not null
    )"""
    return Filter(where, ours, written="no text of what has a minus")


def text_hits_among(hits: Sequence[TextHit], keys: Container[Key]) -> list[TextHit]:
    """Those of these images, with the ranks that they have among themselves."""
    return _ranked((hit.rank, hit.id) for hit in hits if hit.id in keys)


def _ranked(found: Iterable[tuple[float, Key]]) -> list[TextHit]:
    """Hits of numbers, the lowest first."""
    ranked: list[TextHit] = []
    last, rank = None, 0
    for value, key in found:
        # What matches alike is of one rank, so that nothing but likeness decides between them.
        if value != last:
            last, rank = value, len(ranked) + 1
        ranked.append(TextHit(key, rank))
    return ranked


def _scanned(
    conn: sqlite3.Connection,
    table: ImageTable,
    expression: str,
    filter: Filter | IdSet | None,
) -> list[tuple[Key, float]]:
    """
    The keys that match and pass the filter, with BM25, the lower the better; or 0 if they are too many for that to say
    much.
    """
    n = table.quoted()
    # SQLite leaves an order out that no limit needs.
    rows = f"""
        select image_id as _img_key, _img_number from (
            select rowid as _img_number from {n["texts_fts"]}
            where {n["texts_fts"]} match :_img_words order by rowid desc limit -1
        ) cross join {n["texts"]} on id = _img_number
    """
    with _naming_the_texts(table):
        found = passing_rows(conn, table, rows, {"_img_words": expression}, filter, SCANNED)
    if len(found) == SCANNED:
        return [(key, 0.0) for key, _ in found]
    # Without the plus, FTS5 would look for each number by itself.
    sql = f"""
        select rowid, bm25({n["texts_fts"]}) from {n["texts_fts"]}
        where {n["texts_fts"]} match ? and +rowid in (select value from json_each(?))
    """
    numbers = json.dumps([number for _, number in found])
    with _naming_the_texts(table):
        relevance = dict(conn.execute(sql, [expression, numbers]).fetchall())
    return [(key, relevance[number]) for key, number in found]


def _tells(conn: sqlite3.Connection, table: ImageTable, expression: str) -> bool:
    """Whether no more than half of the images match."""
    n = table.quoted()
    sql = f"""
        select count(*) from (
            select 1 from {n["texts_fts"]} where {n["texts_fts"]} match ? limit ?
        )
    """
    with _naming_the_texts(table):
        (images,) = conn.execute(f"select count(*) from {n['texts']}").fetchone()
        (matches,) = conn.execute(sql, [expression, images // 2 + 1]).fetchone()
    return bool(matches <= images // 2)


def text_matches(
    conn: sqlite3.Connection, table: ImageTable, wanted: Sequence[Words], ids: Sequence[Key]
) -> dict[Key, tuple[TextMatch, ...]]:
    """Id -> the words that are written about it, and where; only of images that have some."""
    columns = text_columns(conn, table)
    parts = dict.fromkeys(part for words in wanted for part in words.parts())
    if not columns or not parts or not ids:
        return {}
    names = {table.side(kind): CALLED.get(kind, kind) for kind in TEXT_TABLES}
    n = table.quoted()
    matching = f"select rowid from {n['texts_fts']} where {n['texts_fts']} match ?"
    found: dict[Key, list[TextMatch]] = {}
    with _few(conn, table, columns, ids) as (few, keys):
        for part in parts:
            for column in columns:
                match = TextMatch(_unquoted(part), names.get(column, column))
                expression = f"{{{quote_identifier(column)}}} : {part}"
                for (at,) in few.execute(matching, [expression]):
                    found.setdefault(keys[at], []).append(match)
    return {key: tuple(matches) for key, matches in found.items()}


@contextmanager
def _few(
    conn: sqlite3.Connection, table: ImageTable, columns: Sequence[str], ids: Sequence[Key]
) -> Iterator[tuple[sqlite3.Connection, list[Key]]]:
    """
    The texts of some images in a table of the same name in a database of their own, and the keys in the order of its
    rows, from 0: to ask the large table for one row of a common word takes it milliseconds.
    """
    n = table.quoted()
    texts = ", ".join(
        f"substr(_fts.{quote_identifier(column)}, 1, {3 * LONGEST_TEXT})" for column in columns
    )
    sql = f"""
        select _text.image_id, {texts} from json_each(?) as _wanted
        cross join {n["texts"]} as _text on _text.image_id = _wanted.value
        cross join {n["texts_fts"]} as _fts on _fts.rowid = _text.id
    """
    with _naming_the_texts(table):
        rows = conn.execute(sql, [json.dumps(list(ids))]).fetchall()
    with closing(in_memory()) as few:
        few.execute(definition(table.texts_fts, columns))
        marks = ", ".join("?" * (1 + len(columns)))
        listed = ", ".join(map(quote_identifier, columns))
        few.executemany(
            f"insert into {n['texts_fts']} (rowid, {listed}) values ({marks})",
            ((at, *row[1:]) for at, row in enumerate(rows)),
        )
        yield few, [key for key, *_ in rows]


def _unquoted(part: str) -> str:
    text, star = re.fullmatch(r'"(.*)"( \*)?', part, re.DOTALL).groups()  # type: ignore[union-attr]
    text = text.replace('""', '"')
    return text + ("*" if star and not _runs_on(text) else "")


@contextmanager
def _naming_the_texts(table: ImageTable) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if is_interrupted(error) or (isinstance(error, sqlite3.Error) and is_locked(error)):
            raise
        raise TextsDamaged(
            f"the texts of {table.name!r} cannot be searched ({error}); drop the table {table.texts_fts!r}, and the next "
            "embed-images makes it again"
        ) from error
