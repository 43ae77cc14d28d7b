"""What is believed of the process that reads pictures. test_recipes.py reads with a real one."""

from __future__ import annotations

import json

import pytest

from datasette_image_search.decoding.opening import DecodeError
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
