"""`sqlite-utils plot-images` as people run it."""

from __future__ import annotations

import json
import re
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
import sqlite_utils
from PIL import Image

from datasette_image_search.maps import plotting
from datasette_image_search.maps.colouring import CATEGORIES, rgb

from .commands import change, command
from .conftest import COLOURS


def plot(*arguments: object) -> str:
    result = command("plot-images", *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    """The one sentence with which it ends."""
    result = command("plot-images", *arguments)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert len(lines) == 1
    return lines[0]


def colours_in(path: Path) -> set[tuple[int, int, int]]:
    picture = Image.open(path).convert("RGB")
    return {colour for _, colour in picture.getcolors(2**24)}


def data_of(page: Path) -> dict:
    """What the map in a page shows."""
    (text,) = re.findall(
        r'<script type="application/json">(.*?)</script>', page.read_text(encoding="utf-8"), re.S
    )
    return json.loads(text)


# --- The picture ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "format"), [("map.png", "PNG"), ("map.webp", "WEBP"), ("MAP.JPG", "JPEG")]
)
def test_a_picture_with_the_thumbnails(
    database: Path, tmp_path: Path, name: str, format: str
) -> None:
    output = plot(database, "images", tmp_path / name)
    assert re.fullmatch(rf"{re.escape(str(tmp_path / name))}: 8 images, \d thumbnails\n", output)
    picture = Image.open(tmp_path / name)
    assert (picture.format, picture.size) == (format, (1600, 1200))
    assert not list(tmp_path.glob(".*"))


def test_the_pictures_are_in_the_picture(database: Path, tmp_path: Path) -> None:
    plot(database, "images", tmp_path / "map.png")
    pixels = np.asarray(Image.open(tmp_path / "map.png")).astype(int)
    seen = 0
    for colour in ((255, 0, 0), (0, 0, 255), (0, 0, 0), (255, 255, 0)):
        seen += (np.abs(pixels - colour).max(axis=2) < 40).sum() > 500
    assert seen >= 3


def test_colours_by_a_column_with_a_legend(database: Path, tmp_path: Path) -> None:
    change(database, "update images set camera_model = iif(id < 5, 'Canon', 'Nikon')")
    options = ("--color", "camera_model", "--thumbnail-size", 0, "--size", 400, 300)
    assert "8 images, 0 thumbnails" in plot(database, "images", tmp_path / "map.png", *options)
    colours = colours_in(tmp_path / "map.png")
    assert {rgb(colour) for colour in CATEGORIES[:2]} <= colours
    assert not {rgb(colour) for colour in CATEGORIES[2:]} & colours
    assert Image.open(tmp_path / "map.png").size == (400, 300)


def test_only_rows_that_pass(database: Path, tmp_path: Path) -> None:
    where = ("--where", "id > :least", "-p", "least", "5")
    assert ": 3 images," in plot(database, "images", tmp_path / "map.png", *where)


def test_no_more_thumbnails_than_asked_for(database: Path, tmp_path: Path) -> None:
    output = plot(database, "images", tmp_path / "map.png", "--thumbnails", 2)
    assert "8 images, 2 thumbnails" in output


def test_the_same_each_time(database: Path, tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        plot(database, "images", tmp_path / name, "--color", "filename")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize("size", [(100, 100), (120, 1000), (2000, 100)])
def test_small_and_narrow_pictures(database: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    plot(database, "images", tmp_path / "map.png", "--size", *size, "--color", "filename")
    assert Image.open(tmp_path / "map.png").size == size


def test_thumbnails_that_are_missing_or_damaged_are_dots(database: Path, tmp_path: Path) -> None:
    change(
        database,
        "delete from _images_thumbnails where image_id < 4",
        "update _images_thumbnails set webp = 'no picture' where image_id = 4",
    )
    output = plot(database, "images", tmp_path / "map.png", "--html", tmp_path / "map.html")
    drawn = [int(n) for n in re.findall(r"8 images, (\d) thumbnail", output)]
    assert drawn[1] == 4
    assert drawn[0] <= 4


def test_a_deleted_image_is_not_drawn(database: Path, tmp_path: Path) -> None:
    plot(database, "images", "--html", tmp_path / "map.html")
    change(database, "delete from images where id = 6")
    plot(database, "images", "--html", tmp_path / "map.html")
    assert sorted(data_of(tmp_path / "map.html")["images"]["id"]) == [1, 2, 3, 4, 5, 7, 8]


# --- The page -------------------------------------------------------------------------------------


def test_a_page_holds_all_that_it_shows(database: Path, tmp_path: Path) -> None:
    page = tmp_path / "map.html"
    output = plot(database, "images", "--html", page, "--color", "filename")
    assert output == f"{page}: 8 images, 8 thumbnails\n"
    text = page.read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="?(?!data:)|url\(|@import|https?:', text)
    data = data_of(page)
    assert sorted(data["images"]["name"]) == sorted(f"{colour}.jpg" for colour in COLOURS)
    assert data["legend"]["title"] == "filename"
    assert data["sprites"]["of"] == list(range(8))
    assert data["sprites"]["sheets"][0].startswith("data:image/webp;base64,")


def test_no_name_of_a_file_is_taken_for_html(database: Path, tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    change(
        database,
        f"update images set path = 'a/{evil}$js' where id = 1",
        f"update images set camera_model = '{evil}'",
    )
    plot(database, "images", "--html", tmp_path / "map.html", "--color", "camera_model")
    text = (tmp_path / "map.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    data = data_of(tmp_path / "map.html")
    # What comes after the last slash is its name.
    assert "script>$js" in data["images"]["name"]
    assert data["legend"]["entries"][0]["label"] == evil


def test_of_many_images_a_page_takes_some_and_says_so(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plotting, "MOST_IMAGES", 5)
    output = plot(database, "images", "--html", tmp_path / "map.html")
    assert "Warning: the page shows 5 of the 8 images, an even selection" in output
    assert "5 of 8 images" in (tmp_path / "map.html").read_text(encoding="utf-8")
    assert ": 8 images" in plot(database, "images", tmp_path / "map.png")


def test_a_picture_shows_all_beside_a_page_that_does_not(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plotting, "MOST_IMAGES", 5)
    alone, both, page = (tmp_path / name for name in ("alone.png", "both.png", "map.html"))
    plot(database, "images", alone, "--color", "filename")
    output = plot(database, "images", both, "--html", page, "--color", "filename")
    assert re.sub(r"\d thumbnails", "_", output).splitlines() == [
        f"{both}: 8 images, _",
        "Warning: the page shows 5 of the 8 images, an even selection",
        f"{page}: 5 images, _",
    ]
    assert both.read_bytes() == alone.read_bytes()
    data = data_of(page)
    images = data["images"]
    assert {len(values) for values in images.values()} == {5}
    assert (data["count"], sum(entry["count"] for entry in data["legend"]["entries"])) == (8, 5)
    # The map has no empty margins.
    assert [(min(images[axis]), max(images[axis])) for axis in "xy"] == [(-1, 1)] * 2
    # What is said of an image is its own.
    named = {
        row["id"]: row["filename"]
        for row in sqlite_utils.Database(database).query("select id, filename from images")
    }
    assert [named[id] for id in images["id"]] == images["name"]


def test_both_at_once(database: Path, tmp_path: Path) -> None:
    output = plot(database, "images", tmp_path / "map.png", "--html", tmp_path / "map.html")
    assert len(output.splitlines()) == 2
    assert stat.S_IMODE((tmp_path / "map.html").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "map.png").stat().st_mode
    )


# --- What is wrong --------------------------------------------------------------------------------


def test_wrong_input_is_one_sentence_and_writes_nothing(database: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.png"
    out.write_bytes(b"as it was")
    before = database.read_bytes()
    assert refused(database, "images").endswith(
        "there is nothing to write; name a picture such as map.png, or --html FILE"
    )
    assert "has no known ending; end it in .png" in refused(
        database, "images", tmp_path / "map.gif"
    )
    assert refused(database, "images", "--html", database) == (
        f"Error: '{database}' is not a name for a page; end it in .html"
    )
    assert "is not a name for a page" in refused(database, "images", out, "--html", out)
    assert "has no column 'nope' to colour by; it has id" in refused(
        database, "images", out, "--color", "nope"
    )
    assert "has no image that passes the filter with a vector to draw" in refused(
        database, "images", out, "--where", "0"
    )
    assert "the filter 'nope = 1' does not work" in refused(
        database, "images", out, "--where", "nope = 1"
    )
    assert "is not embedded with ViT" in refused(database, "images", out, "--model", "ViT")
    assert "'nowhere' is not an image table" in refused(database, "nowhere", out)
    assert "there is no database" in refused(tmp_path / "missing.db", "images", out)
    assert "there is no folder" in refused(database, "images", tmp_path / "no" / "map.png")
    assert out.read_bytes() == b"as it was"
    assert [path.name for path in tmp_path.glob("*map*")] == ["map.png"]
    assert database.read_bytes() == before


def test_umap_that_is_not_installed(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    sentence = refused(database, "images", tmp_path / "map.png", "--method", "umap")
    assert sentence == "Error: UMAP needs an extra: pip install 'datasette-image-search[umap]'"


def test_a_picture_that_cannot_be_written(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk: the old one stays, and nothing lies beside it."""
    out = tmp_path / "map.png"
    out.write_bytes(b"as it was")

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert refused(database, "images", out).endswith(
        "map.png' cannot be written: No space left on device"
    )
    assert out.read_bytes() == b"as it was"
    assert not list(tmp_path.glob(".map*"))


def test_interrupted_it_writes_nothing(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(plotting, "html_file", interrupt)
    both = (tmp_path / "map.png", "--html", tmp_path / "map.html")
    result = command("plot-images", database, "images", *both)
    assert (result.exit_code, result.output) == (130, "Interrupted: nothing was written\n")
    assert not list(tmp_path.glob("*map*"))


def test_a_table_without_images(tmp_path: Path, database: Path) -> None:
    change(database, "delete from images")
    sentence = refused(database, "images", tmp_path / "map.png")
    assert sentence == "Error: 'images' has no image with a vector to draw"


def test_images_in_blobs_are_called_by_their_ids(tmp_path: Path, folder: Path) -> None:
    db = sqlite_utils.Database(tmp_path / "own.db")
    db["stickers"].insert_all(
        ({"name": path.stem, "content": path.read_bytes()} for path in folder.iterdir()), pk="name"
    )
    db.close()
    embedding = ("stickers", "--content-column", "content", "--model", "palette")
    assert command("embed-images", tmp_path / "own.db", *embedding).exit_code == 0
    page = tmp_path / "map.html"
    plot(tmp_path / "own.db", "stickers", "--html", page, "--color", "content")
    data = data_of(page)
    assert sorted(data["images"]["id"]) == sorted(COLOURS)
    assert "#red" in data["images"]["name"]
    assert [entry["label"] for entry in data["legend"]["entries"]] == ["no value"]
