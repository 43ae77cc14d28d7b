"""The page of duplicates as a server answers it, and the lists that its choices end in."""

from __future__ import annotations

import csv
import re
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from html import unescape
from pathlib import Path
from queue import Queue
from threading import Event
from typing import Any

import numpy as np
import pytest
from datasette.app import Datasette
from PIL import Image

from datasette_image_search.search.duplicates import DuplicateGroups, find_duplicates
from datasette_image_search.web.among import among_of
from datasette_image_search.web.pages import duplicate_groups, duplicates_page
from datasette_image_search.web.server import comparing
from datasette_image_search.web.server.comparing import Comparison

from .commands import change, command
from .serving import HANGS, ask, datasette_of

PAGE = "/-/image-search/photos/images/duplicates"
pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates_page, "PATIENCE", HANGS)


@pytest.fixture
def doubled(folder: Path, embed: Callable[..., Path]) -> Path:
    """red.jpg is there three times, one of them small; blue.jpg twice. The other six are alone."""
    shutil.copy(folder / "red.jpg", folder / "copy.jpg")
    shutil.copy(folder / "blue.jpg", folder / "sent.jpg")
    Image.open(folder / "red.jpg").resize((40, 30)).save(folder / "small.jpg")
    return embed(folder)


def names_in(page: str) -> list[list[str]]:
    """The names of the images, by group."""
    groups = re.findall(r"<fieldset.*?</fieldset>", page, re.S)
    return [re.findall(r'class="image-duplicates-name">([^< ]*)', group) for group in groups]


def ticked(page: str) -> list[str]:
    boxes = re.findall(r'<input type="checkbox"[^>]*data-path="([^"]*)"([^>]*)>', page)
    return [Path(unescape(path)).name for path, rest in boxes if "checked" in rest]


async def rows_of(datasette: Datasette, query: str) -> list[dict[str, str]]:
    answer = await ask(datasette, f"{PAGE}.csv?{query}")
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(answer.text.splitlines()))


async def test_groups_side_by_side_with_what_differs(doubled: Path) -> None:
    page = (await ask(datasette_of(doubled), PAGE)).text
    blue, red = names_in(page)
    assert set(blue) == {"blue.jpg", "sent.jpg"}
    assert set(red) == {"red.jpg", "copy.jpg", "small.jpg"}
    assert "5 of 11 images are alike, in 2 groups" in page
    assert "2 images, 1 exact copy" in page
    assert "3 images, 1 exact copy" in page
    images, same = re.findall(r"<ul>\s*<li style.*?</ul>|<details><.*?</details>", page, re.S)[2:]
    assert re.search(r"<dt>Pixels</dt><dd>40 x 30", images)
    assert "<dt>Format</dt>" not in images
    assert re.search(r"<dt>Format</dt><dd>JPEG", same)
    assert "<dt>Folder</dt><dd>the top folder" in same
    # "unknown" in all says nothing.
    assert "<dt>Taken</dt>" not in page
    # Rows of facts are beside each other.
    assert len(set(re.findall(r"--facts: (\d)", images))) == 1
    # One of each stays.
    assert len(ticked(page)) == 3
    assert "small.jpg" in ticked(page)


async def test_the_threshold_and_the_suggestion_are_chosen(doubled: Path) -> None:
    datasette = datasette_of(doubled)
    exact = (await ask(datasette, f"{PAGE}?_threshold=1")).text
    assert [len(group) for group in names_in(exact)] == [2, 2]
    change(doubled, "update images set taken_at = '2001-01-01' where filename = 'small.jpg'")
    change(doubled, "update images set lens = '50 mm' where filename = 'sent.jpg'")
    assert "small.jpg" not in ticked((await ask(datasette, f"{PAGE}?_keep=oldest")).text)
    by_metadata = ticked((await ask(datasette, f"{PAGE}?_keep=metadata")).text)
    assert "blue.jpg" in by_metadata
    assert "sent.jpg" not in by_metadata
    for query in ("_threshold=0.951", "_keep=nothing", "_next=x"):
        answer = await ask(datasette, f"{PAGE}?{query}")
        assert (answer.status_code, 'role="alert"' in answer.text) == (400, True), query


async def test_what_is_ticked_is_a_list_of_paths(doubled: Path, folder: Path) -> None:
    datasette = datasette_of(doubled)
    page = (await ask(datasette, PAGE)).text
    boxes = re.findall(r'name="drop" value="(\d+)" data-path="([^"]*)"', page)
    keys = {Path(path).name: key for key, path in boxes}
    query = f"drop={keys['small.jpg']}&drop={keys['sent.jpg']}"
    text = await ask(datasette, f"{PAGE}.txt?{query}")
    assert text.headers["content-type"].startswith("text/plain")
    assert text.text.splitlines() == [str(folder / "sent.jpg"), str(folder / "small.jpg")]
    sent, small = await rows_of(datasette, query)
    assert (sent["exact"], small["exact"]) == ("1", "0")
    assert (sent["kept"], sent["group"]) == (str(folder / "blue.jpg"), "1")
    shown = await ask(datasette, f"{PAGE}?{query}&_show=1")
    value = re.search(r"_among=([^&]*)$", shown.headers["location"])[1]
    assert set(among_of(value).keys) == {int(keys["small.jpg"]), int(keys["sent.jpg"])}


async def test_each_group_keeps_an_image(doubled: Path) -> None:
    datasette = datasette_of(doubled)
    everything = "&".join(f"drop={id}" for id in range(1, 12))
    for path in (f"{PAGE}.txt", f"{PAGE}.csv", PAGE):
        answer = await ask(datasette, f"{path}?{everything}&_show=1")
        assert answer.status_code == 400
        assert "group 1 would keep no image" in answer.text
    nothing = await ask(datasette, f"{PAGE}.txt")
    assert (nothing.status_code, "nothing is ticked" in nothing.text) == (400, True)
    all_groups = await rows_of(datasette, "_all=1")
    assert [row["group"] for row in all_groups] == ["1", "2", "2"]


@pytest.fixture
def star(tmp_path: Path) -> Path:
    """A.jpg, the best, is like B.jpg, the oldest, and like C.jpg, but these two are not alike."""
    near, far = 0.951, (1 - 0.951**2) ** 0.5
    np.save(tmp_path / "v.npy", np.array([[1, 0], [near, far], [near, -far]], dtype=np.float32))
    paths = tmp_path / "paths.txt"
    paths.write_text("A.jpg\nB.jpg\nC.jpg\n")
    database = tmp_path / "photos.db"
    options = ("--paths", paths, "--root", tmp_path, "--model", "some/model")
    assert (
        command("import-image-vectors", database, "images", tmp_path / "v.npy", *options).exit_code
        == 0
    )
    change(database, "update images set width = 4000, height = 3000 where path = 'A.jpg'")
    change(database, "update images set taken_at = '1999-01-01' where path = 'B.jpg'")
    return database


async def test_scores_are_to_the_image_that_is_kept(star: Path) -> None:
    datasette = datasette_of(star)

    async def dropped(query: str) -> list[tuple[str, str, float]]:
        rows = await rows_of(datasette, query)
        return [(row["path"][-5:], row["kept"][-5:], float(row["score"])) for row in rows]

    close, apart = pytest.approx(0.951, abs=1e-4), pytest.approx(0.8088, abs=1e-4)
    assert await dropped("_all=1") == [("B.jpg", "A.jpg", close), ("C.jpg", "A.jpg", close)]
    # C is no duplicate of what is kept.
    assert await dropped("_all=1&_keep=oldest") == [("A.jpg", "B.jpg", close)]
    # A and C, by hand; and A and B, of which the suggestion would keep one.
    assert await dropped("drop=1&drop=3&_keep=oldest") == [
        ("A.jpg", "B.jpg", close),
        ("C.jpg", "B.jpg", apart),
    ]
    assert await dropped("drop=1&drop=2&_keep=oldest") == [
        ("A.jpg", "C.jpg", close),
        ("B.jpg", "C.jpg", apart),
    ]
    page = (await ask(datasette, f"{PAGE}?_keep=oldest")).text
    assert ticked(page) == ["A.jpg"]
    assert '3 images<span title="Score 0.8088 to 0.9510">, 80 to 95 % alike' in page
    alike = re.findall(r'<dt>Alike</dt><dd(?: title="(.*?)")?>(.*?)</dd>', page)
    assert sorted(alike) == [
        ("", "compared with this one"),
        ("Score 0.8088", "80 %"),
        ("Score 0.9510", "95 %"),
    ]


async def test_copies_are_of_the_image_that_is_kept(doubled: Path) -> None:
    datasette = datasette_of(doubled)
    change(doubled, "update images set taken_at = '2001-01-01' where filename = 'small.jpg'")
    red = [row for row in await rows_of(datasette, "_all=1&_keep=oldest") if row["group"] == "2"]
    assert [(row["exact"], Path(row["kept"]).name) for row in red] == [("0", "small.jpg")] * 2
    assert "3 images, 1 exact copy" not in (await ask(datasette, f"{PAGE}?_keep=oldest")).text


async def test_lists_are_read_in_parts(doubled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasette = datasette_of(doubled)
    for keep in ("best", "oldest"):
        whole = await rows_of(datasette, f"_all=1&_keep={keep}")
        with monkeypatch.context() as patched:
            for module in (duplicate_groups, duplicates_page):
                patched.setattr(module, "READ_AT_ONCE", 1)
            assert await rows_of(datasette, f"_all=1&_keep={keep}") == whole


async def test_what_is_ticked_and_in_no_group_is_refused(doubled: Path) -> None:
    datasette = datasette_of(doubled)
    (small,) = (row["id"] for row in await rows_of(datasette, "_all=1") if "small" in row["path"])
    for path in (PAGE, f"{PAGE}.txt", f"{PAGE}.csv"):
        for query, count in (("drop=999", "1 of 1 image"), (f"drop={small}&drop=999", "1 of 2")):
            answer = await ask(datasette, f"{path}?{query}&_show=1")
            assert (answer.status_code, count in answer.text) == (400, True)
            assert "in no group any more" in answer.text
    change(doubled, "delete from images where filename <> 'red.jpg'")
    answer = await ask(datasette, f"{PAGE}?_all=1&_show=1")
    assert (answer.status_code, "no group has an image to drop" in answer.text) == (400, True)


async def test_a_name_with_a_line_break_is_in_the_csv_only(
    folder: Path, embed: Callable[..., Path]
) -> None:
    shutil.copy(folder / "red.jpg", folder / "red\n2.jpg")
    datasette = datasette_of(embed(folder))
    change(
        folder.parent / "photos.db",
        "update images set taken_at = '2001' where filename = 'red.jpg'",
    )
    text = await ask(datasette, f"{PAGE}.txt?_all=1&_keep=oldest&_threshold=1")
    assert (text.status_code, text.text) == (200, "")
    answer = await ask(datasette, f"{PAGE}.csv?_all=1&_keep=oldest&_threshold=1")
    (row,) = csv.DictReader(answer.text.splitlines(keepends=True))
    assert row["path"].endswith("red\n2.jpg")


async def test_pages_follow_each_other(doubled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates_page, "GROUPS", 1)
    datasette = datasette_of(doubled)
    first = (await ask(datasette, f"{PAGE}?_threshold=0.97")).text
    following = unescape(re.search(r'<a href="([^"]*)" rel="next">', first)[1])
    second = (await ask(datasette, following)).text
    assert names_in(first) != names_in(second)
    assert len(names_in(second)) == 1
    assert 'rel="next"' not in second
    assert unescape(re.search(r'<a href="([^"]*)" rel="prev">', second)[1]) == (
        f"{PAGE}?_threshold=0.97"
    )


@pytest.mark.parametrize("sizes", [[2] * 50, [300, 500, 2, 2], [700, 700, 2], [599, 2, 2, 700]])
async def test_the_page_before_ends_where_its_next_one_begins(sizes: list[int]) -> None:
    groups = [[None] * size for size in sizes]
    for offset in range(1, len(groups) + 1):
        start = duplicates_page._page_before(groups, offset)
        assert duplicates_page._page_end(groups, start) >= offset
        assert start < offset


async def test_a_page_after_the_last_one_leads_back(doubled: Path) -> None:
    page = (await ask(datasette_of(doubled), f"{PAGE}?_next={2**63 - 1}")).text
    assert "There are no more groups" in page
    assert unescape(re.search(r'<a href="([^"]*)"[^>]*>Previous page', page)[1]) == PAGE


async def test_what_is_gone_or_moved_is_shown_as_it_is_now(doubled: Path, folder: Path) -> None:
    datasette = datasette_of(doubled)
    await ask(datasette, PAGE)
    (folder / "album").mkdir()
    (folder / "small.jpg").rename(folder / "album" / "small.jpg")
    (folder / "sent.jpg").unlink()
    assert command("embed-images", doubled, "images", folder, "--prune").exit_code == 0
    paths = [row["path"] for row in await rows_of(datasette, "_all=1")]
    assert str(folder / "album" / "small.jpg") in paths
    assert len(paths) == 2


async def test_a_comparison_that_takes_long_says_how_far_it_is(
    doubled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates_page, "PATIENCE", 0)
    datasette = datasette_of(doubled)
    waiting = await ask(datasette, PAGE)
    assert (waiting.status_code, waiting.headers["cache-control"]) == (202, "no-store")
    assert 'http-equiv="refresh"' in waiting.text
    assert len((await ask(datasette, f"{PAGE}.txt?_all=1")).text.splitlines()) == 3
    assert (await ask(datasette, PAGE)).status_code == 200


async def test_a_page_does_not_compare_again_while_somebody_writes(
    doubled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates_page, "PATIENCE", 0)
    begun, may_go_on = Queue[None](), Event()

    def find(*arguments: Any, **options: Any) -> DuplicateGroups:
        begun.put(None)
        assert may_go_on.wait(HANGS)
        return find_duplicates(*arguments, **options)

    monkeypatch.setattr(comparing, "find_duplicates", find)
    datasette = datasette_of(doubled)
    for id in range(1, comparing.MOST_WAITING + 3):
        assert (await ask(datasette, PAGE)).status_code == 202
        change(doubled, f"delete from images where id = {id}")
    assert len([key for key in comparing._comparisons if key[0][0] == doubled.resolve()]) == 1
    may_go_on.set()
    # A list is of what is there now.
    await rows_of(datasette, "_all=1")
    assert begun.qsize() == 2


async def test_a_comparison_serves_pages_for_as_long_as_it_took() -> None:
    running, failed = Comparison(), Comparison(took=1000, ended=time.monotonic())
    assert running.is_recent
    failed.future.set_exception(OSError())
    assert not failed.is_recent
    for ago, recent in ((10, True), (2000, False)):
        done = Comparison(took=1000, ended=time.monotonic() - ago)
        done.future.set_result(DuplicateGroups((), 0))
        assert done.is_recent is recent


async def test_a_busy_server_is_asked_again(doubled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "MOST_WAITING", 0)
    datasette = datasette_of(doubled)
    answer = await ask(datasette, PAGE)
    assert (answer.status_code, 'http-equiv="refresh"' in answer.text) == (503, True)
    assert (await ask(datasette, f"{PAGE}.csv?_all=1")).status_code == 503


async def test_the_images_that_are_not_shown_are_counted(
    doubled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicate_groups, "MOST_SHOWN", 2)
    page = (await ask(datasette_of(doubled), PAGE)).text
    assert [len(group) for group in names_in(page)] == [2, 2]
    assert re.findall(r'<fieldset[^>]* data-more="(\d+)"', page) == ["1"]


async def test_too_many_images_are_for_the_command(
    doubled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "MOST_IMAGES", 10)
    answer = await ask(datasette_of(doubled), PAGE)
    assert (answer.status_code, "find-duplicates PATH images --write" in answer.text) == (400, True)


async def test_who_may_not_see_the_table_or_its_folders(doubled: Path, folder: Path) -> None:
    def without(table: str) -> Datasette:
        rules = {"databases": {"photos": {"tables": {table: {"allow": False}}}}}
        return datasette_of(doubled, rules=rules)

    hidden = without("images")
    for path in (PAGE, f"{PAGE}.txt?_all=1"):
        assert (await ask(hidden, path)).status_code == 404
    datasette = without("image_search_roots")
    assert str(folder) not in (await ask(datasette, PAGE)).text
    paths = (await ask(datasette, f"{PAGE}.txt?_all=1")).text.splitlines()
    assert "small.jpg" in paths


async def test_a_view_and_an_image_with_that_name(doubled: Path) -> None:
    with closing(sqlite3.connect(doubled)) as conn, conn:
        conn.execute("create view some as select * from images where id < 5")
    datasette = datasette_of(doubled)
    of_view = await ask(datasette, "/-/image-search/photos/some/duplicates")
    assert (of_view.status_code, "of the whole table" in of_view.text) == (400, True)
    assert (
        f'<a href="{PAGE}">Duplicates</a>'
        in (await ask(datasette, "/-/image-search/photos/images")).text
    )
