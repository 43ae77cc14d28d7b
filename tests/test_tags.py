"""Zero-shot tags: the labels that fit best, a table that stays true, and image_classify() in SQL."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from datasette_image_search import ImageSearchError, store
from datasette_image_search.embedders import registry
from datasette_image_search.embedders.protocol import Embedder, TextNotUnderstood
from datasette_image_search.search import tags
from datasette_image_search.search.tags import (
    checked_labels,
    label_vectors,
    ready_label_set,
    tag_images,
)
from datasette_image_search.sql import register_functions
from datasette_image_search.store import Filter, Index, find_index
from datasette_image_search.store.imports import write_imported
from datasette_image_search.store.indexes import ensure_index
from datasette_image_search.store.replacements import delete_index
from datasette_image_search.store.schema import ensure_tables
from datasette_image_search.store.tables import EmbeddedImage, LabelSet, TagRow
from datasette_image_search.store.tags import label_sets, write_tags
from datasette_image_search.store.triggers import without_triggers
from datasette_image_search.store.writes import ensure_roots, write_batch

from .commands import command, query
from .random_tables import (
    AWKWARD_NAMES,
    make_own_table,
    make_record,
    make_tables,
    random_vectors,
)
from .recorded_clip import FOLDER, RecordedClip, captions, needs_recorded_clip
from .test_written_texts import changes_of_texts

AXES = {"north": 0, "east": 1, "up": 2, "photo": 3}


def unit(*components: float) -> np.ndarray:
    vector = np.array(components, dtype=np.float32)
    return vector / np.linalg.norm(vector)


class Compass(Embedder):
    """Reads four words, each of which is an axis, and numbers, which are directions at random."""

    id = "compass"
    fingerprint = "compass-1"
    dimensions = 4
    logit_scale = 10.0

    def encode_images(self, inputs: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([self._encode(text) for text in texts])

    def text_warning(self, text: str) -> str | None:
        return f"compass does not know 'of' in {text!r}" if " of " in text else None

    def _encode(self, text: str) -> np.ndarray:
        if text.isdigit():
            return random_vectors(1, 4, seed=int(text))[0]
        axes = [AXES[word] for word in text.split() if word in AXES]
        if not axes:
            raise TextNotUnderstood(f"compass does not know {text!r}")
        return unit(*np.eye(4)[axes].sum(axis=0))


@pytest.fixture(autouse=True)
def compass(monkeypatch: pytest.MonkeyPatch) -> Compass:
    embedder = Compass()
    monkeypatch.setitem(registry._factories(), "compass", lambda request: embedder)
    monkeypatch.setattr(registry, "_loaded", {})
    return embedder


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path / "photos.db", execute_plugins=False)) as db:
        yield db


def add(db: Database, *vectors: np.ndarray, table: str = "images") -> Index:
    """Images with these vectors, with the ids 1, 2, 3 ... in a new table."""
    image_table = make_tables(db, table)
    index = ensure_index(
        db, image_table, model="compass", weights=None, fingerprint="compass-1", dimensions=4
    )
    root_id = ensure_roots(db, ["/pictures"])["/pictures"]
    images = [EmbeddedImage(None, make_record(root_id), vector, None) for vector in vectors]
    write_batch(db, image_table, index, images)
    return find_index(db.conn, table)


def tag(
    db: Database,
    index: Index,
    *labels: str,
    filter: Filter | None = None,
    replacing: bool = False,
    **options,
):
    """The last that tag_images tells of, None where nothing was to be done."""
    options = {"templates": ["{}"], **options}
    label_set = ready_label_set(db, index, Compass(), labels, **options)
    run = tag_images(db, index, label_set, Compass(), filter, in_place_of_others=replacing)
    return next(iter([tagged for tagged in run if tagged.done][-1:]), None)


def tags_of(db: Database, table: str = "images") -> list[tuple]:
    sql = f'select image_id, tag from "{table}_tags" order by image_id, probability desc, tag'
    return db.execute(sql).fetchall()


NORTH, EAST, UP = np.eye(4, dtype=np.float32)[:3]

NORTH_EAST = unit(2, 1, 0, 0)


# --- Which labels an image gets --------------------------------------------------------------------


def test_the_best_label_with_its_score_and_probability(db: Database):
    index = add(db, NORTH, NORTH_EAST)
    tagged = tag(db, index, "north", "east")
    assert (tagged.done, tagged.total, tagged.tagged, tagged.without) == (2, 2, 2, 0)
    (first, second) = db["images_tags"].rows
    assert (first["image_id"], first["tag"], first["score"]) == (1, "north", 1.0)
    score, other = 2 / np.sqrt(5), 1 / np.sqrt(5)
    assert second["score"] == pytest.approx(score, abs=1e-6)
    # The softmax of ten times the scores, as the embedder has it.
    assert second["probability"] == pytest.approx(1 / (1 + np.exp(10 * (other - score))), abs=1e-5)


def test_several_labels_of_an_image(db: Database):
    index = add(db, NORTH_EAST, UP)
    tag(db, index, "north", "east", "up", top=2)
    assert tags_of(db)[:2] == [(1, "north"), (1, "east")]
    assert len(tags_of(db)) == 4


def test_a_film_has_the_labels_of_any_of_its_scenes(db: Database):
    """Each with the score of the scene that fits it best."""
    scenes = np.stack([unit(1, 0, 0, 0), unit(0, 1, 0, 0), unit(3, 4, 0, 0)])
    tag(db, add(db, scenes, UP), "north", "east", "up", top=None, threshold=0.9)
    assert tags_of(db) == [(1, "east"), (1, "north"), (2, "up")]
    scores = [score for (score,) in db.execute("select score from images_tags")]
    assert scores == pytest.approx([1, 1, 1])


def test_no_label_below_the_threshold(db: Database):
    index = add(db, unit(1, 1, 0, 0), UP)
    tagged = tag(db, index, "north", "east", "up", threshold=0.6)
    assert (tagged.tagged, tagged.without) == (1, 1)
    assert tags_of(db) == [(2, "up")]
    tag(db, index, "north", "east", "up", threshold=0.4)
    assert tags_of(db) == [(1, "east"), (1, "north"), (2, "up")]


@settings(max_examples=60)
@given(
    images=st.integers(1, 20),
    labels=st.integers(1, 12),
    top=st.none() | st.integers(1, 14),
    threshold=st.none() | st.floats(0.01, 1),
    seed=st.integers(0, 100),
)
def test_the_best_so_many_of_those_with_the_threshold(images, labels, top, threshold, seed):
    scores = np.random.default_rng(seed).permutation(images * labels).reshape(images, labels)
    scores = scores.astype(np.float32) / scores.size
    probabilities = tags._softmax(5 * scores)
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    label_set = LabelSet(1, 1, (), (), top, threshold)
    chosen = tags._chosen(scores, probabilities, label_set)
    for row in range(images):
        best = sorted(range(labels), key=lambda label: -scores[row, label])[:top]
        expected = [n for n in best if threshold is None or probabilities[row, n] >= threshold]
        assert np.flatnonzero(chosen[row]).tolist() == sorted(expected)


def test_templates_are_averaged():
    (vector,) = label_vectors(Compass(), ("north",), ("{}", "photo {}"))
    assert vector == pytest.approx(unit(1 + 0.5**0.5, 0, 0, 0.5**0.5), abs=1e-6)


def test_braces_in_a_label_are_words():
    (vector,) = label_vectors(Compass(), ("{0} {x} north {}",), ("photo {}",))
    assert vector == pytest.approx(unit(1, 0, 0, 1), abs=1e-6)


def test_ten_thousand_labels(db: Database):
    index = add(db, *random_vectors(30, 4))
    labels = [str(number) for number in range(10_000)]
    assert tag(db, index, *labels).tagged == 30
    texts = Compass().encode_texts(labels)
    best = [labels[n] for n in (random_vectors(30, 4) @ texts.T).argmax(axis=1)]
    assert [tag for _, tag in tags_of(db)] == best


@pytest.mark.parametrize(
    ("labels", "options", "sentence"),
    [
        ([], {}, "there are no labels; name two or more"),
        (["north"], {}, "'north' is the only label, so every image would get it"),
        (["north", " "], {}, "one of the labels is empty"),
        (["north", "east", " north"], {}, "the label 'north' comes 2 times; name it once"),
        (["north", "x" * 20_000], {}, "has 20,000 letters; at most 1,000 are"),
        (["north", "east"], {"templates": ["{}" + "x" * 20_000]}, "has 20,002 letters; at most"),
        (["north", "elsewhere"], {}, "compass does not know 'elsewhere'"),
        (["north", "east"], {"templates": ["{}", "photo"]}, "'photo' has no place for the label"),
        (
            ["north", "east"],
            {"threshold": 0},
            "the threshold is 0; it must be above 0 and at most 1",
        ),
        (
            ["north", "east"],
            {"threshold": 30},
            "the threshold is 30; it must be above 0 and at most 1",
        ),
        (["north", "east"], {"threshold": float("nan")}, "the threshold is nan"),
    ],
)
def test_what_says_nothing_about_an_image(db: Database, labels, options, sentence: str):
    index = add(db, NORTH)
    with pytest.raises(ImageSearchError, match=sentence):
        tag(db, index, *labels, **options)
    assert not db["images_tags"].exists()


def test_blanks_around_labels_do_not_count():
    assert checked_labels([" a\t", "b c\r"]) == ("a", "b c")


# --- Only what is new ------------------------------------------------------------------------------


def test_only_new_images_are_looked_at(db: Database):
    index = add(db, NORTH, EAST)
    tag(db, index, "north", "east")
    assert tag(db, index, "east", "north") is None
    add(db, UP, NORTH)
    assert tag(db, index, "north", "east").total == 2
    assert [image for image, _ in tags_of(db)] == [1, 2, 3, 4]


def test_an_image_that_got_no_tag_is_not_looked_at_again(db: Database):
    index = add(db, unit(1, 1, 0, 0))
    assert tag(db, index, "north", "east", threshold=0.9).without == 1
    assert tag(db, index, "north", "east") is None
    assert tag(db, index, "north", "east", threshold=0.9) is None


def test_what_a_person_took_away_stays_away(db: Database):
    index = add(db, NORTH, EAST)
    tag(db, index, "north", "east")
    db.execute("delete from images_tags where image_id = 1")
    tag(db, index, "north", "east")
    assert tags_of(db) == [(2, "east")]


def test_with_other_options_all_is_done_again(db: Database):
    index = add(db, NORTH_EAST)
    tag(db, index, "north", "east", top=2)
    assert tag(db, index, "north", "east", top=1).total == 1
    assert tags_of(db) == [(1, "north")]


def test_other_labels_are_added_or_take_their_place(db: Database):
    index = add(db, NORTH)
    tag(db, index, "north", "east")
    tag(db, index, "up", "photo")
    tag(db, index, "north", "up")
    assert len(tags_of(db)) == 3
    assert len(label_sets(db.conn, index)) == 3
    tag(db, index, "east", "up", replacing=True)
    assert len(tags_of(db)) == 1
    assert [each.labels for each in label_sets(db.conn, index)] == [("east", "up")]


@pytest.mark.parametrize(
    "others",
    [{"templates": ["photo {}"]}, {"top": 2}, {"replacing": True}],
    ids=lambda it: next(iter(it)),
)
def test_tags_stay_until_those_in_their_place_are_whole(
    db: Database, monkeypatch: pytest.MonkeyPatch, others: dict
):
    monkeypatch.setattr(tags, "IMAGES", 3)
    index = add(db, *random_vectors(8, 4))
    tag(db, index, "north", "east")
    before = db.execute("select * from images_tags").fetchall()
    labels = ("up", "photo") if "replacing" in others else ("north", "east")

    options = {"templates": ["{}"], **others}
    replacing = options.pop("replacing", False)
    label_set = ready_label_set(db, index, Compass(), labels, **options)
    run = tag_images(db, index, label_set, Compass(), in_place_of_others=replacing)
    assert next(run).done == 0
    next(run)
    run.close()
    assert db["images_tags"].count > 8
    assert set(before) <= set(db.execute("select * from images_tags").fetchall())

    assert tag(db, index, *labels, **{**options, "replacing": replacing}).total == 5
    assert label_sets(db.conn, index) == [replace(label_set, last_vector_id=8)]
    assert db.execute("select distinct label_set_id from images_tags").fetchall() == [
        (label_set.id,)
    ]


def test_another_template_is_another_label_set(db: Database):
    index = add(db, NORTH)
    tag(db, index, "north", "east")
    assert tag(db, index, "north", "east", templates=["photo {}"]).total == 1


def test_what_is_committed_stays_and_the_next_run_goes_on(
    db: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tags, "IMAGES", 3)
    index = add(db, *random_vectors(8, 4))
    label_set = ready_label_set(db, index, Compass(), ["north", "east"])
    run = tag_images(db, index, label_set, Compass())
    assert next(run).done == 0
    assert next(run).done == 3
    run.close()
    with closing(Database(db.conn.execute("pragma database_list").fetchone()[2])) as other:
        assert other["images_tags"].count == 3
    assert tag(db, index, "north", "east", templates=[]).total == 5
    assert db["images_tags"].count == 8


def test_under_a_filter_and_then_the_rest(db: Database):
    index = add(db, *random_vectors(6, 4))
    some = Filter("id % 2 = :odd", {"odd": 1})
    assert tag(db, index, "north", "east", filter=some).total == 3
    assert tag(db, index, "north", "east", filter=some) is None
    assert tag(db, index, "north", "east").total == 3
    assert db["images_tags"].count == 6
    with pytest.raises(store.FilterError):
        tag(db, index, "north", "east", filter=Filter("no_column = 1"))


def test_under_a_filter_others_keep_the_tags_they_have(db: Database):
    index = add(db, NORTH, EAST, NORTH, EAST)
    tag(db, index, "north", "east")
    tag(db, index, "north", "east", templates=["to the {}"], filter=Filter("id <= 2"))
    assert {row["image_id"] for row in db["images_tags"].rows} == {1, 2, 3, 4}
    assert db["images_tags"].count == 4


def test_tags_leave_a_sidecar_what_it_is(db: Database):
    index = add(db, NORTH, EAST)
    before = store.find_index(db.conn, "images").generation
    tag(db, index, "north", "east")
    assert store.find_index(db.conn, "images").generation == before


def test_an_image_that_is_deleted_meanwhile_gets_no_tag(db: Database):
    index = add(db, NORTH, EAST)
    label_set = ready_label_set(db, index, Compass(), ["north", "east"])
    db.execute("delete from images where id = 1")
    rows = [TagRow(n, "north", 1.0, 1.0, label_set.id, n) for n in (1, 2)]
    write_tags(db, index, label_set, rows)
    assert tags_of(db) == [(2, "north")]


def test_many_tags_of_an_image_write_its_text_once(db: Database):
    index = add(db, NORTH)
    label_set = ready_label_set(db, index, Compass(), ["north", "east"])
    vector = db.execute("select id from _images_vectors").fetchone()[0]
    statements = changes_of_texts(db.conn)
    write_tags(
        db, index, label_set, [TagRow(1, f"t{n}", 1, 1, label_set.id, vector) for n in range(50)]
    )
    assert (1 <= len(statements) <= 2, db["images_tags"].count) == (True, 50)
    delete_index(db, index.table, index)
    assert (len(statements) <= 4, db["images_tags"].count) == (True, 0)


# --- The table stays true --------------------------------------------------------------------------


@pytest.fixture
def tagged(db: Database) -> Database:
    tag(db, add(db, NORTH, EAST, NORTH), "north", "east")
    return db


def test_the_table_links_to_the_images(tagged: Database):
    links = {(key.column, key.other_table) for key in tagged["images_tags"].foreign_keys}
    assert links == {("image_id", "images"), ("label_set_id", "image_search_label_sets")}


def test_a_deleted_image_takes_its_tags_and_its_id_can_be_used_again(tagged: Database):
    tagged.conn.commit()
    tagged.execute("pragma foreign_keys = on")
    tagged.execute("delete from images where id = 3")
    assert tags_of(tagged) == [(1, "north"), (2, "east")]
    tagged.execute("insert into images (id, root_id, path) values (3, 1, 'new')")
    assert tags_of(tagged) == [(1, "north"), (2, "east")]


def test_a_replaced_image_loses_its_tags(tagged: Database):
    tagged.execute("replace into images (id, root_id, path) values (2, 1, 'other')")
    assert tags_of(tagged) == [(1, "north"), (3, "north")]


def test_a_changed_image_is_tagged_again(tagged: Database):
    index = find_index(tagged.conn, "images")
    table = store.find_image_table(tagged.conn, "images")
    changed = EmbeddedImage(1, make_record(1), EAST, None)
    write_batch(tagged, table, index, [changed])
    assert tags_of(tagged) == [(2, "east"), (3, "north")]
    assert tag(tagged, index, "north", "east").total == 1
    assert tags_of(tagged) == [(1, "east"), (2, "east"), (3, "north")]


def test_a_renumbered_image_keeps_its_tags(tagged: Database):
    tagged.execute("update images set id = 50 where id = 3")
    assert tags_of(tagged) == [(1, "north"), (2, "east"), (50, "north")]
    tagged.execute("delete from _images_vectors where image_id = 50")
    assert tags_of(tagged) == [(1, "north"), (2, "east")]


def test_a_tag_that_a_person_adds_stays_with_its_image(tagged: Database):
    tagged["images_tags"].insert_all(
        [{"image_id": 1, "tag": "grandma"}, {"image_id": 3, "tag": "grandma"}]
    )
    tagged.execute("update images set id = 50 where id = 1")
    tagged.execute("delete from images where id = 3")
    tag(tagged, find_index(tagged.conn), "up", "east", replacing=True)
    assert [row for row in tags_of(tagged) if row[1] == "grandma"] == [(50, "grandma")]


def test_what_happened_without_triggers_is_cleared_up(tagged: Database):
    tagged["images"].transform(rename={"iso": "film"})
    tagged.execute("delete from images where id = 1")
    tagged.execute("update images set sha256 = 'another' where id = 2")
    ensure_tables(tagged, "images")
    assert tags_of(tagged) == [(3, "north")]


def test_imported_vectors_bring_no_tags_of_others(tagged: Database):
    table, index = store.find_image_table(tagged.conn, "images"), find_index(tagged.conn)
    with without_triggers(tagged, table):
        write_imported(tagged, table, index, [1, 2, 3], np.stack([UP, EAST, NORTH]), {})
    assert tags_of(tagged) == [(2, "east"), (3, "north")]


def test_an_index_takes_its_label_sets_along(tagged: Database):
    table, index = store.find_image_table(tagged.conn, "images"), find_index(tagged.conn)
    delete_index(tagged, table, index)
    assert (tagged["images_tags"].count, tagged["image_search_label_sets"].count) == (0, 0)


def test_a_dropped_table_is_forgotten_by_the_next_run(tagged: Database):
    tagged["images_tags"].drop()
    ensure_tables(tagged, "images")
    tagged.execute("delete from images where id = 1")
    assert tagged["images"].count == 2


def test_a_table_of_the_same_name_by_somebody_else_is_left_alone(db: Database):
    index = add(db, NORTH)
    db["images_tags"].insert({"image_id": 1, "tag": "mine"})
    with pytest.raises(store.StoreError, match="'images_tags' was not made by"):
        tag(db, index, "north", "east")
    db.execute("delete from images where id = 1")
    assert db["images_tags"].count == 1
    assert not db["image_search_label_sets"].exists()


@pytest.mark.parametrize("name", AWKWARD_NAMES)
def test_any_table_name(db: Database, name: str):
    tag(db, add(db, NORTH, EAST, table=name), "north", "east")
    assert [row["tag"] for row in db[f"{name}_tags"].rows] == ["north", "east"]
    db[name].delete(1)
    assert [row["image_id"] for row in db[f"{name}_tags"].rows] == [2]


def add_own(db: Database, keys: Sequence[str], vectors: np.ndarray) -> Index:
    """A person's own table, `mine`, whose keys are texts."""
    table = make_own_table(db, "mine", "key", str)
    index = ensure_index(
        db, table, model="compass", weights=None, fingerprint="compass-1", dimensions=4
    )
    root_id = ensure_roots(db, ["/pictures"])["/pictures"]
    for key, vector in zip(keys, vectors, strict=True):
        record = make_record(root_id)
        db["mine"].insert({"key": key, "root_id": root_id, "path": record.path, "sha256": "x"})
        db[table.vectors].insert(
            {"index_id": index.id, "image_id": key, "sha256": "x", "vector": vector.tobytes()}
        )
    return find_index(db.conn, "mine")


def test_keys_that_are_texts(db: Database):
    index = add_own(db, ["a b", "7"], np.stack([NORTH, EAST]))
    tag(db, index, "north", "east")
    assert tags_of(db, "mine") == [("7", "east"), ("a b", "north")]
    db.execute("delete from mine where key = '7'")
    assert tags_of(db, "mine") == [("a b", "north")]


# --- image_classify --------------------------------------------------------------------------------


def connected(db: Database, **options) -> sqlite3.Connection:
    db.conn.commit()
    register_functions(db.conn, **options)
    return db.conn


def test_the_best_label_of_every_image(db: Database):
    vectors = random_vectors(50, 4)
    add(db, *vectors)
    labels = ["north", "east", "up"]
    conn = connected(db)
    sql = "select id, image_classify(id, ?) from images"
    expected = [labels[n] for n in vectors[:, :3].argmax(axis=1)]
    assert [label for _, label in conn.execute(sql, [json.dumps(labels)])] == expected
    # Before all of them are worth looking up, too.
    one = "select image_classify(7, ?)"
    assert conn.execute(one, [json.dumps(labels)]).fetchone()[0] == expected[6]


def test_labels_are_taken_as_they_are(db: Database):
    add(db, unit(2, 0, 0, 3))
    sql = 'select image_classify(1, \'["north", "photo - north"]\')'
    assert connected(db).execute(sql).fetchone() == ("photo - north",)


def test_null_and_images_without_a_vector(db: Database):
    add(db, NORTH, EAST)
    db.execute("delete from _images_vectors where image_id = 2")
    conn = connected(db)
    labels = '["north", "east"]'
    sql = "select image_classify(id, ?) from (select 1 id union all values (2), (3), (-1), (null))"
    for _ in range(2):
        found = [label for (label,) in conn.execute(sql, [labels])]
        assert found == ["north", None, None, None, None]
    assert conn.execute("select image_classify(1, null)").fetchone() == (None,)


def test_text_keys_and_a_table_by_name(db: Database):
    add(db, EAST)
    add_own(db, ["a", "b"], np.stack([NORTH, EAST]))
    conn = connected(db)
    sql = "select image_classify(key, '[\"north\", \"east\"]', 'mine') from mine order by key"
    assert conn.execute(sql).fetchall() == [("north",), ("east",)]


def test_a_changed_database_is_seen_by_the_next_statement(db: Database):
    index = add(db, NORTH)
    conn = connected(db)
    sql = 'select image_classify(1, \'["north", "east"]\') from (values (1), (2), (3))'
    assert set(conn.execute(sql)) == {("north",)}
    table = store.find_image_table(conn, "images")
    write_batch(db, table, index, [EmbeddedImage(1, make_record(1), EAST, None)])
    assert set(conn.execute(sql)) == {("east",)}


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ("cat", "the labels are 'cat'; they must be a JSON array of texts"),
        ("[]", "must be a JSON array of texts"),
        ('["north", 1]', "must be a JSON array of texts"),
        ('{"north": 1}', "must be a JSON array of texts"),
        ("[" * 100_000, "must be a JSON array of texts"),
        (7, "the labels are 7;"),
        ('["north", ""]', "one of the labels is empty"),
        (r'["north", "\ud800"]', "is not valid text: half of a character"),
        ('["north", "elsewhere"]', "compass does not know 'elsewhere'"),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_wrong_labels_are_one_sentence(db: Database, labels, sentence: str):
    add(db, NORTH)
    said: list[str] = []
    conn = connected(db, tell=said.append)
    with pytest.raises(sqlite3.OperationalError):
        conn.execute("select image_classify(1, ?)", [labels]).fetchall()
    (line,) = said
    assert sentence in line
    assert len(line) < 400


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_each_label_counts_as_a_text_of_the_statement(db: Database):
    add(db, NORTH)
    said: list[str] = []
    conn = connected(db, tell=said.append, most_texts=3)
    two = 'image_classify(1, \'["north", "east"]\')'
    assert conn.execute(f"select {two}, image_similarity(1, 'up')").fetchall()
    assert conn.execute(f"select {two}, {two}").fetchall()
    with pytest.raises(sqlite3.OperationalError):
        conn.execute(f'select {two}, image_classify(1, \'["up", "photo"]\')').fetchall()
    assert "may search for 3 different texts" in said[-1]
    with pytest.raises(sqlite3.OperationalError):
        conn.execute(f"select image_similarity(1, 'up'), image_similarity(1, 'east'), {two}")


# --- With recorded CLIP ----------------------------------------------------------------------------


@needs_recorded_clip
def test_clip_tells_which_of_two_captions_is_of_a_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    clip = RecordedClip()
    monkeypatch.setitem(registry._factories(), clip.id, lambda request: clip)
    database = tmp_path / "flickr.db"
    # Where there are no photos, nobody asks whether this model made their vectors.
    arguments = ("--paths", FOLDER / "photos.txt", "--root", tmp_path, "--model", clip.id)
    result = command(
        "import-image-vectors", database, "images", FOLDER / "image_vectors.npy", *arguments
    )
    assert result.exit_code == 0, result.output
    ids = dict(query(database, "select path, id from images"))
    random = np.random.default_rng(0)
    captioned = [(photo, caption.strip()) for photo, caption in captions()]
    pairs = []
    while len(pairs) < 2000:
        first, second = random.integers(len(captioned), size=2)
        (photo, caption), (other_photo, other) = captioned[first], captioned[second]
        if photo != other_photo:
            labels = [caption, other] if random.random() < 0.5 else [other, caption]
            pairs.append((ids[photo], json.dumps(labels), caption))
    with closing(Database(database)) as db:
        db["pairs"].insert_all(
            {"image_id": id, "labels": labels, "caption": text} for id, labels, text in pairs
        )
        sql = "select avg(image_classify(image_id, labels) = caption) from pairs"
        (share,) = db.execute(sql).fetchone()
    assert share >= 0.95
