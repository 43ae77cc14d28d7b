"""Likeness and text are merged, so that what either finds is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datasette_image_search.api import Images
from datasette_image_search.embedders.protocol import EmbedderError, TextNotUnderstood
from datasette_image_search.search import fusion
from datasette_image_search.search.fusion import matches_first, merged
from datasette_image_search.search.queries import QueryWithFiles
from datasette_image_search.search.query import QueryError
from datasette_image_search.store import text_search
from datasette_image_search.store.filters import FilterError
from datasette_image_search.store.text_search import TextHit, TextMatch, TextsDamaged

from .commands import change

BLACK, BLUE, GREEN, ORANGE, PURPLE, RED, WHITE, YELLOW = range(1, 9)
"""The ids of the fixture `database`."""


@pytest.fixture
def images(database: Path) -> Iterator[Images]:
    """The pictures are called 1.jpg to 8.jpg, so that no name tells their colour."""
    change(database, "update images set filename = id || '.jpg'")
    change(database, f"update images set folder = 'Lisbon' where id in ({RED}, {BLUE})")
    change(database, f"update images set title = 'At the castle' where id in ({BLUE}, {WHITE})")
    with Images(database) as images:
        yield images


def ids(images: Images, words: str, k: int = 8, **options) -> list[int]:
    return [hit.id for hit in images.search(words, k, **{"by": "both", **options})]


def test_words_of_the_picture_and_words_that_are_written(images: Images):
    assert ids(images, "red + lisbon")[:2] == [RED, BLUE]
    assert ids(images, "blue + castle")[0] == BLUE
    assert sorted(ids(images, "blue + castle")) == list(range(1, 9))


def test_by_text(images: Images):
    assert sorted(ids(images, "lisbon", by="text")) == [BLUE, RED]
    assert ids(images, "lisbon castle", by="text") == [BLUE]
    assert ids(images, "lisbon + castle", by="text")[0] == BLUE
    assert ids(images, "castle - lisbon", by="text") == [WHITE]
    assert sorted(ids(images, "a photo of the castle", by="text")) == [BLUE, WHITE]
    assert ids(images, '"castle at"', by="text") == []
    assert sorted(ids(images, '"at the castle"', by="text")) == [BLUE, WHITE]
    assert ids(images, "cast", by="text") == []
    assert sorted(ids(images, "cast*", by="text")) == [BLUE, WHITE]
    assert sorted(ids(images, "at the", by="text")) == [BLUE, WHITE]


@pytest.mark.parametrize(
    "words",
    [
        "NOT AND OR NEAR(",
        "lis*:^{}()",
        "title:castle",
        "\0lis",
        "🏰",
        "'; drop table images",
        "x " * 400,
    ],
)
def test_nothing_is_syntax_of_fts5(images: Images, words: str):
    assert ids(images, f"3 + {words}", by="text") in ([GREEN], [])


def test_words_for_texts_only(images: Images):
    change(images.path, f"update images set title = 'red' where id = {GREEN}")
    assert ids(images, "text:red") == [GREEN]
    assert sorted(ids(images, 'text:"the castle"')) == [BLUE, WHITE]
    assert ids(images, "red + text:castle - text:lisbon", by="text") == [GREEN, WHITE]
    assert set(ids(images, "blue + text:red")[:2]) == {BLUE, GREEN}
    assert ids(images, "text:porto") == []
    for query, sentence in {
        "red + text:castle": "needs a search by text or by both",
        "text:castle": "needs a search by text or by both",
    }.items():
        with pytest.raises(QueryError, match=sentence):
            images.search(query)
    with pytest.raises(QueryError, match="no scores"):
        images.search("text:castle", by="both", min_score=0.1)
    with pytest.raises(QueryError, match="has no words"):
        images.search("- text:castle", by="both")


def test_a_hit_says_what_matched(images: Images):
    (first, *others) = images.search("blue + lisbon castle", by="both")
    assert first.id == BLUE
    assert first.matched == (TextMatch("lisbon", "folder"), TextMatch("castle", "title"))
    # A word of several is told too.
    assert {hit.id for hit in others if hit.matched} == {RED, WHITE}
    change(images.path, f"update images set title = 'Lisbon' where id = {BLUE}")
    assert images.search("lisbon", 1, by="both")[0].matched == (
        TextMatch("lisbon", "folder"),
        TextMatch("lisbon", "title"),
    )


def test_the_score_stays_the_cosine(images: Images):
    scores = {hit.id: hit.score for hit in images.search("red", 8)}
    hits = images.search("red + castle", 8, by="both")
    (found,) = images.find(["red + castle"], 8, by="both")
    assert "castle" in found.warnings[0]
    assert {hit.id: hit.score for hit in hits} == pytest.approx(scores)


def test_words_that_the_model_does_not_know(images: Images):
    with pytest.raises(TextNotUnderstood):
        images.search("lisbon")
    (found,) = images.find(["lisbon"], by="both")
    assert {hit.id: hit.score for hit in found.hits} == {BLUE: None, RED: None}
    assert "lisbon" in found.warnings[0]
    with pytest.raises(TextNotUnderstood):
        images.search("porto", by="both")


def test_a_model_that_is_not_there(images: Images):
    change(images.path, "update image_search_indexes set model = 'nobody/has-it'")
    assert sorted(ids(images, "castle")) == [BLUE, WHITE]
    with pytest.raises(EmbedderError):
        images.search("porto", by="both")
    assert ids(images, "porto", by="text") == []


@pytest.mark.parametrize("by", ["likeness", "both"])
def test_what_is_wrong_is_said_before_a_model_is_loaded(
    images: Images, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("datasette_image_search.search.query.text_encoder_of", load)
    with pytest.raises(FilterError, match="no such column: nope"):
        images.search("red", by=by, where="nope = 1")
    with pytest.raises(QueryError, match="there is no image #99"):
        images.search("red + #99", by=by)
    with pytest.raises(QueryError, match="there is no file"):
        images.search(QueryWithFiles(f"red + {tmp_path}/nope.jpg"), by=by)


def test_an_image_without_a_vector(images: Images):
    change(images.path, f"delete from _images_vectors where image_id = {BLUE}")
    hits = images.search("red + castle", 8, by="both")
    assert {hit.id: hit.score is None for hit in hits} == {id: id == BLUE for id in range(1, 9)}


def test_the_newest_of_too_many_and_under_a_filter_any(
    images: Images, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(text_search, "SCANNED", 2)
    assert ids(images, "jpg", by="text") == [WHITE, YELLOW]
    assert ids(images, "jpg", by="text", where="id < 3") == [BLACK, BLUE]
    assert ids(images, "jpg - castle", by="text", where="id < 3") == [BLACK]


def test_under_a_filter_both_are(images: Images):
    some = {"where": f"id in ({RED}, {WHITE}, {GREEN})"}
    assert ids(images, "green + castle", **some)[:2] in ([GREEN, WHITE], [WHITE, GREEN])
    assert ids(images, "lisbon", by="text", **some) == [RED]
    assert sorted(ids(images, "green + castle", **some)) == [GREEN, RED, WHITE]


def test_pages_show_each_image_once(images: Images, monkeypatch: pytest.MonkeyPatch):
    for depth in (1, 3, 5, 1000):
        monkeypatch.setattr(fusion, "DEPTH", depth)
        all_ids = ids(images, "red + castle + lisbon")
        pages = [
            ids(images, "red + castle + lisbon", 2, offset=offset) for offset in range(0, 10, 2)
        ]
        assert [id for page in pages for id in page] == all_ids
        assert sorted(all_ids) == list(range(1, 9))


def test_a_least_score_is_of_likeness(images: Images):
    (best, second, *_) = images.search("red", 8)
    assert ids(images, "red + castle", min_score=(best.score + second.score) / 2) == [best.id]
    with pytest.raises(TextNotUnderstood):
        images.search("castle", by="both", min_score=0.6)
    with pytest.raises(QueryError, match="no scores"):
        images.search("castle", by="text", min_score=0.5)


def test_without_texts_likeness_is_left(images: Images):
    change(images.path, "drop table _images_texts_fts")
    assert ids(images, "red", 1) == [RED]
    with pytest.raises(QueryError, match="run embed-images again"):
        images.search("castle", by="text")


def test_damaged_texts_leave_likeness(images: Images):
    change(images.path, "update _images_texts_fts_data set block = x'ff' where id > 10")
    (found,) = images.find(["red"], 1, by="both")
    assert found.hits[0].id == RED
    assert (
        "drop the table '_images_texts_fts', and the next embed-images makes it again"
        in found.warnings[0]
    )
    with pytest.raises(TextsDamaged):
        images.search("castle", by="text")


def test_no_words_no_texts(images: Images):
    assert ids(images, f"#{RED}", 1) == [RED]
    with pytest.raises(QueryError, match="has no words"):
        images.search(f"#{RED}", by="text")


def test_what_by_may_be(images: Images):
    with pytest.raises(Exception, match="likeness"):
        images.search("red", by="words")


def test_merging_by_reciprocal_rank():
    texts = [TextHit("d", 1), TextHit("b", 2), TextHit("x", 2)]
    assert merged(["a", "b", "c", "d"], texts) == ["b", "d", "a", "x", "c"]


def test_a_match_that_comes_late_changes_no_page_before(monkeypatch: pytest.MonkeyPatch):
    """A bounded search looks further for a deeper page, and may find one there."""
    monkeypatch.setattr(fusion, "DEPTH", 3)
    closest, alike = ["a", "b", "c", "d", "e", "f"], [True, True, False, False, True, False]
    longest = matches_first(merged(closest, [TextHit("x", 1)]), closest, alike, {"x"})
    assert longest == ["a", "x", "b", "c", "d", "e", "f"]
    for end in (3, 4, 5):
        known = closest[:end]
        page = matches_first(merged(known, [TextHit("x", 1)]), known, alike[:end], {"x"})
        assert page == longest[: end + 1]


def test_after_the_depth_likeness_goes_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fusion, "DEPTH", 2)
    assert merged(["a", "b", "c", "d", "e"], [TextHit("d", 1), TextHit("x", 2), TextHit("y", 3)]) == [
        "a", "d", "b", "x", "y", "c", "e",
    ]  # fmt: skip
