"""All that takes memory or time of a server that decodes what strangers send, at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from sqlite_utils import Database

from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images

from ..conftest import draw_picture
from ..hostile_files import (
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
from ..serving import served

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc"),
]

PAGE = "/-/image-search/photos/images"

MEMORY = 750_000_000
"""
Bytes above what a server takes idle, that it and its processes may take at any time. Alone it takes 430 to 470 million, and 615
were seen beside other tests; without limits, the attacks take gigabytes.
"""


ATTACKS: dict[str, tuple[Callable[[], bytes], int]] = {
    "jpeg": (lambda: noise((4000, 3000), "JPEG"), 200),
    "progressive jpeg": (lambda: noise((4000, 3000), "JPEG", progressive=True), 200),
    "jpeg of many pixels": (lambda: jpeg_of_scans(24_000, 24_000), 413),
    "jpeg of scans": (lambda: jpeg_of_scans(4000, 4000, scans=3000), 415),
    "jpeg of segments": (lambda: jpeg_of_segments(500_000), 415),
    "jpeg of padding": (lambda: jpeg_of_padding(5_000_000), 415),
    "avif that lies": (lambda: avif_that_lies(5000, 5000), 413),
    "jpeg2000 that lies": (lambda: jpeg2000_that_lies(30_000, 30_000), 413),
    "tiff of a tile": (lambda: tiff_of_a_tile(30_000, 30_000), 413),
    "tiff with a profile": (lambda: tiff_with_profile(24_000_000), 200),
    "pgm of comments": (lambda: pgm_of_comments(500_000), 415),
    "pgm of comments, as text": (lambda: pgm_of_comments(500_000, as_text=True), 415),
    "gif of blocks": (lambda: gif_of_blocks(5_000_000), 415),
    "png bomb": (lambda: png_bomb(50_000, 50_000), 413),
    "png of chunks": (lambda: png_of_chunks(500_000), 415),
    "bmp of many runs": (lambda: bmp_of_runs(12_000_000), 413),
    # A fifth of a second for Pillow: on a busy machine three million take longer than a server lets them.
    "bmp of runs": (lambda: bmp_of_runs(600_000), 415),
    "nothing but zeros": (lambda: bytes(25_000_000), 415),
}
"""Uploads, and what each is answered when its turn comes."""

REFUSED = [name for name, (_, status) in ATTACKS.items() if status != 200]
REFUSED.remove("bmp of many runs")
"""By a run of commands. It reads many runs to the end, as few ones, for four seconds."""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Originals and BLOBs of which all that is shown has to be made."""
    draw_picture(tmp_path / "roots" / "large.tiff", "red", (6000, 5000))
    draw_picture(tmp_path / "roots" / "large.webp", "red", (6000, 4000), method=0)
    database = tmp_path / "photos.db"
    options = {"model": "palette", "thumbnail_size": None}
    embed_images(EmbedRequest(database, "images", (tmp_path / "roots",), **options))
    blob = saved((5000, 4000), "TIFF")
    blobs = Database(database)["blobs"]
    blobs.insert({"id": 1, "content": blob}, pk="id")
    embed_images(EmbedRequest(database, "blobs", (), content_column="content", **options))
    # Rows without a vector are shown, too.
    blobs.insert_all({"id": number, "content": blob} for number in range(2, 6))
    return database


@pytest.mark.datasette
async def test_all_uploads_at_once_take_little_memory_and_give_it_back(photos: Path) -> None:
    sent = [(make(), status) for make, status in ATTACKS.values()]
    made = [f"{PAGE}/{image}/{kind}" for image in (1, 2) for kind in ("image", "thumbnail")]
    made += [f"/-/image-search/photos/blobs/{number}/thumbnail" for number in range(1, 6)]
    with served(photos, {"roots": [str(photos.parent)]}) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=300) as client:

            async def upload(data: bytes) -> int:
                """As often as the server says to come again."""
                status = 503
                while status == 503:
                    status = (await client.post(f"{PAGE}/upload", content=data)).status_code
                    await asyncio.sleep(0.5)
                return status

            async def look() -> None:
                """The server answers others, which has no clock here: see benchmarks/attacks.py."""
                while True:
                    assert (await client.get("/photos/images")).status_code == 200
                    assert (await client.get(f"{PAGE}?q=red")).status_code == 200
                    await asyncio.sleep(1)

            async def shown(path: str) -> int:
                return (await client.get(path)).status_code

            assert await upload(saved((64, 48), "PNG")) == 200
            idle = server.memory_of_all()
            looking = asyncio.create_task(look())
            with server.watched() as most:
                statuses = await asyncio.gather(
                    *(upload(data) for data, _ in sent), *(shown(path) for path in made)
                )
            assert not looking.done()
            looking.cancel()
            assert statuses == [*(status for _, status in sent), *([200] * len(made))]
            assert most() - idle < MEMORY
            assert await upload(saved((64, 48), "PNG")) == 200
            assert server.memory_of_all() - idle < MEMORY / 5


@pytest.mark.parametrize("name", REFUSED)
async def test_a_folder_with_such_files_is_embedded_all_the_same(name: str, tmp_path: Path) -> None:
    """Without the process: the limits of headers are its own."""
    folder = tmp_path / "folder"
    draw_picture(folder / "good.jpg", "red")
    make, _ = ATTACKS[name]
    (folder / "bad.jpg").write_bytes(make())
    request = EmbedRequest(
        tmp_path / "photos.db", "images", (folder,), model="palette", max_pixels=20_000_000
    )
    embed_images(request)
    paths = [row["path"] for row in Database(tmp_path / "photos.db")["images"].rows]
    assert paths == ["good.jpg"]
