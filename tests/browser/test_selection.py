"""Selecting pictures on the search page by mouse and by keys, and what is done with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from ..conftest import copied_database
from ..serving import datasette_of, served_here

pytestmark = pytest.mark.datasette

SEARCH = "/-/image-search/photos/images"


def bar(page: Page):
    return page.locator(".image-select-bar")


def tick(page: Page, name: str, **options) -> None:
    page.get_by_role("img", name=name).hover()
    page.get_by_role("button", name=f"Select {name}").click(**options)


def selected(page: Page) -> list[str]:
    return page.locator("li.selected img").evaluate_all("all => all.map(each => each.alt)")


def test_by_mouse_over_pages_and_then_searched(page: Page, server: str) -> None:
    page.goto(f"{server}{SEARCH}?_sort=id&_size=3")
    expect(page.locator(".image-search-grid [data-key]")).to_have_count(8)
    expect(bar(page)).to_be_hidden()
    tick(page, "blue.jpg")
    expect(bar(page).get_by_role("status").first).to_have_text("1 image selected")
    tick(page, "orange.jpg", modifiers=["Shift"])
    names = page.locator(".image-search-grid img").evaluate_all("all => all.map(each => each.alt)")
    assert selected(page) == names[1 : names.index("orange.jpg") + 1]
    tick(page, "blue.jpg")
    number = len(selected(page))
    data = page.request.get(
        server + bar(page).get_by_role("link", name="JSON").get_attribute("href")
    ).json()
    assert sorted(hit["row"]["filename"] for hit in data["hits"]) == sorted(selected(page))
    # Nobody may write here, and no originals are shown.
    expect(bar(page).get_by_text("album")).to_have_count(0)
    expect(bar(page).get_by_text("ZIP")).to_have_count(0)
    bar(page).get_by_role("link", name="Search these").click()
    expect(page.locator(".image-search-summary")).to_contain_text(
        f"{number} images from a selection"
    )
    expect(bar(page)).to_be_hidden()


def test_by_keys(page: Page, server: str) -> None:
    page.goto(f"{server}{SEARCH}?_sort=id")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+X")
    expect(bar(page).get_by_role("status").first).to_have_text("3 images selected")
    page.keyboard.press("Space")
    expect(bar(page).get_by_role("status").first).to_have_text("2 images selected")
    bar(page).get_by_role("button", name="all 8").click()
    expect(bar(page).get_by_role("status").first).to_have_text("8 images selected")
    page.keyboard.press("Escape")
    expect(bar(page)).to_be_hidden()
    assert selected(page) == []


def test_a_selection_is_there_again_after_going_back(page: Page, server: str) -> None:
    page.goto(f"{server}{SEARCH}?_sort=id")
    tick(page, "blue.jpg")
    page.get_by_role("img", name="red.jpg").hover()
    page.locator(".image-search-name", has_text="red.jpg").click()
    expect(page.get_by_role("heading", name="red.jpg")).to_be_visible()
    page.go_back()
    expect(bar(page).get_by_role("status").first).to_have_text("1 image selected")
    assert selected(page) == ["blue.jpg"]


def test_nobody_is_kept_out(page: Page, server: str) -> None:
    page.goto(f"{server}{SEARCH}?_sort=id")
    tick(page, "blue.jpg")
    result = Axe().run(page, context="section.content")
    assert result.violations_count == 0, result.generate_report()


def test_all_matches_are_not_the_weaker_ones(page: Page, server: str) -> None:
    page.goto(f"{server}{SEARCH}?q=red")
    tick(page, "red.jpg")
    # It is the only match.
    expect(bar(page).get_by_role("button", name="all 1", exact=True)).to_have_count(0)
    place = bar(page).get_by_role("link", name="CSV").get_attribute("href")
    assert page.request.get(server + place).text().count("\n") == 2


def test_what_a_link_or_a_query_cannot_hold_is_said(page: Page, server: str) -> None:
    page.goto(f"{server}{SEARCH}?_sort=id")
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text }")
    page.evaluate("window.imageSearchAmong = () => 'A'.repeat(7000)")
    tick(page, "red.jpg")
    for words in ("Search these", "CSV", "JSON"):
        expect(bar(page).get_by_role("link", name=words)).to_have_count(0)
        button = bar(page).get_by_role("button", name=words)
        assert button.get_attribute("aria-disabled") == "true"
    button.press("Enter")
    expect(bar(page)).to_contain_text("These are too many for a link: select fewer, or")
    bar(page).get_by_role("button", name="Copy paths").click()
    expect(bar(page)).to_contain_text("Copied 1 path.")
    # As if there were more images than the pages of a query have.
    page.goto(f"{server}{SEARCH}?_sort=id")
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text }")
    hit = '{"id": 1, "row": {"path": "a.jpg"}}'
    page.route(
        "**/images.json?*", lambda route: route.fulfill(body=f'{{"ok": true, "hits": [{hit}]}}')
    )
    tick(page, "red.jpg")
    bar(page).get_by_role("button", name="all 8", exact=True).click()
    bar(page).get_by_role("button", name="Copy paths").click()
    expect(bar(page)).to_contain_text("Copied only the first 1 path of 8 images")
    assert page.evaluate("window.copied") == "a.jpg"


@pytest.fixture
def root_page(browser: Browser, drawn_once: Path, tmp_path: Path) -> Iterator[Page]:
    """Of a person who may change albums, below a base URL."""
    database = copied_database(drawn_once, drawn_once / "pictures", tmp_path)
    datasette = datasette_of(database, settings={"base_url": "/mine/"})
    # As --root does.
    datasette.root_enabled = True
    with served_here(datasette) as url:
        context = browser.new_context(base_url=f"{url}/mine/")
        actor = datasette.sign({"a": {"id": "root"}}, "actor")
        context.add_cookies([{"name": "ds_actor", "value": actor, "url": url}])
        yield context.new_page()
        context.close()


def test_an_album_is_made_and_emptied(root_page: Page) -> None:
    page = root_page
    page.goto(f"./{SEARCH[1:]}?_sort=id")
    tick(page, "blue.jpg")
    tick(page, "red.jpg")
    bar(page).locator("summary", has_text="Add to album").click()
    bar(page).get_by_label("Name of a new album").fill("Best & blue")
    page.route("**/albums", lambda route: route.fulfill(status=403, body="<p>Form-based"))
    bar(page).get_by_label("Name of a new album").press("Enter")
    expect(bar(page)).to_contain_text(
        "Nothing was changed: the server answered 403 Forbidden; load"
    )
    page.unroute("**/albums")
    bar(page).get_by_label("Name of a new album").press("Enter")
    expect(bar(page)).to_contain_text("2 images added to Best & blue")
    bar(page).get_by_role("link", name="Best & blue").click()
    expect(page.locator(".image-search-summary")).to_contain_text("2 images where album = ")
    tick(page, "red.jpg")
    bar(page).get_by_role("button", name="Remove from Best & blue").click()
    expect(page.locator(".image-search-grid img")).to_have_count(1)
    expect(bar(page)).to_contain_text("1 image taken out of Best & blue")
    bar(page).get_by_role("button", name="Undo").click()
    expect(page.locator(".image-search-grid img")).to_have_count(2)


def test_by_a_finger_on_a_phone(browser: Browser, server: str) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto(f"{server}{SEARCH}?_sort=id")
    card = page.locator("li[data-key]").nth(1)
    page.locator(".image-select-tick").first.wait_for(state="attached")
    box = card.bounding_box()
    assert box is not None
    # Beyond the edge of the circle, which ends at 34 px.
    page.touchscreen.tap(box["x"] + 38, box["y"] + 38)
    expect(card).to_have_class("selected")
    tops = bar(page).locator(":scope > button, strong, .image-select-actions > *")
    boxes = [each.bounding_box() for each in tops.all()]
    assert len(boxes) > 3
    # One row.
    middles = [each["y"] + each["height"] / 2 for each in boxes if each]
    assert max(middles) - min(middles) < 6
    context.close()
