"""Near-duplicates: every group there is, the best image first, and a table that stays true."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from datasette_image_search import ImageSearchError, store
from datasette_image_search.search import duplicates
from datasette_image_search.search.duplicates import (
    connected,
    find_duplicates,
    rows_of,
    stars,
)
from datasette_image_search.store import Filter, FilterError, Index, find_index
from datasette_image_search.store.duplicates import write_duplicates
from datasette_image_search.store.schema import ensure_tables
from datasette_image_search.store.tables import DuplicateRow
from datasette_image_search.store.writes import ensure_roots, write_batch

from .random_tables import (
    AWKWARD_NAMES,
    add_images,
    embedded,
    make_index,
    make_record,
    random_vectors,
)


def clustered_vectors(n: int, dimensions: int, clusters: int, spread: float, seed: int):
    """Shape (n, dimensions), unit norm: centres in a narrow cone, and vectors around them."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(clusters, dimensions)) + 1
    vectors = centres[random.integers(0, clusters, n)]
    vectors = vectors + spread * random.normal(size=(n, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def components_by_force(vectors: np.ndarray, threshold: float) -> list[int]:
    """Each with each, and a walk from each one not reached yet."""
    alike = vectors @ vectors.T >= threshold
    labels = [-1] * len(vectors)
    for start in range(len(vectors)):
        reached = [start] if labels[start] < 0 else []
        for node in reached:
            if labels[node] < 0:
                labels[node] = start
                reached += np.flatnonzero(alike[node]).tolist()
    return labels


# --- Vectors -> components -------------------------------------------------------------------------


@settings(max_examples=150)
@given(
    n=st.integers(0, 120),
    dimensions=st.sampled_from([2, 8, 40]),
    clusters=st.integers(1, 30),
    spread=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    threshold=st.floats(0.3, 0.999),
    block=st.sampled_from([(1, 1), (7, 5), (16, 64), (2048, 4096)]),
    head=st.sampled_from([1, 6, 95]),
    seed=st.integers(0, 1000),
)
def test_groups_are_the_connected_components(
    n, dimensions, clusters, spread, threshold, block, head, seed
):
    vectors = clustered_vectors(n, dimensions, clusters, spread, seed)
    # Which side of the threshold a score is on must not hang on rounding.
    assume(not (np.abs(vectors @ vectors.T - threshold) < 1e-6).any())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "ROWS", block[0])
        patch.setattr(duplicates, "COLUMNS", block[1])
        patch.setattr(duplicates, "HEAD", head)
        patch.setattr(duplicates, "CHUNK", 50)
        labels = connected(vectors.__getitem__, n, threshold)
    assert labels.tolist() == components_by_force(vectors, threshold)


def test_a_chain_is_one_group_however_long():
    angles = np.random.default_rng(0).permutation(3000) * 0.001
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert (connected(circle.__getitem__, 3000, 0.999999) == 0).all()


# --- Components -> stars ---------------------------------------------------------------------------


def stars_by_force(vectors: np.ndarray, threshold: float) -> list[int]:
    alike = vectors @ vectors.T >= threshold
    kept: list[int] = []
    for at in range(len(vectors)):
        centres = (centre for centre in range(at) if kept[centre] == centre and alike[at, centre])
        kept.append(next(centres, at))
    return kept


@settings(max_examples=150)
@given(
    n=st.integers(1, 120),
    clusters=st.integers(1, 10),
    spread=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    threshold=st.floats(0.3, 0.999),
    rows=st.sampled_from([1, 7, 2048]),
    chunk=st.sampled_from([1, 50]),
    seed=st.integers(0, 1000),
)
def test_each_is_a_copy_of_the_best_that_it_is_like(
    n, clusters, spread, threshold, rows, chunk, seed
):
    vectors = clustered_vectors(n, 8, clusters, spread, seed)
    assume(not (np.abs(vectors @ vectors.T - threshold) < 1e-6).any())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "ROWS", rows)
        patch.setattr(duplicates, "CHUNK", chunk)
        kept, scores = stars(vectors.__getitem__, n, threshold)
    assert kept.tolist() == stars_by_force(vectors, threshold)
    copies = kept != np.arange(n)
    to_the_best = np.einsum("ij,ij->i", vectors, vectors[kept])
    assert scores[copies] == pytest.approx(to_the_best[copies], abs=1e-5)
    assert (scores[copies] >= threshold).all()


def test_progress_ends_with_all_pairs():
    shown: list[tuple[str, int, int]] = []
    vectors = random_vectors(5000)
    connected(vectors.__getitem__, 5000, 0.999, lambda *step: shown.append(step))
    done = [done for _, done, _ in shown]
    assert done == sorted(done)
    assert shown[-1] == ("Comparing", 5000 * 4999 // 2, 5000 * 4999 // 2)


# --- Images -> groups ------------------------------------------------------------------------------


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path / "photos.db", execute_plugins=False)) as db:
        yield db


NORTH = np.eye(8, dtype=np.float32)[0]


def turned(degrees: float, axis: int = 1) -> np.ndarray:
    """NORTH turned towards another axis."""
    east = np.eye(8, dtype=np.float32)[axis]
    angle = np.radians(degrees)
    return (np.cos(angle) * NORTH + np.sin(angle) * east).astype(np.float32)


def add(db: Database, *images: tuple[str, np.ndarray, dict]) -> Index:
    """Rows (path, vector, other columns), with the ids 1, 2, 3 ... in a new table."""
    table, index = make_index(db)
    root_id = ensure_roots(db, ["/pictures"])["/pictures"]
    write_batch(
        db,
        table,
        index,
        [
            embedded(None, replace(make_record(root_id, path=path), **columns), vector)
            for path, vector, columns in images
        ],
    )
    return find_index(db.conn, "images")


def paths_of(found: duplicates.DuplicateGroups) -> list[list[str]]:
    return [[one.image.location.path for one in group] for group in found.groups]


def test_the_best_is_first_and_scores_are_to_it(db: Database):
    index = add(
        db,
        ("z/small.jpg", turned(4), {"size": 10}),
        ("b/copy.jpg", NORTH, {"size": 99, "sha256": "same", "mtime": "2022"}),
        ("a/best.jpg", NORTH, {"size": 99, "sha256": "same", "mtime": "2021"}),
        ("c/tiny.jpg", turned(-8), {"size": 1}),
        ("other.jpg", turned(90), {}),
    )
    ((best, copy, small, tiny),) = find_duplicates(db.conn, index, 0.99).groups
    assert [one.image.image_id for one in (best, copy, small, tiny)] == [3, 2, 1, 4]
    assert (best.exact, copy.exact, small.exact) == (False, True, False)
    assert (best.score, copy.score) == (1, 1)
    assert small.score == pytest.approx(np.cos(np.radians(4)), abs=1e-6)
    assert tiny.score == pytest.approx(np.cos(np.radians(8)), abs=1e-6)


def test_a_chain_is_stars_of_which_no_image_is_in_two(db: Database):
    """A like B, B like C, C like D; the best is A, and D is next to it in size."""
    sizes = {"a": 9, "d": 8, "b": 7, "c": 6}
    angles = {"a": 0, "b": 16, "c": 32, "d": 48}
    index = add(db, *((name, turned(angles[name]), {"size": sizes[name]}) for name in "abcd"))
    found = find_duplicates(db.conn, index, 0.95)
    assert paths_of(found) == [["a", "b"], ["d", "c"]]
    assert min(one.score for group in found.groups for one in group) >= 0.95
    assert found.chained == 4


def test_what_falls_out_of_a_group_and_is_like_no_other_is_in_none(db: Database):
    names = {"a": 0, "b": 16, "c": 32}
    index = add(db, *((name, turned(angle), {}) for name, angle in names.items()))
    db.execute("update images set size = 9 - id")
    assert paths_of(find_duplicates(db.conn, index, 0.95)) == [["a", "b"]]


@pytest.mark.parametrize("chunk", [1, 3, 10_000])
def test_groups_are_the_same_however_many_are_read_at_once(
    db: Database, chunk: int, monkeypatch: pytest.MonkeyPatch
):
    vectors = clustered_vectors(60, 8, 20, 0.2, seed=3)
    index = add(db, *((f"{at:02}", vector, {"size": at}) for at, vector in enumerate(vectors)))
    kept = np.array(stars_by_force(vectors[::-1], 0.9))
    monkeypatch.setattr(duplicates, "ROWS", 4)
    monkeypatch.setattr(duplicates, "CHUNK", chunk)
    groups = {
        f"{59 - centre:02}": {f"{59 - at:02}" for at in np.flatnonzero(kept == centre)}
        for centre in set(kept)
    }
    found = paths_of(find_duplicates(db.conn, index, 0.9))
    assert {group[0]: set(group) for group in found} == {
        best: group for best, group in groups.items() if len(group) > 1
    }


def test_films_are_compared_with_films_by_the_mean_of_their_scenes(db: Database):
    """A picture is no copy of a film that shows it."""
    film = np.stack([turned(0), turned(90)])
    add(
        db,
        ("film.mp4", film, {}),
        ("larger.mp4", np.stack([turned(3), turned(88)]), {}),
        ("other.mp4", np.stack([turned(0), turned(90, axis=2)]), {}),
        ("one scene.mp4", turned(45)[None], {}),
        ("its frame.jpg", turned(45), {}),
        ("a frame like it.jpg", turned(46), {}),
    )
    found = find_duplicates(db.conn, find_index(db.conn), 0.99)
    assert paths_of(found) == [
        ["a frame like it.jpg", "its frame.jpg"],
        ["larger.mp4", "film.mp4"],
    ]
    assert found.images == 6


def test_more_pixels_are_better_than_more_bytes(db: Database):
    index = add(db, ("bytes.png", NORTH, {"size": 999}), ("pixels.jpg", NORTH, {"size": 1}))
    db.execute("update images set width = 400 where id = 2")
    assert paths_of(find_duplicates(db.conn, index, 0.95)) == [["pixels.jpg", "bytes.png"]]


def test_copies_bring_their_groups_together(db: Database):
    """The vectors of copies are compared once, for all of them."""
    index = add(
        db,
        ("a", NORTH, {"sha256": "x", "size": 3}),
        ("b", NORTH, {"sha256": "x", "size": 3}),
        ("c", turned(1), {"sha256": "y", "size": 2}),
        ("d", turned(1), {"sha256": "y", "size": 2}),
    )
    found = find_duplicates(db.conn, index, 0.95)
    assert [sorted(group) for group in paths_of(found)] == [["a", "b", "c", "d"]]
    # d is a copy of c, and not of the one to keep.
    assert [one.exact for one in found.groups[0]] == [False, True, False, False]


def test_a_threshold_of_1_finds_exact_copies_only(db: Database):
    index = add(
        db, ("a", NORTH, {"sha256": "x"}), ("b", NORTH, {}), ("c", turned(9), {"sha256": "x"})
    )
    assert [sorted(group) for group in paths_of(find_duplicates(db.conn, index, 1))] == [["a", "c"]]


def test_unknown_content_is_not_the_same_content(db: Database):
    index = add(db, ("a", NORTH, {"sha256": None}), ("b", turned(90), {"sha256": None}))
    assert find_duplicates(db.conn, index, 0.95).groups == ()


def test_a_filter_lets_only_its_rows_be_compared(db: Database):
    index = add(db, *((f"{number}.jpg", NORTH, {}) for number in range(6)))
    some = Filter("filename <> :not and id > 2 -- of late", {"not": ""})
    found = find_duplicates(db.conn, index, 0.95, some)
    assert (found.images, [sorted(group) for group in paths_of(found)]) == (
        4,
        [["2.jpg", "3.jpg", "4.jpg", "5.jpg"]],
    )
    with pytest.raises(FilterError, match="no_such_column"):
        find_duplicates(db.conn, index, 0.95, Filter("no_such_column"))


def test_a_vector_of_another_picture_does_not_count(db: Database):
    index = add(db, ("a", NORTH, {}), ("b", NORTH, {}))
    for (trigger,) in db.execute("select name from sqlite_master where type = 'trigger'"):
        db.execute(f'drop trigger "{trigger}"')
    db.execute("update images set sha256 = 'another' where id = 2")
    assert find_duplicates(db.conn, index, 0.95).groups == ()


def test_an_image_deleted_while_others_are_compared_is_left_out(db: Database):
    index = add(db, *((f"{number}", NORTH, {}) for number in range(3)))

    def report(*_: object) -> None:
        with closing(
            sqlite3.connect(db.conn.execute("pragma database_list").fetchone()[2])
        ) as other:
            other.execute("delete from images where id = 1")
            other.commit()

    assert paths_of(find_duplicates(db.conn, index, 0.95, report=report)) == [["2", "1"]]


def test_columns_that_a_person_dropped_are_not_needed(db: Database):
    index = add(db, ("a", NORTH, {"size": 1}), ("b", NORTH, {"size": 2}))
    db["images"].transform(drop={"width", "height"})
    ((best, _),) = find_duplicates(db.conn, index, 0.95).groups
    assert (best.image.location.path, best.image.width) == ("b", None)


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, float("nan"), float("inf")])
def test_a_threshold_is_a_score_above_0(db: Database, threshold: float):
    index = add(db, ("a", NORTH, {}))
    with pytest.raises(ImageSearchError, match=r"it must be above 0 and at most 1, such as 0\.95"):
        find_duplicates(db.conn, index, threshold)


def test_many_images_through_the_database(db: Database):
    vectors = random_vectors(300)
    copies = np.concatenate([vectors, vectors[:100]])
    index = add(db, *((f"{at:03}", vector, {"size": at}) for at, vector in enumerate(copies)))
    found = find_duplicates(db.conn, index, 0.9999)
    assert paths_of(found) == [[f"{at + 300:03}", f"{at:03}"] for at in range(100)]


# --- The table -------------------------------------------------------------------------------------


@pytest.fixture
def written(db: Database) -> Database:
    """Groups: 1 (to keep), 2, 3; and 4 (to keep), 5. Alone: 6."""
    sizes = {"size": 9}, {"size": 8}, {"size": 7}, {"size": 9}, {"size": 8}, {}
    angles = 0, 1, 2, 90, 91, 180
    index = add(
        db,
        *((f"{n}", turned(a), size) for n, (a, size) in enumerate(zip(angles, sizes, strict=True))),
    )
    write(db, index)
    return db


def write(db: Database, index: Index) -> None:
    found = find_duplicates(db.conn, index, 0.99)
    assert write_duplicates(db, index, rows_of(found)) == "images_duplicates"


def table_of(db: Database) -> list[tuple]:
    sql = "select group_id, image_id, keep from images_duplicates order by group_id, image_id"
    return db.execute(sql).fetchall()


ALL = [(1, 1, 1), (1, 2, 0), (1, 3, 0), (2, 4, 1), (2, 5, 0)]


def test_one_picture_of_each_group(written: Database):
    assert table_of(written) == ALL
    sql = """
        select id from images
        where id not in (select image_id from images_duplicates where not keep) order by id
    """
    assert [id for (id,) in written.execute(sql)] == [1, 4, 6]
    (key,) = written["images_duplicates"].foreign_keys
    assert (key.column, key.other_table, key.other_column) == ("image_id", "images", "id")


def test_written_again_the_table_is_what_is_true_now(written: Database):
    written.execute("delete from images where id = 5")
    write(written, find_index(written.conn, "images"))
    assert table_of(written) == ALL[:3]


def test_a_deleted_image_leaves_and_its_id_can_be_used_again(written: Database):
    written.execute("delete from images where id = 2")
    assert table_of(written) == [ALL[0], *ALL[2:]]
    written.execute("insert into images (id, root_id, path) values (2, 1, 'new')")
    assert table_of(written) == [ALL[0], *ALL[2:]]


def test_without_the_one_to_keep_the_others_are_no_duplicates(written: Database):
    written.execute("delete from images where id = 1")
    assert table_of(written) == ALL[3:]


def test_another_picture_is_no_duplicate(written: Database):
    written.execute("update images set sha256 = 'another' where id = 5")
    assert table_of(written) == ALL[:4]


def test_a_renumbered_image_stays_in_its_group(written: Database):
    written.execute("update images set id = 50 where id = 5")
    assert table_of(written) == [*ALL[:4], (2, 50, 0)]


def test_what_happened_without_triggers_is_cleared_up(written: Database):
    written["images"].transform(rename={"iso": "film"})
    written.execute("delete from images where id = 1")
    written.execute("update images set sha256 = 'another' where id = 5")
    ensure_tables(written, "images")
    assert table_of(written) == []


def test_a_dropped_table_is_forgotten_by_the_next_run(written: Database):
    written["images_duplicates"].drop()
    ensure_tables(written, "images")
    written.execute("delete from images where id = 1")
    assert written["images"].count == 5


def test_foreign_keys_that_are_enforced_hold(written: Database):
    written.conn.commit()
    written.execute("pragma foreign_keys = on")
    written.execute("delete from images where id = 2")
    written.execute("update images set id = 50 where id = 5")
    assert written.execute("pragma foreign_key_check").fetchall() == []


def test_all_of_it_is_written_or_nothing(written: Database):
    def rows() -> Iterator[DuplicateRow]:
        yield DuplicateRow(1, 6, 1.0, False, True, None)
        raise KeyboardInterrupt

    index = find_index(written.conn, "images")
    with pytest.raises(KeyboardInterrupt):
        write_duplicates(written, index, rows())
    assert table_of(written) == ALL


def test_a_table_of_the_same_name_by_somebody_else_is_left_alone(db: Database):
    index = add(db, ("a", NORTH, {}), ("b", NORTH, {}))
    db["images_duplicates"].insert({"image_id": 1, "mine": "yes"})
    with pytest.raises(store.StoreError, match="'images_duplicates' was not made by"):
        write(db, index)
    ensure_tables(db, "images")
    db.execute("delete from images where id = 1")
    assert list(db["images_duplicates"].rows) == [{"image_id": 1, "mine": "yes"}]


def test_a_column_of_ones_own_stays(written: Database):
    written["images_duplicates"].add_column("note", str)
    write(written, find_index(written.conn, "images"))
    written.execute("delete from images where id = 2")
    assert table_of(written) == [ALL[0], *ALL[2:]]
    assert "note" in written["images_duplicates"].columns_dict


def test_any_table_name(db: Database):
    for name in AWKWARD_NAMES:
        add_images(db, np.stack([NORTH, NORTH]), name)
        index = find_index(db.conn, name)
        written = write_duplicates(db, index, rows_of(find_duplicates(db.conn, index, 0.9)))
        assert (written, db[written].count) == (f"{name}_duplicates", 2)
        db[name].delete(2)  # The larger one, which is to be kept.
        assert db[written].count == 0
