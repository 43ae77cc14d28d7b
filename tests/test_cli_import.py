"""`sqlite-utils import-image-vectors` as people run it, stop it, and run it again."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from datasette.app import Datasette

from datasette_image_search.embedders.palette import PaletteEmbedder
from datasette_image_search.search.query import vector_to_term

from .commands import command, embed_images, query, vectors_of
from .conftest import SHARED, query_json, sidecar_of
from .faults.forked import Forker
from .tiny_clip import ARCHITECTURE, make_tiny_clip
from .vector_files import unit, write_clip_retrieval, write_llm, write_npy, write_rclip

CLIP = "ViT-B-32/openai"
MANY, FEW = 40_000, 100
TINY = f"{ARCHITECTURE}/anything"


def bring(*arguments: object):
    """`import-image-vectors` that has to succeed."""
    result = command("import-image-vectors", *arguments)
    assert result.exit_code == 0, result.output
    return result


def first_words(result) -> str:
    """What a run says at the end, less the time."""
    return result.stdout.partition(" in ")[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a new database goes, with nothing beside it."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home" / "photos.db"


def test_a_new_table_is_searched_at_once(path: Path, tmp_path: Path):
    names = [f"{number:03}.jpg" for number in range(50)]
    source, paths = write_npy(tmp_path, names, unit(50, 512))
    run = (path, "images", source, "--paths", paths, "--root", "/photos", "--model", CLIP)
    result = bring(*run)
    assert first_words(result) == "50 vectors imported, 50 rows added, 50 files missing"
    unproven, _ = result.stderr.splitlines()
    assert unproven == (
        f"Warning: could not check that {CLIP} made these vectors: its weights are not on this machine"
    )
    assert sidecar_of(path).exists()
    assert first_words(bring(*run)) == "0 vectors imported, 50 unchanged"
    for term in ("#8", vector_to_term(unit(50, 512)[7])):
        found = command("search-images", path, "images", term, "-k", 1, "--json")
        (hit,) = json.loads(found.stdout)
        assert (hit["id"], hit["path"]) == (8, "007.jpg")
        assert hit["score"] == pytest.approx(1, abs=1e-3)
    found = command("search-images", path, "images", "a red car")
    assert found.exit_code == 1
    assert f"the weights of {CLIP} are not in the cache" in found.output


def test_a_model_that_nobody_knows_is_a_name_with_a_hint(path: Path, tmp_path: Path):
    source, paths = write_npy(tmp_path, ["a.jpg", "b.jpg"], unit(2, 512))
    run = (
        path,
        "images",
        source,
        "--paths",
        paths,
        "--root",
        tmp_path,
        "--model",
        "ViT-B32/openai",
    )
    assert bring(*run).stderr.startswith(
        "Warning: could not check that ViT-B32/openai made these vectors: no installed model has "
        "this name (did you mean 'ViT-B-32/openai'?), so you can search by #ID but not by words\n"
    )
    assert command("search-images", path, "images", "#2", "--paths").exit_code == 0
    renamed = bring(*run[:-1], CLIP, "--replace-model")
    assert first_words(renamed) == "2 vectors imported"


@pytest.mark.parametrize("exists", [True, False])
def test_a_wrong_root_is_warned_of_and_can_be_put_right(
    path: Path, tmp_path: Path, folder: Path, database: Path, exists: bool
):
    wrong = tmp_path / "it's wrong"
    if exists:
        wrong.mkdir()
    vectors = vectors_of(database)
    source, paths = write_npy(
        tmp_path, list(vectors), np.stack([np.frombuffer(each, "<f4") for each in vectors.values()])
    )
    run = (path, "images", source, "--paths", paths, "--model", "palette", "--root")
    result = bring(*run, wrong)
    assert first_words(result) == "8 vectors imported, 8 rows added, 8 files missing"
    warning = result.stderr.splitlines()[-1]
    assert warning.startswith(
        f"Warning: none of the new files exists, such as {str(wrong / next(iter(vectors)))!r}; unless their "
    )
    _, *line = shlex.split(warning.partition("correct it with: ")[2])
    assert command(*(part.replace("/ABSOLUTE/PATH", str(folder)) for part in line)).exit_code == 0
    assert query(path, "select path from image_search_roots") == [(str(folder),)]
    assert "8 unchanged" in bring(*run, folder).stdout


def test_some_files_that_are_not_there_are_only_counted(path: Path, tmp_path: Path, folder: Path):
    source, paths = write_npy(tmp_path, ["red.jpg", "gone.jpg"], unit(2, 512))
    result = bring(path, "images", source, "--paths", paths, "--root", folder, "--model", "a/b")
    assert "1 files missing" in result.stdout
    assert "such as" not in result.stderr


def test_a_root_that_is_a_file_is_refused(path: Path, tmp_path: Path):
    source, paths = write_npy(tmp_path, ["a.jpg"], unit(1))
    run = (path, "images", source, "--paths", paths, "--root", paths, "--model", "a/b")
    result = command("import-image-vectors", *run)
    assert result.exit_code == 2
    assert f"'{paths}' is a file." in result.stderr
    assert not path.exists()


def test_words_work_where_the_model_is(path: Path, tmp_path: Path, folder: Path):
    weights = make_tiny_clip(tmp_path / "tiny")
    embed_images(tmp_path / "made.db", "images", folder, "--model", TINY, "--weights", weights)
    vectors = vectors_of(tmp_path / "made.db")
    llm = write_llm(
        tmp_path / "llm.db",
        {"photos": {name: np.frombuffer(blob, "<f4") for name, blob in vectors.items()}},
    )
    run = (path, "images", llm, "--root", folder, "--model", TINY, "--weights", weights)
    result = bring(*run)
    assert result.stderr == ""
    assert first_words(result) == "8 vectors imported, 8 rows added"
    imported, made = (
        json.loads(command("search-images", database, "images", "a red car", "--json").stdout)
        for database in (path, tmp_path / "made.db")
    )
    assert len(imported) == 8
    scores = {hit["path"]: hit["score"] for hit in made}
    assert {hit["path"]: hit["score"] for hit in imported} == pytest.approx(scores, abs=1e-3)
    embedded = embed_images(path, "images", folder)
    assert first_words(embedded) == "0 embedded, 8 unchanged, 0 failed"


def test_a_model_of_other_dimensions_has_no_words_for_them(path: Path, tmp_path: Path):
    source, paths = write_npy(tmp_path, ["a.jpg"], unit(1, 32))
    run = (path, "images", source, "--paths", paths, "--root", tmp_path, "--model", TINY)
    bring(*run)
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("update image_search_indexes set model = 'palette'")
    found = command("search-images", path, "images", "red")
    assert found.exit_code == 1
    assert "dimensions, but they have 32" in found.output


def test_every_source(path: Path, tmp_path: Path):
    pytest.importorskip("pyarrow")
    names = [str(tmp_path / "photos" / name) for name in ("a.jpg", "b/c.jpg")]
    vectors = unit(2, 512)
    by_path = dict(zip(map(Path, names), vectors, strict=True))
    rclip = write_rclip(tmp_path / "db.sqlite3", by_path)
    folder = write_clip_retrieval(
        tmp_path / "cr", [(names[:1], vectors[:1]), (names[1:], vectors[1:])]
    )
    llm = write_llm(
        tmp_path / "llm.db",
        {"notes": {}, "photos": dict(zip(names, vectors, strict=True))},
    )
    bring(path, "rclip", rclip)
    bring(path, "cr", folder, "--model", CLIP)
    bring(path, "llm", llm, "--collection", "photos")
    expected = dict(zip(("a.jpg", "b/c.jpg"), vectors.tolist(), strict=True))
    for table in ("rclip", "cr", "llm"):
        found = {
            name: np.frombuffer(blob, "<f4").tolist()
            for name, blob in vectors_of(path, table).items()
        }
        assert found.keys() == expected.keys()
        for name, vector in found.items():
            assert vector == pytest.approx(expected[name], abs=1e-3)


def test_what_the_system_refuses_is_one_sentence_that_names_the_file(path: Path, tmp_path: Path):
    """Whichever file that is: here a folder that cannot be removed as a file can."""
    source, paths = write_npy(tmp_path, ["a.jpg"], unit(1, 512))
    in_the_way = path.with_name("photos.db-image-search.new-wal")
    in_the_way.mkdir()
    run = (path, "images", source, "--paths", paths, "--root", "/photos", "--model", CLIP)
    result = command("import-image-vectors", *run)
    assert result.exit_code == 1
    (sentence,) = result.output.splitlines()
    assert sentence.startswith(f"Error: {str(in_the_way)!r}: ")
    assert not path.exists()


def test_what_is_wrong_is_one_sentence(path: Path, tmp_path: Path):
    vectors = unit(3, 512)
    vectors[1] = np.nan
    source, paths = write_npy(tmp_path, ["a.jpg", "b.jpg", "c.jpg"], vectors)
    result = command(
        "import-image-vectors",
        path,
        "images",
        source,
        "--paths",
        paths,
        "--root",
        "/",
        "--model",
        CLIP,
    )
    assert result.exit_code == 1
    assert result.output == (
        "Error: the vector of 'b.jpg' (number 2 of vectors.npy) holds NaN or infinity; nothing was "
        "imported\n"
    )
    assert not path.exists()


def test_skipped_paths_are_counted(path: Path, tmp_path: Path):
    source, paths = write_npy(tmp_path, ["a.jpg"], unit(1, 512))
    run = (path, "images", source, "--paths", paths, "--root", tmp_path, "--model", CLIP)
    bring(*run)
    write_npy(tmp_path, ["a.jpg", "b.jpg"], unit(2, 512))
    assert first_words(bring(*run, "--unknown", "skip")) == (
        "0 vectors imported, 1 unchanged, 1 skipped"
    )


def test_a_wal_is_left_empty(path: Path, tmp_path: Path):
    source, paths = write_npy(tmp_path, ["a.jpg"], unit(1, 512))
    bring(path, "images", source, "--paths", paths, "--root", tmp_path, "--model", CLIP, "--wal")
    assert query(path, "pragma journal_mode") == [("wal",)]
    assert not Path(f"{path}-wal").exists()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """So many vectors of palette's dimensions that SQLite writes some before they are committed."""
    names = [f"{number // 100}/{number}.jpg" for number in range(MANY)]
    vectors = unit(MANY, PaletteEmbedder().dimensions)
    return write_npy(tmp_path_factory.mktemp("many"), names, vectors)


@pytest.mark.parametrize(
    ("number", "wal"),
    [(signal.SIGKILL, False), (signal.SIGKILL, True), (signal.SIGINT, False)],
    ids=["kill", "kill with wal", "ctrl-c"],
)
def test_stopped_in_the_middle_nothing_is_half_done(
    path: Path,
    tmp_path: Path,
    database: Path,
    many: tuple[Path, Path],
    forker: Forker,
    number: int,
    wal: bool,
):
    """The next run finds what it would have found before, and some of the vectors are enough to see that."""
    shutil.copy(database, path)
    source, paths = many
    run = ("import-image-vectors", path, "more", source, "--paths", paths, "--model", "palette")
    run = (*run, "--root", tmp_path / "away", *(["--wal"] if wal else []))
    written = Path(f"{path}-wal") if wal else path
    process = forker.start(*run)
    while process.poll() is None and (not written.exists() or written.stat().st_size < 10**6):
        time.sleep(0.001)
    process.send_signal(number)
    ended = process.wait()
    assert ended.code == (130 if number == signal.SIGINT else -number)
    if number == signal.SIGINT:
        assert ended.output == "Interrupted: nothing was imported\n"
    assert query(path, "select name from sqlite_master where name like '%more%'") == []
    assert len(vectors_of(path)) == 8
    assert query(path, "pragma integrity_check") == [("ok",)]
    names = paths.read_text().splitlines()[:FEW]
    some, some_paths = write_npy(tmp_path, names, np.load(source, mmap_mode="r")[:FEW])
    next_run = bring(path, "more", some, "--paths", some_paths, *run[6:])
    assert first_words(next_run).startswith(f"{FEW} vectors imported")
    assert query(path, "select count(*) from _more_vectors") == [(FEW,)]


@pytest.mark.datasette
def test_datasette_that_runs_already_finds_them(path: Path, tmp_path: Path, database: Path):
    shutil.copy(database, path)
    vectors = unit(3, 512)
    source, paths = write_npy(tmp_path, ["a.jpg", "b.jpg", "c.jpg"], vectors)
    sql = "select image_search(:vector, 1, 'more') as found"

    async def search() -> list[dict]:
        datasette = Datasette([str(path)])
        await datasette.invoke_startup()
        await datasette.client.get("/photos.json")
        bring(path, "more", source, "--paths", paths, "--root", tmp_path, "--model", CLIP)
        (row,) = await query_json(datasette, sql, vector=vector_to_term(vectors[1]))
        page = await datasette.client.get(
            "/-/image-search/photos/more", params={"q": vector_to_term(vectors[1])}
        )
        assert page.status_code == 200
        assert "b.jpg" in page.text
        return json.loads(row["found"])

    (hit,) = asyncio.run(search())
    assert hit["id"] == 2


@pytest.mark.skipif(not SHARED.exists(), reason="needs the photos in ../shared")
def test_recorded_clip_is_searched_by_its_captions(path: Path):
    """Caption to photo: recall@1 is 0.832 in the arrays themselves."""
    clip = SHARED / "flickr8k-clip"
    bring(
        *(path, "images", clip / "image_vectors.npy", "--paths", clip / "photos.txt"),
        *("--root", clip / "photos", "--model", CLIP),
    )
    texts = np.load(clip / "text_vectors.npy")
    photos = [
        line.split(",", 1)[0] for line in (clip / "captions.csv").read_text().splitlines()[1:]
    ]
    right = 0
    for text, photo in list(zip(texts, photos, strict=True))[::25]:
        found = command("search-images", path, "images", vector_to_term(text), "-k", 1, "--json")
        right += json.loads(found.stdout)[0]["path"].endswith(photo)
    assert right >= 14
