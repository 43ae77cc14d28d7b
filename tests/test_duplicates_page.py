"""The page of duplicates as a server answers it, and the lists that its choices end in."""

from __future__ import annotations

import csv
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from html import unescape
from pathlib import Path

import pytest
from datasette.app import Datasette
from PIL import Image

from datasette_image_search.web.among import among_of
from datasette_image_search.web.pages import duplicates_page
from datasette_image_search.web.server import comparing

from .commands import change, command
from .serving import ask, datasette_of

PAGE = "/-/image-search/photos/images/duplicates"
pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates_page, "PATIENCE", 60)


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
    assert "2 groups of 5 images, of 11 that were compared" in page
    assert "2 images, 1 exact copy" in page
    assert "3 images, 1 exact copy" in page
    assert re.search(r'class="differs"><dt>Pixels</dt><dd>40 x 30', page)
    assert re.search(r"<div><dt>Format</dt><dd>JPEG", page)
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


async def test_too_many_images_are_for_the_command(
    doubled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "MOST_IMAGES", 10)
    answer = await ask(datasette_of(doubled), PAGE)
    assert (answer.status_code, "find-duplicates --write" in answer.text) == (400, True)


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
        f'<a href="{PAGE}">duplicates</a>'
        in (await ask(datasette, "/-/image-search/photos/images")).text
    )
