"""
All ways to search, compared with brute force over the vectors in the table, which this reads by SQL of
its own.
"""

from __future__ import annotations

import itertools
import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from datasette.utils import tilde_decode
from sqlite_utils.db import quote_identifier

from datasette_image_search import store
from datasette_image_search.embedders.palette import PaletteEmbedder
from datasette_image_search.search.query import image_term, vector_to_term
from datasette_image_search.sql import register_functions
from datasette_image_search.store import Index
from datasette_image_search.store.held_vectors import SCENES

from ..commands import command

Key = int | str
Hits = list[tuple[Key, float]]

SAME_SCORE = 1e-3
"""How far two ways to the same score may be apart."""

ROUNDING = 1e-5
"""Of float32: two scores that are closer than this have no order."""

ALL = 1000
"""More images than any table here has."""

FILTERS: Mapping[str, tuple[str, dict[str, str]]] = {
    "all": ("1", {}),
    "some": ("size % 2 = 0 or size is null", {"_where": "size % 2 = 0 or size is null"}),
    "few": ("path like '%2%'", {"path__contains": "2"}),
    "none": ("path = 'nowhere'", {"path": "nowhere"}),
}
"""Name -> SQL, and the same in a URL, for tables of ours."""

OWN_FILTERS: Mapping[str, tuple[str, dict[str, str]]] = {"all": ("1", {})}


@dataclass(frozen=True)
class Query:
    """`asked` is what a search is given, a text or a BLOB; `text` is the same for a URL."""

    asked: str | bytes
    text: str
    vector: np.ndarray


@dataclass(frozen=True)
class State:
    """
    What is in an image table: the images that have a vector, and those vectors, (n, dimensions), of a film that
    of its longest scene; all images; and those that pass each of the filters.
    """

    table: str
    key: str
    model: str
    is_exact: bool
    images: tuple[Key, ...]
    vectors: np.ndarray
    everything: tuple[Key, ...]
    passing: Mapping[str, frozenset[Key]]
    rows: Mapping[Key, str | None] = field(default_factory=dict)
    """What tells the picture of an image: the sha256 of a table of ours."""
    scenes: Mapping[Key, np.ndarray] = field(default_factory=dict)
    """Of films, the vectors of all scenes."""

    def scores(self, vector: np.ndarray) -> dict[Key, float]:
        scores = dict(zip(self.images, (self.vectors @ vector).tolist(), strict=True))
        return scores | {id: float((each @ vector).max()) for id, each in self.scenes.items()}

    def closest(self, vector: np.ndarray) -> dict[Key, np.ndarray]:
        """What each image is found by: its vector, of a film that of the scene which is closest."""
        vectors = dict(zip(self.images, self.vectors, strict=True))
        return vectors | {id: each[(each @ vector).argmax()] for id, each in self.scenes.items()}

    def queries(self, random: Random) -> Iterator[Query]:
        """A vector, words where the model is here, and an image where there is one."""
        if not self.vectors.shape[1]:
            return
        values = np.random.default_rng(random.randrange(2**32)).normal(size=self.vectors.shape[1])
        vector = (values / np.linalg.norm(values)).astype("<f4")
        # As precise as the text of it is, so that all ways search for the same.
        vector = vector.astype("<f2").astype("<f4")
        vector /= np.linalg.norm(vector)
        yield Query(vector.tobytes(), vector_to_term(vector), vector)
        if self.model == PaletteEmbedder.id:
            words = random.choice(["red", "dark blue", "yellow above green"])
            yield Query(words, words, PaletteEmbedder().encode_texts([words])[0])
        if self.images:
            chosen = random.randrange(len(self.images))
            term = image_term(self.images[chosen])
            yield Query(term, term, self.vectors[chosen])


def state_of(conn: sqlite3.Connection, table: str = "images") -> State:
    """As this connection sees it now."""
    index = store.find_index(conn, table)
    image_table = store.find_image_table(conn, table)
    names = {
        "images": quote_identifier(table),
        "key": quote_identifier(image_table.key),
        "vectors": quote_identifier(f"_{table}_vectors"),
        "content": "sha256" if image_table.hash_column else "null",
        # Triggers may be missing; then only this tells whose a vector is.
        "same": "and side.sha256 is image.sha256" if image_table.hash_column else "",
    }
    rows = conn.execute(
        "select image.{key}, side.vector from {images} as image join {vectors} as side "
        "on side.image_id = image.{key} and side.index_id = ? {same} order by 1".format(**names),
        [index.id],
    ).fetchall()
    length = 4 * index.dimensions
    rows = [(id, vector_of(conn, index, cell)) for id, cell in rows]
    rows = [(id, vector) for id, vector in rows if is_sound(vector, index.dimensions)]
    vectors = np.frombuffer(b"".join(vector[:length] for _, vector in rows), "<f4")
    everything = dict(conn.execute("select {key}, {content} from {images}".format(**names)))
    filters = FILTERS if image_table.hash_column else OWN_FILTERS
    passing = {
        name: frozenset(
            id
            for (id,) in conn.execute(
                f"select {{key}} from {{images}} where {where}".format(**names)
            )
        )
        for name, (where, _) in filters.items()
    }
    return State(
        table,
        image_table.key,
        index.model,
        index.index_type in (None, "auto", "flat"),
        tuple(id for id, _ in rows),
        vectors.reshape(len(rows), index.dimensions),
        tuple(everything),
        passing,
        everything,
        {
            id: np.frombuffer(vector, "<f4").reshape(-1, index.dimensions)
            for id, vector in rows
            if len(vector) > length
        },
    )


def vector_of(conn: sqlite3.Connection, index: Index, cell: object) -> object:
    """What a row has as its vector, or what a dataset of Lance beside the database has for it."""
    if not isinstance(cell, int):
        return cell
    (database,) = (file for _, name, file in conn.execute("pragma database_list") if name == "main")
    held = _held(f"{database}-image-search-{index.id}.lance", index.sidecar)
    vectors = np.stack([held[id] for id in range(cell // SCENES * SCENES, cell + 1)])
    vectors = vectors[:, : index.dimensions].astype(np.float64)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("<f4").tobytes()


@lru_cache(maxsize=2)
def _held(place: str, token: str) -> Mapping[int, np.ndarray]:
    import lance

    rows = lance.dataset(place, version=f"image-search-{token}").to_table()
    ids, vectors = rows.column("id").to_pylist(), rows.column("vector").to_pylist()
    return dict(zip(ids, map(np.array, vectors), strict=True))


def is_sound(vector: object, dimensions: int) -> bool:
    """Whether it is a vector, or several: other programs can write anything."""
    if not isinstance(vector, bytes) or not vector or len(vector) % (4 * dimensions):
        return False
    values = np.frombuffer(vector, "<f4").reshape(-1, dimensions)
    return bool(np.isfinite(values).all() and (abs((values**2).sum(axis=1) - 1) < 0.01).all())


# --- What is found -------------------------------------------------------------------------------


def check_hits(
    found: Hits, state: State, query: Query, k: int, filter: str = "all", *, exact: bool
) -> None:
    """That these are the best min(k, as many as there are), best first; of equal ones, the first ids."""
    scores = state.scores(query.vector)
    vectors = state.closest(query.vector)
    candidates = {id: score for id, score in scores.items() if id in state.passing[filter]}
    ids = [id for id, _ in found]
    strangers = [id for id in ids if id not in candidates]
    assert not strangers, f"{strangers} are not among {sorted(candidates)}"
    assert len(ids) == len(set(ids)) == min(k, len(candidates)), (
        f"{len(ids)} hits of {len(candidates)}, {k} wanted: {ids}"
    )
    wrong = [(id, score, scores[id]) for id, score in found if abs(score - scores[id]) > SAME_SCORE]
    assert not wrong, f"(id, score, right score): {wrong}"
    for better, worse in itertools.pairwise(ids):
        is_before = candidates[better] > candidates[worse] - ROUNDING
        assert is_before, f"{worse} is better than {better}: {candidates}"
        if np.array_equal(vectors[better], vectors[worse]):
            assert better < worse, f"{better} and {worse} are equal"
    if not exact or not ids:
        return
    left_out = {id: score for id, score in candidates.items() if id not in set(ids)}
    better = [id for id, score in left_out.items() if score > candidates[ids[-1]] + ROUNDING]
    assert not better, f"{better} are better than {ids[-1]}: {candidates}"
    equal = [
        id for id in left_out if id < ids[-1] and np.array_equal(vectors[id], vectors[ids[-1]])
    ]
    assert not equal, f"{equal} are equal to {ids[-1]} and come before it"


def check_connection(conn: sqlite3.Connection, random: Random, table: str = "images") -> State:
    """The SQL functions, as a connection that has them answers them now."""
    state = state_of(conn, table)
    filters = FILTERS if "few" in state.passing else OWN_FILTERS
    for query in state.queries(random):
        for k in (random.randint(1, 6), ALL):
            hits = _hits(conn, "select image_search(?, ?, ?)", [query.asked, k, table])
            check_hits(hits, state, query, k, exact=state.is_exact)
        for name, (where, _) in filters.items():
            k = random.choice([1, 3, ALL])
            sql = (
                f"select image_search_agg({quote_identifier(state.key)}, ?, ?, ?) "
                f"from {quote_identifier(table)} where {where}"
            )
            hits = _hits(conn, sql, [query.asked, k, table])
            check_hits(hits, state, query, k, name, exact=True)
        check_similarity(conn, state, query)
    return state


def check_similarity(conn: sqlite3.Connection, state: State, query: Query) -> None:
    """Of each image, of all in one statement and of one alone; NULL where it has no vector."""
    key, images = quote_identifier(state.key), quote_identifier(state.table)
    sql = f"select {key}, image_similarity({key}, ?, ?) from {images}"
    arguments = [query.asked, state.table]
    right = state.scores(query.vector)
    alone = f"{sql} where {key} = ?"
    found = [
        *conn.execute(sql, arguments),
        *(row for id in state.everything[-2:] for row in conn.execute(alone, [*arguments, id])),
    ]
    for id, score in found:
        if id in right:
            assert score is not None, f"{id} has a vector and no score"
            assert abs(score - right[id]) < SAME_SCORE, f"{id}: {score} instead of {right[id]}"
        else:
            assert score is None, f"{id} has no vector, and the score {score}"


def _hits(conn: sqlite3.Connection, sql: str, arguments: Sequence) -> Hits:
    (text,) = conn.execute(sql, arguments).fetchone()
    # The aggregate of no rows is NULL: it was never told what to search for.
    return [(hit["id"], hit["score"]) for hit in json.loads(text or "[]")]


def check_search_images(database: Path, random: Random, table: str = "images") -> None:
    """The command, in this process, for one of the queries: what it adds to a search is the same for each."""
    with closing(connected(database)) as conn:
        state = state_of(conn, table)
    filters = FILTERS if "few" in state.passing else OWN_FILTERS
    name = random.choice(list(filters))
    k = random.choice([2, ALL])
    queries = list(state.queries(random))
    if not queries:
        return
    query = random.choice(queries)
    run = (
        *("search-images", database, table, "--by", "likeness", "--json"),
        *("-k", k, "--where", filters[name][0], "--", query.text),
    )
    result = command(*run)
    assert result.exit_code == 0, result.output
    hits = [(row["id"], row["score"]) for row in json.loads(result.stdout)]
    check_hits(hits, state, query, k, name, exact=True)


def connected(database: Path) -> sqlite3.Connection:
    """With the SQL functions."""
    conn = sqlite3.connect(database, timeout=30)
    register_functions(conn)
    return conn


# --- Pages ---------------------------------------------------------------------------------------


def hits_of_json(answer: Mapping[str, Any]) -> Hits:
    """What the search page answers as JSON."""
    return [(hit["id"], hit["score"]) for hit in answer["hits"]]


def ids_on_page(html: str, kind: type) -> list[Key]:
    """Whose thumbnails a search page shows, in its order."""
    # Above are the images that the query names.
    _, _, grid = html.partition('<ol class="image-search-grid')
    found = re.findall(r'<img src="[^"]*/([^/"]+)/thumbnail[^"]*"', grid)
    return [kind(tilde_decode(id)) for id in found]


def is_of(state: State, query: Query, hits: Hits, k: int, filter: str = "all") -> str | None:
    """Why these hits are not those of a state; None where they are."""
    try:
        check_hits(hits, state, query, k, filter, exact=state.is_exact or filter != "all")
    except AssertionError as error:
        return str(error)
    return None
