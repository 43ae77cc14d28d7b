"""
The SQL functions, the same in Datasette and in sqlite-utils.

Registering them is cheap and imports no torch, faiss or numpy, because sqlite-utils does it on every
run; the first call imports what it needs. No function opens a file that its caller names, or reaches
another database than its connection's own.
"""

from __future__ import annotations

import ctypes
import json
import sqlite3
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

from .errors import ImageSearchError

if TYPE_CHECKING:
    import numpy as np

    from .search.query import WeightsOf
    from .store import ImageTable, Index, Key

REMEMBERED = 128
"""Queries per connection, from one statement to the next."""

KEPT_QUERIES = 2048
"""That a statement has prepared at a time, each a vector of some kilobytes: a query may come from a
column, and then there are as many as rows."""

KEPT_BYTES = 128 * 2**20
"""Of the scores of all images that a statement holds: 32 queries over 1,000,000 images."""

WORTH_SCORING_ALL = 2048
"""How many vectors are scored in about the time in which one is read from the database. So all of
them are scored as soon as image_similarity was called for one in so many."""

Report = Callable[[str], None]
"""Takes a sentence meant for the person: of an exception, SQLite passes on only that there was one."""


class _Borrowed:
    """
    A connection that is not kept alive. Its functions would do that: SQLite owns them, Python cannot
    see the circle, and every Database that is dropped without close() would stay open for ever.
    A function runs only while its connection lives, so the address is good whenever it is used.
    """

    def __init__(self, conn: sqlite3.Connection) -> None:
        self.address = id(conn)

    def __call__(self) -> sqlite3.Connection:
        return ctypes.cast(self.address, ctypes.py_object).value


def register_functions(
    conn: sqlite3.Connection,
    report: Report = lambda sentence: None,
    weights_of: WeightsOf | None = None,
    most_texts: int | None = None,
) -> None:
    """
    Make all functions known to a connection; `report` gets what went wrong, and warnings.
    `weights_of` says where weights are, None that the database is to be believed about it.
    `most_texts` is how many different texts one statement may search for, None for any number.
    """
    borrowed = _Borrowed(conn)
    reporting = _reporting(report, borrowed)
    statement = _Statement(borrowed)
    prepare = _preparing(borrowed, statement, report, weights_of, most_texts)
    prepare_labels = _preparing_labels(borrowed, statement, weights_of, most_texts)
    scores = statement.scores

    def search(prepared: _Prepared, k: int, among: list[Key] | None = None) -> str:
        with statement.pausing:
            return _search(borrowed(), prepared, k, among)

    def image_search(
        query: str | bytes | None, k: int | None, table: str | None = None
    ) -> str | None:
        """The best k images of the whole table, as JSON: [{"id": 7, "score": 0.31}, ...]."""
        if query is None or k is None:
            return None
        return search(prepare(query, table), _count(k))

    def image_similarity(id: Any, query: Any, table: str | None = None) -> float | None:
        """The score of one image, or NULL for an image that has no vector."""
        # Called once per row, so that a microsecond here is a second for a million of them.
        try:
            if id >= 0:
                score = scores[query, table][id]
                return score if score == score else None
        except (KeyError, IndexError, TypeError):
            pass
        return similarity_of_one(id, query, table)

    @reporting
    def similarity_of_one(
        id: Key | None, query: str | bytes | None, table: str | None
    ) -> float | None:
        if id is None or query is None:
            return None
        prepared = prepare(query, table)
        _check_key(prepared.table, id)
        with statement.pausing:
            return _similarity(borrowed(), prepared, statement, (query, table), id)

    def image_classify(id: Any, labels: Any, table: str | None = None) -> str | None:
        """That of the labels, a JSON array of texts, which fits an image best, or NULL."""
        try:
            if id >= 0:
                names, best = statement.best_labels[labels, table]
                position = best[id]
                return names[position] if position >= 0 else None
        except (KeyError, IndexError, TypeError):
            pass
        return classify_one(id, labels, table)

    @reporting
    def classify_one(id: Key | None, labels: str | None, table: str | None) -> str | None:
        if id is None or labels is None:
            return None
        prepared = prepare_labels(labels, table)
        _check_key(prepared.table, id)
        with statement.pausing:
            return _classified(borrowed(), prepared, statement, (labels, table), id)

    def image_vector(query: str | bytes | None, table: str | None = None) -> bytes | None:
        """The vector of a query as a BLOB, which every function here takes as a query."""
        if query is None:
            return None
        from .store import vector_to_blob

        return vector_to_blob(prepare(query, table).vector)

    def image_search_status(table: str | None = None) -> str:
        """What is indexed and what is wrong, as JSON."""
        from .search.status import status

        with statement.pausing:
            return json.dumps(status(borrowed(), table))

    class ImageSearchAgg:
        """Aggregate: the best k of the images whose ids it is fed, as JSON."""

        def __init__(self) -> None:
            self.ids: list[Key] = []
            self.arguments: tuple[Any, ...] = (None, None)

        def step(self, id: Any, *arguments: Any) -> None:
            self.arguments = arguments
            append, keys = self.ids.append, (int, str)

            def step(id: Any, *_: Any) -> None:
                # What can be no key is not kept: it may be a BLOB, a million times.
                if isinstance(id, keys):
                    append(id)

            # From the second row on, as little as can be: sqlite3 looks it up anew for each.
            self.step = step  # type: ignore[method-assign]
            step(id)

        @reporting
        def finalize(self) -> str | None:
            query, k, *table = self.arguments
            if query is None or k is None:
                return None
            return search(prepare(query, *table), _count(k), among=self.ids)

    for function, counts in (
        (reporting(image_search), (2, 3)),
        (image_similarity, (2, 3)),
        (image_classify, (2, 3)),
        (reporting(image_vector), (1, 2)),
        (reporting(image_search_status), (0, 1)),
    ):
        for count in counts:
            # Deterministic within a statement, which lets SQLite call it once for constants.
            conn.create_function(function.__name__, count, function, deterministic=True)
    for count in (3, 4):
        conn.create_aggregate("image_search_agg", count, ImageSearchAgg)


def has_functions(conn: sqlite3.Connection) -> bool:
    """Whether the functions were made known to this connection before."""
    try:
        conn.execute("explain select image_search_status()")
    except sqlite3.Error:
        return False
    return True


def _reporting(
    report: Report, borrowed: _Borrowed
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def reporting(*args: Any) -> Any:
            try:
                return function(*args)
            except ImageSearchError as error:
                report(str(error))
                raise
            except sqlite3.OperationalError as error:
                if str(error) != "interrupted":
                    raise
                # The time of the statement is over, and it met SQL of ours. What was computed is kept for
                # the next try; of an exception nobody would learn why, so the statement itself ends.
                borrowed().interrupt()
                return None

        return reporting

    return decorate


@dataclass(frozen=True)
class _Prepared:
    """What a query comes to in one state of the database; `vector` has shape (dimensions,)."""

    index: Index
    table: ImageTable
    vector: np.ndarray


@dataclass(frozen=True)
class _PreparedLabels:
    """Labels, and their vectors of shape (labels, dimensions)."""

    index: Index
    table: ImageTable
    names: tuple[str, ...]
    vectors: np.ndarray


_Query = tuple["str | bytes", "str | None"]
"""A query, or labels, and the table it is for, as SQL gave them."""


class _Pausing:
    """While our own SQL runs, no statement of the person begins."""

    def __init__(self) -> None:
        self.depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


@dataclass
class _Statement:
    """
    What is known while one SQL statement runs, which sees one state of the database throughout.
    SQLite tells functions nothing about statements; its trace says when the next one begins.
    """

    borrowed: _Borrowed
    prepared: dict[_Query, _Prepared] = field(default_factory=dict)
    scores: dict[_Query, memoryview] = field(default_factory=dict)
    labels: dict[_Query, _PreparedLabels] = field(default_factory=dict)
    best_labels: dict[_Query, tuple[tuple[str, ...], memoryview]] = field(default_factory=dict)
    calls: Counter[_Query] = field(default_factory=Counter)
    worth: dict[_Query, int] = field(default_factory=dict)
    """After how many calls all images are scored."""
    bytes_kept: int = 0
    searched: set[str] = field(default_factory=set)
    encoded: set[object] = field(default_factory=set)
    """Where there is a limit to them: texts that were searched for, and what models encoded for them."""
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
        self.prepared.clear()
        self.scores.clear()
        self.labels.clear()
        self.best_labels.clear()
        self.calls.clear()
        self.worth.clear()
        self.bytes_kept = 0

    def called(self, query: _Query, scores_of_all: Callable[[], int]) -> bool | None:
        """
        Once more, for one image. Whether the scores of all, so many, are to be looked up (False) or
        computed (True) first: once each, not again where it was in vain, and None for neither.
        """
        self.calls[query] += 1
        calls = self.calls[query]
        if calls == 1:
            self.worth[query] = 2 + scores_of_all() // WORTH_SCORING_ALL
        return calls > 1 if calls in (1, self.worth[query]) else None

    def make_room(self, nbytes: int = 0) -> None:
        """For one query more, or the scores of one: memory must not grow with the rows."""
        if (
            len(self.prepared) + len(self.labels) >= KEPT_QUERIES
            or self.bytes_kept + nbytes > KEPT_BYTES
        ):
            self.forget()
        self.bytes_kept += nbytes

    def spend(self, text: str, encoded: set[object], most: int) -> None:
        """Raises ImageSearchError where this text as well is more than a statement may have."""
        if max(len(self.searched | {text}), len(self.encoded | encoded)) > most:
            raise ImageSearchError(
                f"a statement may search for {most} different texts, and this one has "
                "more; search with a column only in sqlite-utils, where nobody else waits"
            )
        self.searched.add(text)
        self.encoded |= encoded


def _preparing(
    borrowed: _Borrowed,
    statement: _Statement,
    report: Report,
    weights_of: WeightsOf | None,
    most_texts: int | None,
) -> Callable[..., _Prepared]:
    """
    (query, table) -> what it comes to, remembered until the database changes: a function in a
    SELECT is called once per row with the same few queries.
    """
    remembered: dict[_Query, _Prepared] = {}
    state: tuple[int, int] | None = None

    def prepare(query: str | bytes, name: str | None = None) -> _Prepared:
        if (query, name) not in statement.prepared:
            if most_texts is not None and isinstance(query, str):
                statement.spend(query, _words_of(query), most_texts)
            with statement.pausing:
                prepared = of_this_state(query, name)
                statement.make_room()
                statement.prepared[query, name] = prepared
                statement.watch()
        return statement.prepared[query, name]

    def of_this_state(query: str | bytes, name: str | None) -> _Prepared:
        nonlocal state
        from . import store
        from .search.query import query_vector, recorded_weights

        if not isinstance(query, str | bytes):
            raise ImageSearchError(
                f"the query is {query!r}; it must be text, or a vector as a BLOB"
            )
        conn = borrowed()
        (version,) = conn.execute("pragma data_version").fetchone()
        now = version, conn.total_changes
        if state != now or len(remembered) >= REMEMBERED:
            remembered.clear()
        # A rollback takes changes back, and neither number tells.
        state = None if conn.in_transaction else now
        if (query, name) not in remembered:
            index = store.find_index(conn, name)
            found = query_vector(conn, index, query, weights_of or recorded_weights)
            for warning in found.warnings:
                report(warning)
            table = store.find_image_table(conn, index.image_table)
            remembered[query, name] = _Prepared(index, table, found.vector)
        return remembered[query, name]

    return prepare


def _words_of(query: str) -> set[object]:
    """What a model encodes for a query."""
    from .search.query import Kind, parse_query

    return {term.text for term in parse_query(query) if term.kind is Kind.WORDS}


def _preparing_labels(
    borrowed: _Borrowed,
    statement: _Statement,
    weights_of: WeightsOf | None,
    most_texts: int | None,
) -> Callable[..., _PreparedLabels]:
    """(labels, table) -> what they come to; their vectors are remembered by the process."""

    def prepare_labels(labels: str, name: str | None = None) -> _PreparedLabels:
        if (labels, name) not in statement.labels:
            from . import store
            from .search.query import embedder_of, recorded_weights
            from .search.tags import label_vectors, parse_labels

            names = parse_labels(labels)
            if most_texts is not None:
                # The same label among others is encoded again.
                statement.spend(labels, {(labels, label) for label in names}, most_texts)
            with statement.pausing:
                index = store.find_index(borrowed(), name)
                table = store.find_image_table(borrowed(), index.image_table)
                vectors = label_vectors(embedder_of(index, weights_of or recorded_weights), names)
                statement.make_room()
                statement.labels[labels, name] = _PreparedLabels(index, table, names, vectors)
                statement.watch()
        return statement.labels[labels, name]

    return prepare_labels


def _classified(
    conn: sqlite3.Connection,
    prepared: _PreparedLabels,
    statement: _Statement,
    labels: _Query,
    id: Key,
) -> str | None:
    """The label of one image by its vector; after enough of them, those of all are looked up."""
    from . import store
    from .search.live import live_index
    from .search.tags import best_label, best_label_by_image

    index, vectors = prepared.index, prepared.vectors
    compute = statement.called(labels, lambda: len(vectors) * len(live_index(conn, index)))
    if compute is not None:
        best = best_label_by_image(conn, index, vectors, compute=compute)
        if best is not None:
            statement.make_room(best.nbytes)
            statement.best_labels[labels] = prepared.names, best
    vector = store.image_vector(conn, index, id, prepared.table)
    return None if vector is None else prepared.names[best_label(vector, vectors)]


def _similarity(
    conn: sqlite3.Connection, prepared: _Prepared, statement: _Statement, query: _Query, id: Key
) -> float | None:
    """The score of one image by its vector; after enough of them, those of all are looked up."""
    from . import store
    from .search.live import live_index
    from .search.similarity import scores_by_image

    index, vector = prepared.index, prepared.vector
    compute = statement.called(query, lambda: len(live_index(conn, index)))
    if compute is not None:
        scores = scores_by_image(conn, index, vector, compute=compute)
        if scores is not None:
            statement.make_room(scores.nbytes)
            statement.scores[query] = scores
    image = store.image_vector(conn, index, id, prepared.table)
    # As rounded as the codes are: rows of one statement are ordered by what they are given.
    return None if image is None else float(image.astype("<f2").astype("<f4") @ vector)


def _check_key(table: ImageTable, id: Any) -> None:
    """Raises ImageSearchError for what can be the id of no image, such as the value of another column."""
    if isinstance(id, str) and table.parse_key(id) is None:
        raise ImageSearchError(
            f"{id!r:.200} is not the id of an image of {table.name!r}, whose ids are whole numbers; "
            f"name the column {table.key!r}"
        )


def _search(
    conn: sqlite3.Connection, prepared: _Prepared, k: int, among: list[Key] | None = None
) -> str:
    from . import store
    from .search import planner

    filter = None if among is None else store.IdSet(among)
    found = planner.search(conn, prepared.index, prepared.vector, k, filter)
    return json.dumps([{"id": hit.id, "score": hit.score} for hit in found.hits])


def _count(k: Any) -> int:
    if not isinstance(k, int):
        raise ImageSearchError(f"k is {k!r}; it must be a whole number")
    return k
