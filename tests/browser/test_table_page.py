"""The table page with pictures, as a person uses it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.datasette

TABLE = "/photos/images"
PICTURES = ".image-search-cell img"


def test_filter_then_search_then_sort(page: Page, server: str) -> None:
    page.goto(server + TABLE + "?path__contains=l&_facet=format")
    page.get_by_role("searchbox", name="Search images").fill("blue")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page).to_have_url(server + TABLE + "?path__contains=l&_facet=format&_image_search=blue")
    # All with an l: yellow, blue, black and purple.
    expect(page.locator(PICTURES)).to_have_count(4)
    expect(page.locator(PICTURES).first).to_have_attribute("alt", "blue.jpg")
    expect(page.get_by_role("heading", name='closest to "blue"')).to_be_visible()

    page.get_by_role("columnheader", name="path").get_by_role("link").first.click()
    expect(page.locator(PICTURES).first).to_have_attribute("alt", "black.jpg")
    expect(page.get_by_role("searchbox", name="Search images")).to_have_value("blue")

    page.get_by_role("link", name="Clear").click()
    expect(page.get_by_role("searchbox", name="Search images")).to_have_value("")


def test_a_facet_narrows_a_search(page: Page, server: str) -> None:
    page.goto(server + TABLE + "?_image_search=red&_facet=filename")
    page.get_by_role("link", name="blue.jpg").first.click()
    expect(page.locator(PICTURES)).to_have_count(1)
    expect(page.locator(PICTURES)).to_have_attribute("alt", "blue.jpg")


def test_all_pictures_load_and_fit_their_cells(page: Page, server: str) -> None:
    page.goto(server + TABLE + "?_image_search=red")
    page.locator(PICTURES).last.scroll_into_view_if_needed()
    page.wait_for_load_state("networkidle")
    sizes = page.eval_on_selector_all(
        PICTURES, "all => all.map(it => [it.naturalWidth, it.width, it.height])"
    )
    assert sizes == [[80, 120, 90]] * 8
    page.locator(PICTURES).first.click()
    expect(page).to_have_url(server + TABLE + "/6")


def test_a_query_is_a_grid_two_clicks_away(page: Page, server: str) -> None:
    page.goto(server + "/photos?sql=select+id,+path+from+images+where+id+%3C+4")
    expect(page.locator(PICTURES)).to_have_count(3)
    page.get_by_role("link", name="images", exact=True).last.click()
    expect(page.locator(".image-search-grid img")).to_have_count(3)
    page.get_by_role("link", name="as a table").click()
    expect(page.locator(PICTURES)).to_have_count(3)


def test_the_search_box_fits_a_phone(page: Page, server: str) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(server + TABLE + "?_image_search=red")
    box = page.locator(".image-search-box").bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 390
