"""Duplicates as a person chooses among them: with a mouse, and without JavaScript."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from ..commands import change
from ..conftest import embed_into
from ..serving import datasette_of, served_here

pytestmark = pytest.mark.datasette

PAGE = "/-/image-search/photos/images/duplicates"


@pytest.fixture(scope="module")
def server(drawn_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """red.jpg and blue.jpg are there twice, one with a date."""
    place = tmp_path_factory.mktemp("duplicates")
    for name in ("red", "blue"):
        for copy in ("", " copy"):
            shutil.copy(drawn_once / "pictures" / f"{name}.jpg", place / f"{name}{copy}.jpg")
    database = embed_into(place / "photos.db", "images", place)
    change(database, "update images set taken_at = '2001-02-03' where filename = 'blue copy.jpg'")
    with served_here(datasette_of(database)) as url:
        yield url


def test_each_group_keeps_one_of_what_is_ticked(browser: Browser, server: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 700})
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server)
    page = context.new_page()
    page.goto(server + PAGE)
    count = page.locator(".image-duplicates-count")
    expect(count).to_have_text("2 selected")
    expect(page.get_by_role("button", name="Search these")).to_be_in_viewport()
    assert Axe().run(page, context="section.content").response["violations"] == []
    page.get_by_role("button", name="Copy paths").click()
    expect(count).to_have_text("2 paths copied")
    paths = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert [Path(path).stem.removesuffix(" copy") for path in paths] == ["blue", "red"]
    page.get_by_role("checkbox", checked=False).first.check()
    expect(count).to_have_text("3 selected")
    page.get_by_role("button", name="List").click()
    expect(page).to_have_url(server + PAGE)
    page.get_by_role("checkbox", checked=True).first.uncheck()
    page.get_by_role("button", name="Search these").click()
    expect(page.get_by_text("2 images from a selection", exact=False).first).to_be_visible()
    context.close()


def test_the_shown_images_of_a_larger_group_may_all_go(page: Page, server: str) -> None:
    page.goto(server + PAGE)
    for box in page.get_by_role("checkbox").all():
        box.check()
    group = page.locator("fieldset").first
    expect(group).to_have_class("keeps-none")
    # As the server marks a group of more than it shows.
    group.evaluate("each => { each.dataset.more = 1 }")
    page.get_by_role("checkbox").first.dispatch_event("change")
    expect(group).not_to_have_class("keeps-none")
    expect(page.locator("fieldset").last).to_have_class("keeps-none")


def test_a_group_is_kept_whole_or_but_for_one(page: Page, server: str) -> None:
    page.goto(server + PAGE)
    group = page.locator("fieldset").first
    boxes = group.get_by_role("checkbox")
    for at in (0, 1):
        group.get_by_role("button", name="Keep only this").nth(at).click()
        assert [box.is_checked() for box in boxes.all()] == [at == 1, at == 0]
    group.get_by_role("button", name="Keep all").click()
    expect(page.locator(".image-duplicates-count")).to_have_text("1 selected")
    # The words on the picture are those of its box.
    picture = group.locator("img").first.bounding_box()
    assert picture is not None
    page.mouse.click(picture["x"] + 25, picture["y"] + 20)
    assert [box.is_checked() for box in boxes.all()] == [True, False]


def test_a_picture_is_looked_at_within_its_group(page: Page, server: str) -> None:
    page.goto(server + PAGE)
    group = page.locator("fieldset").first
    names = [img.get_attribute("alt") for img in group.get_by_role("img").all()]
    group.get_by_role("img").first.click()
    dialog = page.get_by_role("dialog")
    shown, number = dialog.get_by_role("img"), dialog.locator(".image-search-tools span")
    expect(number).to_have_text("1 of 2")
    for _ in range(2):
        # The second time there is no other.
        page.keyboard.press("ArrowRight")
        expect(shown).to_have_attribute("alt", str(names[1]))
        expect(number).to_have_text("2 of 2")
    drop = dialog.get_by_role("button", name="Drop")
    box = group.get_by_role("checkbox").nth(1)
    was = box.is_checked()
    drop.click()
    expect(drop).to_have_attribute("aria-pressed", str(not was).lower())
    page.wait_for_function("history.state?.preview === 1")
    # Once more with it open, it is there again, and going back closes it.
    page.reload()
    expect(shown).to_have_attribute("alt", str(names[1]))
    page.go_back()
    expect(dialog).to_be_hidden()
    expect(page).to_have_url(server + PAGE)


def test_facts_are_beside_each_other(page: Page, server: str) -> None:
    page.set_viewport_size({"width": 390, "height": 700})
    page.goto(server + PAGE)
    group = page.locator("fieldset").first
    group.locator(".image-duplicates-name").first.evaluate(
        "each => { each.append('x'.repeat(90)) }"
    )
    taken = [fact.bounding_box() for fact in group.locator("li dt", has_text="Taken").all()]
    assert len(taken) == 2
    assert len({box["y"] for box in taken if box}) == 1


def test_without_javascript(browser: Browser, server: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{server}{PAGE}")
    page.get_by_label("Keep", exact=True).select_option("oldest")
    page.get_by_role("button", name="Suggest").click()
    expect(page.locator("fieldset")).to_have_count(2)
    page.get_by_role("button", name="List").click()
    expect(page).to_have_url(
        re.compile(rf"{PAGE}\.txt\?_threshold=0\.95&_keep=oldest&drop=\d+&drop=")
    )
    assert len(page.locator("body").inner_text().splitlines()) == 2
    context.close()
