"""
Measure what the first visitor of a server waits for: the files of the database are in no cache.

    python benchmarks/collection.py large.db --images 1000000
    python benchmarks/cold.py large.db images

For each page the script drops the database and its sidecars from the cache of the system, starts Datasette, and asks
for that page alone. It prints the seconds from the command to the first answer of the server (without the cache
being cold for Python and its packages), those of the page, its status, and the seconds of the same page again. No
page may exceed Datasette's time limit, which would be a status of 400 or an error in the page.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlencode

import click
import httpx
from pages import FACETS, sample, served
from sqlite_utils.db import quote_identifier
from tabulate import tabulate

PATIENCE = 120
"""Seconds for a page."""


@click.command()
@click.argument("database", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("table", default="images")
@click.option("--only", help="pages with this in their name")
@click.option(
    "--metadata", type=click.Path(exists=True), help="of the server, such as one that names engines"
)
def main(database: Path, table: str, only: str, metadata: str | None) -> None:
    ids, make, share = sample(database, table)
    search = f"/-/image-search/{database.stem}/{table}"
    rows = f"/{database.stem}/{table}"
    like = {"q": f"#{ids[0]}"}
    canon = {"camera_make": make}
    pages = {
        "the front page": "/",
        "the database": f"/{database.stem}",
        "the table": rows,
        "the table, searched by likeness": f"{rows}?{urlencode({'_image_search': like['q']})}",
        "the search page": search,
        "the search page, facets named": f"{search}?{urlencode(FACETS)}",
        "the search page, oldest first": f"{search}?_sort=taken_at",
        f"the search page, filter of {share:.0%}": f"{search}?{urlencode(canon)}",
        "a search": f"{search}?{urlencode(like)}",
        f"a search, filter of {share:.0%}": f"{search}?{urlencode({**like, **canon})}",
        "a search, filter without an index": f"{search}?{urlencode({**like, 'iso': 400})}",
        "a search, page 5": f"{search}?{urlencode({**like, '_next': 240})}",
        "a search, matches only": f"{search}?{urlencode({**like, '_matches_only': 1})}",
        "a search, newest first": f"{search}?{urlencode({**like, '_sort_desc': 'taken_at'})}",
        "a search by text": f"{search}?{urlencode({'q': 'text:2015'})}",
        "likeness and text": f"{search}?{urlencode({'q': like['q'] + ' + text:2015'})}",
        "a search, in JSON": f"{search}.json?{urlencode(like)}",
        "an image": f"{search}/{ids[0]}",
        "the map": f"{search}/map.json",
        "the map, matches only": f"{search}/map.json?{urlencode({**like, '_matches_only': 1})}",
        "the map of the earth": f"{search}/earth",
        "a part of the earth": f"{search}/earth.json?_view=50,9,51,10",
        "duplicates": f"{search}/duplicates",
        "albums": f"{search}/albums",
    }
    album = largest_album(database, table)
    if album is not None:
        within = urlencode({**like, "_image_album": album})
        pages["a search in the largest album"] = f"{search}?{within}"
    headers = ("first page", "start s", "page s", "status", "again s", "wrong")
    click.echo(tabulate([], headers))
    for name, path in pages.items():
        if not only or only in name:
            line = [(name, *first_visit(database, path, metadata))]
            click.echo(tabulate(line, floatfmt=".2f", tablefmt="plain"))


def largest_album(database: Path, table: str) -> str | None:
    albums, members = (quote_identifier(f"{table}_{each}") for each in ("albums", "album_members"))
    sql = f"select name from {albums} join {members} on album_id = id group by id order by count(*) desc limit 1"
    with closing(sqlite3.connect(database)) as conn, suppress(sqlite3.OperationalError):
        return next((name for (name,) in conn.execute(sql)), None)
    return None


def first_visit(
    database: Path, path: str, metadata: str | None
) -> tuple[float, float, int, float, str]:
    """Seconds of the start and of the page, its status, seconds of the second visit, and what went wrong."""
    for file in database.parent.rglob("*"):
        if f"/{database.name}" in str(file):
            _forget(file)
    arguments = ("--metadata", metadata) if metadata else ()
    started = time.perf_counter()
    with (
        served(database, *arguments) as url,
        httpx.Client(timeout=PATIENCE, follow_redirects=True) as client,
    ):
        start = time.perf_counter() - started
        first, response = _asked(client, f"{url}{path}")
        again, _ = _asked(client, f"{url}{path}")
    wrong = "time limit" if "interrupted" in response.text or "time limit" in response.text else ""
    return start, first, response.status_code, again, wrong


def _asked(client: httpx.Client, url: str) -> tuple[float, httpx.Response]:
    """Seconds until the page is there. The status 202 is that of a page that says it is being prepared."""
    started = time.perf_counter()
    response = client.get(url)
    return time.perf_counter() - started, response


def _forget(file: Path) -> None:
    """Drop a file from the cache of the system, so that it is read from the disk again."""
    if file.is_file():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
