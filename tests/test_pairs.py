"""Files that are one photo: which are a pair, and what a run makes of them when one comes, goes or moves."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from datasette_image_search.ingest import pipeline
from datasette_image_search.ingest.pairs import CLOSE, LONGEST, paired
from datasette_image_search.ingest.scopes import NotThere
from datasette_image_search.ingest.survey import EmbedRequest, Survey
from datasette_image_search.ingest.walk import FoundFile
from datasette_image_search.store.companions import names_of
from datasette_image_search.store.tables import KnownSource

from .commands import change, command, query
from .conftest import draw_picture
from .drawn_films import draw_film

AT = 1_600_000_000


def found(*files: tuple[str, float]) -> dict[tuple[str, str], FoundFile]:
    """Files (path, seconds after the others)."""
    return {
        ("/photos", path): FoundFile(
            "/photos", path, 1, f"2020-09-13T12:{26 + int(late) // 60:02}:{int(late) % 60:02}+00:00"
        )
        for path, late in files
    }


def row(companions: str = "", failed: bool = False, image_id: int | None = 1) -> KnownSource:
    return KnownSource(
        image_id, 1, "2020-09-13T12:26:00+00:00", failed=failed, companions=companions
    )


def pairs_of(
    *files: tuple[str, float] | str,
    rows: tuple[str, ...] = (),
    known: Mapping[str, KnownSource] | None = None,
    there: tuple[str, ...] = (),
    seconds: float = 3,
) -> dict[str, list[str]]:
    """Path -> companions, of the files that are images. `there` are others, `seconds` the length of the films."""
    given = [(file, 0.0) if isinstance(file, str) else file for file in files]
    sources = {**{name: row() for name in rows}, **(known or {})}
    left = paired(
        found(*given),
        {("/photos", path): source for path, source in sources.items()},
        lambda key: key[1] in there,
        lambda film: seconds <= LONGEST,
    )
    return {
        path: json.loads(file.companions) if file.companions else []
        for (_, path), file in left.items()
    }


def test_the_film_of_a_live_photo_and_the_raw_of_a_jpeg_are_companions() -> None:
    assert pairs_of("a/IMG_1.HEIC", "a/IMG_1.MOV") == {"a/IMG_1.HEIC": ["a/IMG_1.MOV"]}
    assert pairs_of("DSC_1.NEF", "DSC_1.jpg") == {"DSC_1.jpg": ["DSC_1.NEF"]}
    assert pairs_of("1.dng", "1.mov", "1.heic") == {"1.heic": ["1.dng", "1.mov"]}
    assert pairs_of("1.dng", "1.mov") == {"1.dng": ["1.mov"]}


@pytest.mark.parametrize("files", [
    ("a/1.heic", "b/1.mov"),
    ("1.heic", "10.mov"),
    ("1.png", "1.webp"),
    ("1.heic", "1.jpg"),
    ("1.mov", "1.mp4"),
    ("1.jpg", ("1.nef", CLOSE + 1)),
])  # fmt: skip
def test_others_are_images_of_their_own(files: tuple[str, ...]) -> None:
    """In another folder, of another name, of other kinds, or of another time."""
    names = [file if isinstance(file, str) else file[0] for file in files]
    assert pairs_of(*files) == {name: [] for name in names}


def test_a_file_with_a_row_keeps_it() -> None:
    assert pairs_of("1.heic", "1.mov", rows=("1.mov",)) == {"1.heic": [], "1.mov": []}
    assert pairs_of("1.heic", "1.mov", rows=("1.heic",)) == {"1.heic": ["1.mov"]}


def test_a_long_film_is_none_of_a_live_photo() -> None:
    assert pairs_of("1.jpg", "1.mp4", "1.dng", seconds=LONGEST + 1) == {
        "1.jpg": ["1.dng"],
        "1.mp4": [],
    }


@pytest.mark.parametrize("time", ["2020-09-13T12:26:00+00:00", ""])
def test_a_picture_that_failed_has_no_companions(time: str) -> None:
    """ "" is the time of one that could not be opened."""
    failed = replace(row(failed=True, image_id=None), mtime=time)
    assert pairs_of("1.jpg", "1.mov", known={"1.jpg": failed}) == {"1.jpg": [], "1.mov": []}
    # The next best picture has them.
    assert pairs_of("1.heic", "1.jpg", "1.mov", known={"1.heic": failed}) == {
        "1.heic": [],
        "1.jpg": ["1.mov"],
    }
    changed = replace(failed, size=2)
    assert pairs_of("1.jpg", "1.mov", known={"1.jpg": changed}) == {"1.jpg": ["1.mov"]}


def test_an_empty_picture_has_no_companions() -> None:
    files = {key: replace(file, size=0) for key, file in found(("1.jpg", 0)).items()}
    files |= found(("1.mov", 0))
    assert paired(files, {}, lambda key: False, lambda film: True) == files


def test_what_a_row_names_stays_a_companion() -> None:
    """Whatever the times, whatever was found, and although a better picture came."""
    known = {"1.jpg": row('["1.mov"]')}
    late = ("1.mov", CLOSE + 1)
    together = {"1.jpg": ["1.mov"]}
    assert pairs_of("1.jpg", late, known=known, seconds=100) == together
    assert pairs_of("1.jpg", known=known, there=("1.mov",)) == together
    assert pairs_of("1.mov", known=known, there=("1.jpg",)) == {}
    assert pairs_of("1.jpg", "1.mov", "1.heic", known=known) == {**together, "1.heic": []}
    bad = {"1.jpg": row('["1.mov"]', failed=True)}
    assert pairs_of("1.jpg", "1.mov", known=bad) == together


def test_what_a_row_names_is_none_without_both_files() -> None:
    known = {"1.jpg": row('["1.mov"]')}
    assert pairs_of("1.jpg", known=known) == {"1.jpg": []}
    assert pairs_of("1.mov", known=known) == {"1.mov": []}


@pytest.mark.parametrize("written", [
    *("a word", "3", "[3]", '{"a": 1}', '["\\ud800.mov"]'),
    *('[""]', '["."]', '["/etc/passwd"]', '["/1.mov"]', '["../1.mov"]', '["a/1.mov"]', '["2.jpg"]'),
])  # fmt: skip
def test_what_people_write_into_the_column_is_no_companion(written: str) -> None:
    """Although something may be there by that name."""
    known = {"1.jpg": row(written)}
    names = names_of(written)
    assert pairs_of("1.jpg", known=known, there=tuple(names)) == {"1.jpg": []}


@pytest.mark.parametrize("name", ["a\0.mov", "x" * 100_000 + ".mov"], ids=["NUL", "long"])
def test_what_can_be_no_name_of_a_file_is_no_companion(path: Path, photos: Path, name: str) -> None:
    expected = rows(path)
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute(
            "update images set companions = ? where path = 'other.jpg'", [json.dumps([name])]
        )
    assert rows(path) == expected


# --- A run -----------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    draw_picture(folder / "IMG_1.jpg", "red")
    draw_film(folder / "IMG_1.MOV", [("red", 1), ("blue", 1)])
    draw_picture(folder / "other.jpg", "green")
    for file in folder.iterdir():
        os.utime(file, (AT, AT))
    return folder


def rows(path: Path, *options: str) -> dict[str, str | None]:
    """Path -> companions, after a run over the folder beside the database."""
    run = ("embed-images", path, "images", path.parent / "photos", "--model", "palette", *options)
    done = command(*run)
    assert done.exit_code == 0, done.output
    return dict(query(path, "select path, companions from images"))


def test_a_live_photo_is_one_row(path: Path, photos: Path) -> None:
    expected = {"IMG_1.jpg": '["IMG_1.MOV"]', "other.jpg": None}
    assert rows(path) == rows(path) == expected
    assert query(path, "select count(*) from _images_vectors") == [(2,)]


def test_without_pairs_both_are_rows(path: Path, photos: Path) -> None:
    both = {"IMG_1.MOV": None, "IMG_1.jpg": None, "other.jpg": None}
    assert rows(path, "--no-pairs") == both
    # Also in the next run, until somebody deletes the row.
    assert rows(path) == both
    change(path, "delete from images where path = 'IMG_1.MOV'")
    assert rows(path) == {"IMG_1.jpg": '["IMG_1.MOV"]', "other.jpg": None}
    assert rows(path, "--no-pairs") == both


def test_a_companion_comes_and_goes(path: Path, photos: Path) -> None:
    """Nothing is embedded for that."""
    film = (photos / "IMG_1.MOV").rename(path.parent / "away.mov")
    assert rows(path) == {"IMG_1.jpg": None, "other.jpg": None}
    before = query(path, "select * from _images_vectors")
    film.rename(photos / "IMG_1.MOV")
    assert rows(path)["IMG_1.jpg"] == '["IMG_1.MOV"]'
    (photos / "IMG_1.MOV").unlink()
    assert rows(path, "--prune") == {"IMG_1.jpg": None, "other.jpg": None}
    assert query(path, "select * from _images_vectors") == before


def test_a_pair_moves_as_one(path: Path, photos: Path) -> None:
    rows(path)
    ids = query(path, "select id, filename from images order by id")
    (photos / "trip").mkdir()
    for name in ("IMG_1.jpg", "IMG_1.MOV"):
        shutil.move(photos / name, photos / "trip" / name)
    assert rows(path, "--prune") == {"trip/IMG_1.jpg": '["trip/IMG_1.MOV"]', "other.jpg": None}
    assert query(path, "select id, filename from images order by id") == ids


def test_what_is_left_of_a_pair_is_an_image(path: Path, photos: Path) -> None:
    rows(path)
    (photos / "IMG_1.jpg").unlink()
    assert rows(path, "--prune") == {"IMG_1.MOV": None, "other.jpg": None}


def test_a_picture_that_is_given_by_itself_keeps_its_companions(path: Path, photos: Path) -> None:
    expected = rows(path)
    done = command("embed-images", path, "images", photos / "IMG_1.jpg")
    assert done.exit_code == 0
    assert dict(query(path, "select path, companions from images")) == expected


@pytest.mark.parametrize("name", ["IMG_1.jpg", "IMG_1.MOV"])
def test_a_pair_stays_one_if_a_file_of_it_is_edited(path: Path, photos: Path, name: str) -> None:
    expected = rows(path)
    with (photos / name).open("ab") as file:
        file.write(b"\0")
    assert rows(path) == expected
    os.utime(photos / name, (AT + 3600, AT + 3600))
    assert command("embed-images", path, "images", photos / name).exit_code == 0
    assert rows(path) == expected


def test_a_film_that_is_given_by_itself_is_of_the_picture_beside_it(
    path: Path, photos: Path
) -> None:
    film = ("embed-images", path, "images", photos / "IMG_1.MOV", "--model", "palette")
    for _ in range(2):
        done = command(*film)
        assert done.exit_code == 0, done.output
        assert ", 1 companion in " in done.output
        assert query(path, "select path, companions from images") == [
            ("IMG_1.jpg", '["IMG_1.MOV"]')
        ]
    assert rows(path) == {"IMG_1.jpg": '["IMG_1.MOV"]', "other.jpg": None}


def test_a_film_of_minutes_beside_its_thumbnail_is_an_image(path: Path, photos: Path) -> None:
    draw_film(photos / "IMG_1.MOV", [("red", LONGEST), ("blue", 1)])
    os.utime(photos / "IMG_1.MOV", (AT, AT))
    assert rows(path) == {"IMG_1.jpg": None, "IMG_1.MOV": None, "other.jpg": None}


def make_bad(picture: Path) -> None:
    """As a picture that was cut short: its bytes begin like those of a JPEG."""
    picture.write_bytes(b"\xff\xd8\xff no picture")
    os.utime(picture, (AT, AT))


def test_the_film_of_a_picture_that_cannot_be_read_is_an_image(path: Path, photos: Path) -> None:
    """Of the same run, although only reading the picture tells."""
    make_bad(photos / "IMG_1.jpg")
    run = ("embed-images", path, "images", photos, "--model", "palette")
    done = command(*run)
    assert done.output.splitlines()[-1].startswith("2 embedded, 0 unchanged, 1 failed in ")
    images = query(path, "select path, companions from images order by path")
    assert images == [("IMG_1.MOV", None), ("other.jpg", None)]
    assert query(path, "select path from _images_failures") == [("IMG_1.jpg",)]
    assert command(*run).output.splitlines()[-1].startswith("0 embedded, 2 unchanged, 1 failed in ")
    assert query(path, "select path, companions from images order by path") == images


def test_a_film_that_cannot_be_read_either_is_a_failure_of_the_same_run(
    path: Path, photos: Path
) -> None:
    make_bad(photos / "IMG_1.jpg")
    film = bytearray((photos / "IMG_1.MOV").read_bytes())
    begin, end = film.index(b"mdat") + 4, film.index(b"moov") - 4
    film[begin:end] = bytes(end - begin)
    (photos / "IMG_1.MOV").write_bytes(film)
    os.utime(photos / "IMG_1.MOV", (AT, AT))
    assert rows(path) == {"other.jpg": None}
    failures = query(path, "select path from _images_failures order by path")
    assert failures == [("IMG_1.MOV",), ("IMG_1.jpg",)]


def test_a_film_is_of_the_next_best_picture_in_the_same_run(path: Path, photos: Path) -> None:
    (photos / "IMG_1.jpg").rename(photos / "IMG_1.jpeg")
    (photos / "IMG_1.jpg").touch()
    make_bad(photos / "IMG_1.jpg")
    expected = {"IMG_1.jpeg": '["IMG_1.MOV"]', "other.jpg": None}
    assert rows(path) == rows(path) == expected


def test_a_limit_is_one_for_what_is_left_of_pairs_too(path: Path, photos: Path) -> None:
    make_bad(photos / "IMG_1.jpg")
    assert rows(path, "--limit", "1") == {}
    assert rows(path, "--limit", "1") == {"IMG_1.MOV": None}


def test_a_film_that_was_moved_beside_a_bad_picture_keeps_its_row(path: Path, photos: Path) -> None:
    """The picture turns out to be bad after the row of the film was taken for gone."""
    (photos / "IMG_1.jpg").unlink()
    rows(path)
    before = query(path, "select id from images where path = 'IMG_1.MOV'")
    (photos / "IMG_1.MOV").rename(photos / "IMG_2.MOV")
    make_bad(photos / "IMG_2.jpg")
    done = command("embed-images", path, "images", photos, "--prune")
    assert " gone" not in done.output
    assert query(path, "select id from images where path = 'IMG_2.MOV'") == before


def test_a_companion_that_vanishes_during_the_run_stops_nothing(
    path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bad(photos / "IMG_1.jpg")
    make_bad(photos / "IMG_2.jpg")
    shutil.copy2(photos / "IMG_1.MOV", photos / "IMG_2.MOV")
    survey_first = pipeline.take_survey

    def survey_and_lose(request: EmbedRequest) -> Survey:
        found = survey_first(request)
        (photos / "IMG_2.MOV").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(pipeline, "take_survey", survey_and_lose)
    assert rows(path) == {"IMG_1.MOV": None, "other.jpg": None}


def test_what_cannot_be_surveyed_again_is_for_the_next_run(
    path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bad(photos / "IMG_1.jpg")
    survey = pipeline.take_survey

    def survey_without_alone(request: EmbedRequest) -> Survey:
        if photos / "IMG_1.MOV" in request.paths:
            raise NotThere(photos / "IMG_1.MOV")
        return survey(request)

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "take_survey", survey_without_alone)
        assert rows(path) == {"other.jpg": None}
    assert rows(path) == {"IMG_1.MOV": None, "other.jpg": None}


def test_what_a_limit_leaves_of_pairs_is_no_companion(path: Path, photos: Path) -> None:
    make_bad(photos / "IMG_1.jpg")
    run = ("embed-images", path, "images", photos, "--model", "palette", "--limit", "1")
    assert "companion" not in command(*run).output.splitlines()[-1]
