"""The search page as a person uses it."""

from __future__ import annotations

from playwright.sync_api import Page, expect

SEARCH = "/-/image-search/photos/images"


def test_search_then_more_like_this_then_the_row(page: Page, server: str) -> None:
    page.goto(server + SEARCH)
    page.get_by_role("searchbox", name="Search for").fill("red")
    page.get_by_role("button", name="Search").click()
    pictures = page.get_by_role("listitem").get_by_role("img")
    expect(pictures.first).to_have_attribute("alt", "red.jpg")

    page.get_by_role("listitem").filter(has_text="blue.jpg").get_by_text("more like this").click()
    expect(page.get_by_role("searchbox")).to_have_value("#2")
    expect(pictures.first).to_have_attribute("alt", "blue.jpg")

    pictures.first.click()
    expect(page).to_have_url(server + "/photos/images/2")


def test_all_pictures_load(page: Page, server: str) -> None:
    page.goto(server + SEARCH + "?q=red")
    page.wait_for_load_state("networkidle")
    widths = page.eval_on_selector_all(
        ".image-search-grid img", "pictures => pictures.map(picture => picture.naturalWidth)"
    )
    assert widths == [80] * 8


def test_nothing_sticks_out_on_a_phone(page: Page, server: str) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(server + SEARCH + "?q=red")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_nothing_is_asked_of_another_host(page: Page, server: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server + SEARCH + "?q=red")
    page.wait_for_load_state("networkidle")
    assert len(asked) > 8
    assert [url for url in asked if not url.startswith((server, "data:"))] == []
