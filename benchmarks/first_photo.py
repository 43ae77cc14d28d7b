"""
Measure in Chromium what a person waits for on the search page: the first photo, and whether anything moves.

    python benchmarks/collection.py photos.db --images 100000
    python benchmarks/first_photo.py photos.db images

The script draws thumbnails for the images that the pages show (in a copy of the database), slows the processor of
the browser down to a quarter, and prints for each page the milliseconds until the first photo is painted, the sum of
the layout shifts, the kB of HTML, style sheets and scripts (compressed, as a proxy in front of Datasette sends them)
and the requests to other hosts. Medians, after a first visit that fills no cache.
"""

from __future__ import annotations

import gzip
import io
import shutil
import sqlite3
import statistics
import tempfile
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import click
import httpx
import numpy as np
from pages import sample, served, url_of
from PIL import Image
from playwright.sync_api import Browser, Response, sync_playwright
from sqlite_utils.db import quote_identifier
from tabulate import tabulate

REPEATS = 5
SLOWER = 4
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS.append("--disable-background-networking")

WATCH = """
window.shifted = 0; window.photo = null;
new PerformanceObserver(list => { for (const entry of list.getEntries()) window.shifted += entry.value; })
    .observe({ type: "layout-shift", buffered: true });
new PerformanceObserver(list => { for (const entry of list.getEntries())
    if (entry.element?.matches(".image-search-grid img")) window.photo ??= entry.startTime; })
    .observe({ type: "largest-contentful-paint", buffered: true });
"""


@click.command()
@click.argument("database", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("table", default="images")
def main(database: Path, table: str) -> None:
    ids, make, share = sample(database, table)
    cases = {
        "no query": [],
        "a query": [("q", "{id}")],
        f"a query, filter of {share:.0%}": [("q", "{id}"), ("camera_make", make)],
    }
    with tempfile.TemporaryDirectory() as folder:
        for file in database.parent.glob(f"{database.name}*"):
            shutil.copy2(file, folder)
        copy = Path(folder) / database.name
        with served(copy) as url, sync_playwright() as playwright:
            page = f"{url}/-/image-search/{copy.stem}/{table}"
            urls = {name: url_of(page, pairs, ids[0]) for name, pairs in cases.items()}
            for each in urls.values():
                draw_thumbnails(copy, table, each)
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
            rows = [[name, *measured(browser, each)] for name, each in urls.items()]
            browser.close()
    headers = ("page", "first photo, ms", "layout shift", "kB compressed", "other hosts")
    click.echo(tabulate(rows, headers=headers, floatfmt=("", ".0f", ".3f", ".1f", ".0f")))


def draw_thumbnails(database: Path, table: str, page: str) -> None:
    """Noise that is as large as photos of this size are, for the images of a page."""
    with httpx.Client(timeout=60) as client:
        path, _, query = page.partition("?")
        while client.get(page).status_code == 202:
            pass  # The index is being opened.
        hits = client.get(f"{path}.json?{query}").json()["hits"]
    with closing(sqlite3.connect(database)) as conn, conn:
        for hit in hits:
            noise = np.random.default_rng(hit["id"]).integers(0, 256, (24, 32, 3), dtype=np.uint8)
            picture, buffer = Image.fromarray(noise).resize((320, 240)), io.BytesIO()
            picture.save(buffer, "WEBP", quality=75)
            conn.execute(
                f"insert or replace into {quote_identifier(f'_{table}_thumbnails')} "
                "(image_id, sha256, webp) values (?, ?, ?)",
                [hit["id"], hit["row"]["sha256"], buffer.getvalue()],
            )


def measured(browser: Browser, url: str) -> list[float]:
    photos, shifts, weights, others = [], [], [], 0
    for number in range(REPEATS + 1):
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        page = context.new_page()
        page.add_init_script(WATCH)
        page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
        answers: list[Response] = []
        page.on("response", lambda answer, answers=answers: answers.append(answer))
        page.goto(url)
        page.wait_for_load_state("networkidle")
        if number:
            photos.append(page.evaluate("window.photo"))
            shifts.append(page.evaluate("window.shifted"))
            weights.append(sum(map(weight, answers)))
            others += sum(urlsplit(each.url).netloc != urlsplit(url).netloc for each in answers)
        context.close()
    return [statistics.median(photos), max(shifts), statistics.median(weights), others]


def weight(answer: Response) -> float:
    """kB of all that is no picture and no page that endless scroll fetched."""
    is_picture = answer.headers.get("content-type", "").startswith("image/")
    if is_picture or "image-search-more" in answer.request.headers:
        return 0
    return len(gzip.compress(answer.body(), 6)) / 1000


if __name__ == "__main__":
    main()
