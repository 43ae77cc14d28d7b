from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasette_image_search.decoding.loading import PARTLY_READABLE
from datasette_image_search.embedders.palette import PaletteEmbedder
from datasette_image_search.embedders.protocol import EmbedderError
from datasette_image_search.errors import ImageSearchError
from datasette_image_search.ingest import batches, pipeline
from datasette_image_search.ingest.pipeline import EmbedRequest, RunError, embed_images
from datasette_image_search.ingest.report import Progress, Summary
from datasette_image_search.ingest.scopes import ScanError
from datasette_image_search.store import StoreError, find_index, writes
from datasette_image_search.store.stored_vectors import vector_from_blob

from .commands import change, query, touch_later, vectors_of
from .conftest import COLOURS, draw_picture
from .drawn_films import draw_film
from .serving import HANGS

Run = Callable[..., Summary]


@pytest.fixture
def run(path: Path, folder: Path) -> Run:
    """run() embeds `folder` with palette into `path`; arguments replace those of the request."""

    def run(*paths: Path, on_progress=lambda progress: None, **changes) -> Summary:
        request = EmbedRequest(path, "images", paths or (folder,), model="palette")
        return embed_images(replace(request, **changes), on_progress)

    return run


# --- A run ---------------------------------------------------------------------------------------


def test_a_folder_becomes_rows_vectors_and_thumbnails(run: Run, path: Path, folder: Path):
    summary = run()

    assert (summary.embedded, summary.unchanged, summary.failed_before) == (8, 0, 0)
    assert (summary.failures, summary.model) == ((), "palette")
    assert summary.device == "cpu, float32"
    names = [name for (name,) in query(path, "select path from images order by id")]
    assert names == sorted(f"{colour}.jpg" for colour in COLOURS)
    assert query(
        path,
        "select folder, filename, format, width, height, taken_at from images where id = 1",
    ) == [("", "black.jpg", "JPEG", 80, 60, None)]
    assert query(path, "select path, label from image_search_roots") == [(str(folder), "pictures")]
    assert query(path, "select count(*), min(length(webp)) > 50 from _images_thumbnails") == [
        (8, 1)
    ]


def test_vectors_are_those_of_the_embedder(run: Run, path: Path, folder: Path):
    run()

    embedder = PaletteEmbedder()
    with Image.open(folder / "blue.jpg") as picture:
        expected = embedder.encode_images(embedder.preprocess(picture.convert("RGB"))[None])[0]
    vector = vector_from_blob(vectors_of(path)["blue.jpg"])
    assert vector.shape == (embedder.dimensions,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert vector @ expected > 0.999
    with closing(sqlite3.connect(path)) as conn:
        index = find_index(conn)
    assert (index.model, index.fingerprint) == ("palette", embedder.fingerprint)


def test_paths_have_folders_and_files_their_exif(run: Run, path: Path, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0110] = "Test Camera"
    exif.get_ifd(0x8769)[0x9003] = "2021:07:14 18:03:11"
    draw_picture(tmp_path / "trip" / "day one" / "a.jpg", "red", exif=exif)

    run(tmp_path / "trip")

    assert query(path, "select path, folder, filename, camera_model, taken_at from images") == [
        ("day one/a.jpg", "day one", "a.jpg", "Test Camera", "2021-07-14T18:03:11")
    ]


def test_a_second_run_embeds_nothing(run: Run, path: Path):
    run()
    before = path.read_bytes()

    summary = run()

    assert (summary.embedded, summary.unchanged, summary.device) == (0, 8, None)
    assert path.read_bytes() == before


def test_only_new_files_are_embedded(run: Run, path: Path, folder: Path):
    run()
    draw_picture(folder / "more" / "pink.png", "pink")

    summary = run()

    assert (summary.embedded, summary.unchanged) == (1, 8)
    assert query(path, "select id, path from images where id > 8") == [(9, "more/pink.png")]


def test_a_changed_file_keeps_its_id_and_gets_another_vector(run: Run, path: Path, folder: Path):
    run()
    before = vectors_of(path)
    ids = query(path, "select id, path from images order by id")
    thumbnail = "select webp from _images_thumbnails where image_id = 1"
    old_thumbnail = query(path, thumbnail)
    draw_picture(folder / "black.jpg", "pink", (100, 50))
    touch_later(folder / "black.jpg")

    summary = run()

    after = vectors_of(path)
    assert (summary.embedded, summary.unchanged) == (1, 7)
    assert query(path, "select id, path from images order by id") == ids
    assert {name for name in after if after[name] != before[name]} == {"black.jpg"}
    assert query(path, "select width, height from images where id = 1") == [(100, 50)]
    assert query(path, thumbnail) != old_thumbnail
    assert query(path, "select count(*) from _images_vectors") == [(8,)]


def test_columns_of_the_person_survive_a_run(run: Run, path: Path, folder: Path):
    run()
    change(
        path,
        "alter table images add column stars integer",
        "update images set stars = 5 where path = 'red.jpg'",
    )
    draw_picture(folder / "red.jpg", "pink")
    touch_later(folder / "red.jpg")

    assert run().embedded == 1

    assert query(path, "select stars from images where path = 'red.jpg'") == [(5,)]


def test_a_file_that_is_gone_keeps_its_row(run: Run, path: Path, folder: Path):
    run()
    (folder / "red.jpg").unlink()

    assert run().unchanged == 7

    assert len(vectors_of(path)) == 8


def test_moving_a_drive_is_one_update(run: Run, path: Path, folder: Path, tmp_path: Path):
    run()
    shutil.move(folder, tmp_path / "new drive")
    change(path, f"update image_search_roots set path = '{tmp_path / 'new drive'}'")

    summary = run(tmp_path / "new drive")

    assert (summary.embedded, summary.unchanged) == (0, 8)


def test_a_folder_and_then_its_parent_make_one_row_per_file(
    run: Run, path: Path, folder: Path, tmp_path: Path
):
    draw_picture(tmp_path / "all" / "top.jpg", "pink")
    shutil.move(folder, tmp_path / "all" / "sub")

    first = run(tmp_path / "all" / "sub")
    second = run(tmp_path / "all")

    assert (first.embedded, second.embedded, second.unchanged) == (8, 1, 8)
    assert query(path, "select count(*), count(distinct sha256) from images") == [(9, 9)]


def test_two_tables_of_a_database_are_independent(run: Run, path: Path, tmp_path: Path):
    draw_picture(tmp_path / "other" / "a.jpg", "red")
    run()
    assert run(tmp_path / "other", table="my photos").embedded == 1
    assert query(path, "select path from [my photos]") == [("a.jpg",)]
    assert len(vectors_of(path)) == 8


def test_the_default_model_is_that_of_the_table(run: Run, folder: Path):
    run()
    draw_picture(folder / "pink.jpg", "pink")
    summary = run(model=None)
    assert (summary.model, summary.embedded) == ("palette", 1)


# --- Progress ------------------------------------------------------------------------------------


def test_progress_grows_to_the_total(run: Run, folder: Path):
    (folder / "bad.jpg").write_bytes(b"bad")
    seen: list[Progress] = []

    run(on_progress=seen.append, batch_size=2)

    done = [progress.done for progress in seen]
    assert done == sorted(set(done))
    assert (done[0], done[-1]) == (0, 9)
    assert {progress.total for progress in seen} == {9}
    assert seen[-1].failed == 1


def test_what_progress_says_is_done_is_committed(run: Run, path: Path):
    committed: list[tuple[int, int]] = []

    def look(progress: Progress) -> None:
        count = query(path, "select count(*) from _images_vectors")[0][0]
        committed.append((progress.done, count))

    run(on_progress=look, batch_size=3)

    assert len(committed) > 2
    assert all(done == count for done, count in committed)


@pytest.mark.parametrize("workers", [1, 5])
@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_batches_and_workers_do_not_change_the_tables(
    run: Run, path: Path, tmp_path: Path, batch_size: int, workers: int
):
    run(batch_size=batch_size, workers=workers)
    run(database=tmp_path / "usual.db")

    rows = "select * from images order by id"
    thumbnails = "select * from _images_thumbnails order by image_id"
    assert query(path, rows) == query(tmp_path / "usual.db", rows)
    assert query(path, thumbnails) == query(tmp_path / "usual.db", thumbnails)
    usual = vectors_of(tmp_path / "usual.db")
    for name, vector in vectors_of(path).items():
        assert vector_from_blob(vector) @ vector_from_blob(usual[name]) > 0.9999, name


# --- Files that fail -----------------------------------------------------------------------------


def test_one_bad_file_among_many_is_a_failure_and_no_more(run: Run, path: Path, folder: Path):
    (folder / "bad.jpg").write_bytes(b"no picture")
    (folder / "empty.png").touch()

    summary = run(batch_size=4)

    assert summary.embedded == 8
    assert {failure.path: failure.reason for failure in summary.failures} == {
        "bad.jpg": "the file is not a picture of a known format, or is damaged",
        "empty.png": "the file is empty",
    }
    assert len(vectors_of(path)) == 8
    assert query(path, "select path from _images_failures order by path") == [
        ("bad.jpg",),
        ("empty.png",),
    ]


def test_a_bad_file_is_not_tried_again_until_it_changes(run: Run, path: Path, folder: Path):
    (folder / "bad.jpg").write_bytes(b"no picture")
    run()

    again = run()
    draw_picture(folder / "bad.jpg", "pink")
    touch_later(folder / "bad.jpg")
    repaired = run()

    assert (again.embedded, again.failures, again.failed_before) == (0, (), 1)
    assert (repaired.embedded, repaired.failures, repaired.failed_before) == (1, (), 0)
    assert "bad.jpg" in vectors_of(path)
    assert query(path, "select * from _images_failures") == []


def test_an_image_that_went_bad_is_not_tried_again_until_it_changes(
    run: Run, path: Path, folder: Path
):
    run()
    (folder / "red.jpg").write_bytes(b"no picture")
    touch_later(folder / "red.jpg")

    first, again = run(), run()
    draw_picture(folder / "red.jpg", "pink", (70, 70))
    os.utime(folder / "red.jpg", (2e9, 2e9))
    repaired = run()

    assert [failure.path for failure in first.failures] == ["red.jpg"]
    assert (again.failures, again.failed_before) == ((), 1)
    assert (repaired.embedded, repaired.failed_before) == (1, 0)
    assert len(vectors_of(path)) == 8


def test_a_jpeg_without_its_end_is_embedded_with_a_warning(run: Run, path: Path, folder: Path):
    cut_jpeg(folder / "cut.jpg")

    first, again = run(), run()

    assert (first.embedded, first.failures) == (9, ())
    assert [(told.path, told.reason) for told in first.warnings] == [("cut.jpg", PARTLY_READABLE)]
    assert "cut.jpg" in vectors_of(path)
    assert (again.embedded, again.unchanged, again.failed_before, again.warnings) == (0, 9, 0, ())
    assert warnings_of(path) == ["cut.jpg"]


def test_a_warning_goes_where_its_image_goes(run: Run, path: Path, folder: Path):
    cut_jpeg(folder / "cut.jpg")
    run()

    (folder / "cut.jpg").rename(folder / "moved.jpg")
    run()
    assert warnings_of(path) == ["moved.jpg"]
    shutil.copy(folder / "moved.jpg", folder / "twin.jpg")
    run()
    assert warnings_of(path) == ["moved.jpg", "twin.jpg"]
    os.utime(folder / "twin.jpg", (2e9, 2e9))
    assert run().reused == 1
    assert warnings_of(path) == ["moved.jpg", "twin.jpg"]
    (folder / "twin.jpg").unlink()
    run(prune=True)
    assert warnings_of(path) == ["moved.jpg"]
    draw_picture(folder / "moved.jpg", "pink")
    touch_later(folder / "moved.jpg")
    run()
    assert query(path, "select * from _images_failures") == []


def test_a_warning_leaves_with_the_row_that_a_person_deletes(run: Run, path: Path, folder: Path):
    cut_jpeg(folder / "cut.jpg")
    run()
    change(path, "delete from images where path = 'cut.jpg'")
    (folder / "cut.jpg").unlink()
    run()
    assert warnings_of(path) == []


def cut_jpeg(path: Path) -> None:
    """A JPEG that is whole but for its last bytes."""
    draw_picture(path, "pink")
    path.write_bytes(path.read_bytes()[:-2])


def warnings_of(path: Path) -> list[str]:
    rows = query(path, "select path from _images_failures where embedded order by path")
    return [name for (name,) in rows]


def test_a_file_that_vanishes_during_the_run_is_a_failure(run: Run, folder: Path):
    def vanish(progress: Progress) -> None:
        (folder / "yellow.jpg").unlink(missing_ok=True)

    summary = run(on_progress=vanish)

    assert summary.embedded == 7
    assert [(failure.path, failure.reason) for failure in summary.failures] == [
        ("yellow.jpg", "the file is gone")
    ]
    assert (run().gone, run(prune=True).failed_before) == (0, 0)


def test_a_file_that_changes_during_the_run_is_embedded_again_by_the_next(run: Run, folder: Path):
    def change_it(progress: Progress) -> None:
        draw_picture(folder / "yellow.jpg", "pink")
        touch_later(folder / "yellow.jpg")

    run(on_progress=change_it)
    summary = run()
    assert summary.embedded + summary.reused == 1
    assert run().unchanged == 8


def test_a_folder_of_bad_files_only_is_no_error(run: Run, path: Path, tmp_path: Path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_bytes(b"a")

    first, second = run(tmp_path / "bad"), run(tmp_path / "bad")

    assert (first.embedded, len(first.failures)) == (0, 1)
    assert (second.embedded, second.failed_before) == (0, 1)
    assert query(path, "select * from images") == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have UTF-8 names only")
def test_a_name_that_is_not_utf8_is_a_failure_like_any_other(run: Run, folder: Path):
    draw_picture(folder / os.fsdecode(b"caf\xe9.jpg"), "red")

    first, second = run(), run()

    assert first.embedded == 8
    assert [failure.reason for failure in first.failures] == [
        "the file name is not UTF-8; rename the file"
    ]
    assert (second.embedded, second.failures, second.failed_before) == (0, (), 1)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have UTF-8 names only")
def test_a_folder_whose_name_is_not_utf8_is_one_sentence(run: Run, path: Path, tmp_path: Path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    draw_picture(folder / "a.jpg", "red")
    with pytest.raises(ImageSearchError, match="UTF-8"):
        run(folder)
    assert not path.exists()


# --- Refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"model": "no-such-model"}, EmbedderError, "there is no model 'no-such-model'"),
        ({"weights": Path("w.pt")}, EmbedderError, "palette is built in and has no weights"),
        (
            {"model": "timm/test_vit", "weights": Path("missing.pt")},
            EmbedderError,
            "there is no weights file 'missing.pt'",
        ),
        ({"paths": [Path("/no/such/folder")]}, ScanError, "'/no/such/folder'"),
    ],
    ids=["model", "weights of palette", "weights file", "path"],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    run: Run, path: Path, changes: dict, error: type[Exception], sentence: str
):
    with pytest.raises(error, match=sentence):
        run(**changes)
    assert not path.exists()


def test_a_folder_without_images_is_refused(run: Run, path: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(RunError, match=r"there are no image files in '.*empty'"):
        run(tmp_path / "empty")
    assert not path.exists()


def test_a_folder_for_the_database_that_is_not_there_is_named(run: Run, tmp_path: Path):
    with pytest.raises(ImageSearchError, match=r"there is no folder '.*nowhere' for the database"):
        run(database=tmp_path / "nowhere" / "photos.db")
    assert not (tmp_path / "nowhere").exists()


def test_another_model_for_a_table_is_refused(run: Run, path: Path, folder: Path):
    run()
    before = path.read_bytes()
    draw_picture(folder / "pink.jpg", "pink")

    with pytest.raises(
        RunError, match=r"'images' is embedded with palette, not timm/test_vit"
    ) as e:
        run(model="timm/test_vit")

    assert "--model palette" in str(e.value)
    assert path.read_bytes() == before


def test_a_table_of_another_fingerprint_is_refused(run: Run, path: Path, folder: Path):
    run()
    change(path, "update image_search_indexes set fingerprint = 'of an older version'")
    draw_picture(folder / "pink.jpg", "pink")

    with pytest.raises(RunError, match="other weights of palette"):
        run()

    assert len(vectors_of(path)) == 8


def test_a_table_that_is_no_image_table_is_refused_and_left_alone(run: Run, path: Path):
    change(path, "create table images (id integer primary key, title text)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="'images' cannot take images"):
        run()
    assert path.read_bytes() == before


# --- Crashes -------------------------------------------------------------------------------------

KILLED_RUN = """
import os, signal, sys
from pathlib import Path
from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images

calls = 0

def on_progress(progress):
    global calls
    calls += 1
    if calls == 3:  # once at the start, once per batch
        os.kill(os.getpid(), signal.SIGKILL)

database, folder = map(Path, sys.argv[1:])
embed_images(EmbedRequest(database, "images", [folder], "palette", batch_size=2), on_progress)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_run_that_is_killed_is_picked_up_by_the_next(
    run: Run, path: Path, folder: Path, tmp_path: Path
):
    killed = subprocess.run([sys.executable, "-c", KILLED_RUN, path, folder], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert query(path, "pragma integrity_check") == [("ok",)]
    found = vectors_of(path)
    assert len(found) == 4
    assert None not in found.values()

    summary = run()
    run(database=tmp_path / "undisturbed.db")

    assert (summary.embedded, summary.unchanged) == (4, 4)
    undisturbed = vectors_of(tmp_path / "undisturbed.db")
    assert vectors_of(path).keys() == undisturbed.keys()
    for name, vector in vectors_of(path).items():
        assert vector_from_blob(vector) @ vector_from_blob(undisturbed[name]) > 0.9999, name
    assert query(path, "select count(*) from _images_thumbnails") == [(8,)]


def test_a_run_that_is_interrupted_keeps_its_batches(run: Run, path: Path):
    def interrupt(progress: Progress) -> None:
        if progress.done >= 4:
            raise KeyboardInterrupt

    interrupted = run(on_progress=interrupt, batch_size=2)
    found = vectors_of(path)
    summary = run()

    assert (interrupted.embedded, interrupted.interrupted) == (4, True)
    assert not summary.interrupted
    assert len(found) == 4
    assert None not in found.values()
    assert (summary.embedded, summary.unchanged) == (4, 4)


def test_a_run_that_is_interrupted_tells_what_it_did_and_not_what_it_would_have_done(
    run: Run, path: Path, folder: Path
):
    run()
    draw_picture(folder / "new.jpg", "pink")
    (folder / "red.jpg").unlink()
    (folder / "blue.jpg").rename(folder / "moved.jpg")

    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    summary = run(on_progress=interrupt, prune=True)

    assert (summary.embedded, summary.moved, summary.gone) == (0, 1, 1)
    assert not summary.pruned
    assert "red.jpg" in vectors_of(path)


def test_slow_files_are_committed_in_small_batches(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batches, "COMMIT_SECONDS", 0.0)
    seen: list[Progress] = []
    run(on_progress=seen.append, batch_size=1000)
    assert [progress.done for progress in seen] == list(range(9))


def test_of_films_the_scenes_are_counted_in_batches(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As many pictures are in memory as with photos."""
    monkeypatch.setattr(batches, "COMMIT_SECONDS", HANGS)
    for name in ("a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4"):
        draw_film(tmp_path / "films" / name, [("red", 0.5), ("green", 0.5), ("blue", 0.5)])
    seen: list[Progress] = []
    run(tmp_path / "films", on_progress=seen.append, batch_size=4)
    assert [progress.done for progress in seen] == [0, 2, 4, 5]


def test_a_drive_that_goes_during_a_run_costs_no_file_its_next_try(run: Run, folder: Path):
    away = folder.with_name("away")

    def unmount(progress: Progress) -> None:
        if folder.exists():
            folder.rename(away)

    assert len(run(on_progress=unmount, workers=1, batch_size=1).failures) > 0
    away.rename(folder)

    summary = run()
    assert (summary.failures, summary.failed_before) == ((), 0)
    assert run().unchanged == 8


def test_many_that_are_gone_are_removed_in_several_transactions(
    run: Run, path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    run()
    for file in sorted(folder.glob("*.jpg"))[:5]:
        file.unlink()
    removed = []
    delete_images = writes.delete_images
    monkeypatch.setattr(pipeline, "BATCH", 2)
    monkeypatch.setattr(
        pipeline,
        "delete_images",
        lambda db, table, gone, failed: (
            removed.append(len(gone)) or delete_images(db, table, gone, failed)
        ),
    )
    assert run(prune=True).gone == 5
    assert removed == [2, 2, 1]
    assert query(path, "select count(*) from images") == [(3,)]
