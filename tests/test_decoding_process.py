"""Strangers' pictures in a process of their own: the same pictures, and nothing that gets out of it."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasette_image_search import child_process
from datasette_image_search.decoding import decoding_process
from datasette_image_search.decoding.decode import picture_for_model
from datasette_image_search.decoding.decoding_process import (
    DecodingProcess,
    Limits,
    Stopped,
    StoredPicture,
    end_all,
)
from datasette_image_search.decoding.opening import DecodeError, DecodeSettings, TooLarge

from .hostile_files import bmp_of_runs, jpeg_of_scans, saved
from .serving import HANGS, is_running
from .tiny_dng import tiny_dng

LIMITS = Limits(memory=200_000_000, seconds=20, file_size=30_000_000)
PIXELS = 12_000_000
SLOW = bmp_of_runs(12_000_000)
"""Takes Pillow five seconds."""

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")


@pytest.fixture
def process() -> Iterator[DecodingProcess]:
    process = DecodingProcess(LIMITS)
    yield process
    process.end()


def noise(size: tuple[int, int], format: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(buffer, format, **options)
    return buffer.getvalue()


def model_picture(process: DecodingProcess, data: bytes, name: str = "", **options) -> Image.Image:
    asked = {"image_size": 224, "max_pixels": PIXELS, **options}
    return process.model_picture(io.BytesIO(data), name, **asked)


@pytest.mark.parametrize(
    ("format", "size"),
    [
        ("JPEG", (1600, 1200)),
        ("PNG", (1600, 1200)),
        ("WEBP", (300, 200)),
        ("TIFF", (5, 600)),
        ("AVIF", (640, 480)),
    ],
)
def test_a_picture_is_what_it_is_in_this_process(
    process: DecodingProcess, format: str, size: tuple[int, int]
) -> None:
    """Or a file would not find itself."""
    data = noise(size, format)
    settings = DecodeSettings(np.asarray, 224, thumbnail_size=None, max_pixels=PIXELS)
    here = picture_for_model(data, "", settings)
    there = model_picture(process, data)
    assert there.size == here.size
    assert there.tobytes() == here.tobytes()


def test_its_size_is_known_without_decoding_it(process: DecodingProcess) -> None:
    data = noise((640, 480), "PNG")
    stored = process.stored_picture(io.BytesIO(data[:100]), "", max_pixels=PIXELS)
    assert stored == StoredPicture("PNG", (640, 480))


def test_thumbnails_and_jpegs(process: DecodingProcess) -> None:
    data = noise((1600, 1200), "TIFF")
    thumbnail = process.thumbnail(io.BytesIO(data), "a.tif", size=300, max_pixels=PIXELS)
    with Image.open(io.BytesIO(thumbnail)) as image:
        assert (image.format, image.size) == ("JPEG", (300, 225))
    jpeg = process.jpeg(io.BytesIO(data), "a.tif", size=800, max_pixels=PIXELS, quality=90)
    with Image.open(io.BytesIO(jpeg)) as image:
        assert (image.format, image.size) == ("JPEG", (800, 600))


def test_a_camera_raw_is_known_by_its_name(process: DecodingProcess) -> None:
    pytest.importorskip("rawpy")
    preview = noise((96, 64), "JPEG")
    assert model_picture(process, tiny_dng((96, 64), preview), "a.dng").size == (96, 64)


@pytest.mark.parametrize("data", [b"", b"nothing", saved((64, 48), "PNG")[:60]])
def test_what_is_no_picture_says_why(process: DecodingProcess, data: bytes) -> None:
    with pytest.raises(DecodeError) as error:
        model_picture(process, data)
    assert not isinstance(error.value, TooLarge)
    assert str(error.value).startswith(("the file is", "the picture is damaged"))


def test_what_is_above_a_limit_is_told_from_it(process: DecodingProcess) -> None:
    with pytest.raises(TooLarge, match="288 megapixels"):
        model_picture(process, jpeg_of_scans(24_000, 24_000))
    with pytest.raises(TooLarge, match="too large"):
        model_picture(process, bytes(LIMITS.file_size + 1))


# --- Limits of the process ---------------------------------------------------------------------------


@needs_proc
def test_memory_has_a_limit_whatever_the_header_says(process: DecodingProcess) -> None:
    large = saved((12_000, 8000), "PNG")
    with pytest.raises(TooLarge):
        model_picture(process, large, max_pixels=10**9)
    assert model_picture(process, saved((64, 48), "PNG")).size == (64, 48)


@needs_proc
def test_memory_is_given_back(process: DecodingProcess) -> None:
    assert model_picture(process, saved((3000, 2500), "BMP")).height < 2500
    assert model_picture(process, saved((64, 48), "PNG")).size == (64, 48)
    status = Path(f"/proc/{pid_of(process)}/status").read_text()
    (used,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
    assert int(used) < 120_000


def test_time_has_a_limit() -> None:
    process = DecodingProcess(Limits(LIMITS.memory, 1, LIMITS.file_size))
    with pytest.raises(TooLarge, match="too long"):
        model_picture(process, SLOW)
    assert model_picture(process, saved((64, 48), "PNG")).size == (64, 48)
    process.end()


def test_a_process_that_stands_still_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its time of a processor would never end."""
    monkeypatch.setattr(decoding_process, "PATIENCE", 1)
    process = DecodingProcess(Limits(LIMITS.memory, 1, LIMITS.file_size))
    process._running().send_signal(signal.SIGSTOP)
    with pytest.raises(TooLarge, match="too long"):
        model_picture(process, saved((64, 48), "PNG"))
    process.end()


def test_it_can_be_ended_while_it_decodes(process: DecodingProcess) -> None:
    said: list[Exception] = []

    def decode() -> None:
        try:
            model_picture(process, SLOW)
        except DecodeError as error:
            said.append(error)

    model_picture(process, saved((64, 48), "PNG"))
    thread = threading.Thread(target=decode)
    thread.start()
    time.sleep(0.5)
    end_all()
    thread.join()
    assert [type(error) for error in said] == [Stopped]
    assert model_picture(process, saved((64, 48), "PNG")).size == (64, 48)


def pid_of(process: DecodingProcess) -> int:
    assert process._process is not None
    return process._process.pid


def test_it_is_kept_for_the_next_picture(process: DecodingProcess) -> None:
    model_picture(process, saved((64, 48), "PNG"))
    first = pid_of(process)
    model_picture(process, saved((64, 48), "PNG"))
    assert pid_of(process) == first


@pytest.mark.skipif(sys.platform == "win32", reason="polls a pipe")
def test_it_ends_when_it_is_idle_and_is_started_again(
    process: DecodingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = "importlib.import_module(sys.argv[1])"
    hurry = "from datasette_image_search.decoding import decode_worker; decode_worker.IDLE_SECONDS = 0.2; "
    start = child_process._START
    assert called in start
    monkeypatch.setattr(child_process, "_START", start.replace(called, hurry + called))
    for _ in range(2):
        assert model_picture(process, saved((64, 48), "PNG")).size == (64, 48)
        assert process._process is not None
        assert process._process.wait() == 0


SERVER = """
import io, os, sys, threading, time
from datasette_image_search.decoding.decoding_process import DecodingProcess, Limits
process = DecodingProcess(Limits(200_000_000, 60, 30_000_000))
small, slow = (open(name, "rb").read() for name in sys.argv[1:])
ask = lambda data: process.model_picture(io.BytesIO(data), "", image_size=224, max_pixels=10**9)
ask(small)
print(process._process.pid, flush=True)
threading.Thread(target=ask, args=[slow], daemon=True).start()
time.sleep(60)
"""


@needs_proc
def test_it_does_not_outlive_a_server_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(saved((64, 48), "PNG"))
    (tmp_path / "slow").write_bytes(SLOW)
    command = [sys.executable, "-c", SERVER, tmp_path / "small", tmp_path / "slow"]
    path = os.pathsep.join(sys.path)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}
    ) as server:
        pid = int(server.stdout.readline())
        time.sleep(0.5)
        assert is_running(pid)
        server.send_signal(signal.SIGKILL)
        server.wait()
    deadline = time.monotonic() + HANGS
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_running(pid)


@needs_proc
def test_it_knows_no_secrets_and_little_else(
    process: DecodingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASETTE_SECRET", "mellon")
    model_picture(process, saved((64, 48), "PNG"))
    assert b"mellon" not in Path(f"/proc/{pid_of(process)}/environ").read_bytes()
    loaded = Path(f"/proc/{pid_of(process)}/maps").read_text()
    assert not {name for name in ("torch", "faiss", "tokenizers") if name in loaded}
    limits = Path(f"/proc/{pid_of(process)}/limits").read_text()
    for line in ("Max file size             0", "Max core file size        0"):
        assert line in limits


# --- A process that was taken over -------------------------------------------------------------------

ANSWERS = {
    "no JSON": (b"nothing", b""),
    "no object": (b"[]", b""),
    "deep JSON": (b"[" * 9_000, b""),
    "no size": (b"{}", b"abc"),
    "a size of texts": (b'{"width": "1", "height": "1"}', b"abc"),
    "a size that is too large": (b'{"width": 1000000, "height": 1000000}', b"abc"),
    "a size below nothing": (b'{"width": -1, "height": -1}', b"abc"),
    "an error of lines": (b'{"error": "a\\nb\\u001b[31m' + b"x" * 5000 + b'"}', b""),
}


@pytest.mark.parametrize(("header", "content"), ANSWERS.values(), ids=list(ANSWERS))
def test_what_it_answers_is_not_believed(
    process: DecodingProcess, monkeypatch: pytest.MonkeyPatch, header: bytes, content: bytes
) -> None:
    answer = len(header).to_bytes(8, "big") + header + len(content).to_bytes(8, "big") + content
    hostile = f"import sys; sys.stdout.buffer.write({answer!r}); sys.stdout.flush(); sys.stdin.buffer.read()"
    monkeypatch.setattr(child_process, "_START", hostile)
    with pytest.raises(DecodeError) as error:
        model_picture(process, saved((64, 48), "PNG"))
    assert len(str(error.value)) <= 300
    assert str(error.value).isprintable()


@pytest.mark.parametrize("length", [2**63, 2**40, 100])
def test_an_answer_without_an_end_is_not_waited_for(
    process: DecodingProcess, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    answer = (2).to_bytes(8, "big") + b"{}" + length.to_bytes(8, "big") + b"abc"
    hostile = f"import sys; sys.stdout.buffer.write({answer!r}); sys.stdout.flush()"
    monkeypatch.setattr(child_process, "_START", hostile)
    with pytest.raises(DecodeError):
        model_picture(process, saved((64, 48), "PNG"))


def test_a_process_that_cannot_be_started_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(DecodeError, match="the process that decodes pictures cannot be started"):
        model_picture(DecodingProcess(LIMITS), saved((64, 48), "PNG"))
