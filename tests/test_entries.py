"""Which entry of a folder a path means, on drives that take several names for one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import pytest

from datasette_image_search.files import entries
from datasette_image_search.files.entries import Entries, folded
from datasette_image_search.files.states import sha256_of

from .conftest import MEMORY
from .ignoring_case import ignore_case_below


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    drive = tmp_path / "drive"
    (drive / "Divers").mkdir(parents=True)
    (drive / "Divers" / "IMG_1.JPG").write_bytes(b"one")
    (drive / "Été").mkdir()
    ignore_case_below(drive, monkeypatch)
    return drive


def test_a_path_is_spelled_as_folders_list_it(drive: Path):
    entries = Entries()
    listed = str(drive / "Divers" / "IMG_1.JPG")
    for path in ("Divers/IMG_1.JPG", "DIVERS/img_1.jpg", "divers/IMG_1.jpg"):
        assert entries.spelled(str(drive / path)) == listed
    assert entries.spelled(str(drive / "divers" / "img_2.jpg")) == str(
        drive / "Divers" / "img_2.jpg"
    )
    decomposed = unicodedata.normalize("NFD", "été")
    assert entries.spelled(str(drive / decomposed)) == str(drive / "Été")
    assert entries.is_listed(str(drive), "Divers/IMG_1.JPG")
    assert not entries.is_listed(str(drive), "divers/IMG_1.JPG")


def test_where_case_counts_names_are_as_they_are(tmp_path: Path):
    entries = Entries()
    for name in ("a.jpg", "A.JPG"):
        (tmp_path / name).write_bytes(name.encode())
        assert entries.spelled(str(tmp_path / name)) == str(tmp_path / name)
    assert not entries.is_same(tmp_path / "a.jpg", tmp_path / "A.JPG")
    assert entries.spelled("/") == "/"


def test_a_folder_of_very_many_folders(tmp_path: Path):
    path = str(tmp_path) + "/a" * 1500
    assert Entries().spelled(path) == path


@pytest.mark.parametrize(
    "path", ["DIVERS/IMG_1.JPG", "Divers/img_1.jpg", "Divers/../Divers/IMG_1.JPG"]
)
def test_one_entry_by_another_spelling(drive: Path, path: str):
    assert Entries().is_same(drive / "Divers" / "IMG_1.JPG", drive / path)


@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="paths of Python 3.10 keep os.stat as it was"
)
def test_numbers_of_files_tell_nothing(drive: Path, monkeypatch: pytest.MonkeyPatch):
    """exFAT by FUSE gives each spelling of a name another one."""
    other = drive / "divers" / "IMG_1.JPG"
    real, played = os.stat, other.stat()

    def stat(path, *args, **options):
        status = real(path, *args, **options)
        if str(path) == str(other):
            return os.stat_result((status.st_mode, status.st_ino + 1, *tuple(played)[2:]))
        return status

    monkeypatch.setattr(os, "stat", stat)
    assert not other.samefile(drive / "Divers" / "IMG_1.JPG")
    assert Entries().is_same(drive / "Divers" / "IMG_1.JPG", other)


def test_links(tmp_path: Path):
    file, copy = tmp_path / "a" / "1.jpg", tmp_path / "a" / "2.jpg"
    file.parent.mkdir()
    file.write_bytes(b"1")
    copy.write_bytes(b"1")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "hard.jpg").hardlink_to(file)
    (tmp_path / "soft.jpg").symlink_to(file)
    entries = Entries()
    assert entries.is_same(file, tmp_path / "b" / "1.jpg")
    assert not entries.is_same(file, tmp_path / "hard.jpg")
    # To remove a link takes nothing along; to remove what the one to keep is a link to does.
    assert not entries.is_same(file, tmp_path / "soft.jpg")
    assert entries.is_same(tmp_path / "soft.jpg", file)
    assert entries.is_same(tmp_path / "soft.jpg", tmp_path / "b" / "1.jpg")
    assert not entries.is_same(tmp_path / "soft.jpg", copy)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """The folder "photos" in another place."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"a")
    again = tmp_path / "again"
    again.mkdir()
    command = ["mount", "--bind", tmp_path / "photos", again]
    if (
        shutil.which("mount") is None
        or subprocess.run(command, check=False, capture_output=True).returncode
    ):
        pytest.skip("nothing can be mounted here")
    yield again
    subprocess.run(["umount", again], check=True)


def test_a_folder_that_is_mounted_twice(mounted: Path, tmp_path: Path):
    assert Entries().is_same(tmp_path / "photos" / "a.jpg", mounted / "a.jpg")


def test_a_file_system_that_shows_a_folder_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nothing tells it from another drive but that size and times are the same, to the last digit."""
    drive = tmp_path.stat().st_dev
    places = [place for place in (MEMORY, Path(gettempdir())) if place.is_dir()]
    other = next((place for place in places if place.stat().st_dev != drive), None)
    if other is None:
        pytest.skip("there is no second drive")
    with TemporaryDirectory(dir=other) as folder:
        for name in (tmp_path / "a.jpg", Path(folder, "a.jpg")):
            name.write_bytes(b"a")
        assert not Entries().is_same(tmp_path / "a.jpg", Path(folder, "a.jpg"))
        monkeypatch.setattr(entries, "_times", lambda status: (1, 2, 3))
        assert Entries().is_same(tmp_path / "a.jpg", Path(folder, "a.jpg"))


def test_names_that_drives_take_for_one():
    assert folded("DIVERS") == folded("divers")
    assert folded("\u00e9") == folded("e\u0301") == folded("E\u0301")
    assert folded("a") != folded("b")


def test_what_is_read_is_a_regular_file(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "none", Path("nul\0")):
        assert sha256_of(path) is None
    (tmp_path / "file").write_bytes(b"")
    assert sha256_of(tmp_path / "file").startswith("e3b0c442")
