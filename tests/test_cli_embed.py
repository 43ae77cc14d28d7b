"""`sqlite-utils embed-images` as people run it, stop it, and run it again."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from datasette.app import Datasette
from PIL import Image

from datasette_image_search import Images
from datasette_image_search.decoding import decode
from datasette_image_search.embedders.model_ids import DEFAULT_MODEL
from datasette_image_search.errors import ImageSearchError
from datasette_image_search.ingest.report import NodeWork, Summary
from datasette_image_search.store.stored_vectors import vector_from_blob

from .commands import change, command, embed_images, query, start, touch_later, vectors_of
from .conftest import SHARED, draw_picture, query_json, sidecar_of
from .faults.forked import Forker, Running
from .scanning import refuse_to_list
from .tiny_clip import ARCHITECTURE, make_tiny_clip

TINY = f"{ARCHITECTURE}/anything"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a new database goes, with nothing beside it."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home" / "photos.db"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 small photos, of which a run that makes a PAUSE before each can be stopped in the middle."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(120):
        draw_picture(folder / f"{number:03}.jpg", f"hsl({number * 3}, 90%, 45%)", (240, 180))
    return folder


PAUSE = 0.008
"""Seconds."""


def first_words(*arguments: object) -> str:
    """What a run that succeeds says at the end, less the time."""
    return embed_images(*arguments).stdout.partition(" in ")[0]


def names_of(path: Path) -> list[str]:
    return [name for (name,) in query(path, "select path from images order by path")]


def table_of(path: Path) -> dict[str, dict]:
    """Path -> all that there is of an image, less its id."""
    with closing(sqlite3.connect(path)) as conn:
        conn.row_factory = sqlite3.Row
        rows = conn.execute(
            "select images.*, r.path as root, vector, webp from images "
            "join image_search_roots as r on r.id = root_id "
            "left join _images_vectors as v on v.image_id = images.id "
            "left join _images_thumbnails as t on t.image_id = images.id"
        ).fetchall()
    table = {row["path"]: dict(row) for row in rows}
    assert len(table) == len(rows)
    for row in table.values():
        del row["id"], row["root_id"]
    return table


def vectors_in(table: dict[str, dict]) -> np.ndarray:
    """The vectors of a `table_of`, which are taken out of it, in the order of the paths."""
    return np.stack([vector_from_blob(table[name].pop("vector")) for name in sorted(table)])


def count(path: Path, table: str = "_images_vectors") -> int:
    """The rows of a table, 0 while it is not there yet."""
    try:
        return query(path, f"select count(*) from {table}")[0][0]
    except sqlite3.OperationalError:
        return 0


def wait_for(path: Path, more_than: int, process: subprocess.Popen | Running) -> None:
    """Until so many images are committed, or the run has ended."""
    while process.poll() is None and count(path) <= more_than:
        time.sleep(0.005)


# --- Options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "left"),
    [(["red.jpg"], 9), (["*.jpg"], 2), (["sub"], 8), (["sub/*"], 8), (["b*", "sub/deep"], 7)],
    ids=str,
)
def test_what_is_excluded_is_left_out(path: Path, folder: Path, patterns: list[str], left: int):
    draw_picture(folder / "sub" / "pink.png", "pink")
    draw_picture(folder / "sub" / "deep" / "lime.png", "lime")
    options = [word for pattern in patterns for word in ("--exclude", pattern)]
    embed_images(path, "images", folder, "--model", "palette", *options)
    assert count(path) == left


def test_what_is_excluded_later_stays(path: Path, folder: Path):
    embed_images(path, "images", folder, "--model", "palette")
    run = (path, "images", folder, "--exclude", "b*", "--prune")
    assert first_words(*run) == "0 embedded, 6 unchanged, 0 failed"
    assert count(path) == 8
    assert embed_images(*run).stderr == (
        "2 images have files left out now, such as 'black.jpg': they stay in the table, and searches find "
        "them; if you do not want them, delete their rows\n"
    )
    change(path, "delete from images where path like 'b%'")
    assert embed_images(*run).stderr == ""


def test_images_in_a_folder_of_a_tool_that_an_older_version_embedded_are_told(
    path: Path, folder: Path
):
    draw_picture(folder / "@Recycle" / "pink.png", "pink")
    embed_images(path, "images", folder, folder / "@Recycle" / "pink.png", "--model", "palette")
    run = (path, "images", folder, "--prune")
    for more in (["--dry-run"], []):
        assert embed_images(*run, *more).stderr == (
            "1 folder of other programs (@Recycle) left out\n"
            "1 image has a file left out now, such as '@Recycle/pink.png': it stays in the table, and "
            "searches find it; if you do not want it, delete its row\n"
        )
    assert "@Recycle/pink.png" in names_of(path)


def test_links_are_followed_where_that_is_asked_for(path: Path, folder: Path, tmp_path: Path):
    draw_picture(tmp_path / "elsewhere" / "pink.png", "pink")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    run = (path, "images", folder, "--model", "palette")
    assert first_words(*run) == "8 embedded, 0 unchanged, 0 failed"
    assert first_words(*run, "--follow-symlinks") == "1 embedded, 8 unchanged, 0 failed"
    assert "link/pink.png" in names_of(path)


def test_several_roots_are_one_table(path: Path, folder: Path, tmp_path: Path):
    draw_picture(tmp_path / "other" / "red.jpg", "crimson")
    draw_picture(tmp_path / "single.jpg", "pink")
    paths = (folder, tmp_path / "other", tmp_path / "single.jpg")
    embed_images(path, "images", *paths, "--model", "palette")
    assert query(path, "select label from image_search_roots order by 1") == [
        ("other",),
        ("pictures",),
        (tmp_path.name,),
    ]
    assert count(path) == 10
    assert first_words(path, "images", *paths) == "0 embedded, 10 unchanged, 0 failed"


def test_no_thumbnails_are_stored_where_none_are_wanted(path: Path, folder: Path):
    embed_images(path, "images", folder, "--model", "palette", "--no-thumbnails")
    assert (count(path), count(path, "_images_thumbnails")) == (8, 0)


def test_thumbnails_are_as_large_as_is_asked_for(path: Path, folder: Path):
    embed_images(path, "images", folder, "--model", "palette", "--thumbnail-size", 40)
    (webp,) = query(path, "select webp from _images_thumbnails where image_id = 1")[0]
    with Image.open(io.BytesIO(webp)) as thumbnail:
        assert thumbnail.size == (40, 30)


def test_a_warning_is_told_and_counted(path: Path, folder: Path):
    (folder / "red.jpg").write_bytes((folder / "red.jpg").read_bytes()[:-2])
    told = embed_images(path, "images", folder, "--model", "palette")
    assert "Warning: red.jpg: the end of the picture is damaged or missing" in told.stderr
    assert "8 embedded, 1 of them with a warning, 0 unchanged, 0 failed" in told.stdout
    assert query(path, "select path, embedded from _images_failures") == [("red.jpg", 1)]


def test_pictures_of_too_many_pixels_are_not_decoded(path: Path, folder: Path):
    draw_picture(folder / "large.png", "pink", (300, 200))
    run = (path, "images", folder, "--model", "palette", "--max-megapixels", 0.05)
    assert first_words(*run) == "8 embedded, 0 unchanged, 1 failed"
    ((reason,),) = query(path, "select reason from _images_failures")
    assert "--max-megapixels" in reason
    again = (path, "images", folder, "--retry-failed")
    assert first_words(*again) == "1 embedded, 8 unchanged, 0 failed"


def test_the_limit_is_where_a_run_ends(path: Path, folder: Path):
    run = (path, "images", folder, "--model", "palette", "--limit", 5)
    assert first_words(*run) == "5 embedded, 0 unchanged, 0 failed"
    assert first_words(*run) == "3 embedded, 5 unchanged, 0 failed"


def test_what_is_gone_is_told_and_pruned_where_that_is_asked_for(path: Path, folder: Path):
    embed_images(path, "images", folder, "--model", "palette")
    (folder / "red.jpg").unlink()
    run = (path, "images", folder)
    assert first_words(*run) == "0 embedded, 1 gone, 7 unchanged, 0 failed"
    assert first_words(*run, "--no-prune") == "0 embedded, 1 gone, 7 unchanged, 0 failed"
    assert first_words(*run, "--prune") == "0 embedded, 1 gone and removed, 7 unchanged, 0 failed"
    assert first_words(*run, "--prune") == "0 embedded, 7 unchanged, 0 failed"
    assert (count(path), count(path, "_images_thumbnails"), count(path, "images")) == (7, 7, 7)


def test_a_renamed_folder_of_100_photos(path: Path, tmp_path: Path):
    for number in range(100):
        draw_picture(tmp_path / "all" / "old" / f"{number}.png", (number, 0, 0), (8, 8))
    embed_images(path, "images", tmp_path / "all", "--model", "palette")
    (tmp_path / "all" / "old").rename(tmp_path / "all" / "new")
    run = (path, "images", tmp_path / "all")
    assert first_words(*run) == "0 embedded, 100 moved, 0 unchanged, 0 failed"


@pytest.fixture
def moved(path: Path, folder: Path, tmp_path: Path) -> Path:
    """Where the folder is now, and the database does not know it."""
    embed_images(path, "images", folder, "--model", "palette")
    (tmp_path / "the archive").mkdir()
    return folder.rename(tmp_path / "the archive" / "pictures")


def run_as_told(result: Result, new: Path | None = None) -> None:
    """The command in an error, as a person copies it; `new` is what they fill in."""
    assert result.exit_code == 1
    line = re.search(r"sqlite-utils query .*? -p new ('[^']*'|[^\s;]+)", result.output)[0]
    words = shlex.split(re.sub("NEW_FOLDER|ABSOLUTE_PATH", shlex.quote(str(new)), line))
    assert command(*words[1:]).exit_code == 0


@pytest.mark.parametrize("below", ["", "pictures"], ids=["its new parent", "the folder"])
@pytest.mark.parametrize("leaves", ["nothing", "an empty folder"])
def test_a_moved_folder_that_the_database_was_not_told_of_doubles_nothing(
    path: Path, folder: Path, moved: Path, below: str, leaves: str
):
    if leaves == "an empty folder":
        folder.mkdir()
    draw_picture(moved / "new.jpg", "pink")
    run = (path, "images", moved.parent / below)
    for dry in ([], ["--dry-run"]):
        result = command("embed-images", *run, *dry)
        assert "nothing was changed" in result.output
        assert count(path) == count(path, "images") == 8
        assert count(path, "image_search_roots") == 1
    run_as_told(result)
    assert first_words(*run) == "1 embedded, 8 unchanged, 0 failed"


def test_a_part_of_a_moved_folder_doubles_nothing_either(path: Path, folder: Path, tmp_path: Path):
    draw_picture(folder / "trip" / "pink.jpg", "pink")
    embed_images(path, "images", folder, "--model", "palette")
    moved = folder.rename(tmp_path / "moved")
    run_as_told(command("embed-images", path, "images", moved / "trip"))
    assert first_words(path, "images", moved / "trip") == "0 embedded, 1 unchanged, 0 failed"


def test_the_old_place_of_a_moved_folder_says_how_to_tell_the_database(
    path: Path, folder: Path, moved: Path
):
    run_as_told(command("embed-images", path, "images", folder), moved)
    assert first_words(path, "images", moved) == "0 embedded, 8 unchanged, 0 failed"


def test_a_place_that_was_told_as_a_relative_path_doubles_nothing(
    path: Path, moved: Path, monkeypatch: pytest.MonkeyPatch
):
    change(path, "update image_search_roots set path = 'the archive/pictures'")
    monkeypatch.chdir(moved.parent.parent)
    result = command("embed-images", path, "images", "the archive/pictures")
    assert "not an absolute path" in result.output
    assert count(path, "images") == 8
    run_as_told(result, moved)
    assert first_words(path, "images", moved) == "0 embedded, 8 unchanged, 0 failed"


def test_copies_of_a_folder_that_is_gone_are_rows_where_that_is_asked_for(path: Path, moved: Path):
    run = (path, "images", moved)
    assert first_words(*run, "--copies") == "0 embedded, 8 reused, 0 unchanged, 0 failed"
    assert first_words(*run) == "0 embedded, 8 unchanged, 0 failed"


def test_other_photos_than_those_of_a_folder_that_is_gone_are_simply_new(
    path: Path, moved: Path, tmp_path: Path
):
    other = tmp_path / "other"
    shutil.copytree(moved, other / "backup")
    for number in range(9):
        draw_picture(other / "backup" / f"{number}.jpg", f"hsl({number * 40}, 70%, 50%)")
    # Of as many bytes as another, and of the name of a third.
    shutil.move(other / "backup" / "red.jpg", other / "blue.jpg")
    for file in list((other / "backup").iterdir()):
        if not file.name[0].isdigit():
            file.rename(file.with_name(f"copy of {file.name}"))
    assert first_words(path, "images", other).startswith("9 embedded, 8 reused")


def test_what_failed_is_tried_again_only_where_that_is_asked_for(path: Path, folder: Path):
    (folder / "bad.jpg").write_bytes(b"bad")
    run = (path, "images", folder, "--model", "palette")
    assert "Failed: bad.jpg" in embed_images(*run).stderr
    skipped = embed_images(*run)
    assert skipped.stdout.startswith("0 embedded, 8 unchanged, 1 failed in")
    assert "Failed:" not in skipped.stderr
    assert "see the table _images_failures, or try it again with --retry-failed" in skipped.stderr
    assert "Failed: bad.jpg" in embed_images(*run, "--retry-failed").stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
def test_a_pipe_that_became_a_file_is_embedded(path: Path, folder: Path):
    os.mkfifo(folder / "pipe.jpg")
    run = (path, "images", folder, "--model", "palette")
    assert first_words(*run) == "8 embedded, 0 unchanged, 1 failed"
    assert "pipe" in query(path, "select reason from _images_failures")[0][0]
    (folder / "pipe.jpg").unlink()
    draw_picture(folder / "pipe.jpg", "pink")
    assert first_words(*run) == "1 embedded, 8 unchanged, 0 failed"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_tried_again_on_request(path: Path, folder: Path):
    (folder / "red.jpg").chmod(0)
    run = (path, "images", folder, "--model", "palette")
    assert "the file cannot be read: Permission denied" in embed_images(*run).stderr
    (folder / "red.jpg").chmod(0o600)
    assert first_words(*run) == "0 embedded, 7 unchanged, 1 failed"
    assert first_words(*run, "--retry-failed") == "1 embedded, 7 unchanged, 0 failed"


@pytest.mark.parametrize("exists", [True, False], ids=["database", "no database"])
def test_a_dry_run_tells_what_would_be_done_and_does_nothing(
    path: Path, folder: Path, exists: bool
):
    if exists:
        embed_images(path, "images", folder, "--model", "palette")
        (folder / "red.jpg").unlink()
        draw_picture(folder / "pink.jpg", "pink")
        (folder / "blue.jpg").rename(folder / "moved.jpg")
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}

    result = embed_images(path, "images", folder, "--dry-run", "--prune", "--wal")

    assert result.stdout == (
        "Would be: 1 embedded, 1 moved, 1 gone, 6 unchanged, 0 failed\n"
        if exists
        else "Would be: 8 embedded, 0 unchanged, 0 failed; 'images' is a new table, embedded with "
        f"{DEFAULT_MODEL}\n"
    )
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_a_mistyped_table_is_told_to_be_a_new_one(path: Path, folder: Path):
    embed_images(path, "images", folder, "--model", "palette")
    told = "'imges' is a new table, embedded with palette; this database already has 'images'"
    run = (path, "imges", folder, "--model", "palette")
    assert told in embed_images(*run, "--dry-run").stdout
    assert told in embed_images(*run).stderr
    assert "new table" not in embed_images(*run).output


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Pictures", "images Pictures"),
        ("Pictures/lotus Pictures/gps", "images Pictures/lotus Pictures/gps"),
        ("Pictures images", "images Pictures"),
        ("Pictures/lotus my.photos Pictures/gps", "my.photos Pictures/lotus Pictures/gps"),
        ("Pictures Holidays", "images Pictures Holidays"),
    ],
)
def test_a_folder_that_stands_where_the_table_goes_is_told_and_put_right(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, meant: str
):
    for name in ("Pictures/lotus", "Pictures/gps", "Holidays"):
        draw_picture(tmp_path / name / "red.jpg", "red")
    monkeypatch.chdir(tmp_path)
    result = command("embed-images", path, *typed.split())
    assert result.exit_code == 1
    first = typed.split(maxsplit=1)[0]
    assert result.output == (
        f"Error: {first!r} is given instead of the table name; run: "
        f"sqlite-utils embed-images {path} {meant}\n"
    )
    assert not path.exists()


def test_a_table_may_have_the_name_of_its_folder(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    draw_picture(tmp_path / "images" / "trip" / "red.jpg", "red")
    monkeypatch.chdir(tmp_path)
    for files in ("images", "images/trip", "images/trip/red.jpg"):
        run = (path.with_name(files.replace("/", "-")), "images", files, "--model", "palette")
        assert first_words(*run) == "1 embedded, 0 unchanged, 0 failed"


def test_a_table_that_was_dropped_is_begun_anew(path: Path, folder: Path):
    embed_images(path, "images", folder, "--model", "palette")
    embed_images(path, "others", folder, "--model", "palette")
    for table in ("images", "others"):
        command("tag-images", path, table, "red", "blue")
        shutil.copy(folder / "red.jpg", folder / "twin.jpg")
        embed_images(path, table, folder)
        assert command("find-duplicates", path, table, "--write").exit_code == 0
    kept = {table: count(path, table) for table in ("_others_vectors", "others_duplicates")}
    assert count(path, "images_tags")
    assert command("drop-table", path, "images").exit_code == 0
    for colour in ("red", "orange"):
        (folder / f"{colour}.jpg").unlink()

    run = (path, "images", folder, "--model", "palette")
    assert first_words(*run) == "7 embedded, 0 unchanged, 0 failed"

    for side in ("images", "_images_vectors", "_images_thumbnails"):
        assert count(path, side) == 7
    assert count(path, "images_tags") == count(path, "images_duplicates") == 0
    assert {table: count(path, table) for table in kept} == kept
    assert query(path, "select count(distinct index_id) from image_search_label_sets") == [(1,)]
    found = command("search-images", path, "images", "yellow", "-k", 1).output
    assert "yellow.jpg" in found


def test_a_table_that_was_renamed_is_not_begun_anew(path: Path, folder: Path):
    run = (path, "images", folder)
    embed_images(*run, "--model", "palette")
    command("rename-table", path, "images", "photos")
    before = path.read_bytes()
    for dry in ([], ["--dry-run"]):
        result = command("embed-images", *run, *dry)
        assert result.exit_code == 1
        assert path.read_bytes() == before
    line = result.output.partition("with: ")[2].replace("PATH", str(path))
    assert command(*shlex.split(line)[1:]).exit_code == 0
    assert first_words(*run) == "0 embedded, 8 unchanged, 0 failed"
    assert "red.jpg" in command("search-images", path, "images", "red", "-k", 1).output


def test_vectors_that_were_dropped_are_embedded_again_where_that_is_asked_for(
    path: Path, folder: Path
):
    run = (path, "images", folder)
    embed_images(*run, "--model", "palette")
    change(path, "drop table _images_vectors")
    for asked in (["embed-images", *run], ["search-images", path, "images", "red"]):
        result = command(*asked)
        assert result.exit_code == 1
        assert "'_images_vectors'; embed everything again" in result.output
    assert first_words(*run, "--replace-model") == "8 embedded, 0 unchanged, 0 failed"
    assert "red.jpg" in command("search-images", path, "images", "red", "-k", 1).output


def test_a_dry_run_counts_what_is_known_to_fail(
    path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(decode, "HEIC", False)
    monkeypatch.setitem(sys.modules, "rawpy", None)
    monkeypatch.delitem(sys.modules, "datasette_image_search.decoding.raw", raising=False)
    for name in ("one.heic", "two.HEIC"):
        (folder / name).write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "three.dng").write_bytes(b"II*\0")
    for name in ("a jpeg as raw.dng", "a jpeg.heic", "a jpeg.jxl"):
        shutil.copy(folder / "red.jpg", folder / name)
    os.mkfifo(folder / "pipe.jpg")
    run = (path, "images", folder, "--model", "palette")

    planned, result = embed_images(*run, "--dry-run"), embed_images(*run)

    assert planned.stdout.startswith("Would be: 11 embedded, 0 unchanged, 4 failed;")
    assert result.stdout.startswith("11 embedded, 0 unchanged, 4 failed in ")
    assert planned.stderr.replace("Would fail: ", "Failed: ") == result.stderr
    assert "one.heic and 1 more: HEIC needs an extra" in planned.stderr


def test_one_that_failed_before_has_not_changed(path: Path, folder: Path):
    run = (path, "images", folder, "--model", "palette")
    for number in range(2):
        (folder / f"{number}.jpg").write_bytes(b"no picture")
        embed_images(*run)
        told = embed_images(*run).stderr
        assert ("1 failed before and has not changed" in told) == (number == 0)
        assert ("2 failed before and have not changed" in told) == (number == 1)


def test_a_deleted_row_comes_back_unless_its_file_is_left_out(path: Path, folder: Path):
    run = (path, "images", folder, "--model", "palette")
    embed_images(*run)
    change(path, "delete from images where path = 'red.jpg'")
    assert first_words(*run, "--exclude", "red.jpg") == "0 embedded, 7 unchanged, 0 failed"
    assert first_words(*run) == "1 embedded, 7 unchanged, 0 failed"


@pytest.mark.parametrize("dropped", [True, False], ids=["dropped", "never stored"])
def test_thumbnails_come_back_where_everything_is_embedded_again(
    path: Path, folder: Path, dropped: bool
):
    run = (path, "images", folder, "--model", "palette")
    embed_images(*run, *([] if dropped else ["--no-thumbnails"]))
    if dropped:
        change(path, "drop table _images_thumbnails")
    embed_images(*run)
    assert count(path, "_images_thumbnails") == 0
    embed_images(*run, "--replace-model")
    assert count(path, "_images_thumbnails") == 8


def test_wal_is_switched_on_and_nothing_is_left_in_it(path: Path, folder: Path):
    embed_images(path, "images", folder, "--model", "palette", "--wal")
    draw_picture(folder / "pink.jpg", "pink")
    with closing(sqlite3.connect(path)) as datasette:
        # Somebody who has the file open keeps the log from being removed when the run ends.
        assert datasette.execute("select count(*) from images").fetchall() == [(8,)]
        embed_images(path, "images", folder)
        assert datasette.execute("select count(*) from images").fetchall() == [(9,)]
        assert Path(f"{path}-wal").stat().st_size == 0
    assert query(path, "pragma journal_mode") == [("wal",)]


def test_wal_leaves_no_file_where_nobody_else_has_the_database(path: Path, folder: Path):
    embed_images(path, "images", folder, "--model", "palette", "--wal")
    draw_picture(folder / "pink.jpg", "pink")
    embed_images(path, "images", folder)
    names = {file.name for file in path.parent.iterdir()}
    assert names == {path.name, sidecar_of(path).name}
    assert query(path, "pragma journal_mode") == [("wal",)]


# --- Models --------------------------------------------------------------------------------------


def models_of(path: Path) -> dict[str, int]:
    """Model -> how many images have a vector of it."""
    return dict(
        query(
            path,
            "select model, count(v.id) from image_search_indexes as i "
            "left join _images_vectors as v on v.index_id = i.id group by model",
        )
    )


def sidecars_beside(path: Path) -> int:
    return len([file for file in path.parent.iterdir() if file.name != path.name])


def test_another_model_needs_a_decision(path: Path, folder: Path, weights: Path):
    embed_images(path, "images", folder, "--model", "palette")
    before = path.read_bytes()
    result = command("embed-images", path, "images", folder, "--model", TINY, "--weights", weights)
    assert result.exit_code == 1
    assert "'images' is embedded with palette, not tiny-test/anything" in result.stderr
    for choice in ("--model palette", "--add-model", "--replace-model"):
        assert choice in result.stderr
    assert path.read_bytes() == before


def test_a_second_model_is_an_index_beside_the_first(path: Path, folder: Path, weights: Path):
    embed_images(path, "images", folder, "--model", "palette")
    rows = query(path, "select * from images")
    first = query(path, "select * from _images_vectors where index_id = 1")
    tiny = ("--model", TINY, "--weights", weights)

    assert first_words(path, "images", folder, *tiny, "--add-model").startswith("8 embedded")

    assert models_of(path) == {"palette": 8, TINY: 8}
    assert query(path, "select * from _images_vectors where index_id = 1") == first
    assert query(path, "select * from images") == rows
    lengths = "select index_id, count(distinct length(vector)) from _images_vectors group by 1"
    assert query(path, lengths) == [(1, 1), (2, 1)]
    assert sidecars_beside(path) == 2


def test_each_model_is_kept_up_to_date_and_searched_by_its_name(
    path: Path, folder: Path, weights: Path
):
    embed_images(path, "images", folder, "--model", "palette")
    tiny = ("--model", TINY, "--weights", weights, "--add-model")
    embed_images(path, "images", folder, *tiny)
    draw_picture(folder / "red.jpg", "blue", (90, 60))
    touch_later(folder / "red.jpg")

    assert first_words(path, "images", folder) == "1 embedded, 7 unchanged, 0 failed"
    assert models_of(path) == {"palette": 8, TINY: 7}
    assert first_words(path, "images", folder, "--model", TINY) == (
        "1 embedded, 7 unchanged, 0 failed"
    )
    assert models_of(path) == {"palette": 8, TINY: 8}

    def best(*options: str) -> dict:
        result = command("search-images", path, "images", "#1", "-k", "2", "--json", *options)
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    assert best() == best("--model", "palette")
    assert best() != best("--model", TINY)
    missing = command("search-images", path, "images", "#1", "--model", "timm/other")
    assert "'images' is not embedded with timm/other, but with palette, tiny-" in missing.stderr


@pytest.mark.datasette
@pytest.mark.asyncio
async def test_sql_searches_with_the_first_of_two_models(path: Path, folder: Path, weights: Path):
    embed_images(path, "images", folder, "--model", "palette")
    sql = "select image_search('red', 3) as hits"
    before = await query_json(Datasette([str(path)]), sql)
    embed_images(path, "images", folder, "--model", TINY, "--weights", weights, "--add-model")
    assert await query_json(Datasette([str(path)]), sql) == before
    assert "red" in query(path, "select path from images where id = 6")[0][0]
    assert json.loads(before[0]["hits"])[0]["id"] == 6


def test_a_model_that_replaces_another_leaves_nothing_of_it(
    path: Path, folder: Path, weights: Path
):
    embed_images(path, "images", folder, "--model", "palette")
    rows, sidecar = query(path, "select * from images"), sidecar_of(path).read_bytes()
    tiny = ("--model", TINY, "--weights", weights)
    assert first_words(path, "images", folder, *tiny, "--replace-model").startswith("8 embedded")
    assert models_of(path) == {TINY: 8}
    assert query(path, "select * from images") == rows
    assert sidecars_beside(path) == 1
    assert sidecar_of(path).read_bytes() != sidecar
    assert first_words(path, "images", folder) == "0 embedded, 8 unchanged, 0 failed"


def test_other_weights_of_a_model_are_another_model(path: Path, folder: Path, weights: Path):
    other = make_tiny_clip(weights.parent, "other.safetensors", seed=1)
    run = (path, "images", folder, "--model", TINY)
    embed_images(*run, "--weights", weights)
    before = vectors_of(path)
    draw_picture(folder / "pink.jpg", "pink")

    for options in ([], ["--add-model"]):
        refused = command("embed-images", *run, "--weights", other, *options)
        assert refused.exit_code == 1
        assert "was embedded with other weights of tiny-test/anything" in refused.stderr
        assert "--replace-model" in refused.stderr
        assert vectors_of(path) == before

    replaced = first_words(*run, "--weights", other, "--replace-model")
    assert replaced == "9 embedded, 0 unchanged, 0 failed"
    assert models_of(path) == {TINY: 9}
    assert before["red.jpg"] != vectors_of(path)["red.jpg"]


def test_weights_that_were_moved_are_remembered_at_their_new_place(
    path: Path, folder: Path, weights: Path, tmp_path: Path
):
    old, new = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    shutil.copy(weights, old)
    embed_images(path, "images", folder, "--model", TINY, "--weights", old)
    old.rename(new)
    draw_picture(folder / "pink.jpg", "pink")
    embed_images(path, "images", folder, "--weights", new)
    assert query(path, "select weights from image_search_indexes") == [(str(new),)]


def test_a_changed_file_of_ones_own_table_is_stale_for_every_model(
    path: Path, folder: Path, weights: Path
):
    change(
        path,
        "create table pictures (id integer primary key, file text)",
        *(f"insert into pictures (file) values ('{file}')" for file in sorted(folder.glob("*"))),
    )
    run = (path, "pictures", "--path-column", "file")
    embed_images(*run, "--model", "palette")
    embed_images(*run, "--model", TINY, "--weights", weights, "--add-model")
    draw_picture(folder / "red.jpg", "blue", (90, 60))
    touch_later(folder / "red.jpg")
    assert first_words(*run) == "1 embedded, 7 unchanged, 0 failed"
    assert first_words(*run, "--model", TINY) == "1 embedded, 7 unchanged, 0 failed"


# --- Stopped and killed --------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_ten_kills_leave_what_an_undisturbed_run_leaves(
    path: Path, tmp_path: Path, many: Path, forker: Forker
):
    run = ("embed-images", path, "images", many, "--model", "palette", "--batch-size", 4)
    chance = random.Random(3)
    partial = []
    for number in range(10):
        before = count(path)
        process = forker.start(*run, "--workers", 1, pause=PAUSE)
        if number < 3:
            time.sleep(chance.uniform(0.01, 0.1))
        else:
            wait_for(path, before, process)
            time.sleep(chance.uniform(0, 0.05))
        process.kill()
        process.wait()
        if path.exists():
            assert query(path, "pragma integrity_check") == [("ok",)]
        partial.append(count(path))
        assert partial[-1] == count(path, "images") == count(path, "_images_thumbnails")
    assert partial == sorted(partial)
    embed_images(*run[1:])
    embed_images(tmp_path / "undisturbed.db", *run[2:])

    table, undisturbed = table_of(path), table_of(tmp_path / "undisturbed.db")
    assert 0 < partial[3] < len(undisturbed) == 120
    # In batches of another size, the vector of a picture differs by rounding.
    np.testing.assert_allclose(vectors_in(table), vectors_in(undisturbed), atol=1e-5)
    assert table == undisturbed
    assert not list(path.parent.glob("*.lock"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_ends_with_the_count_so_far(path: Path, many: Path, forker: Forker):
    run = (
        "embed-images",
        path,
        "images",
        many,
        "--model",
        "palette",
        "--batch-size",
        1,
        "--silent",
    )
    process = forker.start(*run, "--workers", 1, pause=PAUSE)
    wait_for(path, 2, process)
    process.send_signal(signal.SIGINT)
    ended = process.wait()

    assert ended.code == 130
    (line,) = ended.output.splitlines()
    embedded = int(re.match(r"Interrupted: ([\d,]+) embedded, 0 unchanged, 0 failed in ", line)[1])
    assert 2 < embedded == count(path) == count(path, "images") < 120
    assert first_words(*run[1:]) == f"{120 - embedded} embedded, {embedded} unchanged, 0 failed"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_before_anything_is_embedded_is_no_error_either(
    path: Path, many: Path, forker: Forker
):
    run = ("embed-images", path, "images", many, "--model", "palette", "--silent")
    process = forker.start(*run, pause=PAUSE)
    while not list(path.parent.iterdir()) and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    ended = process.wait()
    assert (ended.code, ended.output.count("\n")) == (130, 1)
    assert ended.output.startswith("Interrupted: ")
    assert first_words(path, "images", many, "--model", "palette").startswith("120 embedded")


# --- Not alone -----------------------------------------------------------------------------------


def test_a_second_run_says_that_there_is_one(path: Path, many: Path, folder: Path, forker: Forker):
    run = (
        "embed-images",
        path,
        "images",
        many,
        "--model",
        "palette",
        "--batch-size",
        1,
        "--silent",
    )
    process = forker.start(*run, "--workers", 1, pause=PAUSE)
    wait_for(path, 0, process)
    second = command("embed-images", path, "images", folder, "--model", "palette")
    first = process.wait()

    assert (second.exit_code, second.stdout) == (1, "")
    assert "another run is writing to" in second.stderr
    assert (first.code, first.output.count("\n")) == (0, 1)
    assert first.output.startswith("120 embedded")
    assert count(path) == 120


@pytest.mark.datasette
@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.asyncio
async def test_datasette_answers_throughout_a_run(
    path: Path, many: Path, forker: Forker, journal: str
):
    embed_images(path, "images", many, "--model", "palette", "--limit", 8)
    change(path, f"pragma journal_mode = {journal}")
    datasette = Datasette([str(path)], settings={"sql_time_limit_ms": 20_000})
    search = "/-/image-search/photos/images?q=red"
    pages = ["/photos/images", search, "/photos/images?_sort_desc=id", "/photos/images/1"]

    async def look() -> int:
        """All pages once; then what is found, at least all that was committed before."""
        for page in pages:
            response = await datasette.client.get(page)
            assert response.status_code == 200, response.text
        committed = count(path)
        sql = "select json_array_length(image_search('red', 10000)) as found"
        (row,) = await query_json(datasette, sql)
        assert row["found"] >= committed
        return row["found"]

    assert await look() == 8
    run = ("embed-images", path, "images", many, "--batch-size", "2", "--workers", "1", "--silent")
    process = forker.start(*run, pause=PAUSE)
    found = [8]
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as conn:
        # However slow this machine, the run is seen on its way: it waits for its turn to write.
        for _ in range(3):
            wait_for(path, found[-1], process)
            conn.execute("begin immediate")
            found.append(await look())
            conn.execute("commit")
    while process.poll() is None:
        await look()
        # The processors are the run's, too.
        await asyncio.sleep(0.1)
    ended = process.wait()
    assert (ended.code, ended.output.count("\n")) == (0, 1)
    assert ended.output.startswith("112 embedded, 8 unchanged")
    assert 8 < found[1] < found[2] < found[3] <= 120
    assert await look() == 120
    assert query(path, "pragma journal_mode") == [(journal,)]


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_others_may_write_during_a_run(path: Path, many: Path, forker: Forker, journal: str):
    change(path, f"pragma journal_mode = {journal}", "create table notes (id integer primary key)")
    run = ("embed-images", path, "images", many, "--model", "palette", "--batch-size", "2")
    process = forker.start(*run, "--workers", 1, "--silent", pause=PAUSE)
    written = 0
    with closing(sqlite3.connect(path, timeout=30)) as conn:
        while process.poll() is None:
            with conn:
                conn.execute("insert into notes default values")
            written += 1
            # SQLite gives no turns: a writer that never pauses leaves no room for any other.
            time.sleep(0.005)
    ended = process.wait()
    assert (ended.code, ended.output.count("\n")) == (0, 1)
    assert count(path) == 120
    assert count(path, "notes") == written > 10


# --- Real and hostile files ----------------------------------------------------------------------

OPENING_RUN = """
import os, sys
from sqlite_utils.cli import cli

folder = sys.argv.pop(1) + os.sep
opened = set()
sys.addaudithook(
    lambda event, args: opened.add(args[0])
    if event == "open" and str(args[0]).startswith(folder)
    else None
)
cli(standalone_mode=False)
print(f"{len(opened)} opened")
"""


def embed_and_count_opened(path: Path, folder: Path) -> tuple[str, int]:
    """The line at the end of a run in its own process, and how many files of a folder it opened."""
    arguments = [folder, "embed-images", path, "images", folder, "--model", "palette"]
    result = subprocess.run(
        [sys.executable, "-c", OPENING_RUN, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    summary, opened = result.stdout.splitlines()
    return summary, int(opened.split()[0])


@pytest.mark.skipif(not SHARED.exists(), reason="no damaged files on this machine")
def test_hostile_files_are_embedded_or_failures_with_a_reason(path: Path):
    hostile = (SHARED / "hostile").resolve()
    files = {file.name for file in hostile.iterdir() if file.name != "LICENSE"}

    summary, opened = embed_and_count_opened(path, hostile)
    assert opened == len(files) == 180
    failures = dict(query(path, "select path, reason from _images_failures"))
    images = names_of(path)
    assert set(images).isdisjoint(failures)
    assert {*images, *failures} == files
    assert count(path) == len(images)
    for reason in failures.values():
        # A sentence for people, and not what a library says to programmers.
        assert len(reason) > 10
        assert not re.search(r"Error|0x|<|\bNone\b|object at|Traceback", reason), reason
    assert summary.startswith(f"{len(images)} embedded, ")

    summary, opened = embed_and_count_opened(path, hostile)
    assert summary.startswith(f"0 embedded, {len(images)} unchanged, {len(failures)} failed in ")
    assert opened == 0


@pytest.mark.skipif(not SHARED.exists(), reason="no real photos on this machine")
def test_photos_of_every_orientation_are_the_same_upright_picture(path: Path):
    embed_images(path, "images", SHARED / "orientation", "--model", "palette")
    table = table_of(path)
    assert len(table) == 18
    for shape in ("Landscape", "Portrait"):
        upright = table[f"{shape}_1.jpg"]
        for number in range(9):
            image = table[f"{shape}_{number}.jpg"]
            assert (image["width"], image["height"]) == (upright["width"], upright["height"])
            assert vector_from_blob(image["vector"]) @ vector_from_blob(upright["vector"]) > 0.98, (
                number
            )
            with Image.open(io.BytesIO(image["webp"])) as thumbnail:
                is_wide = thumbnail.width > thumbnail.height
            assert is_wide == (shape == "Landscape")


def test_ctrl_c_while_the_sidecar_is_written_tells_what_was_embedded(
    path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("datasette_image_search.search.indexing.refresh_sidecars", interrupt)
    result = command("embed-images", path, "images", folder, "--model", "palette")
    assert result.exit_code == 130
    assert result.stdout.startswith("Interrupted: 8 embedded")


def test_a_reader_that_stays_does_not_hold_up_the_end(path: Path, folder: Path):
    embed_images(path, "images", folder, "--model", "palette", "--wal")
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("begin")
        reader.execute("select * from images").fetchone()
        touch_later(folder / "red.jpg")
        started = time.monotonic()
        embed_images(path, "images", folder)
        assert time.monotonic() - started < 60


def test_a_root_that_a_person_wrote_with_a_slash_is_the_same(path: Path, folder: Path):
    embed_images(path, "images", folder, "--model", "palette")
    moved = folder.rename(folder.with_name("moved"))
    change(path, f"update image_search_roots set path = '{moved}/'")
    assert first_words(path, "images", moved) == "0 embedded, 8 unchanged, 0 failed"


def test_an_inbox_that_was_filed_away_is_moved_and_no_missing_drive(path: Path, tmp_path: Path):
    for number in range(5):
        draw_picture(tmp_path / "inbox" / f"{number}.png", (number * 50, 0, 0), (8, 8))
    draw_picture(tmp_path / "sorted" / "old.png", "blue")
    run = (path, "images", tmp_path / "inbox", tmp_path / "sorted")
    embed_images(*run, "--model", "palette")
    for file in (tmp_path / "inbox").iterdir():
        file.rename(tmp_path / "sorted" / file.name)
    assert first_words(*run) == "0 embedded, 5 moved, 1 unchanged, 0 failed"


def test_contradicting_options_are_refused(path: Path, folder: Path):
    embed_images(path, "images", folder, "--model", "palette")
    result = command("embed-images", path, "images", folder, "--add-model", "--replace-model")
    assert result.exit_code == 1
    assert "choose one" in result.stderr


def test_exclude_takes_a_folder_as_shells_complete_it(path: Path, folder: Path):
    draw_picture(folder / "private" / "a.png", "red")
    embed_images(path, "images", folder, "--model", "palette", "--exclude", "./private/")
    assert query(path, "select count(*) from images where folder = 'private'") == [(0,)]


def test_the_paths_of_blobs_are_no_files(path: Path, folder: Path):
    command("insert-files", path, "stickers", folder / "red.jpg", "--pk", "path")
    embed_images(path, "stickers", "--content-column", "content", "--model", "palette")
    result = command("search-images", path, "stickers", "red", "--paths")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the images of 'stickers' are in the database, not in files" in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pty")
def test_a_person_at_a_terminal_is_told_where_the_search_page_is(folder: Path, tmp_path: Path):
    import pty

    database = tmp_path / "my photos.db"
    run = ["embed-images", database, "images", folder, "--model", "palette"]
    ours, theirs = pty.openpty()
    process = start(*run, stdout=theirs)
    assert process.wait() == 0
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        lines = terminal.read(10_000).decode().splitlines()
    assert lines[0].startswith("8 embedded")
    assert lines[1:] == [
        f"To see and search them, run datasette '{database}' and open http://127.0.0.1:8001/-/image-search"
    ]
    assert len(embed_images(*run[1:]).stdout.splitlines()) == 1


# --- What is left out ------------------------------------------------------------------------------


def test_what_is_no_picture_is_told_in_one_line(path: Path, folder: Path):
    for name in ("a.mpg", "b.WMV", "c.pdf", "#recycle/d.jpg", "e/#recycle/f.jpg", "@Recycle/g.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    told = "2 videos, 1 PDF, 3 folders of other programs (#recycle, @Recycle) left out\n"
    run = (path, "images", folder, "--model", "palette")
    assert embed_images(*run, "--dry-run").stderr == told
    assert embed_images(*run).stderr == told
    assert count(path) == 8
    for name in ("#snapshot", "$Recycle.Bin"):
        (folder / name).mkdir()
    told = embed_images(*run).stderr
    assert "5 folders of other programs (#recycle, " in told
    assert told.endswith(", ...) left out\n")


def test_a_pattern_that_excludes_nothing_is_told(path: Path, folder: Path):
    run = (
        path,
        "images",
        folder,
        "--model",
        "palette",
        "--exclude",
        "red.jpg",
        "--exclude",
        "no such",
    )
    told = "Nothing was left out by --exclude 'no such': it matches nothing that was looked at\n"
    for more in (["--dry-run"], []):
        assert embed_images(*run, *more).stderr == told
    assert count(path) == 7


def test_a_pattern_for_what_is_named_is_told(path: Path, folder: Path):
    run = (path, "images", folder / "red.jpg", folder / "sub", "--model", "palette")
    draw_picture(folder / "sub" / "pink.png", "pink")
    result = embed_images(*run, "--exclude", folder / "r*.jpg", "--exclude", "sub")
    assert result.stderr.splitlines() == [
        f"Nothing was left out by --exclude {pattern}: what you name yourself is never left out"
        for pattern in (f"'{folder}/r*.jpg'", "sub")
    ]
    assert names_of(path) == ["red.jpg", "sub/pink.png"]


def test_a_folder_with_nothing_but_what_is_left_out(path: Path, tmp_path: Path):
    for name in ("a.mpg", "b.WMV", "@Recycle/c.jpg"):
        (tmp_path / "films" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "films" / name).touch()
    told = command("embed-images", path, "images", tmp_path / "films", "--model", "palette")
    assert told.exit_code == 1
    assert told.stderr == (
        f"Error: there are no image files in '{tmp_path}/films', only what is left out: 2 videos, "
        "1 folder of other programs (@Recycle)\n"
    )


# --- What changes meanwhile ------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
def test_files_that_are_no_files_any_more_when_they_are_read(path: Path, folder: Path):
    def swap(plan: Summary) -> None:
        for name in ("red", "blue", "green"):
            (folder / f"{name}.jpg").unlink()
        os.mkfifo(folder / "red.jpg")
        (folder / "blue.jpg").mkdir()

    summary = Images(path, "images").embed(folder, model="palette", on_plan=swap)
    assert summary.embedded == 5
    assert {failure.path: failure.reason for failure in summary.failures} == {
        "blue.jpg": "the file cannot be read: it is a folder",
        "green.jpg": "the file is gone",
        "red.jpg": "the file cannot be read: it is a named pipe",
    }


def test_the_failure_of_a_folder_goes_when_it_can_be_read(
    path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    draw_picture(folder / "locked" / "pink.png", "pink")
    run = (path, "images", folder, "--model", "palette")
    with monkeypatch.context() as patched:
        refuse_to_list(folder / "locked", patched)
        assert first_words(*run) == "8 embedded, 0 unchanged, 1 failed"
        assert first_words(*run) == "0 embedded, 8 unchanged, 1 failed"
    failures = "select path, reason from _images_failures"
    reason = "the folder cannot be read: Permission denied"
    assert query(path, failures) == [("locked", reason)]
    assert first_words(*run) == "1 embedded, 8 unchanged, 0 failed"
    assert query(path, failures) == []


def test_the_failure_of_a_folder_goes_when_it_turns_out_to_be_empty(
    path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    (folder / "locked").mkdir()
    run = (path, "images", folder / "locked", "--model", "palette")
    embed_images(path, "images", folder, "--model", "palette")
    with monkeypatch.context() as patched:
        refuse_to_list(folder / "locked", patched)
        assert first_words(*run) == "0 embedded, 0 unchanged, 1 failed"
    assert first_words(*run) == "0 embedded, 0 unchanged, 0 failed"
    assert query(path, "select path from _images_failures") == []
    assert "there are no image files in" in command("embed-images", *run).output


# --- On a cluster --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "address", "files"),
    [
        (["--ray", "photos"], "local", ["photos"]),
        (["photos", "--ray"], "local", ["photos"]),
        (["--ray", "--ray-cpus", "2", "photos"], "local", ["photos"]),
        (["--ray", "auto", "photos"], "auto", ["photos"]),
        (["--ray", "node:6379", "photos"], "node:6379", ["photos"]),
        (["--ray=ray://10.0.0.1:10001", "photos"], "ray://10.0.0.1:10001", ["photos"]),
        (["--ray", "s3://bucket/photos"], "local", ["s3://bucket/photos"]),
        (["photos", "--", "--ray"], None, ["photos", "--ray"]),
    ],
)
def test_ray_takes_an_address_and_no_file(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: list[str],
    address: str | None,
    files: list[str],
):
    asked = {}

    def embed(self, paths, **options):
        asked.update(options, paths=[str(each) for each in paths])
        raise ImageSearchError("this is enough")

    monkeypatch.setattr(Images, "embed", embed)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    result = command("embed-images", path, "images", *given)
    assert "this is enough" in result.output
    assert (asked["ray"], asked["paths"]) == (address, files)


def test_a_host_after_ray_needs_a_port(path: Path, folder: Path):
    result = command("embed-images", path, "images", folder, "--ray", "gpu-1")
    assert (
        "no file or folder 'gpu-1'; if it is a host of a cluster, give its port too: --ray gpu-1"
        in result.output
    )
    assert not path.exists()


def test_ray_ends_with_a_table_per_node(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    problem = "an actor on node gpu-3 has not loaded the model in 20 minutes; look at what that"
    works = (
        NodeWork("gpu-1", 4, "cuda, float16", 51_200, 641.23, 0),
        NodeWork("gpu-2", 1, "cuda, float16", 800, 10.0, 3),
        NodeWork("gpu-3", 0, "", 0, 0.0, 0, problem),
    )
    monkeypatch.setattr("datasette_image_search.ingest.pipeline._Run.nodes", works)
    result = embed_images(path, "images", folder, "--model", "palette")
    assert result.stderr.splitlines()[-6:] == [
        f"Warning: {problem}",
        "node      actors  device           images    images/s    batches lost",
        "------  --------  -------------  --------  ----------  --------------",
        "gpu-1          4  cuda, float16    51,200       641.2               0",
        "gpu-2          1  cuda, float16       800        10.0               3",
        "gpu-3          0                        0         0.0               0",
    ]


def test_ray_cpus_need_ray(path: Path, folder: Path):
    result = command("embed-images", path, "images", folder, "--ray-cpus", "2")
    assert result.exit_code == 1
    assert "--ray-cpus works only with --ray" in result.output
