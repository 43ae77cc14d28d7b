"""Which entries the patterns of a person leave out."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from datasette_image_search.files.entries import Entries
from datasette_image_search.ingest.exclusion import Exclusion
from datasette_image_search.ingest.left_out import LeftOut
from datasette_image_search.ingest.scopes import find_scopes
from datasette_image_search.ingest.walk import ScanOptions, Walk

from .scanning import make_files, paths_of

NFC, NFD = (unicodedata.normalize(form, "Büro") for form in ("NFC", "NFD"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder photos/p below the working directory."""
    monkeypatch.chdir(tmp_path)
    return make_files(
        tmp_path / "photos" / "p", "a.jpg", "open/b.jpg", "private/c.jpg", "x/p/d.jpg"
    )


def left(root: Path, *patterns: str) -> list[str]:
    """The files that are not left out; each pattern has to match something."""
    exclusion = Exclusion(patterns, Entries())
    for path in sorted(root.rglob("*")):
        exclusion.leaves_out(str(path), path.relative_to(root).as_posix())
    assert exclusion.unmatched == ()
    return paths_of(root, exclude=patterns)


@pytest.mark.parametrize(
    "pattern",
    [
        "private",
        "private/",
        "./private",
        "priv*",
        "p/private",
        "p/priv*/",
        "photos/p/private",
        "./photos/p/private/",
        "photos/p/pri*",
        "photos/../photos/p/private",
        "{root}/private",
        "{root}/private/",
        "{root}/priv*",
        "{root}/../p/private",
        "/*/p/private",
    ],
)
def test_a_folder_by_all_its_names(root: Path, pattern: str):
    assert left(root, pattern.format(root=root)) == ["a.jpg", "open/b.jpg", "x/p/d.jpg"]


@pytest.mark.parametrize(
    ("pattern", "gone"),
    [
        ("{root}/*.jpg", ["a.jpg", "open/b.jpg", "private/c.jpg", "x/p/d.jpg"]),
        ("{root}/a.jpg", ["a.jpg"]),
        ("p/a.jpg", ["a.jpg"]),
        ("*/p", ["x/p/d.jpg"]),
        ("*/b.jpg", ["open/b.jpg"]),
    ],
)
def test_stars_match_as_far_down_as_shells_do_not(root: Path, pattern: str, gone: list[str]):
    everything = paths_of(root)
    assert left(root, pattern.format(root=root)) == [
        path for path in everything if path not in gone
    ]


def test_a_folder_of_the_name_of_the_root_is_meant_where_there_is_one(root: Path):
    make_files(root, "p/private/e.jpg")
    assert "private/c.jpg" in left(root, "p/private")
    assert "p/private/e.jpg" not in left(root, "p/private")


def test_a_link_on_the_way_to_an_absolute_path(root: Path, tmp_path: Path):
    (tmp_path / "link").symlink_to(root.parent)
    assert "private/c.jpg" not in left(root, f"{tmp_path}/link/p/private")
    (root / "inner").symlink_to(make_files(tmp_path / "elsewhere", "f.jpg", "g.jpg"))
    found = paths_of(root, exclude=(f"{root}/inner/f.jpg", f"{root}/x"), follow_symlinks=True)
    assert found == ["a.jpg", "inner/g.jpg", "open/b.jpg", "private/c.jpg"]


@pytest.mark.parametrize("listed", [NFC, NFD], ids=["NFC", "NFD"])
@pytest.mark.parametrize("typed", [NFC, NFD], ids=["NFC", "NFD"])
def test_accents_are_the_same_in_either_form(root: Path, listed: str, typed: str):
    make_files(root, f"{listed}/f.jpg")
    for pattern in (typed, f"{typed[:-1]}*", f"p/{typed}", f"{root}/{typed}", f"*{typed[1:]}"):
        assert f"{listed}/f.jpg" not in left(root, pattern)


def test_brackets_are_a_pattern_and_also_themselves(root: Path):
    make_files(root, "[2020] trip/f.jpg", "2 trip/g.jpg")
    assert {"2 trip/g.jpg", "[2020] trip/f.jpg"}.isdisjoint(left(root, "[2020] trip"))
    assert "[2020] trip/f.jpg" not in left(root, f"{root}/[[]2020] trip")
    assert "[2020] trip/f.jpg" not in left(root, "photos/p/[2020] trip")


@pytest.mark.parametrize(
    "pattern", ["", "/", "/private", "nothing*", "p", "photos", "A.JPG", "\0", "x" * 300]
)
def test_a_pattern_that_matches_nothing_is_known(root: Path, pattern: str):
    exclusion = Exclusion(["private", pattern], Entries())
    for path in sorted(root.iterdir()):
        exclusion.leaves_out(str(path), path.name)
    assert exclusion.unmatched == (pattern,)


@pytest.mark.parametrize(
    "pattern",
    ["private/old", "private/*/deep", "p/private/old", "photos/p/private/old/*.jpg", "{root}/private/old", "*/old"],
)  # fmt: skip
@pytest.mark.parametrize("other", ["private", "{root}/pri*"])
def test_a_pattern_within_what_another_leaves_out(root: Path, pattern: str, other: str):
    make_files(root, "private/old/e.jpg")
    walk = Walk(
        find_scopes([root]),
        ScanOptions(exclude=tuple(each.format(root=root) for each in (other, pattern))),
    )
    assert {file.path for file in walk.files()} == {"a.jpg", "open/b.jpg", "x/p/d.jpg"}
    assert walk.left_out() == LeftOut()


@pytest.mark.parametrize("folder", [".cache", "@Recycle"])
def test_a_pattern_within_what_is_always_left_out(root: Path, folder: str):
    make_files(root, f"{folder}/old/e.jpg")
    walk = Walk(find_scopes([root]), ScanOptions(exclude=(f"{folder}/old", "private/old")))
    assert len(list(walk.files())) == 4
    assert walk.left_out().unmatched == ("private/old",)


@pytest.mark.parametrize("pattern", ["private", "priv*", "p/private", "{root}/private"])
def test_a_folder_that_is_named_is_never_left_out(root: Path, pattern: str):
    typed = pattern.format(root=root)
    walk = Walk(find_scopes([root / "private"]), ScanOptions(exclude=(typed, "no such")))
    assert [file.path for file in walk.files()] == ["c.jpg"]
    assert walk.left_out() == LeftOut(unmatched=("no such",), only_named=(typed,))


@pytest.mark.parametrize("pattern", ["*.jpg", "a.jpg", "p/a.jpg", "photos/p/*", "{root}/a*"])
def test_a_file_that_is_named_is_never_left_out(root: Path, pattern: str):
    typed = pattern.format(root=root)
    scopes = find_scopes([root / "a.jpg"], [str(root)])
    walk = Walk(scopes, ScanOptions(exclude=(typed,)))
    assert [file.path for file in walk.files()] == ["a.jpg"]
    assert walk.left_out() == LeftOut(only_named=(typed,))


def test_a_pattern_counts_that_leaves_out_one_thing_beside_what_is_named(root: Path):
    scopes = find_scopes([root / "private", root], [str(root)])
    walk = Walk(scopes, ScanOptions(exclude=("private",)))
    assert "private/c.jpg" in [file.path for file in walk.files()]
    assert walk.left_out() == LeftOut()
