"""Searches compared with brute force over all rows."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from datasette_image_search import ImageSearchError
from datasette_image_search.engines import places
from datasette_image_search.engines.lance import LanceEngine
from datasette_image_search.search import (
    all_scores,
    approximate,
    bounded,
    byte_codes,
    plan,
    planner,
)
from datasette_image_search.search.asked import (
    SearchOptions,
    all_relevances,
    closest_among,
    find_images,
    images_within,
)
from datasette_image_search.search.codes import CODE_ERROR
from datasette_image_search.search.correction import ranking_vectors
from datasette_image_search.search.exact import reaching
from datasette_image_search.search.freshness import live_index, live_snapshot
from datasette_image_search.search.hits import Found, Hit, Step
from datasette_image_search.search.indexing import index_images, refresh_sidecars
from datasette_image_search.search.live import LiveIndex
from datasette_image_search.search.query import QueryVector
from datasette_image_search.search.sidecar import approximate_path, sidecar_path, sidecar_paths
from datasette_image_search.store import Filter, FilterError, find_index
from datasette_image_search.store.connections import database_path
from datasette_image_search.store.filters import IdSet
from datasette_image_search.store.references import (
    References,
    record_references,
    with_references,
)
from datasette_image_search.store.schema import ensure_tables
from datasette_image_search.store.writes import ensure_roots, write_batch

from .kept import kept_in, lists_of_few
from .planning import search_one, search_together
from .random_tables import (
    add_images,
    embedded,
    make_index,
    make_own_table,
    make_record,
    random_vectors,
)

REAL = {name: getattr(planner, name) for name in ("FIRST", "WIDEN", "WIDEST")}

TINY = {"FIRST": 4, "WIDEN": 2, "WIDEST": 16}
"""The constants of the plan, so small that a few hundred rows take every path."""

SIZE_FILTERS: list[tuple[Filter | None, Callable[[int], bool]]] = [
    (None, lambda size: True),
    (Filter("1"), lambda size: True),
    (Filter("size % 7 = 3"), lambda size: size % 7 == 3),
    (Filter("size > :least", {"least": 900}), lambda size: size > 900),
    (Filter("images.size = 500 or size < 20 -- rare"), lambda size: size == 500 or size < 20),
    (Filter("size < 0"), lambda size: False),
]


@dataclass
class Images:
    """
    A database, and beside it what is in it: image id -> (size, vector), and its reference queries. The vectors of a
    film have shape (n, dimensions).
    """

    db: Database
    rows: dict[int, tuple[int, np.ndarray]] = field(default_factory=dict)
    references: np.ndarray | None = None

    def add(self, vectors: list[np.ndarray] | np.ndarray, rng: np.random.Generator) -> None:
        sizes = rng.integers(0, 1000, size=len(vectors))
        ids = add_images(self.db, vectors, sizes=sizes.tolist())
        self.rows |= dict(zip(ids, zip(sizes.tolist(), vectors, strict=True), strict=True))

    def delete(self, ids: list[int]) -> None:
        self.db.executescript("".join(f"delete from images where id = {id};" for id in ids))
        for id in ids:
            del self.rows[id]

    def search(self, vector: np.ndarray, k: int, filter: Filter | None = None) -> Found:
        return search_one(self.db.conn, find_index(self.db.conn), vector, k, filter)

    def check(
        self,
        found: Found,
        vector: np.ndarray,
        k: int,
        passes: Callable[[int], bool],
        tolerance: float = 1e-5,
        words: float = 0,
        least: float = -2,
        rounding: float = 1e-5,
    ) -> None:
        """
        That these are the best min(k, matching) rows with at least this score, best first, with the right
        scores.
        """
        matching = [
            row
            for size, row in self.rows.values()
            if passes(size) and np.max(row @ vector) >= least
        ]
        ranked = [self.corrected(row, vector, words) for row in matching]
        assert len(found.hits) == min(k, len(ranked))
        assert len({hit.id for hit in found.hits}) == len(found.hits)
        for hit in found.hits:
            size, row = self.rows[hit.id]
            assert passes(size)
            assert isinstance(hit.score, float)
            assert abs(hit.score - float(np.max(row @ vector))) < rounding
            assert abs(hit.corrected - self.corrected(row, vector, words)) < rounding
            if row.ndim == 1:
                assert hit.at is None
            else:
                best = self.corrected(row[int(hit.at)], vector, words)
                assert abs(hit.corrected - best) < rounding
        assert list(found.hits) == sorted(found.hits, key=lambda hit: (-hit.corrected, hit.id))
        best = sorted(ranked, reverse=True)[:k]
        assert np.allclose([hit.corrected for hit in found.hits], best, rtol=0, atol=tolerance)

    def share_of_best(self, hits: Sequence[Hit], vector: np.ndarray, k: int, words: float) -> float:
        """How many of the k best rows were found."""
        scores = {id: self.corrected(row, vector, words) for id, (_, row) in self.rows.items()}
        best = sorted(scores, key=scores.get, reverse=True)[:k]
        return len({hit.id for hit in hits} & set(best)) / len(best)

    def corrected(self, row: np.ndarray, vector: np.ndarray, words: float) -> float:
        """
        The score of a row less half of its mean with the 16 closest reference queries; of a film, the highest one of
        its vectors.
        """
        if row.ndim == 2:
            return max(self.corrected(scene, vector, words) for scene in row)
        score = float(row @ vector)
        if self.references is None:
            return score
        return score - 0.5 * words * float(np.mean(sorted(self.references @ row)[-16:]))


@pytest.fixture(scope="module")
def images_once() -> Images:
    """What is copied for each test."""
    images = Images(Database(memory=True, execute_plugins=False))
    images.add(random_vectors(300), np.random.default_rng(0))
    return images


@pytest.fixture
def images(
    images_once: Images,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Images]:
    """300 images with random vectors, in the sidecar or another of KEPT."""
    with closing(Database(tmp_path / "photos.db", execute_plugins=False)) as db:
        images_once.db.conn.backup(db.conn)
        with kept_in(getattr(request, "param", "sidecar"), db, monkeypatch):
            yield Images(db, dict(images_once.rows))


over_engines = pytest.mark.parametrize("images", ["sidecar", "lance"], indirect=True)

kept_anywhere = pytest.mark.parametrize("kept", ["sidecar", "lance"])


def planned(*steps: str) -> pytest.MarkDecorator:
    """
    The steps of a search from the sidecar. An engine, which would read all for each ranking, is given the images that pass a
    filter at once.
    """
    where = [("sidecar", list(steps)), ("lance", ["enumerate"])]
    return pytest.mark.parametrize(("images", "steps"), where, indirect=["images"])


def names(found: Found) -> list[str]:
    """The steps up to the last, which computes the scores of the hits."""
    *names, last = (step.name for step in found.steps)
    assert last == "score"
    return names


CHANGES = (
    "add",
    "delete",
    "re_embed",
    "update",
    "replace",
    "renumber",
    "transform",
    "vacuum",
    "refer",
    "refresh",
)

FILES = ("fresh", "missing", "truncated", "foreign", "swapped")
"""What became of the sidecar and of the approximate index."""


class Changing:
    """Images that change as a person may change them, of a table of ours."""

    def __init__(self, folder: Path, pool: np.ndarray, rng: np.random.Generator) -> None:
        self.db = Database(folder / "photos.db", execute_plugins=False)
        self.db.execute("pragma synchronous = off")
        self.images = Images(self.db)
        self.pool, self.rng = pool, rng
        self.images.add(pool[:0], rng)

    @property
    def rows(self) -> dict[int, tuple[int, np.ndarray]]:
        return self.images.rows

    def vectors(self, n: int) -> np.ndarray:
        return self.pool[self.rng.integers(len(self.pool), size=n)]

    def some_vectors(self) -> np.ndarray:
        """Of a picture, or of a film."""
        n = int(self.rng.choice([0, 0, 1, 2, 5]))
        return self.vectors(n) if n else self.vectors(1)[0]

    def some(self, share: float = 0.2) -> list[int]:
        return [id for id in self.rows if self.rng.random() < share]

    def fill(self, n: int) -> None:
        if n:
            self.images.add([self.some_vectors() for _ in range(n)], self.rng)

    def add(self) -> None:
        self.fill(int(self.rng.integers(1, 9)))

    def delete(self) -> None:
        self.images.delete(self.some())

    def re_embed(self) -> None:
        """Another picture in the same file: the same image, another vector."""
        table, index = make_index(self.db, "images", self.pool.shape[1])
        root_id = ensure_roots(self.db, ["/pictures"])["/pictures"]
        for id in self.some(0.1):
            size = int(self.rng.integers(1000))
            vector = self.some_vectors()
            record = make_record(root_id, size=size)
            write_batch(self.db, table, index, [embedded(id, record, vector)])
            self.rows[id] = size, vector

    def update(self) -> None:
        for id in self.some():
            size = int(self.rng.integers(1000))
            self.db.execute("update images set size = ? where id = ?", [size, id])
            self.rows[id] = size, self.rows[id][1]

    def replace(self) -> None:
        """REPLACE takes the vector along, with no trigger for the row that goes."""
        for id in self.some(0.1):
            self.db.execute(
                "replace into images (id, root_id, path, size) values (?, 1, ?, 1)", [id, f"r{id}"]
            )
            del self.rows[id]

    def renumber(self) -> None:
        for id in self.some(0.05):
            new = int(self.rng.choice([-1, 1]) * self.rng.integers(2, 10**9))
            self.db.execute("update images set id = ? where id = ?", [new, id])
            self.rows[new] = self.rows.pop(id)

    def transform(self) -> None:
        """Drops the triggers, so that what comes next is not noticed by any."""
        self.db["images"].transform(defaults={"iso": int(self.rng.integers(1000))})
        for id in self.some(0.1):
            self.db.execute("update images set sha256 = 'another' where id = ?", [id])
            del self.rows[id]
        for id in self.some(0.1):
            self.db.execute("delete from images where id = ?", [id])
            del self.rows[id]
        ensure_tables(self.db, "images")

    def vacuum(self) -> None:
        self.db.vacuum()

    def refer(self) -> None:
        """Other reference queries, and another number of them."""
        references = self.vectors(int(self.rng.integers(1, 40)))
        index = find_index(self.db.conn)
        chosen = References(references)
        record_references(self.db, with_references(index, chosen), chosen)
        self.images.references = references

    def refresh(self) -> None:
        refresh_sidecars(self.db, "images")

    def damage(self, path: Path, how: str, rng: np.random.Generator) -> None:
        if how == "missing":
            path.unlink(missing_ok=True)
        elif path.exists() and how == "truncated":
            os.truncate(path, int(rng.integers(path.stat().st_size)))
        elif how == "foreign":
            path.write_bytes(rng.bytes(3000))
        elif how == "swapped":
            others = [other for other in sidecar_paths(path.parent / "photos.db") if other != path]
            if others:
                shutil.copy(others[0], path)


@pytest.mark.parametrize(
    ("constants", "tolerance"), [(REAL, 1e-5), (TINY, 2 * CODE_ERROR)], ids=["real", "tiny"]
)
def test_a_search_finds_what_brute_force_finds(constants: dict[str, int], tolerance: float) -> None:
    by_bytes = []

    @settings(max_examples=10)
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        by_bytes.append(check_changing(constants, tolerance, data))

    check()
    assert sum(by_bytes) > 0


def check_changing(constants: dict[str, int], tolerance: float, data: st.DataObject) -> int:
    """Images that change, and how many searches of them were by codes in bytes."""
    by_bytes = 0
    type = data.draw(st.sampled_from([None, "IVF4,SQ8", "SQ8"]), "approximate index")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "seed"))
    dimensions = data.draw(st.integers(8, 16), "dimensions")
    distinct = data.draw(st.sampled_from([300, 300, 40, 3, 1]), "distinct vectors")
    pool = random_vectors(distinct, dimensions, seed=int(rng.integers(2**32)))
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.multiple(planner, **constants),
        mock.patch.multiple(approximate, CANDIDATES=(8,), RECALL_AT=(2, 4)),
        mock.patch.multiple(byte_codes, SMALLEST=1, LARGEST_RESIDUAL=9.0),
        mock.patch.multiple(all_scores, COSTLY=1.0, HOPELESS=1.0),
    ):
        images = Changing(Path(folder), pool, rng)
        with closing(images.db) as db:
            images.fill(data.draw(st.integers(0, 300), "n"))
            if data.draw(st.booleans(), "reference queries"):
                images.refer()
            if data.draw(st.sampled_from([True, True, True, False]), "sidecar"):
                # Of fewer FAISS makes no four lists.
                if type and len(images.rows) >= 4:
                    index_images(db, "images", type=type, target=0.5)
                else:
                    refresh_sidecars(db, "images")
            changes = st.lists(st.sampled_from(CHANGES), max_size=3)
            for change in [None, *data.draw(changes, "changes")]:
                if change is not None:
                    getattr(images, change)()
                index = find_index(db.conn)
                for place in (sidecar_path, approximate_path):
                    path = place((Path(folder) / "photos.db").resolve(), index)
                    became = st.sampled_from(["fresh"] * len(FILES) + [*FILES])
                    images.damage(path, data.draw(became, place.__name__), rng)
                vector = random_vectors(1, dimensions, seed=int(rng.integers(2**32)))[0]
                vector = pool[0] if rng.random() < 0.3 else vector
                k = data.draw(st.integers(1, 40) | st.just(1000), "k")
                words = data.draw(st.sampled_from([1.0, 0.0, -0.7, 1.4]), "words")
                for filter, passes in SIZE_FILTERS:
                    check_all_ways(
                        images, vector, k, filter, passes, tolerance, words, is_exact=not type
                    )
                    by_bytes += check_bytes(images, vector, k, filter, tolerance, words)
    return by_bytes


def check_bytes(
    images: Changing,
    vector: np.ndarray,
    k: int,
    filter: Filter | None,
    tolerance: float,
    words: float,
) -> bool:
    """That a search by codes in bytes, if there are any, finds what one without them does."""
    conn = images.db.conn
    with live_snapshot(conn, find_index(conn)) as live:
        if live.segments[0].in_bytes is None:
            return False
        ranking = ranking_vectors(live.index, live.references, vector[None], np.array([words]))
        longer = replace(live.segments[0], in_bytes=None)
        without = replace(live, segments=(longer, *live.segments[1:]))
        (right,) = planner.search_live(conn, without, ranking, k, filter, exact=True)
        # All codes are never read in half precision, because COSTLY and HOPELESS are 1.
        with mock.patch.object(LiveIndex, "scores"):
            (found,) = planner.search_live(conn, live, ranking, k, filter, exact=True)
    if tolerance < 1e-4:
        assert found.hits == right.hits
    scores = [hit.corrected for hit in right.hits]
    assert np.allclose([hit.corrected for hit in found.hits], scores, rtol=0, atol=tolerance)
    return any(step.name in ("rank", "widen") for step in found.steps)


def check_all_ways(
    images: Changing,
    vector: np.ndarray,
    k: int,
    filter: Filter | None,
    passes: Callable[[int], bool],
    tolerance: float,
    words: float,
    *,
    is_exact: bool,
) -> None:
    """One search, its pages, its best scores, the same among ids, and many at once."""
    conn, index = images.db.conn, find_index(images.db.conn)
    check = images.images.check
    exact = search_one(conn, index, vector, k, filter, exact=True, words=words)
    check(exact, vector, k, passes, tolerance, words)
    found = search_one(conn, index, vector, k, filter, words=words)
    check(found, vector, k, passes, tolerance if is_exact else 2.0, words)
    among = [id for id, (size, _) in images.rows.items() if passes(size)]
    of_ids = search_one(conn, index, vector, k, IdSet(among), words=words)
    check(of_ids, vector, k, passes, tolerance, words)
    two = np.stack([vector, -vector])
    (again, other) = search_together(conn, index, two, k, filter, words=[words, -words])
    scores = [hit.corrected for hit in found.hits]
    assert np.allclose([hit.corrected for hit in again.hits], scores, rtol=0, atol=tolerance)
    check(again, vector, k, passes, tolerance if is_exact else 2.0, words)
    check(other, -vector, k, passes, tolerance if is_exact else 2.0, -words)
    if tolerance < 1e-4:
        # Of more than WIDEST copies one may stand for another.
        assert again.hits == found.hits
    if exact.hits and tolerance < 1e-4:
        middle = len(exact.hits) // 2
        page = search_one(conn, index, vector, k, filter, offset=middle, exact=True, words=words)
        assert page.hits[: len(exact.hits) - middle] == exact.hits[middle:]
        # No row has a score as close to this as brute force and the planner round it.
        least = exact.hits[middle].score - 1e-4
        cut = search_one(conn, index, vector, k, filter, min_score=least, words=words)
        check(cut, vector, k, passes, tolerance, words, least)
    if tolerance < 1e-4:
        check_relevances(images, vector, k, filter, words)


def check_relevances(
    images: Changing, vector: np.ndarray, k: int, filter: Filter | None, words: float
) -> None:
    """They fall from hit to hit, are those of all images at once, and cut where they are asked to."""
    conn, index = images.db.conn, find_index(images.db.conn)
    of_words, of_pictures = ((words,), ()) if words else ((), (1.0,))
    query = QueryVector(index, vector, words=of_words, pictures=of_pictures)

    def find(k: int, **options: Any) -> Found:
        return find_images(conn, index, [query], k, filter, SearchOptions(**options))[0]

    hits = find(1000, exact=True).hits
    relevances = [hit.relevance for hit in hits]
    if None in relevances:
        # There are too few images, or no reference queries, or all score the same.
        assert set(relevances) == {None}
        return
    assert relevances == sorted(relevances, reverse=True)
    with live_snapshot(conn, index) as live:
        of_all = all_relevances(conn, live, query)
        # Of several vectors of an image, and of one that it had before, one position has it.
        of_images = [of_all[live.all_image_ids() == hit.id].max() for hit in hits]
    assert of_images == relevances
    for least in {each for each in relevances[:: len(relevances) // 3 + 1] if each}:
        wanted = [hit for hit in hits if hit.relevance >= least]
        assert list(find(k, exact=True, min_relevance=least).hits) == wanted[:k]
        within = images_within(conn, index, query, SearchOptions(min_relevance=least))
        ids = {hit.id for hit in hits} & set(np.asarray(within.ids.ids).tolist())
        assert ids == {hit.id for hit in wanted}
    if hits and isinstance(hits[0].id, int):
        corrected = {hit.id: hit.corrected for hit in hits}
        found = closest_among(conn, index, query, SearchOptions(), IdSet(list(corrected)), k)
        if found is not None:
            best = sorted(map(corrected.__getitem__, found.keys()), reverse=True)
            assert best == [hit.corrected for hit in hits[:k]]


@pytest.mark.parametrize(("kind", "keys"), [
    (str, ["a", "b", "#c", "", "7", "ü 📷", "a'b", '"', "-1"]),
    (int, [-(2**62), -5, 0, 3, 2**40, 2**62, 7, 8, 9]),
])  # fmt: skip
@settings(max_examples=10)
@given(data=st.data())
def test_a_table_with_any_keys_is_searched_as_brute_force_does(
    kind: type, keys: list, data: st.DataObject
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "seed"))
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Database(Path(folder) / "photos.db", execute_plugins=False)) as db,
    ):
        table = make_own_table(db, "mine", "key", kind)
        _, index = make_index(db, "mine")
        root_id = ensure_roots(db, ["/pictures"])["/pictures"]
        rows: dict = {}
        for change in data.draw(
            st.lists(
                st.sampled_from(["insert", "delete", "re-embed", "refresh", "index"]), max_size=6
            )
        ):
            some = [key for key in keys if rng.random() < 0.5]
            if change == "delete":
                for key in some:
                    db.execute("delete from mine where key = ?", [key])
                    rows.pop(key, None)
            elif change == "refresh":
                refresh_sidecars(db, "mine")
            elif change == "index" and rows:
                index_images(db, "mine", type="IVF1,SQ8")
            else:
                for key in some if change == "insert" else [key for key in some if key in rows]:
                    db["mine"].insert({"key": key}, ignore=True)
                    n = int(rng.integers(1, 4))
                    rows[key] = random_vectors(n, seed=int(rng.integers(2**32)))
                    write_batch(db, table, index, [embedded(key, make_record(root_id), rows[key])])
            vector = random_vectors(1, seed=int(rng.integers(2**32)))[0]
            best = sorted(rows, key=lambda key: -float((rows[key] @ vector).max()))
            k = int(rng.integers(1, 12))
            now = find_index(db.conn, "mine")
            found = search_one(db.conn, now, vector, k)
            assert [hit.id for hit in found.hits] == best[:k]
            among = [key for key in keys if rng.random() < 0.5]
            found = search_one(db.conn, now, vector, k, IdSet([*among, *among]))
            assert [hit.id for hit in found.hits] == [key for key in best if key in among][:k]
            filter = Filter(
                "key in (select value from json_each(:keys))", {"keys": json.dumps(among)}
            )
            assert search_one(db.conn, now, vector, k, filter).hits == found.hits


@pytest.mark.parametrize("k", [1, 10, 299, 300, 301, 10**9])
@over_engines
def test_as_many_hits_come_back_as_there_are(images: Images, k: int) -> None:
    vector = random_vectors(1, seed=1)[0]
    images.check(images.search(vector, k), vector, k, lambda size: True)


@pytest.mark.parametrize("k", [0, -1, -300])
def test_less_than_one_image_cannot_be_asked_for(images: Images, k: int) -> None:
    with pytest.raises(ImageSearchError, match=f"k is {k}; it must be a whole number, at least 1"):
        images.search(random_vectors(1)[0], k)


def test_a_bad_filter_is_named_even_where_there_is_nothing_to_search() -> None:
    db = Database(memory=True, execute_plugins=False)
    make_index(db)
    with pytest.raises(FilterError, match="the filter 'nonsense' does not work on 'images'"):
        search_one(db.conn, find_index(db.conn), random_vectors(1)[0], 5, Filter("nonsense"))


def test_nothing_is_found_where_there_is_nothing() -> None:
    db = Database(memory=True, execute_plugins=False)
    make_index(db)
    vector = random_vectors(1)[0]
    assert search_one(db.conn, find_index(db.conn), vector, 5).hits == ()
    assert search_one(db.conn, find_index(db.conn), vector, 5, Filter("1")).hits == ()


@pytest.mark.parametrize(
    ("n", "kept"), [(2, "sidecar"), (3, "sidecar"), (50, "lance"), (301, "sidecar"), (301, "lance")]
)
def test_equal_scores_come_in_the_order_of_the_ids(
    tmp_path: Path, n: int, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of vectors as long as those of models: BLAS rounds a row as its place in the matrix has it."""
    with closing(Database(tmp_path / "photos.db", execute_plugins=False)) as db:
        images = Images(db)
        images.add(np.repeat(random_vectors(1, 512), n, axis=0), np.random.default_rng(0))
        vector = random_vectors(1, 512, seed=1)[0]
        with kept_in(kept, db, monkeypatch):
            assert [hit.id for hit in images.search(vector, n).hits] == list(range(1, n + 1))
            pages = [
                search_one(db.conn, find_index(db.conn), vector, 7, offset=start).hits
                for start in range(0, n, 7)
            ]
        assert [hit.id for page in pages for hit in page] == list(range(1, n + 1))


@kept_anywhere
def test_the_best_of_near_copies_are_told_apart(
    tmp_path: Path, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their scores differ by less than the codes can tell."""
    rng = np.random.default_rng(0)
    vector = random_vectors(1, 16)[0]
    copies = vector + rng.normal(scale=0.003, size=(300, 16)).astype(np.float32)
    copies /= np.linalg.norm(copies, axis=1, keepdims=True)
    with closing(Database(tmp_path / "photos.db", execute_plugins=False)) as db:
        images = Images(db)
        images.add(copies, rng)
        with kept_in(kept, db, monkeypatch):
            found = images.search(vector, 10)
        best = np.argsort(-(copies @ vector), kind="stable")[:10] + 1
        assert {hit.id for hit in found.hits} == set(best.tolist())


@kept_anywhere
def test_images_with_text_keys_are_found_by_them(
    tmp_path: Path, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Database(tmp_path / "photos.db", execute_plugins=False)) as db:
        table = make_own_table(db, "mine", "name", str)
        _, index = make_index(db, "mine")
        root_id = ensure_roots(db, ["/pictures"])["/pictures"]
        vectors = random_vectors(3)
        for key, vector in zip("cab", vectors, strict=True):
            db["mine"].insert({"name": key})
            write_batch(db, table, index, [embedded(key, make_record(root_id), vector)])
        with kept_in(kept, db, monkeypatch, "mine"):
            index = find_index(db.conn, "mine")
            found = search_one(db.conn, index, vectors[1], 2, Filter("name in ('a', 'c')"))
        assert {hit.id for hit in found.hits} == {"a", "c"}
        assert found.hits[0].id == "a"


# --- The plan ------------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TINY.items():
        monkeypatch.setattr(planner, name, value)


def opposite(images: Images, vector: np.ndarray, n: int) -> Filter:
    """A filter that only the n images farthest from the vector pass, and that no index finds."""
    far = sorted(images.rows, key=lambda id: images.rows[id][1] @ vector)[:n]
    return Filter(f"+id in ({', '.join(map(str, far))})")


def nearest(images: Images, vector: np.ndarray, first: int, last: int) -> Filter:
    """A filter that only the images of these ranks pass."""
    near = sorted(images.rows, key=lambda id: -(images.rows[id][1] @ vector))[first:last]
    return Filter(f"+id in ({', '.join(map(str, near))})")


@over_engines
def test_without_a_filter_one_step_will_do(images: Images) -> None:
    found = images.search(random_vectors(1, seed=1)[0], 10)
    step, score = found.steps
    assert (step.name, step.looked_at, step.passed) == ("rank", 128, 128)
    assert (score.name, score.passed) == ("score", 10)
    assert step.milliseconds > 0


def ranked(images: Images, vector: np.ndarray) -> list[int]:
    """The ids of all images, the nearest first."""
    return sorted(images.rows, key=lambda id: -(images.rows[id][1] @ vector))


def ids(found: Found) -> list[int]:
    return [hit.id for hit in found.hits]


@pytest.mark.usefixtures("tiny")
@planned("rank")
def test_a_filter_that_many_pass_is_answered_by_ranking(images: Images, steps: list[str]) -> None:
    vector = random_vectors(1, seed=1)[0]
    found = images.search(vector, 1, nearest(images, vector, 0, 100))
    assert ids(found) == ranked(images, vector)[:1]
    assert names(found) == steps
    if steps == ["rank"]:
        assert (found.steps[0].looked_at, found.steps[0].passed) == (4, 4)


@pytest.mark.usefixtures("tiny")
@planned("rank", "widen")
def test_a_filter_that_fewer_pass_widens_the_ranking(images: Images, steps: list[str]) -> None:
    vector = random_vectors(1, seed=1)[0]
    found = images.search(vector, 2, nearest(images, vector, 3, 60))
    assert ids(found) == ranked(images, vector)[3:5]
    assert names(found) == steps
    if "widen" in steps:
        assert [(step.looked_at, step.passed) for step in found.steps[:-1]] == [(4, 1), (8, 5)]


@pytest.mark.usefixtures("tiny")
@planned("rank", "widen")
def test_a_filter_that_none_of_the_first_pass_may_be_a_wide_one(
    images: Images, steps: list[str]
) -> None:
    vector = random_vectors(1, seed=1)[0]
    found = images.search(vector, 2, nearest(images, vector, 4, 8))
    assert ids(found) == ranked(images, vector)[4:6]
    assert names(found) == steps


@pytest.mark.usefixtures("tiny")
@planned("rank", "widen", "widen", "enumerate")
def test_a_narrow_filter_is_answered_by_enumerating_what_passes_it(
    images: Images, steps: list[str]
) -> None:
    vector = random_vectors(1, seed=1)[0]
    found = images.search(vector, 2, opposite(images, vector, 3))
    assert ids(found) == ranked(images, vector)[-3:-1]
    assert names(found) == steps
    assert found.steps[-2].looked_at == 3


@pytest.mark.usefixtures("tiny")
@over_engines
def test_a_filter_that_nothing_passes_is_known_without_ranking_everything(images: Images) -> None:
    found = images.search(random_vectors(1, seed=1)[0], 2, Filter("0"))
    assert found.hits == ()
    assert names(found)[-1] == "enumerate"
    assert max(step.looked_at for step in found.steps) <= TINY["WIDEST"]


@pytest.mark.usefixtures("tiny")
@planned("list", "enumerate")
def test_what_an_index_finds_and_is_only_a_few_is_listed_before_anything_is_ranked(
    images: Images, steps: list[str]
) -> None:
    vector = random_vectors(1, seed=1)[0]
    few, many = (opposite(images, vector, n).where.lstrip("+") for n in (5, 200))
    of_few, of_many = (images.search(vector, 2, Filter(each)) for each in (few, many))
    assert names(of_few) == steps
    assert ids(of_few) == ranked(images, vector)[-5:-3]
    assert ids(of_many) == ranked(images, vector)[-200:-198]
    if "list" in steps:
        assert names(of_many) == ["list", "rank", "widen", "widen", "enumerate"]
        assert of_many.steps[0].looked_at == 300 / 25 + 1


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("where", "steps"),
    [
        ("+size < 20", ["sample", "list", "enumerate"]),
        ("not size >= 20", ["sample", "list", "enumerate"]),
        ("+size < 200", ["sample", "rank"]),
        ("abs(size) < 20", ["rank"]),
        ("+size < 20 and path is not null", ["rank"]),
        (
            "+size < 20 and size in (select iso from images union select +size from images)",
            ["rank"],
        ),
    ],
)
def test_what_an_index_has_but_cannot_find_is_listed_if_few_pass_and_it_is_quick_to_tell(
    images: Images, where: str, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SAMPLE", 300)
    monkeypatch.setattr(plan, "SAMPLED_OF", 300)
    images.db.execute("create index by_size on images (size)")
    vector = random_vectors(1, seed=1)[0]
    passing = {id for (id,) in images.db.execute(f"select id from images where {where}")}
    assert len(passing) > 4
    found = images.search(vector, 4, Filter(where))
    assert ids(found) == [id for id in ranked(images, vector) if id in passing][:4]
    assert names(found)[: len(steps)] == steps


@over_engines
def test_a_set_of_ids_is_a_filter(images: Images) -> None:
    vector = random_vectors(1, seed=1)[0]
    ids = [3, 7, 200, 7, 10**9, -4, 2**62, 12]
    found = images.search(vector, 10, IdSet(ids))
    assert names(found) == ["enumerate"]
    assert {hit.id for hit in found.hits} == {3, 7, 12, 200}
    assert images.search(vector, 10, IdSet([])).hits == ()


@over_engines
def test_images_that_a_filter_names_and_that_are_gone_take_no_place_among_the_hits(
    images: Images,
) -> None:
    """An album of a hundred thousand is read, and not each of its images."""
    vector = random_vectors(1, seed=1)[0]
    best = ranked(images, vector)[:10]
    keys = f"select value as image_id from json_each('{json.dumps([*best, 10**9, 'x', None])}')"
    images.delete(best[:3])
    found = images.search(vector, 4, Filter(f"id in ({keys})", keys=keys))
    assert ids(found) == best[3:7]
    assert next(step for step in found.steps if step.name in ("list", "enumerate")).looked_at >= 10


def test_the_closest_of_some_are_so_by_the_vectors_that_they_have_now(tmp_path: Path) -> None:
    rng, pool = np.random.default_rng(0), random_vectors(80)
    images = Changing(tmp_path, pool, rng)
    with closing(images.db) as db:
        images.fill(60)
        refresh_sidecars(db, "images")
        index = find_index(db.conn)
        live_index(db.conn, index)
        for _ in range(3):
            images.re_embed()
        for vector in pool:
            score = {id: np.max(row @ vector) for id, (_, row) in images.rows.items()}
            found = closest_among(
                db.conn, index, QueryVector(index, vector), SearchOptions(), IdSet([*score]), 20
            )
            assert found is not None
            # Copies tie.
            best = sorted(map(score.__getitem__, found.keys()))
            assert np.allclose(best, sorted(score.values())[-20:], rtol=0, atol=1e-6)


@pytest.mark.parametrize("filter", [None, Filter("size < 50"), Filter("id < 9"), IdSet([5, 6])])
@over_engines
def test_many_vectors_at_once_find_what_each_finds_alone(
    images: Images, filter: Filter | IdSet | None
) -> None:
    vectors = random_vectors(7, seed=3)
    index = find_index(images.db.conn)
    together = search_together(images.db.conn, index, vectors, 10, filter, offset=1)
    alone = [search_one(images.db.conn, index, v, 10, filter, offset=1) for v in vectors]
    assert [found.hits for found in together] == [found.hits for found in alone]


@pytest.mark.usefixtures("tiny")
@planned("rank", "widen", "enumerate")
def test_a_filter_that_two_of_the_best_pass_is_widened_before_it_is_enumerated(
    images: Images, steps: list[str]
) -> None:
    vector = random_vectors(1, seed=1)[0]
    best, far = nearest(images, vector, 0, 2), opposite(images, vector, 3)
    either = Filter(f"({best.where}) or ({far.where})", {**best.params, **far.params})
    found = images.search(vector, 4, either)
    assert names(found) == steps
    in_order = ranked(images, vector)
    assert ids(found) == [*in_order[:2], *in_order[-3:-1]]


@pytest.mark.usefixtures("tiny")
@over_engines
def test_what_was_deleted_after_the_sidecar_takes_no_place_among_the_hits(images: Images) -> None:
    vector = random_vectors(1, seed=1)[0]
    images.search(vector, 1)
    images.delete(sorted(images.rows, key=lambda id: -(images.rows[id][1] @ vector))[:100])
    found = images.search(vector, 5)
    images.check(found, vector, 5, lambda size: True)
    assert {"rank", "widen"} <= set(names(found))
    assert "enumerate" not in names(found)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("n", [1, 5, 30])
@over_engines
def test_enumerating_looks_at_old_rows_and_new_ones(images: Images, n: int) -> None:
    rng = np.random.default_rng(1)
    vector = random_vectors(1, seed=1)[0]
    images.search(vector, 1)
    for seed in range(2, 5):
        images.add(random_vectors(20, seed=seed), rng)
    images.delete(list(images.rows)[::5])
    filter = opposite(images, vector, n)
    found = images.search(vector, 10, filter)
    assert names(found)[-1] == "enumerate"
    expected = sorted(float(row @ vector) for _, row in images.rows.values())[:n][::-1][:10]
    assert np.allclose([hit.score for hit in found.hits], expected, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("tiny")
@over_engines
def test_a_thousand_ties_do_not_make_a_search_come_back_short(images: Images) -> None:
    copy = random_vectors(1, seed=5)[0]
    images.add(np.repeat(copy[None], 200, axis=0), np.random.default_rng(0))
    for filter, passes in SIZE_FILTERS:
        images.check(images.search(copy, 20, filter), copy, 20, passes, 2 * CODE_ERROR)


@over_engines
def test_a_step_tells_how_much_it_looked_at(images: Images) -> None:
    found = images.search(random_vectors(1, seed=1)[0], 5, Filter("size % 2 = 0"))
    even = sum(size % 2 == 0 for size, _ in images.rows.values())
    assert isinstance(found.steps[0], Step)
    for step in found.steps:
        assert 0 < step.passed <= min(step.looked_at, even)


@over_engines
def test_a_search_that_is_interrupted_says_so(images: Images) -> None:
    vector = random_vectors(1, seed=1)[0]
    images.search(vector, 5)
    index = find_index(images.db.conn)
    images.db.conn.set_progress_handler(lambda: 1, 1)
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        search_one(images.db.conn, index, vector, 5, Filter("size > 1"))


@over_engines
def test_an_offset_goes_on_where_the_hits_before_it_end(images: Images) -> None:
    vector = random_vectors(1, seed=5)[0]
    all_hits = images.search(vector, 30).hits
    page = search_one(images.db.conn, find_index(images.db.conn), vector, 10, offset=20)
    assert page.hits == all_hits[20:]


@over_engines
def test_a_minimum_score_cuts_the_tail_off(images: Images) -> None:
    vector = random_vectors(1, seed=5)[0]
    hits = images.search(vector, 30).hits
    cut = hits[4].score
    found = search_one(images.db.conn, find_index(images.db.conn), vector, 30, min_score=cut)
    assert found.hits == hits[:5]


def test_a_negative_offset_is_refused(images: Images) -> None:
    with pytest.raises(ImageSearchError, match="offset is -1"):
        search_one(images.db.conn, find_index(images.db.conn), random_vectors(1)[0], 5, offset=-1)


# --- With an approximate index ---------------------------------------------------------------------


def index_coarsely(db: Database, type: str, probes: int) -> None:
    """
    An approximate index that looks into so few of its lists, whatever it misses; type "lance" is one of 16 lists in an
    engine.
    """
    if type == "lance":
        efforts = mock.patch.object(LanceEngine, "efforts", return_value=[probes])
        with lists_of_few(), efforts:
            index_images(db, "images", engine="lance", type="ivf_rq")
        return
    with mock.patch.object(approximate, "_efforts", return_value=[f"nprobe={probes}"]):
        index_images(db, "images", type=type)


@pytest.fixture(scope="module")
def coarse_once(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], tuple[Path, dict]]:
    """By where the vectors are kept, the folder of what is copied for each test, and the rows in it."""

    @cache
    def made(kept: str) -> tuple[Path, dict]:
        place = tmp_path_factory.mktemp("coarse")
        with closing(Database(place / "photos.db", execute_plugins=False)) as db:
            images = Images(db)
            images.add(random_vectors(1000), np.random.default_rng(0))
            index_coarsely(db, *{"sidecar": ("IVF8,SQ8", 2), "lance": ("lance", 4)}[kept])
        return place, images.rows

    return made


@pytest.fixture
def coarse(
    coarse_once: Callable[[str], tuple[Path, dict]],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Images]:
    """1,000 images, of which the approximate index looks at a quarter, so that it misses many."""
    monkeypatch.setattr(places, "_served", [])
    place, rows = coarse_once(getattr(request, "param", "sidecar"))
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    with closing(Database(tmp_path / "photos.db", execute_plugins=False)) as db:
        yield Images(db, dict(rows))


def over_both(name: str, *values: tuple[str, Any]) -> pytest.MarkDecorator:
    """Where the vectors are kept, and a parameter."""
    return pytest.mark.parametrize(("coarse", name), values, indirect=["coarse"])


def page_of(images: Images, vector: np.ndarray, k: int, offset: int = 0, **options) -> Found:
    index = find_index(images.db.conn)
    return search_one(images.db.conn, index, vector, k, offset=offset, **options)


@pytest.mark.parametrize(
    ("coarse", "k", "offset", "step"),
    [
        ("sidecar", 20, 0, "propose"),
        ("lance", 20, 0, "propose"),
        ("sidecar", 128, 0, "propose"),
        ("lance", 61, 60, "propose"),
        ("sidecar", 129, 0, "rank"),
        ("lance", 129, 0, "rank"),
        ("sidecar", 500, 0, "rank"),
    ],
    indirect=["coarse"],
)
def test_an_approximate_index_is_asked_for_what_it_was_tuned_for_and_no_more(
    coarse: Images, k: int, offset: int, step: str
) -> None:
    """Beyond the k of its recall nobody knows what it misses."""
    vectors = random_vectors(10, seed=3)
    found = [page_of(coarse, vector, k, offset) for vector in vectors]
    exact = [page_of(coarse, vector, k, offset, exact=True) for vector in vectors]
    assert {names(each)[0] for each in found} == {step}
    is_exact = [each.hits for each in found] == [each.hits for each in exact]
    assert is_exact == (step == "rank")


def test_an_index_of_0_1_is_asked_for_the_best_20_and_no_more(
    coarse: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approximate, "RECALL_AT", (20,))
    index_coarsely(coarse.db, "IVF8,SQ8", 2)
    vector = random_vectors(1, seed=3)[0]
    assert names(page_of(coarse, vector, 20)) == ["propose"]
    assert names(page_of(coarse, vector, 21)) == ["rank"]


@pytest.mark.parametrize(
    ("index", "size", "probes"),
    [("IVF8,SQ8", 40, 2), ("IVF8,SQ8", 128, 4), ("IVF8,SQ8", 500, 1), ("lance", 128, 2)],
)
def test_pages_that_go_on_where_an_approximate_index_ends_show_each_image_once(
    coarse: Images, index: str, size: int, probes: int
) -> None:
    """What it missed comes with the first page behind it."""
    index_coarsely(coarse.db, index, probes)
    for vector in random_vectors(3, seed=3):
        pages = [page_of(coarse, vector, size, start).hits for start in range(0, 1000, size)]
        shown = [hit.id for page in pages for hit in page]
        assert sorted(shown) == sorted(coarse.rows)
        for page in pages:
            assert list(page) == sorted(page, key=lambda hit: (-hit.score, hit.id))
        best = {hit.id for hit in page_of(coarse, vector, 500, exact=True).hits}
        assert len(best & set(shown[: 500 + size])) == 500


def test_an_index_that_proposes_too_few_for_a_page_is_left_aside(coarse: Images) -> None:
    """Else one page would be of what it proposes, and the next of all."""
    index_coarsely(coarse.db, "IVF40,SQ8", 1)
    for vector in random_vectors(3, seed=3):
        found = page_of(coarse, vector, 10)
        assert found.hits == page_of(coarse, vector, 10, exact=True).hits
        assert names(found) == ["propose", "widen"]


# --- Bounded, of more than a page has time for -----------------------------------------------------


@pytest.fixture
def large(coarse: Images, monkeypatch: pytest.MonkeyPatch) -> Images:
    """1,000 images that are too many to look at all."""
    monkeypatch.setattr(bounded, "LARGE", 999)
    return coarse


@over_both("k", ("sidecar", 20), ("sidecar", 129), ("lance", 129), ("lance", 200))
def test_a_bounded_search_looks_no_further_than_an_approximate_index(large: Images, k: int) -> None:
    for vector in random_vectors(3, seed=3):
        found = page_of(large, vector, k, bounded=True)
        assert all(step.looked_at < 1000 for step in found.steps)
        assert len(found.hits) == k
        exact = {hit.id: hit for hit in page_of(large, vector, 1000, exact=True).hits}
        assert all(exact[hit.id] == hit for hit in found.hits)
        assert page_of(large, vector, k, bounded=True, exact=True).hits == tuple(exact.values())[:k]


@over_both("k", ("sidecar", 300), ("lance", 300), ("sidecar", 999), ("lance", 1000))
def test_a_bounded_search_for_more_than_is_proposed_looks_at_all(large: Images, k: int) -> None:
    for vector in random_vectors(3, seed=3):
        found = page_of(large, vector, k, bounded=True)
        every = page_of(large, vector, 1000, exact=True).hits
        assert len(set(found.hits)) == k
        # What the lists do not have comes after what they have.
        assert set(found.hits) >= set(every[: k - 300])
        assert found.extent == "all"


@over_both(
    "where",
    *(("sidecar", "id % 2 = 0"), ("sidecar", "id % 100 = 0")),
    *(("lance", "id % 2 = 0"), ("lance", "id % 10 = 0"), ("lance", "id < 4")),
)
def test_a_bounded_search_is_never_short_under_a_filter(large: Images, where: str) -> None:
    for vector in random_vectors(3, seed=3):
        exact = page_of(large, vector, 1000, filter=Filter(where), exact=True).hits
        for k in (1, 20, 100):
            found = page_of(large, vector, k, filter=Filter(where), bounded=True)
            assert len(found.hits) == min(k, len(exact))
            assert set(found.hits) <= set(exact)


@pytest.mark.parametrize(
    ("index", "where"),
    [
        *(("IVF8,SQ8", None), ("IVF8,SQ8", "id % 5 = 0"), ("IVF8,SQ8", "id % 50 = 0")),
        *(("IVF8,PQ2x4", "id % 2 = 0"), ("IVF8,PQ2x4", "id % 10 = 0")),
        *(("lance", None), ("lance", "id % 2 = 0"), ("lance", "id % 10 = 0")),
    ],
)
def test_bounded_pages_show_each_image_once(
    large: Images, monkeypatch: pytest.MonkeyPatch, where: str | None, index: str
) -> None:
    """However many of the proposals pass, and where these end."""
    monkeypatch.setattr(planner, "FIRST", 16)
    monkeypatch.setattr(planner, "WIDEST", 150)
    index_coarsely(large.db, index, 3)
    filter = None if where is None else Filter(where)
    vector = random_vectors(1, seed=3)[0]
    exact = page_of(large, vector, 1000, filter=filter, exact=True).hits
    # One more is asked for, which tells that there is another page.
    pages = [
        page_of(large, vector, 31, at, filter=filter, bounded=True).hits[:30]
        for at in range(0, len(exact), 30)
    ]
    shown = [hit.id for page in pages for hit in page]
    assert sorted(shown) == sorted(hit.id for hit in exact)


def test_what_is_deleted_of_an_index_does_not_have_a_bounded_search_look_at_all(
    large: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "LARGE", 900)
    vector = random_vectors(1, seed=3)[0]
    best = [hit.id for hit in page_of(large, vector, 100, bounded=True).hits]
    large.db.execute(f"delete from images where id in ({', '.join(map(str, best[:30:3]))})")
    large.db.conn.commit()
    # The codes are without them from now on, the lists are not.
    index = find_index(large.db.conn)
    sidecar_path(database_path(large.db.conn), index).unlink()
    refresh_sidecars(large.db, "images")
    with live_snapshot(large.db.conn, find_index(large.db.conn)) as live:
        assert set(live.approximate.vector_ids) > set(live.vector_ids(np.arange(len(live))))
    for k in (20, 150):
        found = page_of(large, vector, k, bounded=True)
        assert len(found.hits) == k
        assert found.extent == "at least"
        assert not {hit.id for hit in found.hits} & set(best[:30:3])


def test_a_filter_is_asked_about_those_alone_that_have_the_least_score(large: Images) -> None:
    """All that pass it may be millions."""
    conn, index = large.db.conn, find_index(large.db.conn)
    references = References(random_vectors(20, seed=5))
    record_references(large.db, with_references(index, references), references)
    index_coarsely(large.db, "IVF8,SQ8", 2)
    asked = set[int]()
    conn.create_function("is_odd", 1, lambda id: asked.add(id) or id % 2)
    (vector,) = random_vectors(1, seed=3)
    index = find_index(conn)
    query = QueryVector(index, vector, words=(1.0,), pictures=())
    least = sorted(row @ vector for _, row in large.rows.values())[-100]

    def find(filter: Filter, **options: bool) -> set[int]:
        some = SearchOptions(min_score=least, **options)
        (found,) = find_images(conn, index, [query], 200, filter, some)
        return {hit.id for hit in found.hits}

    every, some = find(Filter("id % 2")), find(Filter("is_odd(id)"), bounded=True)
    assert len(every) / 4 < len(some) <= len(asked) < 200
    assert some <= every


def test_limits_of_a_bounded_search_leave_films_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the scenes of a film, the others tell nothing of how rough the code of one is."""
    monkeypatch.setattr(bounded, "LARGE", 100)
    monkeypatch.setattr(bounded, "CHECKED", 20)
    wanted, far = random_vectors(2, 32, seed=3)
    films = np.stack([wanted, far]) + 0.1 * random_vectors(600, 32).reshape(300, 2, 32)
    films /= np.linalg.norm(films, axis=2, keepdims=True)
    with closing(Database(tmp_path / "photos.db", execute_plugins=False)) as db:
        add_images(db, list(films))
        index_coarsely(db, "IVF4,SQ8", 4)
        with live_snapshot(db.conn, find_index(db.conn)) as live:
            found = reaching(db.conn, live, wanted, 0.9, bounded=True)
            assert found.sum() > 580
            assert (live.of_any_vector(found) == found).all()


@pytest.mark.parametrize("coarse", ["sidecar", "lance"], indirect=True)
def test_limits_of_a_bounded_search_leave_only_what_they_leave(large: Images) -> None:
    index = find_index(large.db.conn)
    for vector in random_vectors(5, seed=3):
        scores = sorted(hit.score for hit in page_of(large, vector, 1000, exact=True).hits)
        for least in (scores[-300], scores[-20], scores[-1] + 0.1):
            with live_snapshot(large.db.conn, index) as live:
                every = reaching(large.db.conn, live, vector, least)
                some = reaching(large.db.conn, live, vector, least, bounded=True)
            assert not (some & ~every).any()
            # A quarter of the lists has most of the best.
            assert some.sum() >= every.sum() / 4
