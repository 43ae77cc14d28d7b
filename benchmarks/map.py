"""
Measure whether the map of a table stays fluent: milliseconds per frame in headless Chromium without a GPU.

    python benchmarks/collection.py photos.db --images 50000
    python benchmarks/map.py photos.db images --color camera_model

A frame is the time from one shown picture to the next, 16.7 ms at best. Drawing is the part of it that the
map's own code takes.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import httpx
from pages import served
from playwright.sync_api import Page, sync_playwright
from tabulate import tabulate

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS.append("--disable-background-networking")

WATCHING = """
    window.drawn = [];
    const next = window.requestAnimationFrame.bind(window);
    window.requestAnimationFrame = (action) => next((now) => {
        const started = performance.now();
        action(now);
        window.drawn.push(performance.now() - started);
    });
    window.watch = () => {
        window.frames_ = [];
        window.drawn = [];
        let last = 0;
        window.watching = true;
        const frame = (now) => {
            if (last) window.frames_.push(now - last);
            last = now;
            if (window.watching) next(frame);
        };
        next(frame);
    };
"""


@click.command()
@click.argument("database", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("table", default="images")
@click.option("--color", default="", help="Column to colour by")
def main(database: Path, table: str, color: str) -> None:
    with served(database) as url, sync_playwright() as playwright:
        address = f"{url}/-/image-search/{database.stem}/{table}/map"
        durations = []
        for _ in range(5):
            started = time.perf_counter()
            answer = httpx.get(f"{address}.json?_color={color}", timeout=60).raise_for_status()
            durations.append((time.perf_counter() - started) * 1000)
        click.echo(
            f"{len(answer.json()['images']['id']):,} points, {len(answer.content) / 1e6:.1f} MB of JSON "
            f"in {durations[0]:.0f} ms, then {statistics.median(durations[1:]):.0f} ms\n"
        )
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1200, "height": 850})
        page.add_init_script(WATCHING)
        page.goto(f"{address}?_color={color}")
        page.wait_for_selector(".image-map[data-shown]", state="attached", timeout=60_000)
        cases = {"drag": drag, "zoom in": zoom_in, "zoom out": zoom_out, "point": point}
        rows = [[name, *measured(page, move)] for name, move in cases.items()]
        browser.close()
    headers = ("", "frame, median", "95 %", "drawing, median", "95 %")
    click.echo(tabulate(rows, headers=headers, floatfmt=".1f"))


def measured(page: Page, move: Callable[[Page], None]) -> list[float]:
    page.evaluate("watch()")
    move(page)
    frames, drawn = page.evaluate("window.watching = false, [window.frames_, window.drawn]")
    return [value for times in (frames, drawn) for value in (statistics.median(times), most(times))]


def most(times: list[float]) -> float:
    return sorted(times)[int(0.95 * (len(times) - 1))]


def places(page: Page) -> list[tuple[float, float]]:
    box = page.locator(".image-map-stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    return [(x + step % 60 * 4 - 120, y + step % 40 * 3 - 60) for step in range(120)]


def point(page: Page) -> None:
    for x, y in places(page):
        page.mouse.move(x, y)
        page.wait_for_timeout(8)


def drag(page: Page) -> None:
    page.mouse.move(*places(page)[0])
    page.mouse.down()
    point(page)
    page.mouse.up()


def zoom_in(page: Page, down: int = -30) -> None:
    for _ in range(60):
        page.mouse.wheel(0, down)
        page.wait_for_timeout(16)


def zoom_out(page: Page) -> None:
    zoom_in(page, 30)


if __name__ == "__main__":
    main()
