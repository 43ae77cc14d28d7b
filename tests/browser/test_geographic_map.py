"""The map of the earth as a person uses it: without any request to another host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from ..commands import change
from ..conftest import copied_database
from ..serving import HANGS, datasette_of, served_here

pytestmark = pytest.mark.datasette

PATIENCE = 1000 * HANGS
"""Milliseconds."""

EARTH = "/-/image-search/photos/images/earth"


@pytest.fixture(scope="module")
def server(drawn_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Three images in and around Lisbon, one in Sydney, four nowhere."""
    database = copied_database(
        drawn_once, drawn_once / "pictures", tmp_path_factory.mktemp("earth")
    )
    change(
        database,
        "update images set latitude = 38.7, longitude = -9.1 where id in (1, 2)",
        "update images set latitude = 38.8, longitude = -9.2 where id = 3",
        "update images set latitude = -33.9, longitude = 151.2 where id = 5",
    )
    with served_here(datasette_of(database)) as url:
        yield url


def test_a_box_becomes_a_filter_and_a_cell_opens(page: Page, server: str) -> None:
    page.set_viewport_size({"width": 1000, "height": 800})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server + EARTH)
    status = page.locator(".image-earth-status")
    expect(status).to_contain_text("4 images in view", timeout=PATIENCE)
    expect(page.get_by_role("button", name="1 image", exact=True)).to_be_visible(timeout=PATIENCE)
    assert Axe().run(page, context="section.content").response["violations"] == []
    assert [url for url in asked if not url.startswith((server, "data:"))] == []

    lisbon = page.get_by_role("button", name="3 images").bounding_box()
    x, y = lisbon["x"] + lisbon["width"] / 2, lisbon["y"] + lisbon["height"] / 2
    page.get_by_role("button", name="Box").click()
    page.mouse.move(x - 30, y - 30)
    page.mouse.down()
    page.mouse.move(x + 30, y + 30, steps=3)
    page.mouse.up()
    expect(status).to_contain_text("3 images in the box", timeout=PATIENCE)
    link = page.get_by_role("link", name="Show these 3 images").get_attribute("href")
    bounds = {name: float(value) for name, (value,) in parse_qs(urlsplit(link).query).items()}
    assert bounds["latitude__gte"] < 38.7 < 38.8 < bounds["latitude__lte"]
    assert bounds["longitude__gte"] < -9.2 < -9.1 < bounds["longitude__lte"]

    # A cell of several places comes nearer, one image has its page.
    page.get_by_role("button", name="3 images").click()
    expect(page).to_have_url(re.compile("_view="), timeout=PATIENCE)
    expect(status).to_contain_text("3 images in the box", timeout=PATIENCE)
    page.get_by_role("button", name="Remove the box").click()
    expect(status).to_contain_text("3 images in view", timeout=PATIENCE)
    page.goto(server + EARTH)
    page.get_by_role("button", name="1 image", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{server}/-/image-search/photos/images/5", timeout=PATIENCE)


def limits_of(page: Page) -> dict[str, float]:
    """Of the search for what is in view, or in the box."""
    link = page.get_by_role("link", name=re.compile("Show ")).get_attribute("href")
    asked = parse_qs(urlsplit(link).query)
    return {name: float(value) for name, (value,) in asked.items() if "itude__" in name}


def test_a_search_in_the_view_keeps_its_own_limits(page: Page, server: str) -> None:
    page.set_viewport_size({"width": 1000, "height": 800})
    page.goto(f"{server}{EARTH}?latitude__gte=38.75&longitude__lte=-9&_view=38,-10,40,-8")
    status = page.locator(".image-earth-status")
    expect(status).to_contain_text("1 image in view", timeout=PATIENCE)
    limits = limits_of(page)
    assert (limits["latitude__gte"], limits["longitude__lte"]) == (38.75, -9)
    assert (limits["latitude__lte"] >= 40, limits["longitude__gte"] <= -10) == (True, True)


def test_the_view_is_in_the_url(page: Page, server: str) -> None:
    page.set_viewport_size({"width": 1000, "height": 800})
    page.goto(server + EARTH)
    status = page.locator(".image-earth-status")
    expect(status).to_contain_text("4 images in view", timeout=PATIENCE)
    assert page.url == server + EARTH
    page.get_by_role("button", name="3 images").click()
    expect(status).to_contain_text("3 images in view", timeout=PATIENCE)
    expect(page).to_have_url(re.compile("_view="), timeout=PATIENCE)
    view = page.url
    page.get_by_role("link", name="Show these 3 images").click()
    page.wait_for_url(re.compile("latitude__gte"), timeout=PATIENCE)
    page.go_back()
    expect(status).to_contain_text("3 images in view", timeout=PATIENCE)
    assert page.url == view


def test_a_box_is_drawn_by_a_finger(browser: Browser, server: str) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 700}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto(server + EARTH)
    status = page.locator(".image-earth-status")
    expect(status).to_contain_text("4 images in view", timeout=PATIENCE)
    choose = page.get_by_role("button", name="Box", exact=True)
    choose.tap()
    expect(choose).to_have_attribute("aria-pressed", "true", timeout=PATIENCE)
    stage = page.locator(".image-earth-stage").bounding_box()
    x, y = stage["x"] + 10, stage["y"] + 5
    touch = context.new_cdp_session(page)

    def finger(kind: str, *where: dict[str, float]) -> None:
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": list(where)})

    finger("touchStart", {"x": x, "y": y})
    for step in range(1, 11):
        along = stage["width"] / 2 * step / 10, (stage["height"] - 80) * step / 10
        finger("touchMove", {"x": x + along[0], "y": y + along[1]})
    finger("touchEnd")
    expect(status).to_contain_text("3 images in the box", timeout=PATIENCE)
    context.close()


def test_without_javascript(browser: Browser, server: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(server + EARTH)
    page.get_by_text("As a list", exact=True).click()
    page.get_by_role("link", name="38.73° N, 9.13° W").click()
    expect(page.locator(".image-search-grid [data-key]")).to_have_count(3, timeout=PATIENCE)
    context.close()
