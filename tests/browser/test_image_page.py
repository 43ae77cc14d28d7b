"""The page of an image as a person goes on from it: by the arrows over the picture, by keys, with a finger."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from .touching import finger

pytestmark = pytest.mark.datasette

PAGE = "/-/image-search/photos/images"


def test_arrows_and_a_finger_go_through_the_search(browser: Browser, server: str) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto(f"{server}{PAGE}/3?_sort=id&_position=3")

    def see(place: str) -> None:
        """The page with its scripts, which may come later than what it says."""
        expect(page.get_by_text(place)).to_be_visible()
        page.wait_for_load_state()

    page.get_by_role("link", name="Next image").click()
    see("4 of 8")
    swipe = finger(page)
    swipe((300, 200), (100, 210))
    see("5 of 8")
    swipe((100, 200), (300, 190))
    see("4 of 8")
    page.keyboard.press("ArrowLeft")
    see("3 of 8")
    context.close()


def test_a_small_picture_is_twice_as_large(page: Page, server: str) -> None:
    page.goto(f"{server}{PAGE}/6")
    # It has 80 x 60 pixels.
    expect(page.locator(".image-search-large img")).to_have_css("width", "160px")
