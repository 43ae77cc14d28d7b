"""`sqlite-utils find-duplicates` as people run it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import sqlite_utils
from PIL import Image, ImageDraw

from .commands import change, command, embed_images, query
from .conftest import draw_picture
from .ignoring_case import ignore_case_below


def draw_scene(path: Path, *colours: str) -> Path:
    """A picture with a third of each colour, 300 by 200."""
    picture = Image.new("RGB", (300, 200))
    pen = ImageDraw.Draw(picture)
    for at, colour in enumerate(colours):
        pen.rectangle((100 * at, 0, 100 * at + 99, 199), colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=95)
    return path


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Three pictures; of the first a small one and a copy, of the second a copy."""
    album = tmp_path / "album"
    flag = draw_scene(album / "2019" / "flag.jpg", "blue", "white", "red")
    fruit = draw_scene(album / "2020" / "fruit.jpg", "orange", "yellow", "green")
    draw_scene(album / "2020" / "night.jpg", "black", "navy", "black")
    (album / "sent").mkdir()
    Image.open(flag).resize((150, 100)).save(album / "sent" / "flag small.jpg", quality=60)
    shutil.copy(flag, album / "sent" / "flag.jpg")
    shutil.copy(fruit, album / "sent" / "fruit.jpg")
    for path in album.glob("sent/*"):
        os.utime(path, (2e9, 2e9))
    return album


@pytest.fixture
def database(album: Path, embed: Callable[..., Path]) -> Path:
    return embed(album)


FLAGS = ["2019/flag.jpg", "sent/flag.jpg", "sent/flag small.jpg"]
FRUITS = ["2020/fruit.jpg", "sent/fruit.jpg"]


def find(*arguments: object):
    result = command("find-duplicates", *arguments)
    assert result.exit_code == 0, result.output
    return result


def groups_of(database: Path, *arguments: object) -> list[list[str]]:
    groups: dict[int, list[str]] = {}
    for row in json.loads(find(database, "images", "--json", *arguments).stdout):
        groups.setdefault(row["group"], []).append(row["path"])
    return list(groups.values())


# --- What is printed -------------------------------------------------------------------------------


def test_groups_with_the_best_first_and_a_count(database: Path):
    result = find(database, "images")
    lines = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    blocks = [words for words in lines if words[0] in ("keep", "exact") or words[0][0] == "0"]
    assert [words[1].split(maxsplit=6)[-1] for words in blocks] == [*FLAGS, *FRUITS]
    assert [words[0] for words in blocks][:2] == ["keep", "exact"]
    assert "300 x 200" in blocks[0][1]
    assert "150 x 100" in blocks[2][1]
    assert " kB " in blocks[0][1]
    assert result.stdout.splitlines()[-1] == "2 groups, 5 images, of which 2 exact copies"
    assert result.stderr == ""


def test_exact_copies_only(database: Path):
    result = find(database, "images", "--threshold", "1")
    assert result.stdout.splitlines()[-1] == "2 groups, 4 images, of which 2 exact copies"


def test_nothing_is_found(database: Path):
    where = ("--where", "path like '2020/%'")
    assert (
        find(database, "images", *where).stdout == "0 groups, 0 images, of which 0 exact copies\n"
    )
    assert find(database, "images", *where, "--json").stdout == "[]\n"
    assert find(database, "images", *where, "--paths").stdout == ""


def test_output_for_programs(database: Path):
    rows = json.loads(find(database, "images", "--json").stdout)
    read = list(csv.DictReader(io.StringIO(find(database, "images", "--csv").stdout)))
    assert [[str(value) for value in row.values()] for row in rows] == [
        list(row.values()) for row in read
    ]
    lines = find(database, "images", "--nl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == rows
    best, copy, small = rows[:3]
    assert (best["path"], best["keep"], best["exact"], best["score"]) == (FLAGS[0], 1, 0, 1.0)
    assert (best["width"], best["height"]) == (300, 200)
    assert (copy["path"], copy["keep"], copy["exact"], copy["score"]) == (FLAGS[1], 0, 1, 1.0)
    assert (small["keep"], small["exact"]) == (0, 0)
    assert 0.95 < small["score"] < 1


def test_a_filter_with_a_parameter(database: Path):
    where = ("--where", "folder = :folder or width < 200", "-p", "folder", "2019")
    assert groups_of(database, *where) == [["2019/flag.jpg", "sent/flag small.jpg"]]


def test_a_long_group_is_cut_short_on_a_screen(tmp_path: Path, embed: Callable[..., Path]):
    first = draw_picture(tmp_path / "all" / "000.jpg", "red")
    for number in range(1, 60):
        shutil.copy(first, first.with_name(f"{number:03}.jpg"))
    database = embed(first.parent)
    output = find(database, "images").stdout
    assert "... and 10 more" in output
    assert output.splitlines()[-1] == "1 group, 60 images, of which 59 exact copies"
    assert len(groups_of(database)[0]) == 60


# --- Paths -----------------------------------------------------------------------------------------


def test_paths_of_all_but_the_best(album: Path, database: Path):
    expected = [str(album / path) for path in (*FLAGS[1:], *FRUITS[1:])]
    assert find(database, "images", "--paths").stdout.splitlines() == expected
    assert find(database, "images", "--paths", "-0").stdout == "".join(f"{p}\0" for p in expected)


def test_an_image_with_companions_is_kept(album: Path, database: Path):
    """These would stay alone, also if there are two such images in a group."""
    paired = "update images set companions = '[\"flag.mov\"]' where path = '{}'"
    change(database, paired.format(FLAGS[1]))
    assert groups_of(database) == [FRUITS, [FLAGS[1], FLAGS[0], FLAGS[2]]]
    change(database, paired.format(FLAGS[0]))
    assert groups_of(database)[0] == FLAGS
    printed = find(database, "images", "--paths")
    assert printed.stdout.splitlines() == [str(album / path) for path in (FLAGS[2], FRUITS[1])]
    assert "1 file is left out, because it has companions" in printed.stderr


def test_a_file_is_no_copy_of_itself(album: Path, database: Path):
    """A root inside another one: two rows, one file."""
    embed_images(database, "images", album / "2020")
    shutil.rmtree(album / "sent")
    result = find(database, "images", "--paths")
    assert str(album / "2020" / "fruit.jpg") not in result.stdout.splitlines()


def test_the_last_copy_is_never_named(album: Path, database: Path):
    (album / "2020" / "fruit.jpg").unlink()
    result = find(database, "images", "--paths")
    assert result.stdout.splitlines() == [str(album / path) for path in FLAGS[1:]]
    assert result.stderr == ("Warning: 1 group is left out, because the file to keep is missing\n")


# --- The table -------------------------------------------------------------------------------------


def test_a_table_of_groups(database: Path):
    result = find(database, "images", "--write")
    assert result.stdout == (
        "2 groups, 5 images, of which 2 exact copies, in the table images_duplicates\n"
    )
    sql = """
        select path, group_id, keep, exact from images_duplicates
        join images on images.id = image_id order by group_id, score desc, keep desc
    """
    assert query(database, sql) == [
        (FLAGS[0], 1, 1, 0),
        (FLAGS[1], 1, 0, 1),
        (FLAGS[2], 1, 0, 0),
        (FRUITS[0], 2, 1, 0),
        (FRUITS[1], 2, 0, 1),
    ]


def test_a_ctrl_c_that_comes_when_all_is_written_is_too_late(
    database: Path, ctrl_c_after_commits: None
):
    result = find(database, "images", "--write")
    assert "in the table images_duplicates" in result.stdout
    assert query(database, "select count(*) from images_duplicates") == [(5,)]


def test_a_table_written_again_and_files_that_were_deleted(album: Path, database: Path):
    find(database, "images", "--write")
    shutil.rmtree(album / "sent")
    embed_images(database, "images", album, "--prune")
    assert query(database, "select image_id from images_duplicates where not keep") == []
    find(database, "images", "--write")
    assert query(database, "select count(*) from images_duplicates") == [(0,)]


@pytest.mark.parametrize("key_type", [int, str])
def test_a_table_of_a_persons_own(tmp_path: Path, album: Path, key_type: type):
    path = tmp_path / "my.db"
    files = sorted(str(file.relative_to(tmp_path)) for file in album.rglob("*.jpg"))
    db = sqlite_utils.Database(path)
    rows = ({"key": key_type(10 + at), "file": file} for at, file in enumerate(files))
    db["pictures"].insert_all(rows, pk="key")
    db.close()
    embed_images(path, "pictures", "--path-column", "file", "--model", "palette")

    rows = json.loads(find(path, "pictures", "--json", "--write").stdout)
    assert sorted(row["path"].removeprefix("album/") for row in rows) == sorted(FLAGS + FRUITS)
    assert {type(row["id"]) for row in rows} == {key_type}
    assert query(path, "select image_id from pictures_duplicates order by image_id") == [
        (key,) for key in sorted(row["id"] for row in rows)
    ]
    change(path, f"delete from pictures where key = {rows[1]['id']!r}")
    assert query(path, "select count(*) from pictures_duplicates") == [(len(rows) - 1,)]
    embed_images(path, "pictures")


def test_images_in_the_database(tmp_path: Path, album: Path):
    path = tmp_path / "my.db"
    assert command("insert-files", path, "pictures", *album.rglob("*.jpg")).exit_code == 0
    embed_images(path, "pictures", "--content-column", "content", "--model", "palette")
    assert find(path, "pictures").stdout.endswith("5 images, of which 2 exact copies\n")
    result = command("find-duplicates", path, "pictures", "--paths")
    assert result.exit_code == 1
    assert "the images of 'pictures' are in the database, not in files" in result.stderr


# --- What goes wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--threshold", "95"], "the threshold is 95; it must be above 0 and at most 1"),
        (["--threshold", "0"], "the threshold is 0; it must be above 0 and at most 1"),
        (["--where", "no_column = 1"], "the filter 'no_column = 1' does not work on 'images'"),
        (["--model", "timm/other"], "'images' is not embedded with timm/other, but with palette"),
        (["-0"], "-0 works only with --paths; add --paths"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_1(database: Path, arguments, sentence: str):
    result = command("find-duplicates", database, "images", "--write", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert sentence in line
    assert query(database, "select 1 from sqlite_master where name = 'images_duplicates'") == []


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path):
    result = command("find-duplicates", tmp_path / "no.db", "images")
    assert (result.exit_code, list(tmp_path.iterdir())) == (1, [])


def test_a_threshold_that_is_too_low_is_a_warning(tmp_path: Path, embed: Callable[..., Path]):
    for light in range(0, 101, 4):
        draw_scene(tmp_path / "greys" / f"{light:03}.png", *[f"hsl(0, 0%, {light}%)"] * 3)
    result = find(embed(tmp_path / "greys"), "images", "--threshold", "0.9")
    assert re.fullmatch(
        r"Warning: \d\d of the 26 images are a chain in which each is like the next; a threshold "
        r"of 0\.9 is too low for them\n",
        result.stderr,
    )


def test_what_is_only_chained_to_the_best_is_not_named(tmp_path: Path, embed: Callable[..., Path]):
    """Greys, each like the next, and not like those further away."""
    for at, light in enumerate((20, 24, 28, 32, 36, 40)):
        draw_scene(tmp_path / "album" / f"{at}.png", *[f"hsl(0, 0%, {light}%)"] * 3)
    database = embed(tmp_path / "album")
    rows = json.loads(find(database, "images", "--threshold", "0.96", "--json").stdout)
    assert len({row["id"] for row in rows}) == len(rows) < 6
    assert min(row["score"] for row in rows) >= 0.96
    named = find(database, "images", "--threshold", "0.96", "--paths").stdout.splitlines()
    assert [Path(file).name for file in named] == [row["path"] for row in rows if not row["keep"]]


# --- Files that are looked at before they are named ------------------------------------------------


def test_a_file_to_keep_that_is_another_picture_now_keeps_its_group(album: Path, database: Path):
    """Of the same size, and with the time that it had."""
    best = album / FLAGS[0]
    status, content = best.stat(), best.read_bytes()
    best.write_bytes(content[:-1] + b"x")
    os.utime(best, ns=(status.st_atime_ns, status.st_mtime_ns))
    result = find(database, "images", "--paths")
    assert result.stdout.splitlines() == [str(album / FRUITS[1])]
    assert result.stderr == (
        "Warning: 1 group is left out, because the file to keep has changed since it was embedded\n"
    )


def test_a_copy_that_is_another_picture_now_is_not_named(album: Path, database: Path):
    (album / FLAGS[1]).write_bytes(b"the only one of its kind")
    (album / FLAGS[2]).unlink()
    result = find(database, "images", "--paths")
    assert result.stdout.splitlines() == [str(album / FRUITS[1])]
    assert result.stderr.splitlines() == [
        "Warning: 1 file is left out, because it has changed since it was embedded",
        "Warning: 1 file is left out, because it is missing",
    ]


def test_a_hard_link_is_a_copy_that_can_go(album: Path, database: Path):
    copy = album / FRUITS[1]
    copy.unlink()
    copy.hardlink_to(album / FRUITS[0])
    assert str(copy) in find(database, "images", "--paths").stdout.splitlines()


def test_what_the_file_to_keep_is_a_link_to_is_not_named(album: Path, database: Path):
    best, copy = (album / path for path in FRUITS)
    best.unlink()
    best.symlink_to(copy)
    result = find(database, "images", "--paths")
    assert str(copy) not in result.stdout.splitlines()
    assert result.stderr == (
        "Warning: 1 file is left out, because it is, or may be, the file to keep under another path\n"
    )


@pytest.fixture
def imported(album: Path, database: Path) -> Path:
    """As after an import of vectors: of the files, no more than size and time is known."""
    change(
        database,
        "drop trigger _images_image_search_vector_changed",
        "drop trigger _images_image_search_content_changed",
        "update images set sha256 = null",
        "update _images_vectors set sha256 = null",
    )
    return database


def test_of_a_file_that_was_only_looked_at_the_time_tells(album: Path, imported: Path):
    expected = [str(album / path) for path in (*FLAGS[1:], *FRUITS[1:])]
    assert sorted(find(imported, "images", "--paths").stdout.splitlines()) == sorted(expected)
    for path in (FLAGS[0], FRUITS[0]):
        os.utime(album / path, (1e9, 1e9))
    result = find(imported, "images", "--paths")
    assert result.stdout == ""
    assert result.stderr == (
        "Warning: 2 groups are left out, because the file to keep has changed since it was embedded\n"
    )


def test_a_file_that_was_never_looked_at_keeps_its_group(imported: Path):
    change(imported, "update images set size = null, mtime = null")
    result = find(imported, "images", "--paths")
    assert result.stdout == ""
    assert "groups are left out, because the file to keep was never read" in result.stderr


def test_ctrl_c_leaves_the_table_as_it_was(database: Path, monkeypatch: pytest.MonkeyPatch):
    find(database, "images", "--write")
    before = query(database, "select * from images_duplicates")

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("datasette_image_search.search.duplicates.connected", interrupt)
    result = command("find-duplicates", database, "images", "--threshold", "0.5", "--write")
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "Interrupted: nothing was written\n"
    assert query(database, "select * from images_duplicates") == before


# --- Drives to which two spellings are one ---------------------------------------------------------


def test_a_file_by_two_spellings_is_no_copy_of_itself(
    album: Path, database: Path, monkeypatch: pytest.MonkeyPatch
):
    """As 0.1 wrote them, and as numbers of files tell nothing: exFAT makes another one for each."""
    change(
        database,
        "insert into images (root_id, path, size, mtime, sha256, width, height) "
        "select root_id, upper(path), size, mtime, sha256, width, height from images where id = 1",
        "insert into _images_vectors (index_id, image_id, sha256, vector) "
        "select index_id, (select max(id) from images), sha256, vector from _images_vectors "
        "where image_id = 1",
    )
    shutil.rmtree(album / "sent")
    ignore_case_below(album, monkeypatch)
    monkeypatch.setattr(Path, "samefile", lambda *_: False)
    result = find(database, "images", "--paths")
    assert result.stdout == ""
    assert (
        "1 file is left out, because it is, or may be, the file to keep under another path"
        in result.stderr
    )


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Path]:
    """A card as cameras have them, with exFAT, where the machine can make and mount one."""
    image, card = tmp_path / "card.img", tmp_path / "card"
    programs = ("mkfs.exfat", "losetup", "mount.exfat-fuse", "umount")
    if not all(map(shutil.which, programs)):
        pytest.skip("no programs for exFAT")
    with image.open("wb") as file:
        file.truncate(64 * 2**20)
    run = partial(subprocess.run, check=True, capture_output=True, text=True)
    card.mkdir()
    run(["mkfs.exfat", image])
    device = None
    try:
        device = run(["losetup", "-f", "--show", image]).stdout.strip()
        run(["mount.exfat-fuse", device, card])
    except subprocess.CalledProcessError:
        if device:
            run(["losetup", "-d", device])
        pytest.skip("nothing can be mounted here")
    yield card
    run(["umount", card])
    run(["losetup", "-d", device])


def test_a_card_on_which_only_case_changes(card: Path, tmp_path: Path):
    for at in range(3):
        draw_scene(card / "Divers" / f"{at}.jpg", "red", "green", f"hsl(0, 0%, {30 * at}%)")
    shutil.copy(card / "Divers" / "0.jpg", card / "copy.jpg")
    database = tmp_path / "photos.db"
    embed_images(database, "images", card, "--model", "palette")
    (card / "Divers").rename(card / "other")
    (card / "other").rename(card / "divers")
    assert "3 moved, 1 unchanged" in embed_images(database, "images", card, "--prune").stdout
    assert [path for (path,) in query(database, "select path from images order by id")] == [
        *(f"divers/{at}.jpg" for at in range(3)), "copy.jpg",
    ]  # fmt: skip
    assert "4 unchanged" in embed_images(database, "images", card / "DIVERS", card).stdout
    (named,) = find(database, "images", "--threshold", "1", "--paths").stdout.splitlines()
    Path(named).unlink()
    assert len([*card.rglob("*.jpg")]) == 3
