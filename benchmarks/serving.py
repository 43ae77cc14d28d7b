"""
Measure what a server takes in an environment, with and without torch: its size, its start, its first words.

    sqlite-utils export-text-tower photos.db images
    python benchmarks/serving.py photos.db images /srv/photos/venv/bin/python .venv/bin/python

For each Python it prints the MB of its packages, the seconds until Datasette answers at all and until it has answered
a search for words, the seconds of a processor for both, and the MB of memory after that. A file beside the database is used if it is there: copy the
database without it to measure torch. Half a minute.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import click
import httpx
from tabulate import tabulate

WORDS = "a red car on a beach"
PATIENCE = 120
"""Seconds."""


@click.command()
@click.argument("database", type=click.Path(exists=True, path_type=Path))
@click.argument("table")
@click.argument("pythons", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--metadata", type=click.Path(exists=True), help="Of Datasette, such as weights")
def main(database: Path, table: str, pythons: tuple[Path, ...], metadata: str | None) -> None:
    rows = [measure(python.absolute(), database, table, metadata) for python in pythons]
    headers = [
        "python",
        "packages, MB",
        "first answer, s",
        "first words, s",
        "processor, s",
        "memory, MB",
    ]
    click.echo(tabulate(rows, headers, floatfmt=".1f"))


def measure(python: Path, database: Path, table: str, metadata: str | None) -> list[object]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--metadata", metadata] if metadata else []
    started = time.monotonic()
    server = subprocess.Popen(
        [python, "-m", "datasette", "serve", database.resolve(), "--port", str(port), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        answered = seconds_until(f"{url}/-/versions.json", started)
        page = f"{url}/-/image-search/{quote(database.stem)}/{quote(table)}.json?q={quote(WORDS)}"
        found = seconds_until(page, started)
        spent = processor_seconds(server.pid)
        return [python, megabytes_of(python), answered, found, spent, memory_of(server.pid)]
    finally:
        server.terminate()
        server.wait()


def seconds_until(url: str, started: float) -> float:
    """The seconds from the start to a good answer."""
    while time.monotonic() < started + PATIENCE:
        try:
            answer = httpx.get(url, timeout=PATIENCE)
        except httpx.TransportError:
            time.sleep(0.02)
            continue
        if answer.status_code == 200:
            return time.monotonic() - started
        # A model that loads is said after some seconds, and asked for again.
        if answer.status_code < 500:
            raise click.ClickException(answer.text)
    raise click.ClickException(f"no answer from {url}")


def megabytes_of(python: Path) -> float:
    folder = python.parent.parent
    files = (each.stat().st_size for each in folder.rglob("*") if each.is_file())
    return sum(files) / 1e6


def processor_seconds(process: int) -> float:
    """In the program and in the system, of Linux."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(process: int) -> float:
    """Resident, of Linux."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


if __name__ == "__main__":
    main()
