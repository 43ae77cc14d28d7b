"""A real Datasette on a port of its own, and a real browser: Debian's Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from ..commands import change
from ..conftest import copied_database
from ..serving import HANGS, served

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
    """The URL of a Datasette that serves `database`. A server for each test would take it two seconds."""
    with served(database) as server:
        yield server.url


@pytest.fixture
def page(browser: Browser, server: str) -> Iterator[Page]:
    """A page of its own, closed before `server`, that fails the test for any error it logs."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    context.close()
    assert problems == []
