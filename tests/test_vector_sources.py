"""What other programs leave behind is read as they meant it, or refused with a sentence."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from datasette_image_search.files.vector_files import VectorSourceError
from datasette_image_search.ingest import vector_sources
from datasette_image_search.ingest.vector_sources import VectorSource, open_source, unit_blocks

from .conftest import draw_picture
from .vector_files import unit, write_clip_retrieval, write_llm, write_npy, write_rclip

NAMES = ["a.jpg", "b/c.jpg", "b/ü d.jpg"]


def read(path: Path, **options) -> tuple[list[str], np.ndarray]:
    with open_source(path, **options) as source:
        return list(source.paths), np.concatenate(list(unit_blocks(source)))


def refusal(path: Path, **options) -> str:
    with pytest.raises(VectorSourceError) as refused:
        read(path, **options)
    return str(refused.value)


def source_of(vectors: np.ndarray) -> VectorSource:
    paths = [f"{number}.jpg" for number in range(len(vectors))]
    return VectorSource("some", paths, vectors.shape[1], lambda: iter([vectors]))


# --- Every source --------------------------------------------------------------------------------


def test_vectors_are_unit_however_long_they_were(tmp_path: Path):
    vectors = unit(3) * np.array([[1e-30], [1.0], [1e30]])
    path, paths = write_npy(tmp_path, NAMES, vectors)
    assert np.allclose(read(path, paths=paths)[1], unit(3), atol=1e-6)


def test_what_a_model_made_unit_in_float32_stays_as_it_is_bit_for_bit():
    vectors = unit(50, 512) * np.float32(3)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert vectors.dtype == np.float32
    (block,) = unit_blocks(source_of(vectors))
    assert block.tobytes() == vectors.tobytes()


@given(arrays(np.float32, (5, 4), elements=st.floats(width=32)))
def test_whatever_the_numbers_a_vector_is_unit_or_refused(vectors: np.ndarray):
    sound = np.isfinite(vectors).all() and (vectors != 0).any(axis=1).all()
    try:
        (block,) = unit_blocks(source_of(vectors))
    except VectorSourceError:
        assert not sound
    else:
        assert sound
        assert np.allclose(np.linalg.norm(block, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("number", "what"),
    [(np.nan, "holds NaN or infinity"), (-np.inf, "holds NaN or infinity"), (0, "is all zeros")],
)
@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_a_vector_without_direction_is_named(tmp_path: Path, number: float, what: str, kind: str):
    vectors = unit(3).astype(kind)
    vectors[1] = number
    path, paths = write_npy(tmp_path, NAMES, vectors)
    said = refusal(path, paths=paths)
    assert said.startswith("the vector of 'b/c.jpg' (number 2 of vectors.npy) " + what)


def test_a_wrong_vector_is_counted_over_all_blocks(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(vector_sources, "BLOCK", 2)
    vectors = unit(5)
    vectors[4] = 0
    path, paths = write_npy(tmp_path, [f"{number}.jpg" for number in range(5)], vectors)
    assert "'4.jpg' (number 5 of vectors.npy)" in refusal(path, paths=paths)


@pytest.mark.parametrize("content", [b"", b"not vectors", b"SQLite format 3\0"], ids=repr)
def test_what_is_no_source_says_what_would_be(tmp_path: Path, content: bytes):
    (tmp_path / "some").write_bytes(content)
    assert str(tmp_path / "some") in refusal(tmp_path / "some")
    assert "no folder 'img_emb'" in refusal(tmp_path)
    assert "there is no file" in refusal(tmp_path / "missing")


def test_a_database_of_somebody_else_is_no_source(tmp_path: Path):
    with closing(sqlite3.connect(tmp_path / "some.db")) as conn:
        conn.execute("create table images (id integer primary key, path text)")
    assert "neither a .npy file nor a database of rclip or llm" in refusal(tmp_path / "some.db")


def test_options_of_another_source_are_refused(tmp_path: Path):
    path, paths = write_npy(tmp_path, NAMES, unit(3))
    assert "leave --collection out" in refusal(path, paths=paths, collection="photos")
    rclip = write_rclip(tmp_path / "db.sqlite3", {Path("/a.jpg"): unit(1)[0]})
    assert "leave --paths out" in refusal(rclip, paths=paths)


# --- numpy ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_any_float(tmp_path: Path, kind: str, order: str):
    path, paths = write_npy(tmp_path, NAMES, np.array(unit(3), dtype=kind, order=order))
    names, vectors = read(path, paths=paths)
    assert names == NAMES
    assert vectors.dtype == "<f4"
    assert np.allclose(vectors, unit(3), atol=1e-3)


def test_npy_is_mapped_not_read(tmp_path: Path):
    path, paths = write_npy(tmp_path, NAMES, unit(3))
    with open_source(path, paths=paths) as source:
        (block,) = source.blocks()
        assert isinstance(block, np.memmap)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a\nb\nc", ["a", "b", "c"]),
        ("a\r\nb\r\nc\r\n", ["a", "b", "c"]),
        ("\ufeffa\nb\nc\n", ["a", "b", "c"]),
        ("a\x0b\nb\u2028\n c \n", ["a\x0b", "b\u2028", " c "]),
    ],
    ids=repr,
)
def test_paths_are_lines(tmp_path: Path, text: str, names: list[str]):
    path, paths = write_npy(tmp_path, [], unit(3))
    paths.write_bytes(text.encode())
    assert read(path, paths=paths)[0] == names


def test_as_many_paths_as_vectors(tmp_path: Path):
    path, paths = write_npy(tmp_path, NAMES[:2], unit(3))
    assert refusal(path, paths=paths).endswith(f"has 3 vectors, and {str(paths)!r} 2 paths")
    assert "name a text file" in refusal(path)
    assert "there is no file" in refusal(path, paths=tmp_path / "missing")
    paths.write_bytes(b"\xff\xfe\n")
    assert "is not UTF-8 text" in refusal(path, paths=paths)


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (np.ones((3, 4), dtype=int), "holds int64"),
        (np.ones(3), r"has the shape (3,)"),
        (np.ones((3, 0)), r"has the shape (3, 0)"),
        (np.array([{}], dtype=object), "is damaged, or contains no numbers"),
    ],
    ids=["integers", "numbers", "empty", "objects"],
)
def test_npy_of_something_else(tmp_path: Path, array: np.ndarray, what: str):
    path, paths = write_npy(tmp_path, NAMES, unit(3))
    np.save(path, array, allow_pickle=True)
    assert what in refusal(path, paths=paths)


def test_npy_that_was_cut_short(tmp_path: Path):
    path, paths = write_npy(tmp_path, NAMES, unit(3))
    path.write_bytes(path.read_bytes()[:-8])
    assert "is damaged" in refusal(path, paths=paths)


# --- clip-retrieval ------------------------------------------------------------------------------


def test_clip_retrieval_parts_are_in_the_order_of_their_numbers(tmp_path: Path):
    pytest.importorskip("pyarrow")
    parts = [([f"{number}.jpg"], unit(1, seed=number)) for number in range(12)]
    names, vectors = read(write_clip_retrieval(tmp_path, parts))
    assert names == [f"{number}.jpg" for number in range(12)]
    assert np.allclose(vectors, np.concatenate([part for _, part in parts]), atol=1e-3)


def test_clip_retrieval_that_is_not_whole(tmp_path: Path):
    pytest.importorskip("pyarrow")
    folder = write_clip_retrieval(tmp_path, [(["a"], unit(1)), (["b"], unit(1)), (["c"], unit(2))])
    assert "img_emb_2.npy has 2 vectors, and metadata_2.parquet 1 paths" in refusal(folder)
    np.save(folder / "img_emb" / "img_emb_1.npy", unit(1, 32))
    assert "img_emb_1.npy have 32 dimensions, those before them 16" in refusal(folder)
    (folder / "metadata" / "metadata_1.parquet").unlink()
    assert "has only one of img_emb_1.npy and metadata_1.parquet" in refusal(folder)
    (folder / "metadata" / "metadata_0.parquet").write_bytes(b"PAR1")
    (folder / "metadata" / "metadata_1.parquet").write_bytes(b"PAR1")
    assert "is damaged, or not parquet" in refusal(folder)


def test_clip_retrieval_of_captions_only(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = write_clip_retrieval(tmp_path, [(["a"], unit(1))])
    table = pyarrow.table({"caption": ["a"]})
    parquet.write_table(table, folder / "metadata" / "metadata_0.parquet")
    assert "has no column 'image_path'" in refusal(folder)


# --- rclip ---------------------------------------------------------------------------------------


def test_rclip_knows_its_model_and_what_the_files_were_like(tmp_path: Path):
    photo = draw_picture(tmp_path / "red.jpg", "red")
    gone = tmp_path / "gone.jpg"
    path = write_rclip(tmp_path / "db.sqlite3", dict(zip([photo, gone], unit(2), strict=True)))
    with open_source(path) as source:
        assert source.paths == [str(photo), str(gone)]
        assert source.model == "ViT-B-32-256/datacomp_s34b_b86k"
        assert source.states[0].size == photo.stat().st_size
        assert source.states[1].mtime == "2001-09-09T01:46:40+00:00"


@pytest.mark.parametrize("version", [None, 2])
def test_rclip_had_another_model_once(tmp_path: Path, version: int | None):
    path = write_rclip(tmp_path / "db.sqlite3", {Path("/a.jpg"): unit(1)[0]}, version)
    with open_source(path) as source:
        assert source.model == "ViT-B-32-quickgelu/openai"


def test_an_rclip_time_beyond_all_numbers_is_none(tmp_path: Path):
    path = write_rclip(tmp_path / "db.sqlite3", {Path("/a.jpg"): unit(1)[0]})
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("update images set modified_at = 1e305")
    with open_source(path) as source:
        assert source.states[0].mtime == ""


def test_rclip_rows_of_deleted_files_are_left_out(tmp_path: Path):
    vectors = {Path("/a.jpg"): unit(2)[0], Path("/b.jpg"): unit(2)[1]}
    path = write_rclip(tmp_path / "db.sqlite3", vectors)
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("update images set deleted = 1 where filepath = '/a.jpg'")
    assert read(path)[0] == ["/b.jpg"]


# --- llm -----------------------------------------------------------------------------------------


def test_llm_collection(tmp_path: Path):
    photos = dict(zip(NAMES, unit(3), strict=True))
    path = write_llm(tmp_path / "llm.db", {"photos": photos, "notes": {"x": unit(1, 8)[0]}})
    names, vectors = read(path, collection="photos")
    assert dict(zip(names, vectors.tolist(), strict=True)) == {
        name: pytest.approx(vector.tolist()) for name, vector in photos.items()
    }
    assert "--collection: 'notes', 'photos'" in refusal(path)
    assert "has no collection 'cats'; it has 'notes', 'photos'" in refusal(path, collection="cats")


def test_the_only_llm_collection_needs_no_name(tmp_path: Path):
    path = write_llm(tmp_path / "llm.db", {"photos": {"a.jpg": unit(1)[0]}})
    assert read(path)[0] == ["a.jpg"]
    with open_source(path) as source:
        assert source.model == "ViT-B-32-quickgelu/openai"


def test_a_model_of_llm_that_is_not_known_here_has_to_be_named(tmp_path: Path):
    path = write_llm(tmp_path / "llm.db", {"photos": {"a.jpg": unit(1)[0]}}, model="3-small")
    with open_source(path) as source:
        assert source.model is None


@pytest.mark.parametrize("vector", [unit(1, 15)[0], unit(1)[0].astype("f8"), np.zeros(0, "f4")])
def test_vectors_of_several_lengths_are_named(tmp_path: Path, vector: np.ndarray):
    vectors = {"a.jpg": unit(1)[0], "b.jpg": vector}
    path = write_llm(tmp_path / "llm.db", {"photos": vectors})
    assert "the vector of 'b.jpg' has" in refusal(path)


def test_a_database_without_vectors(tmp_path: Path):
    assert "there are no vectors" in refusal(write_rclip(tmp_path / "db.sqlite3", {}))
