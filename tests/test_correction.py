"""The order of hits for words: the score, less what a picture has with any words."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sqlite_utils import Database

from datasette_image_search import Images, ImageSearchError
from datasette_image_search.embedders import reference_queries
from datasette_image_search.search import freshness
from datasette_image_search.search.correction import NEAREST, biases
from datasette_image_search.sql import register_functions
from datasette_image_search.store import find_index
from datasette_image_search.store.references import References, read_references

from .commands import change, command, embed_images, query
from .random_tables import random_vectors
from .serving import ask, datasette_of
from .vector_files import write_npy

MODEL = "tiny-test/anything"
PAGE = "/-/image-search/photos/images.json?_size=8&q="
WORDS = "a sunny beach"

ENCODE_TEXTS = "datasette_image_search.embedders.torch_embedder.TorchEmbedder.encode_texts"
"""By its name: imported here, torch would be loaded by all that collect this module."""


@pytest.fixture
def tiny(folder: Path, path: Path, weights: Path) -> Path:
    """A database of the eight pictures, by a CLIP of random weights."""
    embed_images(path, "images", folder, "--model", MODEL, "--weights", weights)
    return path


def references(database: Path) -> References | None:
    with closing(sqlite3.connect(database)) as conn:
        return read_references(conn, find_index(conn))


def expected(images: Images, query: str, words: float = 1) -> list[int]:
    """The ids in the order of the formula, by numpy."""
    found = references(images.path)
    assert found is not None
    query_vector = images.vector(query)
    by_id = dict(zip(range(1, 9), stored(images), strict=True))
    corrected = {
        id: vector @ query_vector
        - 0.5 * words * np.mean(np.sort(found.vectors @ vector)[-NEAREST:])
        for id, vector in by_id.items()
    }
    return sorted(corrected, key=lambda id: -corrected[id])


def stored(images: Images) -> list[np.ndarray]:
    return [images.vector(f"#{id}") for id in range(1, 9)]


def test_the_bias_is_the_mean_of_the_16_closest_reference_queries() -> None:
    vectors, texts = random_vectors(5, seed=1), random_vectors(40, seed=2)
    of_many = biases(References(texts), vectors)
    for vector, bias in zip(vectors, of_many, strict=True):
        assert bias == pytest.approx(np.mean(sorted(texts @ vector)[-16:]), abs=1e-6)
    of_few = biases(References(texts[:3]), vectors)
    assert of_few == pytest.approx((vectors @ texts[:3].T).mean(axis=1), abs=1e-6)


def test_reference_queries_come_with_the_package() -> None:
    queries = reference_queries.everyday_queries()
    assert 200 < len(queries) == len(set(queries))
    assert all(text == text.strip() and not text.startswith("#") for text in queries)


def test_embedding_reads_them_with_the_model_of_the_table(tiny: Path) -> None:
    found = references(tiny)
    assert found is not None
    queries = reference_queries.everyday_queries()
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1)
    with Images(tiny) as images:
        for at in (0, 70, -1):
            assert np.allclose(found.vectors[at], images.vector(queries[at]), atol=1e-5)


def test_words_are_ranked_by_the_corrected_score_and_pictures_by_the_score(tiny: Path) -> None:
    with Images(tiny) as images:
        for query in (WORDS, "a dog", "fog"):
            hits = images.search(query, 8)
            assert [hit.id for hit in hits] == expected(images, query)
            for hit in hits:
                assert hit.score == pytest.approx(images.similarity(hit.id, query), abs=1e-6)
        assert [hit.id for hit in images.search("#3", 8)] == expected(images, "#3", words=0)


def test_rows_of_a_statement_have_the_relevance_by_the_corrected_score(tiny: Path) -> None:
    with Images(tiny) as images, closing(sqlite3.connect(tiny)) as conn:
        register_functions(conn)
        for query in (WORDS, f"#3 + {WORDS}", "#3"):
            wanted = {hit.id: hit.relevance for hit in images.search(query, 8)}
            assert (
                dict(conn.execute("select id, image_relevance(id, ?) from images", [query]))
                == wanted
            )
            assert len(set(wanted.values())) > 3


def test_in_a_mixture_the_correction_has_the_weight_of_the_words(tiny: Path) -> None:
    with Images(tiny) as images:
        words, picture = images.vector(WORDS), images.vector("#3")
        total = 2 * picture - 0.5 * words
        weight = -0.5 / float(np.linalg.norm(total))
        assert images.ask(f"2:#3 - 0.5:{WORDS}").words == pytest.approx((weight,), rel=1e-4)
        found = [hit.id for hit in images.search(f"2:#3 - 0.5:{WORDS}", 8)]
        assert found == expected(images, f"2:#3 - 0.5:{WORDS}", weight)


def test_the_order_by_the_score_alone_is_still_there(tiny: Path) -> None:
    with Images(tiny) as images:
        hits = images.search(WORDS, 8, rank="cosine")
        assert [hit.id for hit in hits] == expected(images, WORDS, words=0)
        assert [hit.id for hit in hits] != expected(images, WORDS)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        # So is the relevance, so that the matches come first, however deep a page is.
        relevances = [hit.relevance for hit in hits]
        assert None not in relevances
        assert relevances == sorted(relevances, reverse=True)
        with pytest.raises(ImageSearchError, match="rank is 'best'; it must be one of"):
            images.search(WORDS, rank="best")


async def orders(database: Path, **options) -> list[list[int]]:
    """The ids as command, SQL functions, page and table page have them."""
    rank = ["--rank", options["rank"]] if "rank" in options else []
    rows = command("search-images", database, "images", WORDS, "-k", 8, "--json", *rank).stdout
    by_command = [row["id"] for row in json.loads(rows)]
    with closing(sqlite3.connect(database)) as conn:
        register_functions(conn)
        sql = "select image_search(?, 8), image_search_agg(id, ?, 8) from images"
        by_sql = [
            [hit["id"] for hit in json.loads(hits)]
            for hits in conn.execute(sql, [WORDS, WORDS]).fetchone()
        ]
    asked = f"&_rank={options['rank']}" if "rank" in options else ""
    datasette = datasette_of(database, plugin=options.get("plugin"))
    page = (await ask(datasette, PAGE + WORDS.replace(" ", "+") + asked)).json()
    by_page = [hit["id"] for hit in page["hits"]]
    return [by_command, *by_sql, by_page]


@pytest.mark.asyncio
@pytest.mark.datasette
async def test_all_ways_to_search_have_one_order(
    tiny: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = {"weights": {MODEL: str(weights)}}
    with Images(tiny) as images:
        corrected, plain = expected(images, WORDS), expected(images, WORDS, words=0)
    assert await orders(tiny, plugin=plugin) == [corrected] * 4
    by_command, _, _, by_page = await orders(tiny, plugin=plugin, rank="cosine")
    assert (by_command, by_page) == (plain, plain)
    *_, by_page = await orders(tiny, plugin={**plugin, "rank": "cosine"})
    assert by_page == plain


@pytest.mark.asyncio
@pytest.mark.datasette
async def test_an_order_that_there_is_not_is_refused(database: Path) -> None:
    response = await ask(datasette_of(database), f"{PAGE}red&_rank=best")
    assert response.status_code == 400
    assert response.json()["error"] == "_rank must be corrected or cosine"


def test_a_model_without_hubs_has_the_score_alone(database: Path) -> None:
    """That is remembered, so that no later run loads a model to find out."""
    with closing(sqlite3.connect(database)) as conn:
        assert find_index(conn).references_token == ""
        assert read_references(conn, find_index(conn)) is None
    with Images(database) as images:
        hits = images.search("red", 8)
        assert [hit.corrected for hit in hits] == [hit.score for hit in hits]


# --- Reference queries of one's own ----------------------------------------------------------------


def test_own_reference_queries_take_the_place_of_the_others(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "searches.txt"
    lines = [f"search number {number}" for number in range(30)]
    file.write_text("\n".join([*lines, "", lines[0]]))
    with Images(tiny) as images:
        before = expected(images, WORDS)
    result = command("index-images", tiny, "images", "--reference-queries", file)
    assert result.exit_code == 0, result.output
    found = references(tiny)
    assert found is not None
    assert len(list(Database(tiny)["image_search_references"].rows)) == 1
    # Whoever gets the database gets none of the searches.
    assert all(b"search number" not in file.read_bytes() for file in tiny.parent.glob("*.db*"))
    with Images(tiny) as images:
        assert np.allclose(found.vectors, [images.vector(line) for line in lines], atol=1e-5)
        assert [hit.id for hit in images.search(WORDS, 8)] == expected(images, WORDS) != before


def test_another_model_drops_them_and_says_so_if_they_are_ones_own(
    tiny: Path, folder: Path, tmp_path: Path
) -> None:
    other = ["embed-images", tiny, "images", folder, "--model", "palette", "--replace-model"]
    dropped = "reference queries read with"
    (tmp_path / "searches.txt").write_text("\n".join(f"search number {at}" for at in range(30)))
    assert dropped not in command(*other, "--dry-run").output
    command("index-images", tiny, "images", "--reference-queries", tmp_path / "searches.txt")
    told = command(*other).stderr
    assert told.count(dropped) == 1
    assert (
        f"30 reference queries read with {MODEL} will be dropped with its index; if they are your own, "
        "run index-images with --reference-queries again afterwards"
    ) in told
    assert references(tiny) is None


def test_imported_vectors_of_another_model_drop_them_and_tags_and_say_so(
    tiny: Path, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "searches.txt").write_text("\n".join(f"search number {at}" for at in range(30)))
    command("index-images", tiny, "images", "--reference-queries", tmp_path / "searches.txt")
    command("tag-images", tiny, "images", "cat", "dog")
    names = [name for (name,) in query(tiny, "select path from images order by id")]
    source, paths = write_npy(tmp_path, names, random_vectors(8))
    run = ["import-image-vectors", tiny, "images", source, "--paths", paths, "--root", folder]
    result = command(*run, "--model", "another/model", "--replace-model")
    assert result.exit_code == 0, result.output
    assert (
        f"Warning: 8 tags made with {MODEL} went with its index; run tag-images with your labels again\n"
        f"Warning: 30 reference queries read with {MODEL} went with its index; if they are your own, run "
        "index-images with --reference-queries again\n"
    ) in result.stderr
    assert "went" not in command(*run, "--model", "another/model", "--replace-model").stderr


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "only\nthree\nlines",
            "there are 3 different reference queries; write 16 to 10,000 of them",
        ),
        ("x" * 2000 + "\n" + "\n".join(map(str, range(30))), "has 2,000 letters; at most 1,000"),
    ],
)
def test_reference_queries_that_are_no_use_are_refused(
    tiny: Path, tmp_path: Path, text: str, sentence: str
) -> None:
    file = tmp_path / "searches.txt"
    file.write_text(text)
    before = references(tiny)
    result = command("index-images", tiny, "images", "--reference-queries", file)
    assert result.exit_code == 1
    assert sentence in result.output
    after = references(tiny)
    assert before is not None
    assert after is not None
    assert after.token == before.token


def test_a_model_that_reads_no_words_has_no_use_for_reference_queries(
    database: Path, tmp_path: Path
) -> None:
    file = tmp_path / "searches.txt"
    file.write_text("\n".join(map(str, range(30))))
    result = command("index-images", database, "images", "--reference-queries", file)
    assert result.exit_code == 1
    assert "palette has no use for reference queries" in result.output


@pytest.mark.parametrize(
    "spoil",
    [
        "update image_search_references set vectors = x'00'",
        "update image_search_references set vectors = zeroblob(length(vectors))",
        "update image_search_references set vectors = 'a text'",
        "update image_search_references set vectors = zeroblob(0)",
        "update image_search_references set index_id = 7",
        "alter table image_search_references rename to another; "
        "create view image_search_references as select * from another",
        "alter table image_search_references add column computed as (1 / 0)",
        "delete from image_search_references",
        "drop table image_search_references",
    ],
)
def test_reference_queries_that_somebody_spoiled_are_left_aside(tiny: Path, spoil: str) -> None:
    with closing(sqlite3.connect(tiny)) as conn:
        conn.executescript(spoil)
        conn.commit()
    assert references(tiny) is None
    with Images(tiny) as images:
        query = images.vector(WORDS)
        scores = [vector @ query for vector in stored(images)]
        hits = images.search(WORDS, 8)
        assert [hit.score for hit in hits] == pytest.approx(sorted(scores, reverse=True), abs=1e-6)


def test_lost_reference_queries_come_back_with_the_next_run(
    tiny: Path, folder: Path, weights: Path
) -> None:
    before = references(tiny)
    with closing(sqlite3.connect(tiny)) as conn, conn:
        conn.execute("delete from image_search_references")
    embed_images(tiny, "images", folder, "--model", MODEL, "--weights", weights)
    after = references(tiny)
    assert before is not None
    assert after is not None
    assert after.token == before.token


def test_a_search_that_was_open_without_them_notices_that_they_are_back(
    tiny: Path, folder: Path, weights: Path
) -> None:
    """As a server does. Also for vectors that came in between, whose codes had no bias."""
    with Images(tiny) as images:
        wanted = images.search(WORDS, 8)
    change(tiny, "delete from image_search_references")
    freshness._open.clear()
    with Images(tiny) as images:
        assert images.search(WORDS, 8) != wanted
        assert images.status()["problem"] == (
            "the reference queries are lost, so words are ranked by the score alone; run sqlite-utils "
            f"index-images where {MODEL} is installed"
        )
        (row,) = query(
            tiny, "select index_id, image_id, vector, sha256 from _images_vectors limit 1"
        )
        change(tiny, f"delete from _images_vectors where image_id = {row[1]}")
        with closing(sqlite3.connect(tiny)) as conn, conn:
            columns = "index_id, image_id, vector, sha256"
            conn.execute(f"insert into _images_vectors ({columns}) values (?, ?, ?, ?)", row)
        assert [hit.corrected for hit in images.search(WORDS, 8)] != [h.corrected for h in wanted]
        embed_images(tiny, "images", folder, "--model", MODEL, "--weights", weights)
        assert images.search(WORDS, 8) == wanted
        assert images.status()["problem"] is None


def test_a_search_notices_other_reference_queries(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "searches.txt").write_text("\n".join(f"search number {at}" for at in range(30)))
    with Images(tiny) as images:
        before = images.search(WORDS, 8)
        command("index-images", tiny, "images", "--reference-queries", tmp_path / "searches.txt")
        after = images.search(WORDS, 8)
        assert [hit.id for hit in after] == expected(images, WORDS)
        assert [hit.corrected for hit in after] != [hit.corrected for hit in before]


def test_a_run_that_finds_them_reads_no_words(
    tiny: Path, folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(ENCODE_TEXTS, lambda self, texts: read.extend(texts))
    embed_images(tiny, "images", folder, "--model", MODEL, "--weights", weights)
    assert read == []


@pytest.mark.parametrize("made", [np.full((64, 32), np.nan), np.zeros((64, 32)), np.ones((64, 5))])
def test_a_model_that_makes_no_vectors_of_words_leaves_the_score_alone(
    path: Path, folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, made: np.ndarray
) -> None:
    monkeypatch.setattr(ENCODE_TEXTS, lambda self, texts: made[: len(texts)])
    embed_images(path, "images", folder, "--model", MODEL, "--weights", weights)
    assert references(path) is None


def test_they_may_go_while_the_index_is_open(tiny: Path) -> None:
    with Images(tiny) as images, closing(sqlite3.connect(tiny)) as other, other:
        before = images.search(WORDS, 8)
        other.execute("delete from image_search_references")
        # Vectors that come after that are encoded like the others.
        other.execute(
            "insert into _images_vectors (index_id, image_id, vector, sha256) "
            "select index_id, image_id + 100, vector, sha256 from _images_vectors"
        )
        other.commit()
        assert [hit.id for hit in images.search(WORDS, 8)] == [hit.id for hit in before]


def test_pages_over_copies_repeat_and_lose_none(tiny: Path) -> None:
    """Copies tie, wherever they are among the candidates that a page computes the scores of."""
    with closing(sqlite3.connect(tiny)) as conn, conn:
        columns = "root_id, folder, filename, sha256"
        for copy in range(30):
            conn.execute(
                f"insert into images (id, path, {columns}) "
                f"select id + 100 * ?, path || ?, {columns} from images where id < 9",
                [copy + 1, copy],
            )
            conn.execute(
                "insert into _images_vectors (index_id, image_id, vector, sha256) "
                "select index_id, image_id + 100 * ?, vector, sha256 from _images_vectors "
                "where image_id < 9",
                [copy + 1],
            )
    with Images(tiny) as images:
        whole = [hit.id for hit in images.search(WORDS, 248)]
        pages = [images.search(WORDS, 7, offset=offset) for offset in range(0, 248, 7)]
        assert [hit.id for page in pages for hit in page] == whole
        assert sorted(whole) == sorted({*whole})
        corrected = [hit.corrected for hit in images.search(WORDS, 248)]
        assert len(set(corrected)) == 8


def test_an_index_that_cannot_be_made_leaves_the_reference_queries(
    tiny: Path, tmp_path: Path
) -> None:
    file = tmp_path / "searches.txt"
    file.write_text("\n".join(map(str, range(30))))
    before = tiny.read_bytes()
    result = command(
        "index-images", tiny, "images", "--reference-queries", file, "--type", "IVF5000,Flat"
    )
    assert result.exit_code == 1
    assert tiny.read_bytes() == before


def test_other_reference_queries_keep_the_type_and_its_target(tiny: Path) -> None:
    texts = [f"text {number}" for number in range(20)]
    with Images(tiny) as images:
        images.index("HNSW16", target=0.5)
        made = images.index(reference_queries=texts).approximate
        assert made is not None
        assert (made.tuning.factory, made.tuning.target) == ("HNSW16", 0.5)


def test_an_index_is_tuned_for_queries_of_ones_own_as_words_and_as_pictures(tiny: Path) -> None:
    with Images(tiny) as images:
        own = np.stack([images.vector(WORDS), images.vector("#3")])
        made = images.index("HNSW16", queries=own).approximate
        assert made is not None
        assert made.tuning.queries == 4


@pytest.mark.asyncio
@pytest.mark.datasette
async def test_the_table_page_takes_the_order_too(tiny: Path, weights: Path) -> None:
    datasette = datasette_of(tiny, plugin={"weights": {MODEL: str(weights)}})
    with Images(tiny) as images:
        corrected, plain = expected(images, WORDS)[:2], expected(images, WORDS, words=0)[:2]
    page = f"/photos/images.json?_image_search={WORDS.replace(' ', '+')}&_image_search_k=2&_shape=array"
    for asked, ids in (("", corrected), ("&_rank=cosine", plain)):
        rows = (await ask(datasette, page + asked)).json()
        assert {row["id"] for row in rows} == set(ids)
    assert (await ask(datasette, f"{page}&_rank=best")).status_code == 400


def test_a_similarity_is_the_same_number_for_one_row_and_for_all(tiny: Path) -> None:
    """Codes have their biases besides, and rows of one statement are ordered by what they get."""
    with closing(sqlite3.connect(tiny)) as conn:
        register_functions(conn)
        sql = "select image_similarity(id, ?) from images where id = ?"
        alone = [conn.execute(sql, [WORDS, id]).fetchone()[0] for id in range(1, 9)]
        sql = "select image_similarity(images.id, ?) from images, json_each(?) order by images.id"
        rows = conn.execute(sql, [WORDS, json.dumps([0] * 500)]).fetchall()
    assert {score for (score,) in rows} == set(alone)
