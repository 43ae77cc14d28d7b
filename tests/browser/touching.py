"""A finger on a page: Playwright itself can only tap."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page

Point = tuple[int, int]


def finger(page: Page) -> Callable[[Point, Point], None]:
    """A function that swipes from one point of the window to another, in pixels."""
    touch = page.context.new_cdp_session(page)

    def swipe(*points: Point) -> None:
        for kind, point in zip(("touchStart", "touchMove"), points, strict=True):
            where = [{"x": point[0], "y": point[1]}]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": where})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    return swipe
