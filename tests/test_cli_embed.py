"""`sqlite-utils embed-images` as people run it, stop it, and run it again."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import re
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
from datasette.app import Datasette
from PIL import Image

from datasette_image_search.store import vector_from_blob

from .commands import change, command, embed_images, query, start, touch_later, vectors_of
from .conftest import SHARED, draw_picture, query_json, sidecar_of
from .tiny_clip import ARCHITECTURE, make_tiny_clip

TINY = f"{ARCHITECTURE}/anything"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a new database goes, with nothing beside it."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home" / "photos.db"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 photos, enough to stop a run in the middle."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(120):
        draw_picture(folder / f"{number:03}.jpg", f"hsl({number * 3}, 90%, 45%)", (1200, 900))
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the model TINY."""
    return make_tiny_clip(tmp_path_factory.mktemp("tiny"))


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


def wait_for(path: Path, more_than: int, process: subprocess.Popen) -> None:
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


def test_what_failed_is_tried_again_only_where_that_is_asked_for(path: Path, folder: Path):
    (folder / "bad.jpg").write_bytes(b"bad")
    run = (path, "images", folder, "--model", "palette")
    assert "Failed: bad.jpg" in embed_images(*run).stderr
    skipped = embed_images(*run)
    assert skipped.stdout.startswith("0 embedded, 8 unchanged, 1 failed in")
    assert "Failed:" not in skipped.stderr
    assert "see the table _images_failures, or try them again with --retry-failed" in skipped.stderr
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
        else "Would be: 8 embedded, 0 unchanged, 0 failed\n"
    )
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


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
def test_ten_kills_leave_what_an_undisturbed_run_leaves(path: Path, tmp_path: Path, many: Path):
    photos = SHARED / "photos" if SHARED.exists() else many
    run = ("embed-images", path, "images", photos, "--model", "palette", "--batch-size", 8)
    chance = random.Random(3)
    partial = []
    for number in range(10):
        before = count(path)
        process = start(*run)
        if number < 3:
            time.sleep(chance.uniform(0.1, 0.5))
        else:
            wait_for(path, before, process)
            time.sleep(chance.uniform(0, 0.05))
        process.kill()
        process.communicate()
        if path.exists():
            assert query(path, "pragma integrity_check") == [("ok",)]
        partial.append(count(path))
        assert partial[-1] == count(path, "images") == count(path, "_images_thumbnails")
    assert partial == sorted(partial)
    embed_images(*run[1:])
    embed_images(tmp_path / "undisturbed.db", *run[2:])

    table, undisturbed = table_of(path), table_of(tmp_path / "undisturbed.db")
    assert 0 < partial[3] < len(undisturbed) == len(list(photos.rglob("*.jpg")))
    # In batches of another size, the vector of a picture differs by rounding.
    np.testing.assert_allclose(vectors_in(table), vectors_in(undisturbed), atol=1e-5)
    assert table == undisturbed
    assert not list(path.parent.glob("*.lock"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_ends_with_the_count_so_far(path: Path, many: Path):
    run = ("embed-images", path, "images", many, "--model", "palette", "--batch-size", 1)
    process = start(*run, "--workers", 1)
    wait_for(path, 2, process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate()

    assert (process.returncode, stderr) == (130, "")
    (line,) = stdout.splitlines()
    embedded = int(re.match(r"Interrupted: ([\d,]+) embedded, 0 unchanged, 0 failed in ", line)[1])
    assert 2 < embedded == count(path) == count(path, "images") < 120
    assert first_words(*run[1:]) == f"{120 - embedded} embedded, {embedded} unchanged, 0 failed"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_before_anything_is_embedded_is_no_error_either(path: Path, many: Path):
    process = start("embed-images", path, "images", many, "--model", "palette")
    while not list(path.parent.iterdir()) and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate()
    assert (process.returncode, stderr) == (130, "")
    assert stdout.startswith("Interrupted: ")
    assert first_words(path, "images", many, "--model", "palette").startswith("120 embedded")


# --- Not alone -----------------------------------------------------------------------------------


def test_a_second_run_says_that_there_is_one(path: Path, many: Path, folder: Path):
    run = ("embed-images", path, "images", many, "--model", "palette", "--batch-size", 1)
    process = start(*run, "--workers", 1)
    wait_for(path, 0, process)
    second = command("embed-images", path, "images", folder, "--model", "palette")
    stdout, stderr = process.communicate()

    assert (second.exit_code, second.stdout) == (1, "")
    assert "another run is embedding into" in second.stderr
    assert (process.returncode, stderr) == (0, "")
    assert stdout.startswith("120 embedded")
    assert count(path) == 120


@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.asyncio
async def test_datasette_answers_throughout_a_run(path: Path, many: Path, journal: str):
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
    run = ("embed-images", path, "images", many, "--batch-size", "2", "--workers", "1")
    process = start(*run)
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
        await asyncio.sleep(0)
    stdout, stderr = process.communicate()
    assert (process.returncode, stderr) == (0, "")
    assert stdout.startswith("112 embedded, 8 unchanged")
    assert 8 < found[1] < found[2] < found[3] <= 120
    assert await look() == 120
    assert query(path, "pragma journal_mode") == [(journal,)]


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_others_may_write_during_a_run(path: Path, many: Path, journal: str):
    change(path, f"pragma journal_mode = {journal}", "create table notes (id integer primary key)")
    run = ("embed-images", path, "images", many, "--model", "palette", "--batch-size", "2")
    process = start(*run)
    written = 0
    with closing(sqlite3.connect(path, timeout=30)) as conn:
        while process.poll() is None:
            with conn:
                conn.execute("insert into notes default values")
            written += 1
            # SQLite gives no turns: a writer that never pauses leaves no room for any other.
            time.sleep(0.005)
    _, stderr = process.communicate()
    assert (process.returncode, stderr) == (0, "")
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
        assert time.monotonic() - started < 10


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
        f"To see and search them: datasette '{database}', then http://127.0.0.1:8001/-/image-search"
    ]
    assert len(embed_images(*run[1:]).stdout.splitlines()) == 1
