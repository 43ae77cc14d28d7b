"""
Attack a server: with small files that demand gigabytes, and with crowds. The files are those of the tests,
written byte by byte.

    python benchmarks/attacks.py
    PYTHONPATH=.venv/datasette-1.0 python benchmarks/attacks.py

The script draws photos and serves them. For each upload it prints the answer, the time until it came, and
the memory that the server and its processes take above their idle memory. Then it does the same for all
uploads at once, beside originals and BLOBs that have to be decoded, and for 1,000 requests by 16 clients.
Meanwhile another client looks at pages, and its longest wait is printed. Linux only; two minutes.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
from sqlite_utils import Database
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images
from tests.conftest import draw_picture
from tests.hostile_files import (
    avif_that_lies,
    bmp_of_runs,
    gif_of_blocks,
    jpeg2000_that_lies,
    jpeg_of_padding,
    jpeg_of_scans,
    jpeg_of_segments,
    noise,
    pgm_of_comments,
    png_bomb,
    png_of_chunks,
    saved,
    tiff_of_a_tile,
    tiff_with_profile,
)
from tests.serving import Server, served

PAGE = "/-/image-search/photos/images"

CLIENT = httpx.Client(timeout=120, verify=False, limits=httpx.Limits(max_connections=100))

COPIES = 3
"""Of each upload, when all are sent at once."""


UPLOADS: dict[str, Callable[[], bytes]] = {
    "a photo of 12 megapixels, JPEG": lambda: noise((4000, 3000), "JPEG"),
    "the same, progressive": lambda: noise((4000, 3000), "JPEG", progressive=True),
    "a photo of 5 megapixels, WebP": lambda: noise((2400, 2100), "WEBP"),
    "a photo of 9 megapixels, PNG": lambda: noise((3500, 2600), "PNG", compress_level=1),
    "JPEG of 24,000 x 24,000, a colour a scan": lambda: jpeg_of_scans(24_000, 24_000),
    "JPEG of 3,000 scans": lambda: jpeg_of_scans(4000, 4000, scans=3000),
    "JPEG of 50 scans, as large as allowed": lambda: jpeg_of_scans(4900, 4900, scans=50),
    "JPEG of 500,000 parts of EXIF": lambda: jpeg_of_segments(500_000),
    "JPEG of 20 MB of padding": lambda: jpeg_of_padding(20_000_000),
    "AVIF with a false size of 12,000 x 12,000": lambda: avif_that_lies(12_000, 12_000),
    "JPEG 2000 with a false size of 30,000 x 30,000": lambda: jpeg2000_that_lies(30_000, 30_000),
    "TIFF with a tile of 30,000 x 30,000": lambda: tiff_of_a_tile(30_000, 30_000),
    "TIFF with a profile of 24 MB": lambda: tiff_with_profile(24_000_000),
    "PGM of 500,000 comments": lambda: pgm_of_comments(500_000),
    "PGM of 500,000 comments, as text": lambda: pgm_of_comments(500_000, as_text=True),
    "GIF of 10,000,000 blocks": lambda: gif_of_blocks(10_000_000),
    "PNG of 50,000 x 50,000": lambda: png_bomb(50_000, 50_000),
    "PNG of 2,000,000 chunks": lambda: png_of_chunks(2_000_000),
    "BMP of 12,000,000 runs": lambda: bmp_of_runs(12_000_000),
    "25 MB of nothing": lambda: bytes(25_000_000),
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder, f"upload-{n}") for n, name in enumerate(UPLOADS)}
        with ThreadPoolExecutor(1) as executor:
            for name, file in files.items():
                file.write_bytes(executor.submit(UPLOADS[name]).result())
        database, roots = photos(Path(folder))
        with served(database, {"roots": [str(roots)]}) as server:
            each_alone(server, files)
            all_at_once(server, files)
            a_crowd(server)


def photos(folder: Path) -> tuple[Path, Path]:
    """A database with image tables of files and of BLOBs; some originals have to be decoded."""
    roots = folder / "photos"
    for number in range(40):
        draw_picture(roots / f"{number}.jpg", "red", (4000, 3000))
    draw_picture(roots / "large.tiff", "red", (6000, 5000))
    draw_picture(roots / "large.webp", "red", (6000, 4000))
    database = folder / "photos.db"
    embed_images(EmbedRequest(database, "images", (roots,), model="palette", thumbnail_size=None))
    blob = saved((5000, 4000), "TIFF")
    rows = [{"id": n, "content": blob} for n in range(1, 6)]
    Database(database)["blobs"].insert_all(rows, pk="id")
    embed_images(
        EmbedRequest(
            database, "blobs", (), model="palette", content_column="content", thumbnail_size=None
        )
    )
    return database, roots


def each_alone(server: Server, files: dict[str, Path]) -> None:
    rows = []
    send(server, next(iter(files.values())))
    for name, file in files.items():
        idle = server.memory_of_all()
        with server.watched() as most:
            started = time.perf_counter()
            status = send(server, file)
            seconds = time.perf_counter() - started
        rows.append((name, file.stat().st_size, status, seconds, (most() - idle) / 1e6))
    headers = ("upload", "bytes", "answer", "s", "MB above idle")
    print(tabulate(rows, headers, floatfmt=("", "", "", ".2f", ".0f"), intfmt=","), "\n")


def send(server: Server, file: Path) -> int:
    return CLIENT.post(f"{server.url}{PAGE}/upload", content=file.read_bytes()).status_code


def all_at_once(server: Server, files: dict[str, Path]) -> None:
    others = [f"{PAGE}/{image}/{kind}" for image in (41, 42) for kind in ("image", "thumbnail")] + [
        f"/-/image-search/photos/blobs/{number}/thumbnail" for number in range(1, 6)
    ]
    idle = server.memory_of_all()
    with server.watched() as most, somebody_else(server) as longest, ThreadPoolExecutor(32) as pool:
        sent = [pool.submit(send, server, file) for file in files.values() for _ in range(COPIES)]
        asked = [pool.submit(status_of, server, path) for path in others]
        statuses = Counter(each.result() for each in [*sent, *asked])
    tell("all uploads at once", idle, most(), statuses, longest())
    time.sleep(1)
    print(f"a second later: {(server.memory_of_all() - idle) / 1e6:.0f} MB above idle\n")


def status_of(server: Server, path: str) -> int:
    return CLIENT.get(server.url + path).status_code


def a_crowd(server: Server) -> None:
    """Each page brings what a browser asks for with it."""
    paths = [
        f"{PAGE}",
        f"{PAGE}?q=red",
        f"{PAGE}?q=nothing+known",
        "/photos/images",
        "/photos/images?_image_search=nothing+known",
        "/photos/images?_sort=" + 20_000 * "x",
        f"{PAGE}/map.json",
        *(f"{PAGE}/{image}/image" for image in range(1, 11)),
        *(f"{PAGE}/{image}/thumbnail" for image in range(1000, 1020)),
        "/photos/nothing",
    ]
    wanted = [paths[number % len(paths)] for number in range(1000)]
    idle = server.memory_of_all()
    with server.watched() as most, somebody_else(server) as longest, ThreadPoolExecutor(16) as pool:
        started = time.perf_counter()
        statuses = Counter(pool.map(lambda path: status_of(server, path), wanted))
        seconds = time.perf_counter() - started
    tell(f"1,000 requests of 16 clients, in {seconds:.0f} s", idle, most(), statuses, longest())


def tell(
    what: str, idle: int, most: int, statuses: Counter[int], longest: Sequence[tuple[float, str]]
) -> None:
    answers = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    print(f"{what}: {(most - idle) / 1e6:.0f} MB above idle; {answers}")
    for seconds, path in longest:
        print(f"  beside them, {path}: {seconds:.2f} s at the longest")


@contextmanager
def somebody_else(server: Server) -> Iterator[Callable[[], list[tuple[float, str]]]]:
    """Who looks at pages meanwhile, one after the other. Gives what tells the longest wait for each."""
    pages = ["/", "/photos/images", PAGE, f"{PAGE}?q=red", f"{PAGE}/1/image", f"{PAGE}/upload"]
    longest = dict.fromkeys(pages, 0.0)
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.05):
            for page in pages:
                started = time.perf_counter()
                status_of(server, page)
                longest[page] = max(longest[page], time.perf_counter() - started)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lambda: sorted(((seconds, page) for page, seconds in longest.items()), reverse=True)
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    main()
