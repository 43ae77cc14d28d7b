"""Search by an uploaded picture, and uploads that are meant to do harm."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import random
import select
import socket
import struct
import sys
import threading
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from datasette.app import Datasette
from PIL import Image
from sqlite_utils import Database

from datasette_image_search.decoding import decode
from datasette_image_search.web.media import receiving, uploads

from .conftest import SHARED, query_json
from .drawn_films import draw_film, draw_sound
from .serving import HANGS, Server, ask, datasette_of, served

UPLOAD = "/-/image-search/photos/images/upload"
pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


def picture(
    colour: str = "red", size: tuple[int, int] = (80, 60), format: str = "PNG", **save
) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format, **save)
    return buffer.getvalue()


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that says it has so many pixels, whatever it has."""

    def chunk(name: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


async def post(datasette: Datasette, content, path: str = UPLOAD, **headers) -> httpx.Response:
    return await ask(datasette, path, method="POST", content=content, **headers)


def assert_one_sentence(response: httpx.Response) -> str:
    """What every refusal is: {"error": a sentence}, which nobody is to cache."""
    assert response.headers["content-type"].startswith("application/json")
    assert response.headers["cache-control"] == "no-store"
    said = response.json()
    assert list(said) == ["error"]
    assert said["error"]
    assert "\n" not in said["error"]
    return said["error"]


# --- What it is for ----------------------------------------------------------------------------------


async def test_an_uploaded_picture_finds_itself(database: Path, folder: Path) -> None:
    datasette = datasette_of(database)
    response = await post(datasette, (folder / "red.jpg").read_bytes(), content_type="image/jpeg")
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    term = response.json()["query"]
    assert term.startswith("vec:")
    sql = "select image_search(:term, 2) as hits"
    (row,) = await query_json(datasette, sql, term=term)
    best, second = json.loads(row["hits"])
    assert best["id"] == 6
    assert best["score"] == pytest.approx(1, abs=1e-3)
    assert second["score"] < 0.9
    page = await ask(datasette, f"/-/image-search/photos/images?q={quote(term)}")
    assert page.status_code == 200


@pytest.mark.parametrize(
    "format",
    ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM"]
    + (["HEIF"] if decode.HEIC else []),
)
@pytest.mark.parametrize("content_type", ["image/jpeg", "application/octet-stream", ""])
async def test_any_picture(database: Path, format: str, content_type: str) -> None:
    """Its bytes say what it is. Browsers do not know every type, and then send none."""
    headers = {"content_type": content_type} if content_type else {}
    response = await post(datasette_of(database), picture(format=format), **headers)
    assert response.status_code == 200
    assert response.json()["query"].startswith("vec:")


@pytest.mark.parametrize("content_type", ["video/quicktime", "application/octet-stream"])
async def test_a_film_is_searched_by_its_longest_scene(
    database: Path, tmp_path: Path, content_type: str
) -> None:
    film = draw_film(tmp_path / "a.mov", [("red", 0.5), ("green", 2), ("red", 0.5)])
    datasette = datasette_of(database)
    response = await post(datasette, film.read_bytes(), content_type=content_type)
    assert response.status_code == 200
    term = response.json()["query"]
    (row,) = await query_json(datasette, "select image_search(:term, 1) as hits", term=term)
    best = json.loads(row["hits"])[0]["id"]
    assert await query_json(datasette, f"select filename from images where id = {best}") == [
        {"filename": "green.jpg"}
    ]


async def test_films_that_cannot_be_read(database: Path, tmp_path: Path, no_weights: None) -> None:
    """The model is not loaded for them."""
    Database(database)["image_search_indexes"].update(1, {"model": "ViT-B-32/openai"})
    whole = draw_film(tmp_path / "a.mp4", [("red", 0.5)]).read_bytes()
    for data, said in (
        (draw_sound(tmp_path / "song.mp4").read_bytes(), "no pictures, only sound"),
        (whole[: len(whole) // 2], "is damaged"),
    ):
        response = await post(datasette_of(database), data, content_type="video/mp4")
        assert response.status_code == 415
        assert said in assert_one_sentence(response)


async def test_a_film_of_many_pixels_is_refused(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MEMORY", 100_000)
    film = draw_film(tmp_path / "a.mp4", [("red", 0.5)])
    response = await post(datasette_of(database), film.read_bytes(), content_type="video/mp4")
    assert response.status_code == 413
    assert "too many pixels" in assert_one_sentence(response)


async def test_nothing_is_written(database: Path, folder: Path) -> None:
    before = database.read_bytes()
    await post(datasette_of(database), picture())
    assert database.read_bytes() == before
    files = {path.name for path in database.parent.iterdir()}
    assert files <= {
        "photos.db",
        "pictures",
        "photos.db-image-search-1.faiss",
        "photos.db-wal",
        "photos.db-shm",
    }


async def test_a_database_that_cannot_be_written_to(database: Path) -> None:
    datasette = Datasette([], immutables=[str(database)])
    assert (await post(datasette, picture())).status_code == 200


async def test_get_says_what_a_page_has_to_know(database: Path) -> None:
    datasette = datasette_of(database)
    response = await ask(datasette, UPLOAD)
    assert response.status_code == 200
    assert "no-store" in response.headers["cache-control"]
    assert response.json()["max_bytes"] == 25_000_000
    assert isinstance(response.json()["csrftoken"], str)
    head = await ask(datasette, UPLOAD, method="HEAD")
    assert head.status_code == 200


async def test_a_page_of_somebody_logged_in_sends_the_token(database: Path) -> None:
    datasette = datasette_of(database)
    got = await ask(datasette, UPLOAD, actor="anna")
    cookies = {**got.cookies, "ds_actor": datasette.sign({"a": {"id": "anna"}}, "actor")}
    for content_type in ("image/png", "application/octet-stream"):
        headers = {"x-csrftoken": got.json()["csrftoken"], "content-type": content_type}
        response = await datasette.client.post(
            UPLOAD, content=picture(), cookies=cookies, headers=headers
        )
        assert response.status_code == 200


async def test_another_site_cannot_upload_in_a_persons_name(database: Path) -> None:
    datasette = datasette_of(database)
    cookies = {"ds_actor": datasette.sign({"a": {"id": "anna"}}, "actor")}
    headers = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    response = await datasette.client.post(
        UPLOAD, content=picture(), cookies=cookies, headers=headers
    )
    assert response.status_code == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
async def test_other_methods(database: Path, method: str) -> None:
    response = await ask(datasette_of(database), UPLOAD, method=method)
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD, POST"
    assert_one_sentence(response)


async def test_a_model_that_cannot_be_loaded(database: Path, no_weights: None) -> None:
    Database(database)["image_search_indexes"].update(1, {"model": "ViT-B-32/openai"})
    response = await post(datasette_of(database), picture())
    assert response.status_code == 400
    assert "ViT-B-32/openai" in assert_one_sentence(response)


async def test_a_model_that_is_not_the_one_of_the_vectors(database: Path) -> None:
    Database(database)["image_search_indexes"].update(1, {"fingerprint": "another"})
    response = await post(datasette_of(database), picture())
    assert response.status_code == 400
    assert "fingerprint" in assert_one_sentence(response)


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache; a server never asks the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))


async def test_a_model_is_not_loaded_for_what_is_no_picture(
    database: Path, no_weights: None
) -> None:
    Database(database)["image_search_indexes"].update(1, {"model": "ViT-B-32/openai"})
    response = await post(datasette_of(database), b"no picture")
    assert response.status_code == 415


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"hello" * 1000,
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
        b"%PDF-1.7",
        b"PK\3\4" + bytes(100),
        picture()[:40],
        gzip.compress(picture(), mtime=0),
        b"RIFF\xff\xff\xff\xffWEBPVP8 ",
    ],
)
async def test_what_is_no_picture(database: Path, data: bytes) -> None:
    response = await post(datasette_of(database), data, content_type="image/png")
    assert response.status_code == 415
    assert_one_sentence(response)


async def test_a_form_is_told_to_send_the_bytes(database: Path) -> None:
    for content_type in (
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "text/html",
        "application/json",
    ):
        response = await post(datasette_of(database), picture(), content_type=content_type)
        assert response.status_code == 415
        assert "send the bytes" in assert_one_sentence(response)


@pytest.mark.parametrize("size", [(50_000, 50_000), (2**31 - 1, 2**31 - 1), (1, 2**31 - 1)])
async def test_a_decompression_bomb(database: Path, size: tuple[int, int]) -> None:
    data = png(*size, zlib.compress(bytes(10_000_000)))
    response = await post(datasette_of(database), data)
    assert response.status_code == 413
    assert "too many pixels" in assert_one_sentence(response)


async def test_a_picture_without_pixels(database: Path) -> None:
    for data in (png(0, 0), png(0, 10), png(10, 10)):
        response = await post(datasette_of(database), data)
        assert response.status_code == 415
        assert_one_sentence(response)


async def test_a_phone_s_pictures_pass(database: Path) -> None:
    """48 megapixels of a JPEG are never decoded in full; 12 of a PNG are."""
    datasette = datasette_of(database)
    large = picture("red", (8064, 6048), "JPEG")
    assert (await post(datasette, large)).status_code == 200
    for size, status in (((4032, 3024), 200), ((5000, 4000), 413)):
        assert (await post(datasette, picture("red", size))).status_code == status


async def test_the_limit_is_the_owners(database: Path) -> None:
    data = picture("red", (500, 500), "BMP")
    datasette = datasette_of(database, plugin={"max_upload_bytes": len(data) - 1})
    response = await post(datasette, data)
    assert response.status_code == 413
    assert f"more than {len(data) - 1:,} bytes" in assert_one_sentence(response)
    datasette = datasette_of(database, plugin={"max_upload_bytes": len(data)})
    assert (await post(datasette, data)).status_code == 200
    datasette = datasette_of(database, plugin={"max_upload_bytes": "much"})
    response = await post(datasette, data)
    assert response.status_code == 500
    assert "max_upload_bytes" in assert_one_sentence(response)


async def in_chunks(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def test_a_body_in_chunks(database: Path) -> None:
    datasette = datasette_of(database, plugin={"max_upload_bytes": 50_000})
    response = await post(datasette, in_chunks(picture()))
    assert response.status_code == 200
    response = await post(datasette, in_chunks(bytes(60_000)))
    assert response.status_code == 413
    assert_one_sentence(response)


@pytest.mark.parametrize("length", ["0", "10", "-1", "abc", "1e9", "²", "9" * 5000])
async def test_a_lying_content_length(database: Path, length: str) -> None:
    """What comes counts. Servers refuse most of these before they come here."""
    data = picture()
    status, _ = await raw_upload(datasette_of(database), [data], [(b"content-length", length)])
    assert status == (413 if length.startswith("9") else 200)


async def raw_upload(
    datasette: Datasette, chunks: list[bytes | None], headers=(), wait: float = 0
) -> tuple[int, dict]:
    """An upload as ASGI has it; None is a client that goes away, or one that says nothing more."""
    await datasette.invoke_startup()
    left = list(chunks)

    async def receive() -> dict:
        chunk = left.pop(0) if left else None
        if chunk is None:
            await asyncio.sleep(wait)
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": bool(left)}

    sent: list[dict] = []

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": UPLOAD,
        "raw_path": UPLOAD.encode(),
        "query_string": b"",
        "headers": [(name, value.encode("latin-1")) for name, value in headers],
    }
    await datasette.app()(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(body)


async def test_a_client_that_goes_away_leaves_nothing_behind(database: Path) -> None:
    status, answer = await raw_upload(datasette_of(database), [bytes(1000), bytes(1000), None])
    assert (status, list(answer)) == (400, ["error"])
    assert receiving._on_the_way.bytes == 0


@pytest.mark.parametrize("chunks", [[bytes(1000), None], [bytes(60_000), None]])
@pytest.mark.parametrize("limit", ["SECONDS", "PERIOD"])
async def test_a_client_that_says_nothing_more(
    database: Path, monkeypatch: pytest.MonkeyPatch, chunks: list, limit: str
) -> None:
    """It may be quiet for a while, and it may have sent much before."""
    monkeypatch.setattr(receiving, limit, 0.1)
    status, answer = await raw_upload(datasette_of(database), chunks, wait=60)
    assert (status, list(answer)) == (408, ["error"])
    assert receiving._on_the_way.bytes == 0


async def test_slow_senders_keep_nobody_out(database: Path) -> None:
    datasette = datasette_of(database)
    slow = [
        asyncio.create_task(raw_upload(datasette, [bytes(1000), None], wait=60))
        for _ in range(5 * uploads.AT_ONCE)
    ]
    await asyncio.sleep(0.5)
    assert (await post(datasette, picture())).status_code == 200
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    assert receiving._on_the_way.bytes == 0


async def test_bytes_on_the_way_have_a_limit(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "ON_THE_WAY", 50_000)
    datasette = datasette_of(database)
    waiting = asyncio.create_task(raw_upload(datasette, [bytes(40_000), None], wait=60))
    await asyncio.sleep(0.5)
    status, answer = await raw_upload(datasette, [bytes(40_000)])
    assert (status, list(answer)) == (503, ["error"])
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert (await post(datasette, picture())).status_code == 200


async def test_what_is_too_much_is_turned_away(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    really = uploads._vector_of

    def slow(*args):
        assert go.wait(HANGS)
        return really(*args)

    monkeypatch.setattr(uploads, "_vector_of", slow)
    datasette = datasette_of(database)
    await datasette.invoke_startup()
    waiting = [asyncio.create_task(post(datasette, picture())) for _ in range(20)]
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for response in (task.result() for task in done):
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0
        assert_one_sentence(response)
    # Pages are served meanwhile: neither the event loop nor a SQL thread waits for a picture.
    assert (await ask(datasette, "/photos/images/6")).status_code == 200
    go.set()
    statuses = [response.status_code for response in await asyncio.gather(*waiting)]
    # One is being decoded.
    expected = uploads.AT_ONCE + 1
    assert (statuses.count(200), statuses.count(503)) == (expected, 20 - expected)
    assert (await post(datasette, picture())).status_code == 200


@pytest.mark.skipif(not SHARED.exists(), reason="needs the hostile files in ../shared")
async def test_hostile_files(database: Path) -> None:
    datasette = datasette_of(database)
    statuses = {}
    for file in sorted((SHARED / "hostile").iterdir()):
        response = await post(datasette, file.read_bytes())
        statuses[file.name] = response.status_code
        assert response.status_code in (200, 413, 415), file.name
        if response.status_code != 200:
            assert_one_sentence(response)
    assert 200 in statuses.values()
    assert 415 in statuses.values()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "PPM"])
async def test_damaged_pictures(database: Path, format: str) -> None:
    """Never a 500, whatever bytes are turned."""
    chance = random.Random(format)
    whole = picture(format=format)
    datasette = datasette_of(database)
    for _ in range(20):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 20)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        response = await post(datasette, bytes(data[: chance.randint(1, len(data))]))
        assert response.status_code in (200, 413, 415)


# --- A real server -------------------------------------------------------------------------------

MEMORY = 100_000_000
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="reads memory from /proc"
)


def warmed_up(server: Server, client: httpx.Client) -> int:
    """The memory of a server that has embedded a picture before."""
    assert client.post(server.url + UPLOAD, content=picture()).status_code == 200
    return server.memory()


@needs_proc
async def test_200_megabytes_are_refused_before_they_are_sent(database: Path) -> None:
    size = 200_000_000
    with served(database) as server, httpx.Client(timeout=HANGS) as client:
        before = warmed_up(server, client)
        with socket.create_connection(("127.0.0.1", server.port), timeout=HANGS) as connection:
            header = f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
            connection.sendall(header.encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 413")
        with socket.create_connection(("127.0.0.1", server.port), timeout=HANGS) as connection:
            header = f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(header.encode())
            sent, answered = 0, False
            while sent < size and not answered:
                connection.sendall(b"100000\r\n" + bytes(0x100000) + b"\r\n")
                sent += 0x100000
                answered, _, _ = select.select([connection], [], [], 0)
            assert connection.recv(1000).startswith(b"HTTP/1.1 413")
            assert sent < size / 2
        assert server.memory("VmHWM") - before < MEMORY
        assert client.get(server.url + UPLOAD).status_code == 200


@needs_proc
async def test_many_at_once_and_bombs_take_little_memory(database: Path) -> None:
    photo = Image.effect_noise((4000, 3000), 50).convert("RGB")
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=80)
    attacks = [
        *[(buffer.getvalue(), 200)] * 8,
        *[(picture("red", (4032, 3024)), 200)] * 2,
        *[(png(50_000, 50_000, zlib.compress(bytes(100_000_000))), 413)] * 2,
        (png(8000, 8000, zlib.compress(bytes(8000))), 413),
        (picture("red", (4000, 4000), "WEBP", method=0), 413),
        (picture("red", (2400, 2400), "WEBP"), 200),
        (picture("red", (3000, 3000), "JPEG2000"), 413),
        (picture("red", (65_000, 65), "JPEG"), 200),
        (picture("red", (400, 12_400)), 200),
        (picture("red", (400, 20_000)), 413),
    ]
    with served(database) as server:

        async def send(client: httpx.AsyncClient, data: bytes) -> int:
            """As often as the server says to come again."""
            status = 503
            while status == 503:
                status = (await client.post(server.url + UPLOAD, content=data)).status_code
                await asyncio.sleep(0.2)
            return status

        async with httpx.AsyncClient(timeout=HANGS) as client:
            assert await send(client, picture()) == 200
            before = server.memory()
            statuses = await asyncio.gather(*(send(client, data) for data, _ in attacks))
            assert statuses == [status for _, status in attacks]
            assert await send(client, picture()) == 200
        # One at a time, with what malloc keeps of those before.
        assert server.memory("VmHWM") - before < 1.3 * MEMORY


async def test_a_client_that_hangs_up_midway(database: Path) -> None:
    with served(database) as server, httpx.Client(timeout=HANGS) as client:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                header = f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
                connection.sendall(header.encode() + bytes(1000))
        assert client.post(server.url + UPLOAD, content=picture()).status_code == 200


async def test_no_model_before_the_first_upload(database: Path) -> None:
    """A server that only shows pages has no torch in its memory."""
    script = (
        "import asyncio, sys; from datasette.app import Datasette\n"
        f"ds = Datasette([{str(database)!r}])\n"
        f"asyncio.run(ds.client.get({UPLOAD!r}))\n"
        "print('torch' in sys.modules)"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert out.strip() == b"False"
