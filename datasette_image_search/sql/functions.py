"""
The SQL functions, the same in Datasette and in sqlite-utils.

Registering them is cheap and imports no torch, faiss or numpy, because sqlite-utils does it on every
run; the first call imports what it needs. No function opens a file that its caller names, or reaches
another database than its connection's own.

They read tables, so they are not deterministic, and SQLite refuses an index or a generated column of
them: it would not know when to compute it anew, and one day call the database malformed.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any

from ..errors import ImageSearchError
from .arguments import image_count, image_key, is_missing
from .gathered import GatheredIds
from .statement import Borrowed, PreparedLabels, Query, Statement

if TYPE_CHECKING:
    from ..search.query import QueryVector
    from ..store import ImageTable, Key
    from ..store.filters import IdSet
    from ..store.indexes import WeightsOf

REMEMBERED = 128
"""Queries per connection, from one statement to the next."""

Tell = Callable[[str], None]
"""Takes a sentence meant for the person: of an exception, SQLite passes on only that there was one."""


def register_functions(
    conn: sqlite3.Connection,
    tell: Tell = lambda sentence: None,
    weights_of: WeightsOf | None = None,
    most_texts: int | None = None,
) -> str | None:
    """
    Make all functions known to a connection; `tell` gets what went wrong, and warnings.
    `weights_of` says where weights are, None that the database is to be believed about it.
    `most_texts` is how many different texts one statement may search for, None for any number.

    A sentence comes back where the database has an index or a column of them, which version 0.1 let
    SQLite make.
    """
    borrowed = Borrowed(conn)
    reporting = _reporting(tell, borrowed)
    statement = Statement(borrowed)
    prepare = _preparing(borrowed, statement, tell, weights_of, most_texts)
    prepare_labels = _preparing_labels(borrowed, statement, weights_of, most_texts)
    once = _once_per_statement(statement, reporting)
    scores, relevances = statement.scores, statement.relevances

    @once
    def image_search(query: Any, k: Any, table: str | None = None) -> str | None:
        """The best k images of the table, as JSON: [{"id": 7, "score": 0.31, "relevance": 0.99}, ...]."""
        if is_missing(query, k):
            return None
        count = image_count(k)
        return _search(borrowed(), prepare(query, table), count)

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

    def key_of(table: ImageTable, id: Any) -> Key | None:
        """
        None for the key of a row that can have no image, as SQLite keeps BLOBs in a column of texts, too;
        and for a form that was not filled in, where it is no key. Raises ImageSearchError for what is no
        key, such as the value of another column.
        """
        try:
            return image_key(table, id)
        except ImageSearchError:
            from ..store.reads import is_row

            with statement.pausing:
                if is_missing(id) or is_row(borrowed(), table, id):
                    return None
            raise

    def of_one(
        id: Any,
        asked: Query,
        prepare: Callable[..., QueryVector | PreparedLabels],
        of_all: Mapping[Query, Any],
        again: Callable[..., Any],
        compute: Callable[..., Any],
    ) -> Any:
        """
        What is asked of one image, a query or labels in a table; `again` looks it up in `of_all`, and
        `compute` works it out where that cannot be.
        """
        if id is None or is_missing(asked[0]):
            return None
        prepared = prepare(*asked)
        key = key_of(prepared.index.table, id)
        if key is None:
            return None
        if key is not id and asked in of_all:
            # A number that came as a text.
            return again(key, *asked)
        with statement.pausing:
            return compute(borrowed(), prepared, statement, asked, key)

    @reporting
    def similarity_of_one(id: Any, query: Any, table: str | None) -> float | None:
        return of_one(id, (query, table), prepare, scores, image_similarity, _similarity)

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
    def classify_one(id: Any, labels: Any, table: str | None) -> str | None:
        best = statement.best_labels
        return of_one(id, (labels, table), prepare_labels, best, image_classify, _classified)

    def image_relevance(id: Any, query: Any, table: str | None = None) -> float | None:
        """How much better one image is than chance, 0 to 1, or NULL for an image that has no vector."""
        try:
            if id >= 0:
                relevance = relevances[query, table][id]
                return relevance if relevance == relevance else None
        except (KeyError, IndexError, TypeError):
            pass
        return relevance_of_one(id, query, table)

    @reporting
    def relevance_of_one(id: Any, query: Any, table: str | None) -> float | None:
        return of_one(id, (query, table), prepare, relevances, image_relevance, _relevance)

    @once
    def image_vector(query: Any, table: str | None = None) -> bytes | None:
        """The vector of a query as a BLOB, which every function here takes as a query."""
        if is_missing(query):
            return None
        from ..store.stored_vectors import vector_to_blob

        return vector_to_blob(prepare(query, table).vector)

    @once
    def image_search_status(table: str | None = None) -> str:
        """What is indexed and what is wrong, as JSON."""
        from ..api import Images

        try:
            return json.dumps(Images(borrowed(), table or None, raw_errors=True).status())
        except ImageSearchError as error:
            return json.dumps({"problem": str(error)})

    class ImageSearchAgg:
        """Aggregate: the best k of the images whose ids it is fed, as JSON."""

        def __init__(self) -> None:
            self.gathered = GatheredIds()
            self.arguments: tuple[Any, ...] = (None, None)

        def step(self, id: Any, *arguments: Any) -> None:
            self.arguments = arguments
            # From the second row on, as little as can be: sqlite3 looks it up anew for each.
            self.step = self.gathered.step()  # type: ignore[method-assign]
            self.step(id)

        @reporting
        def finalize(self) -> str | None:
            from ..store.filters import IdSet

            query, k, *table = self.arguments
            if is_missing(query, k):
                return None
            count = image_count(k)
            prepared = prepare(query, *table)
            among = IdSet(self.gathered.keys(prepared.index.table))
            with statement.pausing:
                return _search(borrowed(), prepared, count, among)

    functions: tuple[tuple[Callable[..., Any], tuple[int, ...]], ...] = (
        (image_search, (2, 3)),
        (image_similarity, (2, 3)),
        (image_relevance, (2, 3)),
        (image_classify, (2, 3)),
        (image_vector, (1, 2)),
        (image_search_status, (0, 1)),
    )

    def register(*, deterministic: bool) -> None:
        for function, counts in functions:
            for count in counts:
                conn.create_function(
                    function.__name__, count, function, deterministic=deterministic
                )

    for count in (3, 4):
        conn.create_aggregate("image_search_agg", count, ImageSearchAgg)
    register(deterministic=False)
    computed = _computed_in_the_schema(conn)
    if computed is None:
        return None
    # Of a database of which SQLite reads nothing, nothing could be dropped either.
    register(deterministic=True)
    return (
        f"the database has {computed} of a function such as image_similarity(), which SQLite cannot keep "
        "up to date and may report as malformed; drop it with: sqlite-utils query PATH 'drop index NAME', "
        "or 'alter table TABLE drop column NAME'"
    )


def _computed_in_the_schema(conn: sqlite3.Connection) -> str | None:
    """What SQLite refuses in the schema of a database, if it does, since the functions are there."""
    cursor = conn.cursor()
    # Rows of the connection may be dicts, which are unpacked into their keys.
    cursor.row_factory = None
    (timeout,) = cursor.execute("pragma busy_timeout").fetchone()
    # Whoever asks something of a database that is locked will wait, and be told. This need not.
    conn.execute("pragma busy_timeout = 0")
    try:
        conn.execute("explain select 1 from sqlite_master")
    except sqlite3.DatabaseError as error:
        refused = _REFUSED.fullmatch(str(error))
        if refused is not None:
            return f"an index, {refused[1]!r}," if refused[2] else f"a column of {refused[1]!r}"
    finally:
        conn.execute(f"pragma busy_timeout = {timeout}")
    return None


_REFUSED = re.compile(
    r"malformed database schema \((.*)\) - non-deterministic functions prohibited in "
    r"(?:generated columns|(index expressions|partial index WHERE clauses))",
    re.DOTALL,
)


def has_functions(conn: sqlite3.Connection) -> bool:
    """Whether the functions were made known to this connection before."""
    try:
        conn.execute("explain select image_search_status()")
    except sqlite3.Error:
        return False
    return True


def _reporting(
    tell: Tell, borrowed: Borrowed
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def reporting(*args: Any) -> Any:
            from ..store.connections import plain_rows
            from ..store.transactions import is_interrupted

            try:
                with plain_rows(borrowed()):
                    return function(*args)
            except ImageSearchError as error:
                tell(str(error))
                raise
            except sqlite3.OperationalError as error:
                if not is_interrupted(error):
                    raise
                # The time of the statement is over, and it met SQL of ours. What was computed is kept for
                # the next try; of an exception nobody would learn why, so the statement itself ends.
                borrowed().interrupt()
                return None

        return reporting

    return decorate


def _once_per_statement(
    statement: Statement, reporting: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What takes long, and depends on nothing but its arguments while a statement runs."""
    results = statement.results

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__
        compute = reporting(function)

        @wraps(function)
        def once(*args: Any) -> Any:
            # Called once per row too, with the same arguments.
            try:
                return results[name, args]
            except KeyError:
                pass
            with statement.pausing:
                result = compute(*args)
                if result is not None:
                    statement.make_room(len(result))
                    results[name, args] = result
                    statement.watch()
            return result

        return once

    return decorate


def _preparing(
    borrowed: Borrowed,
    statement: Statement,
    tell: Tell,
    weights_of: WeightsOf | None,
    most_texts: int | None,
) -> Callable[..., QueryVector]:
    """
    (query, table) -> what it comes to, remembered until the database changes: a function in a
    SELECT is called once per row with the same few queries.
    """
    remembered: dict[Query, QueryVector] = {}
    state: tuple[int, int] | None = None

    def prepare(query: str | bytes, name: str | None = None) -> QueryVector:
        known = statement.prepared.get((query, name))
        if known is None:
            if most_texts is not None and isinstance(query, str):
                statement.spend(query, _words_of(query), most_texts)
            with statement.pausing:
                known = of_this_state(query, name)
                statement.make_room(known.vector.nbytes)
                statement.prepared[query, name] = known
                statement.watch()
        return known

    def of_this_state(query: str | bytes, name: str | None) -> QueryVector:
        nonlocal state
        from ..api import Images

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
            images = Images(conn, name or None, weights_of=weights_of, raw_errors=True)
            asked = images.ask(query)
            for warning in asked.warnings:
                tell(warning)
            remembered[query, name] = asked
        return remembered[query, name]

    return prepare


def _words_of(query: str) -> dict[object, int]:
    """What a model encodes for a query, with its letters."""
    from ..search.query import Kind, parse_query

    return {term.text: len(term.text) for term in parse_query(query) if term.kind is Kind.WORDS}


def _preparing_labels(
    borrowed: Borrowed,
    statement: Statement,
    weights_of: WeightsOf | None,
    most_texts: int | None,
) -> Callable[..., PreparedLabels]:
    """(labels, table) -> what they come to; their vectors are remembered by the process."""

    def prepare_labels(labels: str, name: str | None = None) -> PreparedLabels:
        known = statement.labels.get((labels, name))
        if known is None:
            from .. import store
            from ..search.query import text_encoder_of
            from ..search.tags import label_vectors, parse_labels
            from ..store.indexes import recorded_weights

            names = parse_labels(labels)
            if most_texts is not None:
                # The same label among others is encoded again.
                spent: dict[object, int] = {(labels, label): len(label) for label in names}
                statement.spend(labels, spent, most_texts)
            with statement.pausing:
                index = store.find_index(borrowed(), name or None)
                vectors = label_vectors(
                    text_encoder_of(index, weights_of or recorded_weights), names
                )
                known = PreparedLabels(index, names, vectors)
                statement.make_room(vectors.nbytes)
                statement.labels[labels, name] = known
                statement.watch()
        return known

    return prepare_labels


def _classified(
    conn: sqlite3.Connection,
    prepared: PreparedLabels,
    statement: Statement,
    labels: Query,
    id: Key,
) -> str | None:
    """The label of one image by its vector; after enough of them, those of all are looked up."""
    from ..search.similarity import count_scores
    from ..search.tags import best_label, best_label_by_image
    from ..store.vectors import image_vectors

    index, vectors = prepared.index, prepared.vectors
    compute = statement.called(labels, lambda: len(vectors) * count_scores(conn, index))
    if compute is not None:
        best = best_label_by_image(conn, index, vectors, compute=compute)
        if best is not None:
            statement.make_room(best.nbytes)
            statement.best_labels[labels] = prepared.names, best
    of_image = image_vectors(conn, index, id)
    return prepared.names[best_label(of_image, vectors)] if len(of_image) else None


def _similarity(
    conn: sqlite3.Connection, prepared: QueryVector, statement: Statement, query: Query, id: Key
) -> float | None:
    """The score of one image by its vector; after enough of them, those of all are looked up."""
    from ..search.codes import score_of_one
    from ..search.similarity import count_scores, scores_by_image
    from ..store.vectors import image_vectors

    index, vector = prepared.index, prepared.vector
    compute = statement.called(query, lambda: count_scores(conn, index))
    if compute is not None:
        scores = scores_by_image(conn, index, vector, compute=compute)
        if scores is not None:
            statement.make_room(scores.nbytes)
            statement.scores[query] = scores
    images = image_vectors(conn, index, id)
    # As among all, to the last bit: rows of one statement are ordered and grouped by what they get.
    return max((score_of_one(index, image, vector) for image in images), default=None)


def _relevance(
    conn: sqlite3.Connection, prepared: QueryVector, statement: Statement, query: Query, id: Key
) -> float | None:
    """The same of the relevance."""
    from ..search.asked import judge_now
    from ..search.similarity import count_scores, relevances_by_image

    asked = ("relevance", *query)
    compute = statement.called(asked, lambda: count_scores(conn, prepared.index))
    if compute is not None:
        relevances = relevances_by_image(conn, prepared, compute=compute)
        if relevances is not None:
            statement.make_room(relevances.nbytes)
            statement.relevances[query] = relevances
    judge = statement.judges.get(query)
    if judge is None:
        judge = judge_now(conn, prepared)
        statement.make_room(judge.row.nbytes)
        statement.judges[query] = judge
    return judge(conn, id)


def _search(
    conn: sqlite3.Connection, prepared: QueryVector, k: int, among: IdSet | None = None
) -> str:
    from ..api import Images

    images = Images(conn, prepared.index.image_table, raw_errors=True)
    (found,) = images.find([prepared], k, where=among)
    hits = [{"id": hit.id, "score": hit.score, "relevance": hit.relevance} for hit in found.hits]
    for hit, written in zip(found.hits, hits, strict=True):
        if hit.at is not None:
            written["at"] = hit.at
    return json.dumps(hits)
