"""Metadata that changes, of pictures that stay what they are."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from sqlite_utils import Database

from datasette_image_search.decoding import describing
from datasette_image_search.ingest import beside, pipeline
from datasette_image_search.ingest.pipeline import Progress, Summary
from datasette_image_search.store.side_schema import ADDED_COLUMNS

from .commands import change, command, query, vectors_of
from .conftest import draw_picture
from .test_pipeline import run as run  # noqa: PLC0414 (a fixture)
from .test_xmp import xmp

Run = Callable[..., Summary]


def words(title: str, *keywords: str) -> str:
    """XMP with a title and keywords."""
    items = "".join(f"<rdf:li>{keyword}</rdf:li>" for keyword in keywords)
    return xmp(
        f"<dc:title><rdf:Alt><rdf:li>{title}</rdf:li></rdf:Alt></dc:title>"
        f"<dc:subject><rdf:Bag>{items}</rdf:Bag></dc:subject>"
    )


def titles(path: Path) -> dict[str, str]:
    return dict(query(path, "select path, title from images where title is not null"))


def keywords(path: Path) -> list[tuple[str, str]]:
    return query(
        path,
        "select path, keyword from images_keywords join images on images.id = image_id "
        "order by path, keyword",
    )


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise AssertionError("the model is loaded")

    monkeypatch.setattr(pipeline, "load_embedder", load)


def test_keywords_are_a_table_of_their_own(run: Run, path: Path, folder: Path):
    (folder / "blue.xmp").write_text(words("Sea", "beach", "sea"))
    (folder / "red.jpg.xmp").write_text(words("Rose", "flower"))
    run()
    assert titles(path) == {"blue.jpg": "Sea", "red.jpg": "Rose"}
    assert keywords(path) == [("blue.jpg", "beach"), ("blue.jpg", "sea"), ("red.jpg", "flower")]
    change(path, "delete from images where path = 'red.jpg'")
    change(path, "update images set id = 99 where path = 'blue.jpg'")
    assert query(path, "select * from images_keywords") == [(99, "beach"), (99, "sea")]


def test_pictures_without_keywords_make_no_table_of_them(run: Run, path: Path):
    run()
    assert "images_keywords" not in Database(path).table_names()


@pytest.mark.usefixtures("no_model")
class TestWithoutTheModel:
    """Rows are read again, and ids, vectors and thumbnails stay."""

    @pytest.fixture
    def path(self, database: Path) -> Path:
        return database

    def test_a_new_file_beside_a_picture(self, run: Run, path: Path, folder: Path):
        before = vectors_of(path), query(path, "select id, path from images order by id")
        (folder / "blue.xmp").write_text(words("Sea", "beach"))
        seen: list[Progress] = []
        summary = run(on_progress=seen.append)
        assert (summary.embedded, summary.unchanged, summary.read) == (0, 8, 1)
        assert (seen[-1].doing, seen[-1].done, seen[-1].total) == ("Reading metadata", 1, 1)
        assert titles(path) == {"blue.jpg": "Sea"}
        assert keywords(path) == [("blue.jpg", "beach")]
        assert (vectors_of(path), query(path, "select id, path from images order by id")) == before
        assert run().read == 0

    def test_it_changes_and_goes(self, run: Run, path: Path, folder: Path):
        (folder / "blue.xmp").write_text(words("Sea", "beach"))
        run()
        (folder / "blue.xmp").write_text(words("The sea"))
        assert run().read == 1
        assert (titles(path), keywords(path)) == ({"blue.jpg": "The sea"}, [])
        (folder / "blue.xmp").unlink()
        assert run().read == 1
        assert titles(path) == {}
        assert run().read == 0

    def test_it_moves_with_its_picture(self, run: Run, path: Path, folder: Path):
        (folder / "blue.xmp").write_text(words("Sea", "beach"))
        run()
        (folder / "trip").mkdir()
        for name in ("blue.jpg", "blue.xmp"):
            (folder / name).rename(folder / "trip" / name)
        summary = run()
        assert (summary.moved, summary.read) == (1, 0)
        assert keywords(path) == [("trip/blue.jpg", "beach")]
        (folder / "trip" / "blue.jpg").rename(folder / "trip" / "navy.jpg")
        summary = run()
        assert (summary.moved, summary.read) == (1, 1)
        assert (titles(path), keywords(path)) == ({}, [])

    def test_a_copy_has_what_is_beside_the_copy(self, run: Run, path: Path, folder: Path):
        (folder / "blue.xmp").write_text(words("Sea", "beach"))
        run()
        shutil.copyfile(folder / "blue.jpg", folder / "copy.jpg")
        shutil.copyfile(folder / "blue.jpg", folder / "other.jpg")
        (folder / "other.xmp").write_text(words("Other"))
        summary = run()
        assert (summary.reused, summary.read) == (2, 2)
        assert titles(path) == {"blue.jpg": "Sea", "other.jpg": "Other"}
        assert keywords(path) == [("blue.jpg", "beach")]

    def test_what_cannot_be_read_is_tried_again(
        self, run: Run, path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        (folder / "blue.xmp").write_text(words("Sea"))
        with monkeypatch.context() as patch:
            patch.setattr(pipeline.FoundFile, "read", lambda file: (folder / "gone").read_bytes())
            run()
        assert titles(path) == {}
        assert run().read == 1
        assert titles(path) == {"blue.jpg": "Sea"}

    def test_a_file_that_is_half_written_takes_nothing_away(
        self, run: Run, path: Path, folder: Path
    ):
        (folder / "blue.xmp").write_text(words("Sea", "beach"))
        run()
        for content in (words("The sea")[:400], ""):
            (folder / "blue.xmp").write_text(content)
            assert run().read == 0
            assert (titles(path), keywords(path)) == ({"blue.jpg": "Sea"}, [("blue.jpg", "beach")])
        (folder / "blue.xmp").write_text(words("The sea"))
        assert run().read == 1
        assert (titles(path), keywords(path)) == ({"blue.jpg": "The sea"}, [])
        assert run().read == 0

    def test_a_picture_that_cannot_be_opened_keeps_its_metadata(
        self, run: Run, path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """As of a HEIC file if the extra for it is not there any more."""
        change(path, "update images set camera_make = 'Canon' where path = 'blue.jpg'")
        (folder / "blue.xmp").write_text(words("Sea"))
        with monkeypatch.context() as patch:
            patch.setattr(describing, "FORMATS", ("PNG",))
            seen: list[Progress] = []
            assert run(on_progress=seen.append).read == 0
            assert (seen[-1].done, seen[-1].total) == (1, 1)
        made = "select camera_make, title from images where path = 'blue.jpg'"
        assert query(path, made) == [("Canon", None)]
        assert run().read == 1
        assert query(path, made) == [("Canon", "Sea")]

    def test_what_a_person_corrected_stays(self, run: Run, path: Path, folder: Path):
        """Unless an .xmp file says another thing than the picture."""
        change(path, "update images set taken_at = '1985-07-01', latitude = 1.5, iso = 100")
        (folder / "blue.xmp").write_text(words("Sea"))
        assert run().read == 1
        made = "select taken_at, latitude, iso, title from images where path = 'blue.jpg'"
        assert query(path, made) == [("1985-07-01", 1.5, 100, "Sea")]
        dated = "<exif:DateTimeOriginal>2003-04-05T06:07:08</exif:DateTimeOriginal><dc:title>"
        (folder / "blue.xmp").write_text(words("Sea").replace("<dc:title>", dated))
        assert run().read == 1
        assert query(path, made) == [("2003-04-05T06:07:08", 1.5, 100, "Sea")]

    def test_a_database_of_an_older_version_is_filled(self, run: Run, path: Path, folder: Path):
        """As it was without the columns and the tables; a column that a person made stays a person's."""
        (folder / "blue.xmp").write_text(words("Sea", "beach"))
        (folder / "red.xmp").write_text(words("Rose"))
        with Database(path) as db:
            db["images"].transform(drop={"title", "rating", "artist", "copyright", "description"})
            db["images"].transform(drop={"taken_at_offset"})
            db["images"].add_column("rating", str)
            db["_images_beside"].drop()
            db["image_search_migrations"].delete("m005_metadata")
        change(path, "update images set rating = 'mine', camera_make = 'corrected'")
        before = vectors_of(path)
        planned = command("embed-images", path, "images", folder, "--dry-run").output
        assert planned == (
            "Would be: 0 embedded, 8 unchanged, metadata of 8 to read again, 0 failed\n"
        )
        summary = run()
        assert (summary.migrated, summary.embedded, summary.read) == (True, 0, 8)
        assert titles(path) == {"blue.jpg": "Sea", "red.jpg": "Rose"}
        assert query(path, "select distinct rating, camera_make from images") == [
            ("mine", "corrected")
        ]
        assert vectors_of(path) == before
        summary = run()
        assert (summary.migrated, summary.read) == (False, 0)
        (folder / "blue.xmp").write_text(
            words("Sea").replace("<dc:title>", "<xmp:Rating>5</xmp:Rating><dc:title>")
        )
        run()
        assert query(path, "select distinct rating from images") == [("mine",)]

    def test_a_column_of_a_person_is_known_in_any_case(self, run: Run, path: Path, folder: Path):
        """SQLite sees none in the names of columns."""
        (folder / "blue.xmp").write_text(words("Sea", "beach"))
        with Database(path) as db:
            db["images"].transform(drop=set(ADDED_COLUMNS))
            db["_images_beside"].drop()
            db["image_search_migrations"].delete("m005_metadata")
        change(path, "alter table images add column Title text")
        change(path, "alter table images add column RATING text")
        change(path, "update images set Title = 'My own', RATING = 'mine'")
        assert run().read == 8
        assert query(path, "select distinct title, rating from images") == [("My own", "mine")]
        assert keywords(path) == [("blue.jpg", "beach")]

    def test_a_table_of_a_person_with_the_name_of_that_of_keywords_stays(
        self, run: Run, path: Path, folder: Path
    ):
        change(path, "create table images_keywords (mine text)")
        (folder / "blue.xmp").write_text(words("Sea", "beach"))
        run()
        assert titles(path) == {"blue.jpg": "Sea"}
        assert query(path, "select * from images_keywords") == []

    def test_columns_that_a_person_dropped_stay_away(self, run: Run, path: Path, folder: Path):
        change(path, "alter table images drop column title")
        (folder / "blue.xmp").write_text(words("Sea", "beach"))
        run()
        assert keywords(path) == [("blue.jpg", "beach")]


@pytest.mark.parametrize("end", ["", ", primary key (image_id, keyword)"])
def test_a_table_of_keywords_that_a_person_made_is_not_taken_over(
    run: Run, path: Path, folder: Path, end: str
):
    """Whatever its columns are: no row is added, pruned, renumbered, or dropped with the table of images."""
    change(
        path,
        f"create table images_keywords (image_id references images (id), keyword text{end})",
        "insert into images_keywords values (1, 'mine'), (77, 'of no image')",
    )
    before = query(path, "select * from images_keywords")
    (folder / "blue.xmp").write_text(words("Sea", "beach"))
    run()
    change(path, "update images set id = 99 where id = 1", "delete from images where id = 2")
    run()
    assert titles(path) == {"blue.jpg": "Sea"}
    assert query(path, "select * from images_keywords") == before
    change(path, "drop table images")
    run()
    assert query(path, "select * from images_keywords") == before


def test_a_camera_gets_the_name_that_it_has_now(run: Run, path: Path, folder: Path):
    """As an older version wrote it; another name is a person's."""
    exif = Image.Exif()
    exif[271], exif[272] = "NIKON CORPORATION", "NIKON D70s"
    for name in ("old.jpg", "mine.jpg"):
        draw_picture(folder / name, "teal", exif=exif)
    del exif[272]
    draw_picture(folder / "make.jpg", "teal", exif=exif)
    run()
    older = (
        "update images set camera_make = 'NIKON CORPORATION', camera_model = '{}' where path = '{}'"
    )
    change(path, older.format("NIKON D70s", "old.jpg"), older.format("Ada''s", "mine.jpg"))
    change(path, "update images set camera_make = 'NIKON CORPORATION' where path = 'make.jpg'")
    change(path, "update _images_beside set files = null", "insert or ignore into _images_beside "
           "select id, null from images")  # fmt: skip
    run()
    made = "select path, camera_make, camera_model from images where camera_make is not null"
    assert query(path, f"{made} order by path") == [
        ("make.jpg", "Nikon", None),
        ("mine.jpg", "NIKON CORPORATION", "Ada's"),
        ("old.jpg", "Nikon", "D70s"),
    ]


def test_a_picture_that_changes_keeps_the_words_of_its_file(run: Run, path: Path, folder: Path):
    (folder / "blue.xmp").write_text(words("Sea", "beach"))
    run()
    draw_picture(folder / "blue.jpg", "navy", (90, 60))
    assert run().embedded == 1
    assert (titles(path), keywords(path)) == ({"blue.jpg": "Sea"}, [("blue.jpg", "beach")])
    assert run().read == 0


def test_a_file_that_cannot_be_read_while_its_picture_is_embedded_is_read_later(
    run: Run, path: Path, folder: Path
):
    (folder / "blue.xmp").write_text(words("Sea", "beach")[:400])
    assert (run().embedded, titles(path)) == (8, {})
    (folder / "blue.xmp").write_text(words("Sea", "beach"))
    assert run().read == 1
    assert titles(path) == {"blue.jpg": "Sea"}

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beside, "open_regular", refused)
        draw_picture(folder / "blue.jpg", "navy", (90, 60))
        assert run().embedded == 1
    assert run().read == 1
    assert titles(path) == {"blue.jpg": "Sea"}


def test_a_camera_raw_is_read_again_as_it_was_read_first(run: Run, path: Path, tmp_path: Path):
    pytest.importorskip("rawpy")
    from .tiny_dng import tiny_dng

    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA433] = "Maker of lenses"
    preview = draw_picture(tmp_path / "preview.jpg", "red", exif=exif).read_bytes()
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.dng").write_bytes(tiny_dng(preview=preview))
    run(tmp_path / "raw")
    columns = "camera_make, camera_model, lens, iso, taken_at, title"
    (first,) = query(path, f"select {columns} from images")
    (tmp_path / "raw" / "a.xmp").write_text(words("Grey"))
    run(tmp_path / "raw")
    assert query(path, f"select {columns} from images") == [(*first[:-1], "Grey")]
