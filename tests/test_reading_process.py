"""What is believed of the process that reads pictures. test_recipes.py reads with a real one."""

from __future__ import annotations

import json
import sys

import pytest

from datasette_image_search import child_process
from datasette_image_search.decoding import decode_worker
from datasette_image_search.decoding.decoding_process import Killed
from datasette_image_search.decoding.opening import DecodeError, TooLarge
from datasette_image_search.errors import ImageSearchError
from datasette_image_search.reading import reading_process
from datasette_image_search.reading.reading_process import ReadingProcess
from datasette_image_search.store.line_rows import Line

SOUND = {"text": "Exit", "score": 0.95, "box": [0, 0.5, 0.25, 1]}


def answered(monkeypatch: pytest.MonkeyPatch, header: object, content: bytes) -> list[Line]:
    monkeypatch.setattr(ReadingProcess, "_ask", lambda *_: (header, content))
    lines, seconds = ReadingProcess(10**6).lines(b"", "sign.jpg")
    assert seconds == 0.5
    return lines


def test_lines(monkeypatch: pytest.MonkeyPatch):
    lines = answered(monkeypatch, {"seconds": 0.5}, json.dumps([SOUND]).encode())
    assert lines == [Line("Exit", 0.95, (0, 0.5, 0.25, 1))]


def test_the_first_picture_tells_no_seconds(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ReadingProcess, "_ask", lambda *_: ({"seconds": None}, b"[]"))
    assert ReadingProcess(10**6).lines(b"", "sign.jpg") == ([], None)


def test_a_library_that_is_missing_stops_the_run_and_is_no_failure_of_a_picture(
    monkeypatch: pytest.MonkeyPatch,
):
    def load() -> None:
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(reading_process, "load", load)
    header, _ = decode_worker._made({"models": reading_process._models}, b"", {"make": "models"})
    monkeypatch.setattr(ReadingProcess, "_answer", lambda *_: (header, b""))
    with pytest.raises(ImageSearchError, match=r"cannot be loaded: ImportError: libGL\.so\.1: .*"):
        ReadingProcess(10**6).load()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_process_that_does_not_start_stops_the_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(child_process, "_START", "raise SystemExit(1)")
    with pytest.raises(ImageSearchError, match="use fewer --workers"):
        ReadingProcess(10**6).load()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize(("signal", "error"), [("SIGKILL", Killed), ("SIGSEGV", TooLarge)])
def test_a_process_that_is_killed_is_told_from_one_that_crashes(
    monkeypatch: pytest.MonkeyPatch, signal: str, error: type[TooLarge]
):
    """Memory that runs out may have been taken by others, and a crash is the fault of the picture."""
    start = f"import os, signal; os.kill(os.getpid(), signal.{signal})"
    monkeypatch.setattr(child_process, "_START", start)
    with pytest.raises(TooLarge) as raised:
        ReadingProcess(10**6).lines(b"", "sign.jpg")
    assert type(raised.value) is error


@pytest.mark.parametrize(
    "said",
    [
        *(SOUND | {"score": 1.5}, SOUND | {"score": float("nan")}, SOUND | {"score": None}),
        *(SOUND | {"box": [0, 0, 1]}, SOUND | {"box": [0, 0, 1, 9]}, SOUND | {"box": 7}),
        *({}, [], "line", 7),
    ],
    ids=str,
)
def test_what_is_no_line_is_not_believed(monkeypatch: pytest.MonkeyPatch, said: object):
    with pytest.raises(DecodeError, match="the picture is damaged"):
        answered(monkeypatch, {"seconds": 0.5}, json.dumps([said]).encode())


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff", b"7"])
def test_what_is_no_answer_is_not_believed(monkeypatch: pytest.MonkeyPatch, content: bytes):
    with pytest.raises(DecodeError):
        answered(monkeypatch, {"seconds": 0.5}, content)
    with pytest.raises(DecodeError):
        answered(monkeypatch, {}, b"[]")
