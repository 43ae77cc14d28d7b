"""The map as a person uses it: in a page of Datasette, and in a file."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from datasette_image_search.web.among import among_of, among_value

from ..commands import command

pytestmark = pytest.mark.datasette

MAP = "/-/image-search/photos/images/map"


def open_map(page: Page, url: str) -> None:
    page.goto(url)
    page.wait_for_selector(".image-map[data-ready]", state="attached")
    # What has thumbnails is chosen a moment after the last movement.
    page.wait_for_selector(".image-map[data-shown]", state="attached")


FEWER = re.compile("^[0-7]$")


def expect_in_view(page: Page, images: str | re.Pattern[str]) -> None:
    """It is counted a moment after the last movement."""
    expect(page.locator(".image-map")).to_have_attribute("data-in-view", images)


def card_of(page: Page, name: str) -> Locator:
    """What is shown of an image that is pointed at."""
    return page.locator(".image-map-card:visible", has_text=name)


def place_of(page: Page, name: str) -> tuple[float, float]:
    """Where an image is on the screen while the whole map is shown, by the JSON."""
    data = page.evaluate(
        "fetch(document.querySelector('.image-map').dataset.url).then(r => r.json())"
    )
    images = data["images"]
    at = images["name"].index(name)
    box = page.locator(".image-map-stage").bounding_box()
    margin = 40
    # The border is of one pixel.
    across = (images["x"][at] + 1) / 2 * (box["width"] - 2 - 2 * margin)
    down = (1 - images["y"][at]) / 2 * (box["height"] - 2 - 2 * margin)
    return box["x"] + 1 + margin + across, box["y"] + 1 + margin + down


def drag(page: Page, *corners: tuple[float, float]) -> None:
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=5)
    page.mouse.up()


def test_from_the_search_page_to_the_map_and_an_image(page: Page, server: str) -> None:
    page.goto(f"{server}/-/image-search/photos/images?filename__contains=e")
    page.locator(".image-search-export > summary").click()
    page.get_by_role("link", name="Map by likeness").click()
    expect(page).to_have_url(f"{server}{MAP}?filename__contains=e")
    expect(page.locator(".image-map-status")).to_contain_text("7 images where filename contains")
    page.wait_for_load_state("networkidle")
    place = place_of(page, "red.jpg")
    page.mouse.move(*place)
    card = page.locator(".image-map-card")
    expect(card).to_contain_text("red.jpg")
    url = re.compile(r"/images/6/thumbnail\?v=[0-9a-f]{12}$")
    expect(card.locator("img")).to_have_attribute("src", url)
    page.mouse.click(*place)
    expect(page).to_have_url(f"{server}/photos/images/6")


def test_thumbnails_of_those_that_do_not_hide_each_other(new_page: Page, server: str) -> None:
    page = new_page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    open_map(page, server + MAP)
    page.wait_for_load_state("networkidle")
    shown = int(page.locator(".image-map").get_attribute("data-shown"))
    thumbnails = [url for url in asked if "/thumbnail?v=" in url]
    assert 1 <= shown == len(thumbnails) <= 8
    assert [url for url in asked if not url.startswith((server, "data:"))] == []


def test_zoom_and_back_by_wheel_buttons_and_keys(page: Page, server: str) -> None:
    open_map(page, server + MAP)
    expect_in_view(page, "8")
    x, y = place_of(page, "red.jpg")
    page.mouse.move(x, y)
    for _ in range(8):
        page.mouse.wheel(0, -100)
    expect_in_view(page, FEWER)
    # What is under the pointer stayed there.
    page.mouse.move(x + 1, y)
    expect(card_of(page, "red.jpg")).to_be_visible()
    page.get_by_role("button", name="Whole map").click()
    expect_in_view(page, "8")
    for _ in range(4):
        page.get_by_role("button", name="Zoom in").click()
    expect_in_view(page, FEWER)
    page.get_by_role("application").focus()
    page.keyboard.press("-")
    page.keyboard.press("0")
    expect_in_view(page, "8")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".image-map-status")).to_contain_text("In the middle: ")
    name = page.locator(".image-map-card").inner_text()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/photos/images/\d$"))
    expect(page.locator("body")).to_contain_text(name)


def test_dragging_moves_the_map_and_opens_nothing(page: Page, server: str) -> None:
    open_map(page, server + MAP)
    x, y = place_of(page, "red.jpg")
    box = page.locator(".image-map-stage").bounding_box()
    # To where there is room for it.
    across = 200 if x < box["x"] + box["width"] / 2 else -200
    page.mouse.move(x + across, y)
    expect(card_of(page, "red.jpg")).to_have_count(0)
    drag(page, (x, y), (x + across / 2, y), (x + across, y))
    expect_in_view(page, FEWER)
    page.mouse.move(x + across + 1, y)
    expect(card_of(page, "red.jpg")).to_be_visible()
    expect(page).to_have_url(server + MAP)
    page.get_by_role("button", name="Whole map").click()
    expect_in_view(page, "8")


def test_a_finger_sees_at_its_first_tap_and_opens_at_its_second(
    browser: Browser, server: str
) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True)
    page = context.new_page()
    open_map(page, server + MAP)
    # What is set before is folded.
    assert page.locator(".image-map-stage").bounding_box()["y"] < 300
    page.locator("summary", has_text="Colours and filters").tap()
    expect(page.get_by_label("Colour by")).to_be_visible()
    page.locator("summary", has_text="Colours and filters").tap()
    place = place_of(page, "red.jpg")
    page.touchscreen.tap(*place)
    expect(card_of(page, "red.jpg")).to_be_visible()
    expect(page).to_have_url(server + MAP)
    # It is not there any more, and so it is not opened.
    page.get_by_role("button", name="Zoom out").tap()
    expect(card_of(page, "red.jpg")).to_have_count(0)
    page.get_by_role("button", name="Whole map").tap()
    page.touchscreen.tap(*place)
    expect(card_of(page, "red.jpg")).to_be_visible()
    expect(page).to_have_url(server + MAP)
    page.touchscreen.tap(*place)
    expect(page).to_have_url(f"{server}/photos/images/6")
    context.close()


def test_a_lasso_shows_exactly_those_on_the_search_page(page: Page, server: str) -> None:
    open_map(page, f"{server}{MAP}?format=JPEG&_color=filename")
    page.get_by_role("button", name="Lasso").click()
    x, y = place_of(page, "red.jpg")
    drag(page, (x - 12, y - 12), (x + 12, y - 12), (x + 12, y + 12), (x - 12, y + 12))
    expect(page.locator(".image-map-status")).to_contain_text("1 image selected")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".image-map-status")).to_contain_text("8 images")

    page.get_by_role("button", name="Select these").click()
    page.get_by_role("link", name="Show these 8 images").click()
    assert parse_qs(urlsplit(page.url).query) == {
        "format": ["JPEG"],
        "_among": [among_value(range(1, 9), "map")],
    }
    expect(page.locator(".image-search-grid [data-key]")).to_have_count(8)
    expect(page.locator("main")).to_contain_text("8 images from the map where format = ")


@pytest.mark.parametrize("ids", [[7, 9, 10, 11, 5000], [2**52, 3, 2**32, 2**32 + 1], ["b", "a"]])
def test_the_link_is_written_as_the_server_reads_it(
    page: Page, server: str, ids: list[int | str]
) -> None:
    data = many(len(ids))
    data["images"]["id"] = ids
    page.route(f"{server}{MAP}.json", lambda route: route.fulfill(json=data))
    page.route("**/thumbnail", lambda route: route.fulfill(body=""))
    open_map(page, server + MAP)
    page.get_by_role("button", name="Select these").click()
    url = page.get_by_role("link", name="Show these").get_attribute("href")
    (value,) = parse_qs(urlsplit(url).query)["_among"]
    assert value == among_value(ids, "map")
    assert set(among_of(value).keys) == set(ids)


def test_the_link_stays_in_view_on_a_phone(page: Page, server: str) -> None:
    page.set_viewport_size({"width": 390, "height": 600})
    open_map(page, server + MAP)
    page.get_by_role("button", name="Select these").click()
    link = page.get_by_role("link", name="Show these 8 images")
    for where in (0, 10**6):
        page.evaluate("y => window.scrollTo(0, y)", where)
        expect(link).to_be_in_viewport(ratio=1)


def test_shift_selects_too_and_escape_lets_go(page: Page, server: str) -> None:
    open_map(page, server + MAP)
    box = page.locator(".image-map-stage").bounding_box()
    left, top = box["x"] + 5, box["y"] + 5
    right, bottom = box["x"] + box["width"] / 2, box["y"] + box["height"] - 5
    page.keyboard.down("Shift")
    drag(page, (left, top), (right, top), (right, bottom), (left, bottom))
    page.keyboard.up("Shift")
    status = page.locator(".image-map-status")
    expect(status).to_contain_text(re.compile(r"^[1-7] images? selected"))
    page.get_by_role("application").focus()
    page.keyboard.press("Escape")
    expect(status).to_have_text("8 images")


def test_more_than_a_link_can_name_is_said(page: Page, server: str) -> None:
    page.route(
        f"{server}{MAP}.json",
        lambda route: route.fulfill(json=many(3000, apart=100_000)),
    )
    open_map(page, server + MAP)
    page.get_by_role("button", name="Select these").click()
    expect(page.locator(".image-map-status")).to_contain_text(
        "3,000 images selected. These are too many for a link"
    )
    assert page.get_by_role("link", name="Show these").count() == 0
    # Where there are so many, thumbnails come with zooming in.
    assert page.locator(".image-map").get_attribute("data-shown") == "0"


def many(n: int, apart: int = 1) -> dict:
    """A map of more images than the tests draw; `apart` is the distance of their ids."""
    side = range(n)
    return {
        "count": n,
        "description": f"{n} images",
        "colours": ["#4269d0"],
        "legend": {"title": "", "entries": [], "scale": None},
        "images": {
            "id": [1_000_000 + apart * at for at in side],
            "name": [f"{at}.jpg" for at in side],
            "x": [at % 60 / 30 - 1 for at in side],
            "y": [at // 60 / 30 - 1 for at in side],
            "colour": [0] * n,
            "version": [None] * n,
        },
    }


def test_colours_and_a_query_by_the_form(page: Page, server: str) -> None:
    open_map(page, f"{server}{MAP}?id__gt=1")
    page.get_by_label("Colour by", exact=True).select_option("lens")
    page.get_by_role("button", name="Colour").click()
    legend = page.locator(".image-map-legend")
    expect(legend).to_contain_text("50 mm (5)")
    expect(legend).to_contain_text("35 mm (2)")
    page.get_by_label("Colour by", exact=True).select_option("")
    page.get_by_label("or by likeness to").fill("red")
    page.get_by_role("button", name="Colour").click()
    expect(legend).to_contain_text('likeness to "red"')


def test_a_query_that_says_nothing(page_with_errors: Page, server: str) -> None:
    page = page_with_errors
    page.goto(f"{server}{MAP}?q=xyzzy")
    expect(page.locator(".image-map-status")).to_contain_text(
        re.compile("^Could not load the map: .*xyzzy")
    )


def test_without_javascript(browser: Browser, server: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{server}{MAP}?id__gt=4")
    expect(page.get_by_text("The map needs JavaScript")).to_be_visible()
    page.get_by_role("link", name="The same images as a list").last.click()
    expect(page.locator(".image-search-grid [data-key]")).to_have_count(4)
    context.close()


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_nothing_sticks_out(page: Page, server: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    open_map(page, f"{server}{MAP}?_color=filename&filename__contains=e")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1200)])
def test_nobody_is_kept_out(page: Page, server: str, scheme: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    open_map(page, f"{server}{MAP}?_color=filename&filename__contains=e")
    page.get_by_role("button", name="Select these").click()
    page.get_by_role("button", name="Lasso").click()
    results = Axe().run(page, context="section.content")
    assert [
        (violation["id"], [node["html"] for node in violation["nodes"]])
        for violation in results.response["violations"]
        if violation["impact"] in ("serious", "critical")
    ] == []


def test_a_file_opens_from_the_disk_and_asks_for_nothing(
    browser: Browser, database: Path, tmp_path: Path
) -> None:
    file = tmp_path / "map.html"
    assert command("plot-images", database, "images", "--html", file).exit_code == 0
    page = browser.new_page()
    asked: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: problems.append(said.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    open_map(page, file.as_uri())
    page.wait_for_load_state("networkidle")
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    assert int(page.locator(".image-map").get_attribute("data-shown")) >= 1
    expect(page.get_by_role("button", name="Lasso")).to_have_count(0)
    page.get_by_role("application").focus()
    page.keyboard.press("+")
    expect(page.locator(".image-map-card")).to_contain_text(".jpg")
    assert page.locator(".image-map-card canvas").evaluate(
        "part => part.getContext('2d').getImageData(5, 5, 1, 1).data[3]"
    )
    results = Axe().run(page)
    serious = [
        each["id"]
        for each in results.response["violations"]
        if each["impact"] in ("serious", "critical")
    ]
    page.close()
    assert (serious, problems) == ([], [])
