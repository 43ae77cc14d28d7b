"""
What is known while one SQL statement runs. A function in a SELECT is called once per row with the same
few arguments, and SQLite may not call it less often: what it returns depends on tables.
"""

from __future__ import annotations

import ctypes
import sqlite3
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import ImageSearchError

if TYPE_CHECKING:
    import numpy as np

    from ..search.asked import Judge
    from ..search.query import QueryVector
    from ..store import Index

KEPT_QUERIES = 2048
"""That a statement has prepared at a time, each a vector of some kilobytes: a query may come from a
column, and then there are as many as rows."""

KEPT_BYTES = 128 * 2**20
"""Of what all connections of this process keep for their statements: the scores of 32 queries over
1,000,000 images. A statement that has ended is told of by the next one only, and a server has a
connection for each thread and database."""

LETTERS_A_TEXT = 100
"""On average, of the texts that a statement may search for where these are limited."""

WORTH_SCORING_ALL = 2048
"""How many vectors are scored in about the time in which one is read from the database. So all of
them are scored as soon as image_similarity was called for one in so many."""


class Borrowed:
    """
    A connection that is not kept alive. Its functions would do that: SQLite owns them, Python cannot
    see the circle, and every Database that is dropped without close() would stay open for ever.
    A function runs only while its connection lives, so the address is good whenever it is used.

    Tried instead: weakref.ref() raises TypeError for a sqlite3.Connection; a subclass would take one, but
    Datasette and sqlite-utils make the connections; gc does not free a connection that a function holds.
    """

    def __init__(self, conn: sqlite3.Connection) -> None:
        self.address = id(conn)

    def __call__(self) -> sqlite3.Connection:
        return ctypes.cast(self.address, ctypes.py_object).value


@dataclass(frozen=True)
class PreparedLabels:
    """Labels, and their vectors of shape (labels, dimensions)."""

    index: Index
    names: tuple[str, ...]
    vectors: np.ndarray


Query = tuple["str | bytes", "str | None"]
"""A query, or labels, and the table it is for, as SQL gave them."""


class _Pausing:
    """While our own SQL runs, no statement of the person begins."""

    def __init__(self) -> None:
        self.depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


@dataclass(eq=False)
class Statement:
    """
    What is known while one SQL statement runs, which sees one state of the database throughout.
    SQLite tells functions nothing about statements; its trace says when the next one begins.
    """

    borrowed: Borrowed
    prepared: dict[Query, QueryVector] = field(default_factory=dict)
    scores: dict[Query, memoryview] = field(default_factory=dict)
    relevances: dict[Query, memoryview] = field(default_factory=dict)
    judges: dict[Query, Judge] = field(default_factory=dict)
    labels: dict[Query, PreparedLabels] = field(default_factory=dict)
    best_labels: dict[Query, tuple[tuple[str, ...], memoryview]] = field(default_factory=dict)
    results: dict[tuple[str, tuple[Any, ...]], str | bytes] = field(default_factory=dict)
    """What a function returned, by its name and arguments."""
    calls: Counter[tuple[object, ...]] = field(default_factory=Counter)
    worth: dict[tuple[object, ...], int] = field(default_factory=dict)
    """After how many calls all images are scored."""
    bytes_kept: int = 0
    """Of all these."""
    searched: set[str] = field(default_factory=set)
    encoded: dict[object, int] = field(default_factory=dict)
    """Where there is a limit to them: texts that were searched for, and what models encoded for them
    with its letters."""
    pausing: _Pausing = field(default_factory=_Pausing)
    trace: Callable[[], object] = lambda: None
    """A weak reference to our trace callback, which the connection alone keeps alive."""

    def watch(self) -> None:
        """Hear of the next statement, or at once of someone else who takes the trace for their own."""
        if self.trace() is None:
            trace = self.begin
            self.trace = weakref.ref(trace, lambda _: self.end())
            self.borrowed().set_trace_callback(trace)

    def begin(self, _sql: str) -> None:
        if not self.pausing.depth:
            self.end()

    def end(self) -> None:
        self.forget()
        self.searched.clear()
        self.encoded.clear()

    def forget(self) -> None:
        """Also from another thread, at any moment: what is missed is computed again."""
        self.prepared.clear()
        self.scores.clear()
        self.relevances.clear()
        self.judges.clear()
        self.labels.clear()
        self.best_labels.clear()
        self.results.clear()
        self.calls.clear()
        self.worth.clear()
        self.bytes_kept = 0

    def called(self, asked: tuple[object, ...], scores_of_all: Callable[[], int]) -> bool | None:
        """
        Once more, for one image and what is asked of it. Whether the scores of all, so many, are to be looked up (False) or
        computed (True) first: once each, not again where it was in vain, and None for neither.
        """
        self.calls[asked] += 1
        calls = self.calls[asked]
        if calls == 1:
            self.worth[asked] = 2 + scores_of_all() // WORTH_SCORING_ALL
        return calls > 1 if calls in (1, self.worth.get(asked)) else None

    def make_room(self, nbytes: int = 0) -> None:
        """For one of these more: memory must not grow with the rows."""
        queries = len(self.prepared) + len(self.labels) + len(self.judges)
        if queries + len(self.results) >= KEPT_QUERIES:
            self.forget()
        with _statements_lock:
            _statements.add(self)
            others = [each for each in _statements if each is not self]
            kept = sum(each.bytes_kept for each in others)
            if kept + self.bytes_kept + nbytes > KEPT_BYTES:
                for each in others:
                    each.forget()
                if self.bytes_kept + nbytes > KEPT_BYTES:
                    self.forget()
        self.bytes_kept += nbytes

    def spend(self, text: str, encoded: dict[object, int], most: int) -> None:
        """Raises ImageSearchError where this text as well is more than a statement may have."""
        encoded = self.encoded | encoded
        letters = most * LETTERS_A_TEXT
        if max(len(self.searched | {text}), len(encoded)) > most or sum(encoded.values()) > letters:
            raise ImageSearchError(
                f"a statement may search for {most} different texts of {letters:,} letters together, "
                "and this one has more; search with a column only in sqlite-utils, where nobody else "
                "waits"
            )
        self.searched.add(text)
        self.encoded = encoded


_statements: weakref.WeakSet[Statement] = weakref.WeakSet()
_statements_lock = threading.Lock()
"""Those of all connections, and a lock to count what they keep."""
