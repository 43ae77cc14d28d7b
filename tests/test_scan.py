from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasette_image_search.files.states import iso_time
from datasette_image_search.ingest.scan import (
    Changes,
    find_changes,
)
from datasette_image_search.ingest.scopes import ScanError, check_mounted, find_scopes
from datasette_image_search.ingest.walk import FoundFile, ScanOptions
from datasette_image_search.store.tables import KnownSource

from .ignoring_case import ignore_case_below
from .scanning import find, make_file, make_files, refuse_to_list

DAY = 86_400


Known = dict[tuple[str, str], KnownSource]


def known_of(*files: FoundFile, image_id: int | None = 1, has_vector: bool = True) -> Known:
    """What the tables would know after these files; without an image id, they failed."""
    failed = image_id is None
    return {
        (file.root, file.path): KnownSource(
            image_id, file.size, file.mtime, failed=failed, has_vector=has_vector and not failed
        )
        for file in files
    }


def changes_of(*given: Path, known: Known, retry_failed: bool = False, **options) -> Changes:
    """What a run over some paths finds; the roots are those of the known files."""
    roots = {root for root, _ in known}
    return find_changes(given, known, roots, ScanOptions(**options), retry_failed=retry_failed)


def missing_of(changes: Changes) -> list[str]:
    return sorted(path for _, path in changes.missing)


# --- Roots ---------------------------------------------------------------------------------------


def test_a_single_file_has_its_folder_as_root(tmp_path: Path):
    make_files(tmp_path, "a.jpg", "b.jpg")
    (file,) = find(tmp_path / "a.jpg")
    assert (file.root, file.path) == (str(tmp_path), "a.jpg")


def test_a_single_file_below_a_known_root_belongs_to_it(tmp_path: Path):
    make_files(tmp_path, "sub/a.jpg")
    (file,) = find(tmp_path / "sub" / "a.jpg", known_roots=[tmp_path])
    assert (file.root, file.path) == (str(tmp_path), "sub/a.jpg")


def test_a_folder_below_a_known_root_is_no_new_root(tmp_path: Path):
    make_files(tmp_path, "sub/a.jpg", "b.jpg")
    (file,) = find(tmp_path / "sub", known_roots=[tmp_path])
    assert (file.root, file.path) == (str(tmp_path), "sub/a.jpg")


def test_each_file_of_a_parent_belongs_to_the_deepest_root(tmp_path: Path):
    make_files(tmp_path, "sub/deep/a.jpg", "sub/b.jpg", "c.jpg", "subway/d.jpg")
    known_roots = [tmp_path / "sub", tmp_path / "sub" / "deep"]

    found = {(file.root, file.path) for file in find(tmp_path, known_roots=known_roots)}

    assert found == {
        (str(tmp_path), "c.jpg"),
        (str(tmp_path), "subway/d.jpg"),
        (str(tmp_path / "sub"), "b.jpg"),
        (str(tmp_path / "sub" / "deep"), "a.jpg"),
    }


@pytest.mark.parametrize(
    "given_names", [[".", "."], [".", "sub"], ["sub", "."], ["sub/a.jpg", "."], [".", "sub/a.jpg"]]
)
def test_a_file_that_is_given_twice_is_found_once(tmp_path: Path, given_names: list[str]):
    make_files(tmp_path, "sub/a.jpg", "b.jpg")

    files = find(*(tmp_path / name for name in given_names))

    assert sorted(file.absolute for file in files) == [
        tmp_path / "b.jpg",
        tmp_path / "sub" / "a.jpg",
    ]


def test_relative_and_dotted_paths_are_the_same_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make_files(tmp_path, "a.jpg", "sub/b.jpg")
    monkeypatch.chdir(tmp_path / "sub")

    files = find(Path(".."), tmp_path / "sub" / ".." / "sub")

    assert [(file.root, file.path) for file in files] == [
        (str(tmp_path), "a.jpg"),
        (str(tmp_path), "sub/b.jpg"),
    ]


@given(data=st.data())
@settings(max_examples=60)
def test_whatever_is_given_each_file_is_found_once_below_its_deepest_root(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    base = tmp_path_factory.getbasetemp().resolve() / "invariant"
    folders = ["", "a", "a/b", "a/b/c", "ab", "d"]
    if not base.exists():
        make_files(base, *(f"{folder}/x.jpg" for folder in folders))
    some = st.lists(st.sampled_from(folders), max_size=4)
    given_paths = [base / folder for folder in data.draw(some)]
    known_roots = [base / folder for folder in data.draw(some)]

    files = find(*given_paths, known_roots=known_roots)

    below = {p for path in given_paths for p in path.rglob("x.jpg")}
    assert sorted(file.absolute for file in files) == sorted(below)
    roots = {file.root for file in files} | {str(root) for root in known_roots}
    for file in files:
        parents = [str(parent) for parent in PurePosixPath(file.absolute).parents]
        assert file.root == next(parent for parent in parents if parent in roots)


# --- What changed --------------------------------------------------------------------------------


def test_all_files_of_a_new_folder_are_to_be_embedded(tmp_path: Path):
    make_files(tmp_path, "a.jpg", "b.jpg")

    changes = changes_of(tmp_path, known={})

    assert [(file.path, file.image_id) for file in changes.to_embed] == [
        ("a.jpg", None),
        ("b.jpg", None),
    ]
    assert (changes.unchanged, changes.failed_before) == (0, 0)


def test_a_file_that_is_as_it_was_needs_nothing(tmp_path: Path):
    make_files(tmp_path, "a.jpg", "b.jpg")
    known = known_of(*find(tmp_path))

    changes = changes_of(tmp_path, known=known)

    assert (changes.to_embed, changes.unchanged, changes.failed_before) == ((), 2, 0)


@pytest.mark.parametrize(
    ("content", "mtime"),
    [(b"longer", 1_600_000_000), (b"y", 1_600_000_001), (b"y", 1_500_000_000.000001)],
    ids=["size", "mtime", "older"],
)
def test_a_changed_file_keeps_its_row(tmp_path: Path, content: bytes, mtime: float):
    path = make_file(tmp_path / "a.jpg")
    make_file(tmp_path / "b.jpg")
    known = known_of(*find(tmp_path), image_id=42)
    make_file(path, content, mtime)

    changes = changes_of(tmp_path, known=known)

    assert [(file.path, file.image_id) for file in changes.to_embed] == [("a.jpg", 42)]
    assert changes.unchanged == 1


def test_a_file_that_failed_before_is_not_tried_again_until_it_changes(tmp_path: Path):
    path = make_file(tmp_path / "a.jpg")
    known = known_of(*find(tmp_path), image_id=None)

    before = changes_of(tmp_path, known=known)
    make_file(path, b"repaired")
    after = changes_of(tmp_path, known=known)

    assert (before.to_embed, before.failed_before) == ((), 1)
    assert [(file.path, file.image_id) for file in after.to_embed] == [("a.jpg", None)]


def test_the_parent_of_a_known_root_brings_only_the_new_files(tmp_path: Path):
    make_files(tmp_path, "sub/a.jpg", "b.jpg")
    known = known_of(*find(tmp_path / "sub"))

    changes = changes_of(tmp_path, known=known)

    assert [(file.root, file.path) for file in changes.to_embed] == [(str(tmp_path), "b.jpg")]
    assert changes.unchanged == 1


def test_what_failed_before_is_tried_again_where_that_is_asked_for(tmp_path: Path):
    make_files(tmp_path, "a.jpg", "b.jpg")
    failed, fine = find(tmp_path)
    known = known_of(failed, image_id=None) | known_of(fine)

    changes = changes_of(tmp_path, known=known, retry_failed=True)

    assert [file.path for file in changes.to_embed] == ["a.jpg"]
    assert (changes.unchanged, changes.failed_before) == (1, 0)


def test_a_row_without_a_vector_is_to_be_embedded_and_keeps_its_id(tmp_path: Path):
    make_files(tmp_path, "a.jpg")
    known = known_of(*find(tmp_path), image_id=7, has_vector=False)

    changes = changes_of(tmp_path, known=known)

    assert [(file.path, file.image_id) for file in changes.to_embed] == [("a.jpg", 7)]


# --- What is missing -----------------------------------------------------------------------------


def test_files_that_are_not_there_any_more_are_missing(tmp_path: Path):
    make_files(tmp_path, "a.jpg", "sub/b.jpg", "c.jpg")
    known = known_of(*find(tmp_path))
    (tmp_path / "a.jpg").unlink()
    shutil.rmtree(tmp_path / "sub")

    changes = changes_of(tmp_path, known=known)

    assert missing_of(changes) == ["a.jpg", "sub/b.jpg"]
    assert changes.unchanged == 1
    assert changes.missing[str(tmp_path), "a.jpg"] == known[str(tmp_path), "a.jpg"]


def test_failures_go_missing_like_images(tmp_path: Path):
    make_files(tmp_path, "a.jpg", "bad.jpg")
    fine, bad = find(tmp_path)
    (tmp_path / "bad.jpg").unlink()

    known = known_of(fine) | known_of(bad, image_id=None)
    assert missing_of(changes_of(tmp_path, known=known)) == ["bad.jpg"]


@pytest.mark.parametrize(
    ("given_name", "missing"),
    [("sub", ["sub/b.jpg"]), ("c.jpg", []), (".", ["a.jpg", "sub/b.jpg", "subway/d.jpg"])],
)
def test_a_run_says_nothing_about_what_it_did_not_look_at(
    tmp_path: Path, given_name: str, missing: list[str]
):
    make_files(tmp_path, "a.jpg", "sub/b.jpg", "sub/kept.jpg", "c.jpg", "subway/d.jpg")
    known = known_of(*find(tmp_path))
    for name in ("a.jpg", "sub/b.jpg", "subway/d.jpg"):
        (tmp_path / name).unlink()
    assert missing_of(changes_of(tmp_path / given_name, known=known)) == missing


def test_each_root_has_its_own_missing_files(tmp_path: Path):
    make_files(tmp_path, "one/a.jpg", "one/b.jpg", "two/a.jpg", "two/b.jpg")
    known = known_of(*find(tmp_path / "one", tmp_path / "two"))
    (tmp_path / "one" / "a.jpg").unlink()
    (tmp_path / "two" / "b.jpg").unlink()

    only_one = changes_of(tmp_path / "one", known=known)
    both = changes_of(tmp_path / "one", tmp_path / "two", known=known)

    assert set(only_one.missing) == {(str(tmp_path / "one"), "a.jpg")}
    assert set(both.missing) == {(str(tmp_path / "one"), "a.jpg"), (str(tmp_path / "two"), "b.jpg")}
    assert (only_one.unchanged, both.unchanged) == (1, 2)


@pytest.mark.parametrize("pattern", ["a.jpg", "sub", "sub/*"])
def test_a_file_that_is_excluded_is_not_missing(tmp_path: Path, pattern: str):
    make_files(tmp_path, "a.jpg", "sub/b.jpg", "c.jpg")
    known = known_of(*find(tmp_path))
    assert missing_of(changes_of(tmp_path, known=known, exclude=(pattern,))) == []


def test_a_link_that_is_not_followed_any_more_is_not_missing(tmp_path: Path):
    make_files(tmp_path / "elsewhere", "b.jpg")
    make_files(tmp_path / "pictures", "a.jpg")
    (tmp_path / "pictures" / "link").symlink_to(tmp_path / "elsewhere")
    known = known_of(*find(tmp_path / "pictures", follow_symlinks=True))
    assert len(known) == 2
    assert missing_of(changes_of(tmp_path / "pictures", known=known)) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_in_a_folder_that_cannot_be_read_are_not_missing(tmp_path: Path):
    make_files(tmp_path, "a.jpg", "locked/b.jpg")
    known = known_of(*find(tmp_path))
    (tmp_path / "locked").chmod(0)
    try:
        changes = changes_of(tmp_path, known=known)
    finally:
        (tmp_path / "locked").chmod(0o700)
    assert missing_of(changes) == []


# --- Drives that are not mounted -----------------------------------------------------------------


def check(changes: Changes[FoundFile]) -> None:
    """As a run does it, when nothing that is missing was found elsewhere."""
    check_mounted(changes.emptied, changes.missing)


@pytest.mark.parametrize("left", [[], ["notes.txt", ".hidden.jpg", "@eaDir/a.jpg"]], ids=str)
def test_a_root_that_was_emptied_is_an_error_that_names_it(tmp_path: Path, left: list[str]):
    make_files(tmp_path / "drive", "a.jpg", "sub/b.jpg")
    known = known_of(*find(tmp_path / "drive"))
    shutil.rmtree(tmp_path / "drive")
    (tmp_path / "drive").mkdir()
    make_files(tmp_path / "drive", *left)

    with pytest.raises(
        ScanError, match=r"no images left in '.*/drive', and the table has 2 of them; .* mount it"
    ):
        check(changes_of(tmp_path / "drive", known=known))


def test_a_root_that_is_not_there_is_an_error_that_names_it(tmp_path: Path):
    make_files(tmp_path / "drive", "a.jpg")
    known = known_of(*find(tmp_path / "drive"))
    shutil.rmtree(tmp_path / "drive")
    with pytest.raises(ScanError, match=r"no file or folder '.*/drive'; .* mount it"):
        changes_of(tmp_path / "drive", known=known)


@pytest.mark.parametrize("is_there", [True, False], ids=["emptied", "missing"])
def test_a_root_below_a_folder_that_is_given_may_be_a_drive_too(tmp_path: Path, is_there: bool):
    make_files(tmp_path, "a.jpg", "usb/b.jpg", "usb/c.jpg")
    known = known_of(*find(tmp_path, known_roots=[tmp_path / "usb"]))
    shutil.rmtree(tmp_path / "usb")
    if is_there:
        (tmp_path / "usb").mkdir()
    with pytest.raises(ScanError, match=r"no images left in '.*/usb', and the table has 2 of them"):
        check(changes_of(tmp_path, known=known))


def test_one_of_two_roots_that_was_emptied_is_an_error(tmp_path: Path):
    make_files(tmp_path, "one/a.jpg", "two/b.jpg")
    known = known_of(*find(tmp_path / "one", tmp_path / "two"))
    (tmp_path / "two" / "b.jpg").unlink()
    with pytest.raises(ScanError, match="/two'"):
        check(changes_of(tmp_path / "one", tmp_path / "two", known=known))


def test_a_folder_whose_images_are_all_in_a_root_of_their_own_is_not_empty(tmp_path: Path):
    make_files(tmp_path, "loose.jpg", "sorted/a.jpg")
    known = known_of(*find(tmp_path, known_roots=[tmp_path / "sorted"]))
    (tmp_path / "loose.jpg").unlink()
    changes = changes_of(tmp_path, known=known)
    check(changes)
    assert missing_of(changes) == ["loose.jpg"]


def test_a_root_of_which_everything_is_excluded_is_no_drive_that_is_gone(tmp_path: Path):
    make_files(tmp_path, "a.jpg", "private/b.jpg")
    known = known_of(*find(tmp_path, known_roots=[tmp_path / "private"]))
    changes = changes_of(tmp_path, known=known, exclude=("private",))
    assert (missing_of(changes), changes.unchanged) == ([], 1)


def test_a_root_that_only_had_failures_may_be_emptied(tmp_path: Path):
    make_files(tmp_path, "bad.jpg")
    known = known_of(*find(tmp_path), image_id=None)
    (tmp_path / "bad.jpg").unlink()
    assert missing_of(changes_of(tmp_path, known=known)) == ["bad.jpg"]


def test_a_drive_that_goes_while_it_is_looked_at_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    drive = make_files(tmp_path / "drive", "a/1.jpg", "b/2.jpg", "c/3.jpg")
    known = known_of(*find(drive))
    scandir = os.scandir

    def scandir_until_the_drive_goes(folder: str | int):
        if str(folder).endswith("b"):
            drive.rename(tmp_path / "elsewhere")
            drive.mkdir()
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", scandir_until_the_drive_goes)
    with pytest.raises(ScanError, match="mount it"):
        check(changes_of(drive, known=known))


def test_a_path_that_cannot_be_looked_at_is_an_error_of_one_sentence(tmp_path: Path):
    with pytest.raises(ScanError, match="cannot be looked at: File name too long"):
        find_scopes([tmp_path / ("a" * 300)])


# --- Drives to which two spellings are one ---------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Divers/IMG.JPG", "divers/IMG.JPG"),
        ("a/IMG.JPG", "a/img.jpg"),
        ("\u00e9.jpg", "e\u0301.jpg"),
    ],
)
def test_a_file_with_another_spelling_is_the_one_that_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str
):
    known = known_of(*find(make_files(tmp_path / "p", old, "other.jpg")), image_id=7)
    ignore_case_below(tmp_path / "p", monkeypatch)
    for number in (0, 1):
        before, after = (PurePosixPath(name).parts[number:] for name in (old, new))
        if before and before[0] != after[0]:
            folder = tmp_path.joinpath("p", *PurePosixPath(new).parts[:number])
            (folder / before[0]).rename(folder / after[0])
    changes = changes_of(tmp_path / "p", known=known)
    assert [(file.path, file.image_id) for file in changes.respelled] == [(new, 7)]
    assert (changes.to_embed, changes.unchanged, missing_of(changes)) == ((), 1, [])

    make_file(tmp_path / "p" / new, b"another", mtime=1_700_000_000)
    changes = changes_of(tmp_path / "p", known=known)
    assert [(file.path, file.image_id) for file in changes.to_embed] == [(new, 7)]
    assert (changes.respelled, missing_of(changes)) == ((), [])


def test_a_root_is_one_however_it_is_spelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    known = known_of(*find(make_files(tmp_path / "p" / "Photos", "a.jpg", "b/c.jpg")))
    ignore_case_below(tmp_path / "p", monkeypatch)
    for spelled in ("PHOTOS", "photos", "photos/B", "."):
        changes = changes_of(tmp_path / "p" / spelled, known=known)
        assert (changes.to_embed, missing_of(changes)) == ((), [])
    (tmp_path / "p" / "Photos").rename(tmp_path / "p" / "photos")
    changes = changes_of(tmp_path / "p", known=known)
    assert (changes.to_embed, changes.unchanged, missing_of(changes)) == ((), 2, [])


def test_a_failure_goes_when_its_file_gets_another_spelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The file is tried again under its new name."""
    known = known_of(*find(make_files(tmp_path / "p", "Divers/bad.jpg")), image_id=None)
    ignore_case_below(tmp_path / "p", monkeypatch)
    (tmp_path / "p" / "Divers").rename(tmp_path / "p" / "divers")
    changes = changes_of(tmp_path / "p", known=known)
    assert [path for _, path in changes.settled] == ["Divers/bad.jpg"]
    assert [file.path for file in changes.to_embed] == ["divers/bad.jpg"]
    (tmp_path / "p" / "divers" / "bad.jpg").unlink()
    assert changes_of(tmp_path / "p", known=known).settled == ()


def test_rows_that_were_made_twice_of_one_file_are_one_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """By 0.1, which knew only names."""
    known = known_of(*find(make_files(tmp_path / "p", "divers/a.jpg")))
    (((root, _), before),) = known.items()
    known[root, "Divers/a.jpg"] = before
    ignore_case_below(tmp_path / "p", monkeypatch)
    changes = changes_of(tmp_path / "p", known=known)
    assert (changes.unchanged, changes.respelled, missing_of(changes)) == (1, (), ["Divers/a.jpg"])


def test_where_case_counts_another_spelling_is_another_file(tmp_path: Path):
    known = known_of(*find(make_files(tmp_path / "p", "A.jpg")))
    make_file(tmp_path / "p" / "a.jpg")
    changes = changes_of(tmp_path / "p", known=known)
    assert [file.path for file in changes.to_embed] == ["a.jpg"]
    assert missing_of(changes) == []


# --- Odd files -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("microseconds", "time"),
    [
        (0, "1970-01-01T00:00:00+00:00"),
        (253402387200 * 10**6, "9999-12-31T23:59:59.999999+00:00"),
        (2**70, "9999-12-31T23:59:59.999999+00:00"),
        (-(2**62), "0001-01-01T00:00:00+00:00"),
    ],
)
def test_a_time_beyond_the_calendar_is_its_end(microseconds: int, time: str):
    assert iso_time(microseconds) == time


# --- Images of files that are left out now -----------------------------------------------------------


def test_known_images_that_a_run_leaves_out_are_counted(tmp_path: Path):
    make_files(
        tmp_path, "a.jpg", "b/c.jpg", "b/d/e.jpg", "#recycle/f.jpg", ".hidden/g.jpg", "h.jpg"
    )
    known = known_of(*find(tmp_path)) | {
        (str(tmp_path), path): KnownSource(2, 1, "", has_vector=True)
        for path in ("#recycle/f.jpg", ".hidden/g.jpg", "gone.jpg", "#recycle/gone.jpg")
    }
    changes = changes_of(tmp_path, known=known, exclude=("b",))
    assert (changes.left_out.images, changes.left_out.example) == (4, "#recycle/f.jpg")
    assert missing_of(changes) == ["#recycle/gone.jpg", "gone.jpg"]
    assert changes_of(tmp_path / "b", known=known).left_out.images == 0


def test_images_in_a_folder_that_cannot_be_read_are_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make_files(tmp_path, "a.jpg", "b/c.jpg", "b/d/e.jpg")
    known = known_of(*find(tmp_path))
    refuse_to_list(tmp_path / "b", monkeypatch)
    assert changes_of(tmp_path, known=known).left_out.images == 0
