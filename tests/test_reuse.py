"""Photos that were moved, copied or touched: known by their bytes, and not embedded again."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasette_image_search.ingest import pipeline, survey
from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images
from datasette_image_search.ingest.report import Summary
from datasette_image_search.ingest.reuse import Reuse, find_reuse, of_known_size
from datasette_image_search.ingest.walk import FoundFile
from datasette_image_search.store import Key, reads, schema
from datasette_image_search.store.stored_vectors import vector_from_blob
from datasette_image_search.store.tables import KnownSource, Location

from .commands import change, query, touch_later, vectors_of
from .conftest import draw_picture

Run = Callable[..., Summary]

PLACE = ("root_id", "path", "folder", "filename", "mtime")
"""The columns that say where a file is, and since when; the others are of its bytes."""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with six photos, each of other bytes and with EXIF."""
    exif = Image.Exif()
    exif[0x0110] = "Test Camera"
    for number in range(6):
        colour = f"hsl({number * 60}, 80%, 50%)"
        draw_picture(tmp_path / "photos" / "trip" / f"{number}.jpg", colour, exif=exif)
    draw_picture(tmp_path / "photos" / "stays.jpg", "white")
    return tmp_path / "photos"


@pytest.fixture
def run(path: Path, photos: Path) -> Run:
    def run(*paths: Path, **changes) -> Summary:
        request = EmbedRequest(path, "images", paths or (photos,), model="palette")
        return embed_images(replace(request, **changes))

    return run


def counts(summary: Summary) -> dict[str, int]:
    """What a run did, less what is 0."""
    names = ("embedded", "reused", "moved", "unchanged", "gone", "failed_before")
    return {name: getattr(summary, name) for name in names if getattr(summary, name)}


def ids_of(database: Path) -> dict[str, int]:
    return dict(query(database, "select path, id from images"))


def vector_ids(database: Path) -> list[tuple[int, int]]:
    return query(database, "select id, image_id from _images_vectors order by id")


def content_of(database: Path, path: str) -> tuple:
    """All that a row has of the bytes of its file: columns, vector and thumbnail."""
    columns = [name for _, name, *_ in query(database, "pragma table_info(images)")]
    kept = ", ".join(name for name in columns if name not in (*PLACE, "id"))
    (row,) = query(
        database,
        f"select {kept}, (select vector from _images_vectors where image_id = images.id), "
        "(select webp from _images_thumbnails where image_id = images.id) "
        "from images where path = ?",
        [path],
    )
    assert None not in row[-2:]
    return row


def is_same(content: tuple, other: tuple) -> bool:
    """Whether two contents are of the same picture; embedded twice, vectors differ by rounding."""
    (*row, vector, webp), (*other_row, other_vector, other_webp) = content, other
    close = vector_from_blob(vector) @ vector_from_blob(other_vector) > 0.9999
    return (row, webp) == (other_row, other_webp) and close


# --- Moved ---------------------------------------------------------------------------------------


def test_a_folder_of_100_photos_that_is_renamed_is_100_rows_with_another_path(
    run: Run, path: Path, tmp_path: Path
):
    pictures = tmp_path / "pictures"
    for number in range(100):
        draw_picture(pictures / "2020" / "trip" / f"{number:03}.png", (number, 0, 0), (8, 8))
    draw_picture(pictures / "stays.png", "white")
    run(pictures)
    everything = "select * from images order by id"
    rows, vectors = query(path, everything), vector_ids(path)
    (pictures / "2020" / "trip").rename(pictures / "2020" / "Ligurië")

    summary = run(pictures)

    assert counts(summary) == {"moved": 100, "unchanged": 1}
    assert summary.device is None
    assert query(path, "select count(*) from images where folder = '2020/Ligurië'") == [(100,)]
    change(path, "update images set path = replace(path, 'Ligurië', 'trip')")
    change(path, "update images set folder = replace(folder, 'Ligurië', 'trip')")
    assert query(path, everything) == rows
    assert vector_ids(path) == vectors


def test_a_moved_file_keeps_what_a_person_wrote_about_it(run: Run, path: Path, photos: Path):
    run()
    change(
        path,
        "alter table images add column stars integer",
        "update images set stars = 5 where path = 'trip/0.jpg'",
    )
    (photos / "trip" / "0.jpg").rename(photos / "best.jpg")
    assert counts(run()) == {"moved": 1, "unchanged": 6}
    assert query(path, "select path, filename, folder from images where stars = 5") == [
        ("best.jpg", "best.jpg", "")
    ]


def test_a_moved_file_is_the_same_after_more_moves(run: Run, path: Path, photos: Path):
    run()
    image_id = ids_of(path)["trip/0.jpg"]
    before = content_of(path, "trip/0.jpg")
    file = photos / "trip" / "0.jpg"
    for name in ("a.jpg", "b.jpg", "trip/0.jpg"):
        file = file.rename(photos / name)
        assert counts(run()) == {"moved": 1, "unchanged": 6}
        assert ids_of(path)[name] == image_id
        assert content_of(path, name) == before


def test_a_file_that_is_moved_to_another_root_keeps_its_row(
    run: Run, path: Path, photos: Path, tmp_path: Path
):
    draw_picture(tmp_path / "archive" / "old.jpg", "black")
    both = (photos, tmp_path / "archive")
    run(*both)
    image_id = ids_of(path)["trip/0.jpg"]
    (photos / "trip" / "0.jpg").rename(tmp_path / "archive" / "0.jpg")

    assert counts(run(*both)) == {"moved": 1, "unchanged": 7}

    assert query(
        path,
        "select images.path, label from images join image_search_roots as r on r.id = root_id "
        "where images.id = ?",
        [image_id],
    ) == [("0.jpg", "archive")]


def test_a_move_is_no_reason_to_prune(run: Run, path: Path, photos: Path):
    run()
    (photos / "trip").rename(photos / "travel")
    assert counts(run(prune=True)) == {"moved": 6, "unchanged": 1}
    assert len(vectors_of(path)) == 7


# --- Copied, touched, replaced -------------------------------------------------------------------


def test_a_copy_is_a_row_of_its_own_with_the_vector_of_the_other(
    run: Run, path: Path, photos: Path
):
    run()
    before = vector_ids(path)
    shutil.copy(photos / "trip" / "0.jpg", photos / "copy.jpg")

    summary = run()

    assert counts(summary) == {"reused": 1, "unchanged": 7}
    assert content_of(path, "copy.jpg") == content_of(path, "trip/0.jpg")
    assert query(path, "select camera_model, folder from images where path = 'copy.jpg'") == [
        ("Test Camera", "")
    ]
    assert ids_of(path)["copy.jpg"] == 8
    assert vector_ids(path) == [*before, (8, 8)]
    assert counts(run()) == {"unchanged": 8}


def test_a_file_that_was_only_touched_keeps_its_vector(run: Run, path: Path, photos: Path):
    run()
    before, content = vector_ids(path), content_of(path, "trip/0.jpg")
    touch_later(photos / "trip" / "0.jpg")

    assert counts(run()) == {"reused": 1, "unchanged": 6}
    assert (vector_ids(path), content_of(path, "trip/0.jpg")) == (before, content)
    assert counts(run()) == {"unchanged": 7}


def test_two_files_that_swapped_their_names_have_swapped_their_vectors(
    run: Run, path: Path, photos: Path
):
    run()
    ids = ids_of(path)
    one, two = photos / "trip" / "1.jpg", photos / "trip" / "2.jpg"
    touch_later(one)
    run()
    before = [content_of(path, f"trip/{name}.jpg") for name in "12"]
    one.rename(photos / "x")
    two.rename(one)
    (photos / "x").rename(two)

    summary = run()

    assert is_same(content_of(path, "trip/2.jpg"), before[0])
    assert is_same(content_of(path, "trip/1.jpg"), before[1])
    assert summary.embedded + summary.reused == 2
    assert ids_of(path) == ids
    assert counts(run()) == {"unchanged": 7}


def test_a_file_whose_place_another_took_is_found_at_its_new_place(
    run: Run, path: Path, photos: Path
):
    """The row it could be copied from is about to be another picture's."""
    run()
    before = {name: content_of(path, f"trip/{name}.jpg") for name in "01"}
    (photos / "trip" / "0.jpg").rename(photos / "zero.jpg")
    shutil.copy(photos / "trip" / "1.jpg", photos / "trip" / "0.jpg")
    touch_later(photos / "trip" / "0.jpg")

    run()

    assert is_same(content_of(path, "zero.jpg"), before["0"])
    assert content_of(path, "trip/0.jpg") == content_of(path, "trip/1.jpg") == before["1"]


def test_a_file_that_was_replaced_by_a_copy_of_another(run: Run, path: Path, photos: Path):
    run()
    ids = ids_of(path)
    shutil.copy(photos / "trip" / "1.jpg", photos / "trip" / "0.jpg")
    touch_later(photos / "trip" / "0.jpg")

    assert counts(run()) == {"reused": 1, "unchanged": 6}

    assert content_of(path, "trip/0.jpg") == content_of(path, "trip/1.jpg")
    assert ids_of(path) == ids
    assert query(path, "select count(*) from _images_vectors") == [(7,)]


def test_a_file_that_was_moved_and_copied_at_once(run: Run, path: Path, photos: Path):
    run()
    image_id, content = ids_of(path)["trip/0.jpg"], content_of(path, "trip/0.jpg")
    shutil.copy(photos / "trip" / "0.jpg", photos / "copy.jpg")
    (photos / "trip" / "0.jpg").rename(photos / "moved.jpg")

    assert counts(run()) == {"moved": 1, "reused": 1, "unchanged": 6}

    ids = ids_of(path)
    assert "trip/0.jpg" not in ids
    assert sorted([ids["copy.jpg"], ids["moved.jpg"]]) == [image_id, 8]
    assert content_of(path, "copy.jpg") == content_of(path, "moved.jpg") == content


def test_two_missing_files_of_the_same_bytes_are_both_moved(run: Run, path: Path, photos: Path):
    shutil.copy(photos / "trip" / "0.jpg", photos / "trip" / "twin.jpg")
    run()
    ids = ids_of(path)
    (photos / "trip").rename(photos / "travel")
    assert counts(run()) == {"moved": 7, "unchanged": 1}
    assert sorted(ids_of(path).values()) == sorted(ids.values())


def test_twins_in_one_new_folder_are_both_embedded_right(run: Run, path: Path, photos: Path):
    shutil.copy(photos / "trip" / "0.jpg", photos / "trip" / "twin.jpg")
    run()
    assert content_of(path, "trip/twin.jpg")[:-2] == content_of(path, "trip/0.jpg")[:-2]
    assert None not in vectors_of(path).values()


def test_what_failed_is_nothing_to_copy_from(run: Run, path: Path, photos: Path):
    (photos / "bad.jpg").write_bytes(b"no picture")
    run()
    shutil.copy(photos / "bad.jpg", photos / "bad again.jpg")
    summary = run()
    assert [failure.path for failure in summary.failures] == ["bad again.jpg"]
    assert len(ids_of(path)) == 7


def test_a_bad_file_that_was_moved_leaves_no_failure_behind(run: Run, path: Path, photos: Path):
    (photos / "bad.jpg").write_bytes(b"no picture")
    run()
    (photos / "bad.jpg").rename(photos / "still bad.jpg")
    assert counts(run(prune=True)) == {"unchanged": 7}
    assert query(path, "select path from _images_failures") == [("still bad.jpg",)]


# --- Whatever happens to a folder ----------------------------------------------------------------

NAMES = ("a.png", "b.png", "sub/a.png", "sub/c.png")
PICTURES = ("red", "lime", "blue")

operations = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(NAMES), st.sampled_from(PICTURES)),
    st.tuples(
        st.sampled_from(["rename", "copy", "swap"]), st.sampled_from(NAMES), st.sampled_from(NAMES)
    ),
    st.tuples(st.sampled_from(["delete", "touch"]), st.sampled_from(NAMES), st.just("")),
    st.tuples(st.sampled_from(["run", "prune"]), st.just(""), st.just("")),
)


class Folder:
    """Some pictures, and what happens to them. No two have the same time and other bytes."""

    def __init__(self, path: Path):
        self.path = path
        self.time = 1_600_000_000
        draw_picture(path / "stays.png", "white", (8, 8))
        for name, colour in zip(NAMES, PICTURES, strict=False):
            self.apply("write", name, colour)

    def apply(self, operation: str, name: str, other: str) -> None:
        file = self.path / name
        if operation == "write":
            draw_picture(file, other, (8, 8))
        elif not file.exists() or name == other:
            return
        elif operation == "rename":
            file.replace(self.path / other)
        elif operation == "copy":
            shutil.copy(file, self.path / other)
            file = self.path / other
        elif operation == "swap" and (self.path / other).exists():
            (self.path / other).rename(self.path / "x")
            file.rename(self.path / other)
            (self.path / "x").rename(file)
        elif operation == "delete":
            file.unlink()
        if operation in ("write", "copy", "touch"):
            self.time += 1
            os.utime(file, (self.time, self.time))

    def names(self) -> set[str]:
        return {file.relative_to(self.path).as_posix() for file in self.path.rglob("*.png")}


def table_of(database: Path) -> dict[str, tuple]:
    return {
        path: (row, vector_from_blob(vector))
        for path, vector, *row in query(
            database,
            "select path, vector, folder, filename, format, width, height, size, mtime, "
            "images.sha256, v.sha256, t.sha256, webp from images "
            "join _images_vectors as v on v.image_id = images.id "
            "join _images_thumbnails as t on t.image_id = images.id",
        )
    }


@given(st.lists(operations, min_size=2, max_size=16))
@settings(max_examples=25)
def test_whatever_happens_to_a_folder_its_table_is_that_of_a_fresh_run(steps: list[tuple]):
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary).resolve()
        folder, database = Folder(home / "photos"), home / "photos.db"
        request = EmbedRequest(database, "images", [folder.path], model="palette", workers=1)
        seen: dict[str, int] = {}
        for operation, name, other in [("run", "", ""), *steps, ("prune", "", "")]:
            if operation not in ("run", "prune"):
                folder.apply(operation, name, other)
                continue
            embed_images(replace(request, prune=operation == "prune"))
            ids = ids_of(database)
            names = folder.names()
            assert names <= ids.keys()
            # A file that was there and is there still has the same row.
            assert {n: ids[n] for n in seen if n in names} == {
                n: seen[n] for n in seen if n in names
            }
            seen = {name: ids[name] for name in names}
        embed_images(replace(request, database=home / "fresh.db"))

        table, fresh = table_of(database), table_of(home / "fresh.db")
        assert table.keys() == fresh.keys() == folder.names() == ids_of(database).keys()
        for name in fresh:
            assert table[name][0] == fresh[name][0]
            np.testing.assert_allclose(table[name][1], fresh[name][1], atol=1e-5)
        side_rows = (
            "select (select count(*) from _images_vectors), count(*) from _images_thumbnails"
        )
        assert query(database, side_rows) == query(home / "fresh.db", side_rows)


# --- Finding, without a database -----------------------------------------------------------------


def found(path: str, image_id: Key | None = None, size: int = 1, **fields) -> FoundFile:
    return FoundFile("/photos", path, size, "", image_id=image_id, **fields)


def missing(*paths: str) -> dict[tuple[str, str], KnownSource]:
    return {("/photos", path): KnownSource(1, 1, "") for path in paths}


def same_content(**places: tuple[Key, str]) -> Callable[[str], list[tuple[Key, Location]]]:
    """sha256 -> one image, its id and path."""
    return lambda sha256: (
        [(places[sha256][0], Location("/photos", places[sha256][1]))] if sha256 in places else []
    )


def test_one_of_two_new_copies_of_a_missing_file_is_the_moved_one():
    files = [found("x.jpg"), found("y.jpg")]
    reuse = find_reuse(files, ["s", "s"], missing("a.jpg"), same_content(s=(7, "a.jpg")))
    assert reuse == [Reuse(files[0], 7, moved=True), Reuse(files[1], 7, moved=False)]


def test_a_file_that_could_not_be_read_or_is_new_is_not_reused():
    files = [found("x.jpg"), found("y.jpg")]
    assert find_reuse(files, [None, "new"], {}, same_content(s=(7, "a.jpg"))) == []


def test_only_files_as_large_as_one_that_is_known_are_read():
    known = {
        ("/photos", "a.jpg"): KnownSource(1, 100, ""),
        ("/photos", "b.jpg"): KnownSource(None, 200, "", failed=True, has_vector=False),
    }
    files = [
        found("x.jpg", size=100),
        found("y.jpg", size=200),
        found("z.jpg", size=100, problem="it is a pipe"),
    ]
    assert of_known_size(files, known) == files[:1]


def test_a_move_needs_no_column_that_a_person_may_drop(run: Run, path: Path, photos: Path):
    run()
    ids = ids_of(path)
    change(path, "alter table images drop column lens", "alter table images drop column filename")
    (photos / "trip" / "0.jpg").rename(photos / "trip" / "new.jpg")

    assert counts(run()) == {"moved": 1, "unchanged": 6}
    assert ids_of(path)["trip/new.jpg"] == ids["trip/0.jpg"]


@pytest.mark.parametrize("copied", [True, False])
def test_an_image_deleted_since_the_survey_is_embedded_by_the_next_run(
    run: Run, path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, copied: bool
):
    run()
    (shutil.copy if copied else shutil.move)(photos / "trip" / "0.jpg", photos / "new.jpg")
    ensure_tables = schema.ensure_tables

    def delete_then_ensure_tables(*args):
        change(path, "delete from images where path = 'trip/0.jpg'")
        return ensure_tables(*args)

    monkeypatch.setattr(pipeline, "ensure_tables", delete_then_ensure_tables)
    run()
    monkeypatch.undo()

    run()
    assert ids_of(path).keys() == {
        file.relative_to(photos).as_posix() for file in photos.rglob("*.jpg")
    }
    assert None not in vectors_of(path).values()


def test_a_photo_that_moved_to_the_only_root_that_is_looked_at(
    run: Run, path: Path, tmp_path: Path
):
    inbox, archive = tmp_path / "inbox", tmp_path / "archive"
    for name, colour in (("a", "red"), ("b", "blue")):
        draw_picture(inbox / f"{name}.jpg", colour)
    draw_picture(archive / "c.jpg", "green")
    run(inbox, archive)
    ids = ids_of(path)
    (inbox / "a.jpg").rename(archive / "a.jpg")

    assert counts(run(archive)) == {"moved": 1, "unchanged": 1}
    assert ids_of(path) == ids
    # An empty root is a drive that is not mounted: its photos are elsewhere too, and not gone.
    (inbox / "b.jpg").rename(archive / "b.jpg")
    assert counts(run(archive)) == {"reused": 1, "unchanged": 2}


def test_a_run_interrupted_before_anything_was_moved_has_moved_nothing(
    run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
):
    run()
    (photos / "trip").rename(photos / "journey")

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "write_reused", interrupt)
    summary = run()
    assert (summary.interrupted, summary.moved) == (True, 0)


def test_copies_are_asked_for_once_however_many_there_are(
    run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch
):
    for number in range(20):
        shutil.copy(photos / "trip" / "0.jpg", photos / "trip" / f"copy {number}.jpg")
    run()
    (photos / "trip").rename(photos / "journey")
    asked = []
    images_with_content = reads.images_with_content
    monkeypatch.setattr(
        survey,
        "images_with_content",
        lambda *args: asked.append(args[-1]) or images_with_content(*args),
    )
    assert run().moved == 26
    assert len(asked) == len(set(asked)) == 6
