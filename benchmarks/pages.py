"""
Measure the search page, and each part of it, on a database of any size.

    python benchmarks/pages.py photos.db images

The script starts Datasette, warms it up, and prints milliseconds per page: the median, the slowest of
twenty, and the median of each part. Parts run side by side, so they add up to more than the page; the rest
beside the longest part is mostly the rendering. Then it asks for 200 pages, 8 at a time.
"""

from __future__ import annotations

import re
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlencode

import click
import httpx
from sqlite_utils.db import quote_identifier
from tabulate import tabulate

REPEATS = 20
PARTS = ("query-vector", "search", "count", "facets")
FACETS = [("_facet", "camera_model"), ("_facet", "folder"), ("_facet_year", "taken_at")]


@click.command()
@click.argument("database", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("table", default="images")
@click.option("--requests", default=200, show_default=True)
@click.option("--parallel", default=8, show_default=True)
def main(database: Path, table: str, requests: int, parallel: int) -> None:
    ids, make, share = sample(database, table)
    canon = [("camera_make", make)]
    cases = {
        "no query": [],
        "a query": [("q", "{id}")],
        "a query, page 5": [("q", "{id}"), ("_next", "240")],
        "a query, three facets": [("q", "{id}"), *FACETS],
        f"a query, filter of {share:.0%}": [("q", "{id}"), *canon],
        f"a query, filter of {share:.0%}, three facets": [("q", "{id}"), *canon, *FACETS],
        f"no query, filter of {share:.0%}, three facets": [*canon, *FACETS],
        "a query, one year, three facets": [
            ("q", "{id}"),
            ("taken_at__gte", "2021"),
            ("taken_at__lt", "2022"),
            *FACETS,
        ],
    }
    with served(database) as url:
        page = f"{url}/-/image-search/{database.stem}/{table}"
        rows = [measured(page, name, pairs, ids) for name, pairs in cases.items()]
        headers = ("page", "median", "slowest", *PARTS, "facets later")
        click.echo(tabulate(rows, headers=headers, floatfmt=".0f"))
        click.echo()
        click.echo(many(page, list(cases.values()), ids, requests, parallel))


def sample(database: Path, table: str) -> tuple[list[int], str, float]:
    """Ids to search by, and the camera make whose share of the table is closest to a tenth."""
    name = quote_identifier(table)
    with closing(sqlite3.connect(database)) as conn:
        ids = [row[0] for row in conn.execute(f"select id from {name} limit 1000")]
        makes = conn.execute(
            f"select camera_make, count(*) * 1.0 / (select count(*) from {name}) from {name} "
            "where camera_make is not null group by 1"
        ).fetchall()
    make, share = min(makes, key=lambda row: abs(row[1] - 0.1))
    return ids, make, share


def url_of(page: str, pairs: list[tuple[str, str]], id: int) -> str:
    filled = [(name, f"#{id}" if value == "{id}" else value) for name, value in pairs]
    return f"{page}?{urlencode(filled)}"


def measured(page: str, name: str, pairs: list[tuple[str, str]], ids: list[int]) -> list:
    durations, parts, later = [], {part: [] for part in PARTS}, 0
    with httpx.Client(timeout=60) as client:
        for number in range(REPEATS + 2):
            started = time.perf_counter()
            response = client.get(url_of(page, pairs, ids[number]))
            duration = (time.perf_counter() - started) * 1000
            response.raise_for_status()
            while response.status_code == 202:
                # The index is being opened, or made.
                time.sleep(0.5)
                response = client.get(url_of(page, pairs, ids[number]))
            if number < 2:
                continue
            durations.append(duration)
            later += "data-later" in response.text
            timing = dict(re.findall(r"([\w-]+);dur=([\d.]+)", response.headers["server-timing"]))
            for part in PARTS:
                parts[part].append(float(timing.get(part, 0)))
    medians = [statistics.median(parts[part]) for part in PARTS]
    return [name, statistics.median(durations), max(durations), *medians, f"{later} of {REPEATS}"]


def many(page: str, cases: list, ids: list[int], requests: int, parallel: int) -> str:
    with httpx.Client(timeout=120) as client, ThreadPoolExecutor(parallel) as threads:
        started = time.perf_counter()
        urls = [url_of(page, cases[n % len(cases)], ids[n % len(ids)]) for n in range(requests)]
        statuses = list(threads.map(lambda url: client.get(url).status_code, urls))
        seconds = time.perf_counter() - started
    errors = sum(status != 200 for status in statuses)
    return f"{requests} pages, {parallel} at a time: {seconds:.1f} s, {errors} errors"


@contextmanager
def served(database: Path, *arguments: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "datasette", "serve", str(database), "--port", str(port)]
    command += arguments
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    httpx.get(url, timeout=5)
                    break
                except httpx.TransportError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
            yield url
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
