"""Files that are one photo: which are a pair, and what a run makes of them when one comes, goes or moves."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from datasette_image_search.ingest.pairs import CLOSE, paired
from datasette_image_search.ingest.walk import FoundFile

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


def pairs_of(*files: tuple[str, float] | str, rows: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Path -> companions, of the files that are images."""
    given = [(file, 0.0) if isinstance(file, str) else file for file in files]
    left = paired(found(*given), lambda key: key[1] in rows)
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
