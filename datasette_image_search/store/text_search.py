"""The images that words are written about, by the tables of written_texts.py."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from sqlite_utils.db import quote_identifier

from .connections import in_memory
from .filters import Filter, IdSet, passing_keys
from .tables import ImageTable, Key, StoreError
from .transactions import is_interrupted, is_locked
from .written_texts import LONGEST_TEXT, TEXT_TABLES, definition, text_columns

SCANNED = 10_000
"""Matches that are looked at, the newest first. A word that more images have says little about any of them, and to rank a
million takes most of a second."""

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


CALLED = {"lines": "the picture"}
"""What people call a table of TEXT_TABLES, if not as it is called here."""


class TextsDamaged(StoreError):
    """The tables of FTS5 cannot be read."""


@dataclass(frozen=True)
class Words:
    """Words that must all be written about an image, or, as a `phrase`, next to each other."""

    text: str
    is_phrase: bool = False

    def parts(self) -> tuple[str, ...]:
        """The words, as FTS5 takes them; none if there is nothing to look for. An * at the end of a word is any ending."""
        if self.is_phrase:
            return (_quoted(self.text),) if _has_letters(self.text) else ()
        words = [word for word in self.text.split() if _has_letters(word)]
        telling = [word for word in words if word.lower() not in STOP_WORDS] or words
        if len(telling) > MOST_WORDS:
            return ()
        return tuple(
            _quoted(word.rstrip("*")) + (" *" if word.endswith("*") else "") for word in telling
        )


@dataclass(frozen=True)
class TextHit:
    """
    `rank` begins with 1; images that match equally well have the same. A text `tells` something if no more than half of
    the images have such a one.
    """

    id: Key
    rank: int
    tells: bool = True


@dataclass(frozen=True)
class TextMatch:
    """A word or phrase of a query, and the text that it was found in: a column, "keywords", "tags" or "the picture"."""

    words: str
    text: str

    def __str__(self) -> str:
        return f"{self.words} in {self.text}"


def _has_letters(text: str) -> bool:
    return any(letter.isalnum() for letter in text)


def _quoted(text: str) -> str:
    """A string of FTS5, in which nothing is syntax. It ends at a NUL, which is in no word."""
    return '"' + text.replace("\0", " ").replace('"', '""') + '"'


def _expression(wanted: Words, unwanted: Sequence[Words]) -> str | None:
    """In the language of FTS5; None if there is nothing to look for."""
    parts = wanted.parts()
    others = [f"({' '.join(some)})" for words in unwanted if (some := words.parts())]
    if not parts:
        return None
    return f"({' '.join(parts)})" + (f" NOT ({' OR '.join(others)})" if others else "")


def text_hits(
    conn: sqlite3.Connection,
    table: ImageTable,
    wanted: Sequence[Words],
    unwanted: Sequence[Words] = (),
    filter: Filter | IdSet | None = None,
) -> tuple[list[TextHit], int]:
    """
    The images that all words of at least one of `wanted` are written about, and those of none of `unwanted`, that pass
    the filter; the best by BM25 first, equal ones by id; and how many were looked at. A table without texts has none.

    Raises TextsDamaged, and FilterError if SQLite does not take the filter.
    """
    if not text_columns(conn, table):
        return [], 0
    looked_at = 0
    relevance: dict[Key, float] = defaultdict(float)
    telling: set[Key] = set()
    for words in wanted:
        expression = _expression(words, unwanted)
        if expression is None:
            continue
        with _naming_the_texts(table):
            found = _scanned(conn, table, expression)
            tells = _tells(conn, table, expression, len(found))
        looked_at += len(found)
        for key, value in found:
            # BM25 of several terms is the sum of that of each.
            relevance[key] += value
            if tells:
                telling.add(key)
    best = sorted((value, key) for key, value in relevance.items() if table.is_key(key))
    passed = set(passing_keys(conn, table, [key for _, key in best], filter))
    hits = _ranked((value, TextHit(key, 0, key in telling)) for value, key in best if key in passed)
    return hits, looked_at


def text_hits_among(hits: Sequence[TextHit], keys: Container[Key]) -> list[TextHit]:
    """Those of these images, with the ranks that they have among themselves."""
    return _ranked((hit.rank, hit) for hit in hits if hit.id in keys)


def _ranked(hits: Iterable[tuple[float, TextHit]]) -> list[TextHit]:
    """Hits by a number, the lowest first, with their ranks."""
    ranked: list[TextHit] = []
    last = None
    for value, hit in hits:
        # What matches alike is of one rank, so that nothing but likeness decides between them.
        rank = ranked[-1].rank if value == last else len(ranked) + 1
        ranked.append(replace(hit, rank=rank))
        last = value
    return ranked


def _scanned(
    conn: sqlite3.Connection, table: ImageTable, expression: str
) -> list[tuple[Key, float]]:
    """The keys that match, with BM25, the lower the better."""
    n = table.quoted()
    sql = f"""
        select image_id, relevance from (
            select rowid as number, bm25({n["texts_fts"]}) as relevance from {n["texts_fts"]}
            where {n["texts_fts"]} match ? order by rowid desc limit {SCANNED}
        ) cross join {n["texts"]} on id = number
    """
    return conn.execute(sql, [expression]).fetchall()


def _tells(conn: sqlite3.Connection, table: ImageTable, expression: str, found: int) -> bool:
    """Whether no more than half of the images match; `found` are known to."""
    n = table.quoted()
    if found < SCANNED:
        sql = f"select count(*) from (select 1 from {n['texts']} limit ?)"
        (some,) = conn.execute(sql, [2 * found]).fetchone()
        return bool(some == 2 * found)
    (images,) = conn.execute(f"select count(*) from {n['texts']}").fetchone()
    sql = f"""
        select count(*) from (
            select 1 from {n["texts_fts"]} where {n["texts_fts"]} match ? limit ?
        )
    """
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
    n = table.quoted()
    texts = ", ".join(
        f"substr({quote_identifier(column)}, 1, {3 * LONGEST_TEXT})" for column in columns
    )
    sql = f"""
        select image_id, {texts} from json_each(?) as wanted
        cross join {n["texts"]} on image_id = wanted.value
        cross join {n["texts_fts"]} on {n["texts_fts"]}.rowid = {n["texts"]}.id
    """
    with _naming_the_texts(table):
        rows = conn.execute(sql, [json.dumps(list(ids))]).fetchall()
    keys = [key for key, *_ in rows]
    names = {table.side(kind): CALLED.get(kind, kind) for kind in TEXT_TABLES}
    found: dict[Key, list[TextMatch]] = {}
    # To ask the large table for one row of a common word takes it milliseconds, so these few get one of their own.
    with closing(in_memory()) as few:
        few.execute(definition("few", columns))
        marks = ", ".join("?" * (1 + len(columns)))
        listed = ", ".join(map(quote_identifier, columns))
        few.executemany(
            f"insert into few (rowid, {listed}) values ({marks})",
            ((at, *row[1:]) for at, row in enumerate(rows)),
        )
        for part in parts:
            for column in columns:
                match = TextMatch(_unquoted(part), names.get(column, column))
                expression = f"{{{quote_identifier(column)}}} : {part}"
                for (at,) in few.execute("select rowid from few where few match ?", [expression]):
                    found.setdefault(keys[at], []).append(match)
    return {key: tuple(matches) for key, matches in found.items()}


def _unquoted(part: str) -> str:
    text, star = re.fullmatch(r'"(.*)"( \*)?', part, re.DOTALL).groups()  # type: ignore[union-attr]
    return text.replace('""', '"') + ("*" if star else "")


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
