"""A real Datasette on a port of its own, and a real browser: Debian's Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Error,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)

from ..commands import change
from ..conftest import copied_database
from ..serving import HANGS, datasette_of, served_here

CHROMIUM = (
    shutil.which("chromium-headless-shell")
    or shutil.which("chromium")
    or shutil.which("chromium-browser")
)
"""The first is the same browser without windows, menus and profiles, and takes half the time."""

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]


DESK = ViewportSize(width=1200, height=800)


# For this package and not longer: while Playwright runs, its event loop keeps others from running.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium-headless-shell")
    # Five seconds are too few for a busy machine.
    expect.set_options(timeout=HANGS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def database(drawn_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The eight pictures, for tests to look at: some have a camera and a date, and all a lens."""
    database = copied_database(
        drawn_once, drawn_once / "pictures", tmp_path_factory.mktemp("browser")
    )
    change(
        database,
        "update images set lens = iif(id < 4, '35 mm', '50 mm')",
        *(
            f"update images set camera_model = '{make}', camera_make = '{make}', "
            f"taken_at = '{year}-05-06T07:08:09' where id = {id}"
            for id, make, year in ((1, "Canon", 2020), (2, "Canon", 2021), (6, "NIKON", 2021))
        ),
    )
    return database


@pytest.fixture(scope="package")
def server(database: Path) -> Iterator[str]:
    """The URL of a Datasette that serves `database`."""
    with served_here(datasette_of(database)) as url:
        yield url


@pytest.fixture(scope="package")
def tab(browser: Browser) -> Iterator[Page]:
    """For one test after the other, as `page`: to make one takes a browser longer than to show what is in it."""
    context = browser.new_context(viewport=DESK)
    yield context.new_page()
    context.close()


@pytest.fixture
def page_with_errors(tab: Page, server: str) -> Iterator[Page]:
    """As `page`, for answers that a browser logs as errors."""
    yield tab
    _leave(tab)


@pytest.fixture
def page(page_with_errors: Page) -> Iterator[Page]:
    """
    As a page of its own that fails the test for any error it logs, and is left before `server` ends. But it may have files of
    the tests before, and what they kept for a session; see `new_page`.
    """
    with without_errors(page_with_errors):
        yield page_with_errors


@pytest.fixture
def new_page(browser: Browser, server: str) -> Iterator[Page]:
    """A page in a browser that has seen nothing yet, closed before `server`."""
    context = browser.new_context(viewport=DESK)
    page = context.new_page()
    with without_errors(page):
        yield page
        context.close()


@contextmanager
def without_errors(page: Page) -> Iterator[None]:
    """Fails the test for any error that a page logs meanwhile."""
    problems: list[str] = []

    def hear(said: ConsoleMessage) -> None:
        if said.type == "error":
            problems.append(said.text)

    def fail(error: Error) -> None:
        problems.append(str(error))

    page.on("console", hear)
    page.on("pageerror", fail)
    yield
    page.remove_listener("console", hear)
    page.remove_listener("pageerror", fail)
    assert problems == []


def _leave(page: Page) -> None:
    """Its size, its history, its answers and the pointer are again as they were."""
    page.unroute_all(behavior="ignoreErrors")
    page.goto("about:blank")
    page.mouse.move(0, 0)
    page.set_viewport_size(DESK)
    page.emulate_media(color_scheme="light")
    devtools = page.context.new_cdp_session(page)
    devtools.send("Page.resetNavigationHistory")
    devtools.detach()
