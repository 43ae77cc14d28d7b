"""Which files a walk over folders finds, and which it leaves out."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest

from datasette_image_search.ingest.left_out import LeftOut
from datasette_image_search.ingest.scan import find_changes
from datasette_image_search.ingest.scopes import ScanError, find_scopes
from datasette_image_search.ingest.walk import ScanOptions, Walk
from datasette_image_search.store.tables import KnownSource

from .scanning import find, make_file, make_files, paths_of, refuse_to_list

DAY = 86_400


# --- What is found -------------------------------------------------------------------------------


def test_files_come_folder_by_folder_with_posix_paths_below_the_root(tmp_path: Path):
    make_files(tmp_path, "b.jpg", "a.png", "2021/july/c.webp", "2020/d.gif")

    files = find(tmp_path)

    assert [file.path for file in files] == ["2020/d.gif", "2021/july/c.webp", "a.png", "b.jpg"]
    assert {file.root for file in files} == {str(tmp_path)}
    assert [file.absolute for file in files] == [tmp_path / file.path for file in files]


@pytest.mark.parametrize("name", ["a.JPG", "a.Jpeg", "a.jfif", "a.TIFF", "a.HEIC", "a.avif"])
def test_suffixes_count_in_capitals_too(tmp_path: Path, name: str):
    make_files(tmp_path, name)
    assert paths_of(tmp_path) == [name]


@pytest.mark.parametrize("name", ["notes.txt", "a.jpg.part", "jpg", "a.mpg", "a.jpg~", "Thumbs.db"])
def test_other_files_are_left_out(tmp_path: Path, name: str):
    make_files(tmp_path, name)
    assert paths_of(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    [
        ".hidden.jpg",
        "._a.jpg",
        ".thumbnails/a.jpg",
        "@eaDir/a.jpg",
        "#recycle/a.jpg",
        "$RECYCLE.BIN/a.jpg",
        "deep/er/@eaDir/SYNOPHOTO.jpg/a.jpg",
    ],
)
def test_hidden_files_and_the_folders_of_tools_are_left_out(tmp_path: Path, name: str):
    make_files(tmp_path, "kept.jpg", name)
    assert paths_of(tmp_path) == ["kept.jpg"]


def test_a_hidden_folder_that_is_asked_for_by_name_is_scanned(tmp_path: Path):
    make_files(tmp_path, ".private/a.jpg")
    assert paths_of(tmp_path / ".private") == ["a.jpg"]


def test_symbolic_links_are_left_out(tmp_path: Path):
    make_files(tmp_path / "pictures", "a.jpg", "sub/b.jpg")
    make_files(tmp_path / "elsewhere", "c.jpg")
    (tmp_path / "pictures" / "link.jpg").symlink_to(tmp_path / "elsewhere" / "c.jpg")
    (tmp_path / "pictures" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pictures" / "sub" / "loop").symlink_to(tmp_path / "pictures")
    (tmp_path / "pictures" / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")

    assert paths_of(tmp_path / "pictures") == ["a.jpg", "sub/b.jpg"]


def test_a_link_that_is_asked_for_by_name_is_the_folder_it_points_to(tmp_path: Path):
    make_files(tmp_path / "real", "a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "real")

    (file,) = find(tmp_path / "link")

    assert (file.root, file.path) == (str(tmp_path / "real"), "a.jpg")


def test_a_folder_called_like_a_picture_is_told_and_searched(tmp_path: Path):
    make_files(tmp_path, "x.jpg/inside.png")
    assert {file.path: file.problem for file in find(tmp_path)} == {
        "x.jpg": "it is a folder, not a picture",
        "x.jpg/inside.png": None,
    }


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
@pytest.mark.parametrize("given_name", [".", "pipe.jpg"])
def test_a_pipe_is_found_with_its_problem_and_never_opened(tmp_path: Path, given_name: str):
    os.mkfifo(tmp_path / "pipe.jpg")
    (file,) = find(tmp_path / given_name)
    assert (file.root, file.path) == (str(tmp_path), "pipe.jpg")
    assert file.problem == "it is a named pipe, not a picture"


# --- Leaving out, and following links ------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["a.jpg"], ["2020/b.png", "2020/trip/c.jpg", "2021/d.jpg"]),
        (["*.jpg"], ["2020/b.png"]),
        (["trip"], ["2020/a.jpg", "2020/b.png", "2021/d.jpg", "a.jpg"]),
        (["2020"], ["2021/d.jpg", "a.jpg"]),
        (["2020/trip"], ["2020/a.jpg", "2020/b.png", "2021/d.jpg", "a.jpg"]),
        (["2020/*"], ["2021/d.jpg", "a.jpg"]),
        (["*/a.jpg"], ["2020/b.png", "2020/trip/c.jpg", "2021/d.jpg", "a.jpg"]),
        (["202[01]", "nothing*"], ["a.jpg"]),
        (["A.JPG", "020"], ["2020/a.jpg", "2020/b.png", "2020/trip/c.jpg", "2021/d.jpg", "a.jpg"]),
    ],
    ids=str,
)
def test_names_and_paths_that_are_excluded(tmp_path: Path, patterns: list[str], left: list[str]):
    make_files(tmp_path, "a.jpg", "2020/a.jpg", "2020/b.png", "2020/trip/c.jpg", "2021/d.jpg")
    assert paths_of(tmp_path, exclude=tuple(patterns)) == left


def test_excluded_paths_are_those_below_the_root_wherever_a_run_starts(tmp_path: Path):
    make_files(tmp_path, "2020/trip/a.jpg", "2020/b.jpg")
    exclude = ("2020/trip",)
    assert paths_of(tmp_path / "2020", known_roots=[tmp_path], exclude=exclude) == ["2020/b.jpg"]


def test_a_file_that_is_asked_for_by_name_is_never_excluded(tmp_path: Path):
    make_files(tmp_path, "a.jpg", "b.jpg")
    assert paths_of(tmp_path / "a.jpg", exclude=("*.jpg",)) == ["a.jpg"]


def test_a_folder_that_is_excluded_stays_so_where_it_is_a_root_itself(tmp_path: Path):
    make_files(tmp_path, "a.jpg", "private/b.jpg")
    known_roots = [tmp_path / "private"]
    assert paths_of(tmp_path, known_roots=known_roots, exclude=("private",)) == ["a.jpg"]


def test_links_are_followed_where_that_is_asked_for(tmp_path: Path):
    make_files(tmp_path / "pictures", "a.jpg")
    make_files(tmp_path / "elsewhere", "b.jpg", "deep/c.jpg")
    (tmp_path / "pictures" / "file.jpg").symlink_to(tmp_path / "elsewhere" / "b.jpg")
    (tmp_path / "pictures" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pictures" / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")

    files = find(tmp_path / "pictures", follow_symlinks=True)

    assert {file.path: file.problem for file in files} == {
        "a.jpg": None,
        "dangling.jpg": "No such file or directory",
        "file.jpg": None,
        "folder/b.jpg": None,
        "folder/deep/c.jpg": None,
    }
    assert {file.root for file in files} == {str(tmp_path / "pictures")}


def test_links_that_lead_in_a_circle_end(tmp_path: Path):
    make_files(tmp_path / "pictures", "a.jpg", "sub/b.jpg")
    (tmp_path / "pictures" / "sub" / "up").symlink_to(tmp_path / "pictures")
    (tmp_path / "pictures" / "self").symlink_to(tmp_path / "pictures" / "self")
    (tmp_path / "pictures" / "sub" / "again").symlink_to(tmp_path / "pictures" / "sub")
    assert paths_of(tmp_path / "pictures", follow_symlinks=True) == ["a.jpg", "sub/b.jpg"]


@pytest.mark.parametrize(
    "name",
    [
        "with space.jpg",
        'it\'s "quoted".jpg',
        "Übergrößen/東京 🗼.jpg",
        "100%_[a]*?.jpg",
        "back\\slash.jpg",
        "new\nline.jpg",
        "-rf.jpg",
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_names_come_as_they_are(tmp_path: Path, name: str):
    make_files(tmp_path, name)
    (file,) = find(tmp_path)
    assert (file.path, file.problem) == (name, None)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have UTF-8 names only")
@pytest.mark.parametrize(
    ("name", "path"), [(b"caf\xe9.jpg", "caf\\udce9.jpg"), (b"caf\xe9/a.jpg", "caf\\udce9/a.jpg")]
)
def test_a_name_that_is_not_utf8_is_found_with_its_problem(tmp_path: Path, name: bytes, path: str):
    make_files(tmp_path, os.fsdecode(name), "fine.jpg")

    files = {file.path: file for file in find(tmp_path)}

    assert files["fine.jpg"].problem is None
    assert files[path].problem == "the file name is not UTF-8; rename the file"
    assert path.encode()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have UTF-8 names only")
def test_a_root_whose_name_is_not_utf8_is_one_sentence(tmp_path: Path):
    folder = make_files(tmp_path / os.fsdecode(b"caf\xe9"), "a.jpg")
    with pytest.raises(ScanError, match="UTF-8"):
        find(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_found_with_its_problem(tmp_path: Path):
    make_files(tmp_path, "a.jpg", "locked/b.jpg", "z.jpg")
    (tmp_path / "locked").chmod(0)
    try:
        files = {file.path: file for file in find(tmp_path)}
    finally:
        (tmp_path / "locked").chmod(0o700)

    assert list(files) == ["a.jpg", "locked", "z.jpg"]
    assert files["locked"].problem == "the folder cannot be read: Permission denied"


def test_a_path_that_is_not_there_is_named(tmp_path: Path):
    make_files(tmp_path, "a.jpg")
    with pytest.raises(ScanError, match=r"there is no file or folder '.*missing folder'"):
        find_changes([tmp_path, tmp_path / "missing folder"], {}, [])


def test_size_and_mtime_are_those_of_the_file(tmp_path: Path):
    path = make_file(tmp_path / "a.jpg", b"12345")
    os.utime(path, ns=(0, 1_626_285_791_123_456_789))

    (file,) = find(tmp_path)

    assert (file.size, file.mtime) == (5, "2021-07-14T18:03:11.123456+00:00")


@pytest.mark.parametrize(
    ("mtime", "text"), [(0, "1970-01-01T00:00:00+00:00"), (-DAY, "1969-12-31T00:00:00+00:00")]
)
def test_old_mtimes_are_utc_too(tmp_path: Path, mtime: int, text: str):
    make_file(tmp_path / "a.jpg", mtime=mtime)
    (file,) = find(tmp_path)
    assert file.mtime == text


def test_names_that_windows_cannot_tell_apart_are_two_files(tmp_path: Path):
    make_files(tmp_path, "a.jpg", "A.jpg", "a.JPG")
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip("the file system does not tell capitals apart")
    assert paths_of(tmp_path) == ["A.jpg", "a.JPG", "a.jpg"]


def test_folders_in_folders_as_deep_as_a_drive_has_them(tmp_path: Path):
    folder = make_files(tmp_path / "p", "top.jpg")
    for _ in range(900):
        folder = folder / "a"
        folder.mkdir()
    make_file(folder / "deep.jpg")
    assert paths_of(tmp_path / "p") == ["a/" * 900 + "deep.jpg", "top.jpg"]


# --- What is left out, and said so -----------------------------------------------------------------


def left_out(folder: Path, *paths: Path, **options) -> LeftOut:
    walk = Walk(find_scopes([folder, *paths]), ScanOptions(**options))
    assert [file.name for file in walk.files()] == ["kept.jpg"]
    return walk.left_out()


def test_what_is_no_picture_is_counted_by_its_kind(tmp_path: Path):
    make_files(
        tmp_path, "kept.jpg", "a.MPG", "b/c.wmv", "b/d.flv", "e.pdf", "f.m4a", "g.txt", "g.json", "noname",
        # What belongs to pictures or to the system, and what is hidden.
        "kept.jpg.xmp", "kept.AAE", "Thumbs.db", ".DS_Store", ".trash/h.mpg",
    )  # fmt: skip
    assert left_out(tmp_path).files == {"video": 3, "other file": 3, "PDF": 1, "sound file": 1}
    assert left_out(tmp_path, exclude=("b", "*.txt")).files["video"] == 1
    assert left_out(tmp_path, tmp_path / "b").files["video"] == 3


def test_the_files_of_the_database_are_no_files_of_a_person(tmp_path: Path):
    make_files(
        tmp_path, "kept.jpg", "photos.db", "photos.db-wal", "photos.db-image-search-1.faiss",
        "photos.db-image-search.lock", "photos.db.zip", "other.db", "below/photos.db",
    )  # fmt: skip
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    walk = Walk(find_scopes([tmp_path]), database=tmp_path / "link" / "photos.db")
    assert len(list(walk.files())) == 1
    assert walk.left_out().files == {"other file": 3}


def test_links_that_lead_nowhere_are_no_files(tmp_path: Path):
    make_files(tmp_path, "kept.jpg", "a.txt")
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "away").symlink_to("nowhere")
    (tmp_path / "another").symlink_to("a.txt")
    assert left_out(tmp_path, follow_symlinks=True).files == {"other file": 2}


@pytest.mark.parametrize(
    "name",
    [
        "#recycle", "@Recycle", "$RECYCLE.BIN", "$Recycle.Bin", "RECYCLER", "#snapshot", "@Recently-Snapshot",
        "@eaDir", "System Volume Information", "__MACOSX", "node_modules",
    ],
)  # fmt: skip
def test_folders_of_tools_are_named_in_any_spelling(tmp_path: Path, name: str):
    for spelled in (name, name.lower(), name.upper()):
        place = make_files(
            tmp_path / f"of {spelled}", "kept.jpg", f"{spelled}/a.jpg", f"b/{spelled}/c.mpg"
        )
        assert left_out(place) == LeftOut(folders={spelled: 2})


def test_the_smaller_copies_in_a_library_of_photos_are_left_out(tmp_path: Path):
    library = tmp_path / "My.photoslibrary"
    make_files(library, "originals/0/kept.jpg", "resources/derivatives/0/a.jpg")
    for place in (tmp_path, library):
        assert left_out(place).folders == {"derivatives": 1}
    assert paths_of(make_files(tmp_path / "mine", "resources/derivatives/b.jpg")) == [
        "resources/derivatives/b.jpg"
    ]


def test_a_folder_of_a_tool_that_is_asked_for_by_name_is_walked(tmp_path: Path):
    make_files(tmp_path, "#recycle/a.jpg")
    assert paths_of(tmp_path / "#recycle") == ["a.jpg"]


def test_only_links_are_asked_where_they_lead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """For each folder this would cost the square of its depth."""
    make_files(tmp_path, "p/a/b/c/d/e.jpg")
    (tmp_path / "p" / "a" / "again").symlink_to(tmp_path / "p")
    (tmp_path / "p" / "twice").symlink_to(tmp_path / "p" / "a" / "b")
    asked: list[str] = []
    real = os.path.realpath

    def realpath(path: str) -> str:
        asked.append(path)
        return real(path)

    scopes = find_scopes([tmp_path / "p"])
    monkeypatch.setattr(os.path, "realpath", realpath)
    found = [file.path for file in Walk(scopes, ScanOptions(follow_symlinks=True)).files()]
    assert found == ["a/b/c/d/e.jpg"]
    assert asked == [f"{tmp_path}/p{name}" for name in ("", "/a/again", "/twice")]


# --- What drives do ----------------------------------------------------------------------------------


def test_numbers_of_folders_may_be_given_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A drive by FUSE gives the number of a folder to another one when it has forgotten the first."""
    make_files(tmp_path, "a/b.jpg", "c/d.jpg")
    real = os.stat

    def stat(path, *args, **options):
        status = real(path, *args, **options)
        names = [name for name in dir(status) if name.startswith("st_")]
        return SimpleNamespace(**{name: getattr(status, name) for name in names} | {"st_ino": 1})

    monkeypatch.setattr(os, "stat", stat)
    assert paths_of(tmp_path, follow_symlinks=True) == ["a/b.jpg", "c/d.jpg"]


def test_a_folder_without_permission_is_found_with_its_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make_files(tmp_path, "a.jpg", "locked/b.jpg", "z.jpg")
    refuse_to_list(tmp_path / "locked", monkeypatch)
    problems = {file.path: file.problem for file in find(tmp_path)}
    assert problems == {
        "a.jpg": None,
        "locked": "the folder cannot be read: Permission denied",
        "z.jpg": None,
    }


@pytest.mark.parametrize("given_name", ["locked", "."])
def test_a_folder_that_can_be_read_again_is_no_failure_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given_name: str
):
    folder = tmp_path / given_name
    make_files(folder, "b.jpg")
    root = str(tmp_path)
    key = (root, given_name)
    known = {key: KnownSource(None, 0, "", failed=True, has_vector=False)}
    with monkeypatch.context() as patched:
        refuse_to_list(folder, patched)
        changes = find_changes([tmp_path], known, [root])
        assert (changes.settled, changes.missing) == ((), {})
    changes = find_changes([tmp_path], known, [root])
    assert (changes.settled, changes.missing) == ((key,), {})
    assert [file.name for file in changes.to_embed] == ["b.jpg"]


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="no drive that keeps any time")
@pytest.mark.parametrize("year", [10_000, 250_000, -50])
def test_a_time_that_no_calendar_has(year: int):
    with TemporaryDirectory(dir="/dev/shm") as folder:
        seconds = round((year - 1970) * 365.2425 * DAY)
        make_file(Path(folder, "a.jpg"), mtime=seconds)
        (file,) = find(Path(folder))
    assert (file.mtime[:4], file.problem) == ("9999" if year > 0 else "0001", None)
