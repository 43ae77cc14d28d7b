"""The map of the earth as a person uses it: without any request to another host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from ..commands import change
from ..conftest import copied_database
from ..serving import served

pytestmark = pytest.mark.datasette

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
    with served(database) as server:
        yield server.url


def test_a_box_becomes_a_filter_and_a_cell_opens(browser: Browser, server: str) -> None:
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server + EARTH)
    status = page.locator(".image-earth-status")
    expect(status).to_contain_text("4 images in view")
    expect(page.get_by_role("button", name="1 image", exact=True)).to_be_visible()
    assert Axe().run(page, context="section.content").response["violations"] == []
    assert [url for url in asked if not url.startswith((server, "data:"))] == []

    lisbon = page.get_by_role("button", name="3 images").bounding_box()
    x, y = lisbon["x"] + lisbon["width"] / 2, lisbon["y"] + lisbon["height"] / 2
    page.get_by_role("button", name="Box").click()
    page.mouse.move(x - 30, y - 30)
    page.mouse.down()
    page.mouse.move(x + 30, y + 30, steps=3)
    page.mouse.up()
    expect(status).to_contain_text("3 images in the box")
    link = page.get_by_role("link", name="Show these 3 images").get_attribute("href")
    bounds = {name: float(value) for name, (value,) in parse_qs(urlsplit(link).query).items()}
    assert bounds["latitude__gte"] < 38.7 < 38.8 < bounds["latitude__lte"]
    assert bounds["longitude__gte"] < -9.2 < -9.1 < bounds["longitude__lte"]

    # A cell of several places comes nearer, one image has its page.
    page.get_by_role("button", name="3 images").click()
    expect(status).to_contain_text("3 images in view")
    page.goto(server + EARTH)
    page.get_by_role("button", name="1 image", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{server}/-/image-search/photos/images/5")
    page.close()


def test_without_javascript(browser: Browser, server: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(server + EARTH)
    page.get_by_text("As a list", exact=True).click()
    page.get_by_role("link", name="38.73° N, 9.13° W").click()
    expect(page.locator(".image-search-grid li")).to_have_count(3)
    context.close()
