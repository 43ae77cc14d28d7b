"""The lines of text in a picture. Signs are drawn with the font that Pillow brings."""

from __future__ import annotations

import socket
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from datasette_image_search.errors import ImageSearchError
from datasette_image_search.reading import recognition
from datasette_image_search.reading.recognition import ENOUGH, LARGEST_SIDE, MAX_ASPECT, lines_of

pytest.importorskip("rapidocr")


def draw_sign(size: tuple[int, int], **lines: tuple[int, int, int]) -> Image.Image:
    """A picture with lines of text, each with its left, top and height in pixels; _ stands for a space."""
    picture = Image.new("RGB", size, "#88aacc")
    for text, (left, top, height) in lines.items():
        ImageDraw.Draw(picture).text(
            (left, top), text.replace("_", " "), fill="black", font=ImageFont.load_default(height)
        )
    return picture


def test_lines_have_boxes_and_nothing_reaches_the_network(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        pytest.fail("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    recognition._engine.cache_clear()
    sign = draw_sign((480, 360), WIFI_PASSWORD=(20, 20, 50), Lisbon=(240, 260, 40))
    first, second = lines_of(sign)
    assert (first.text, second.text) == ("WIFI PASSWORD", "Lisbon")
    assert min(first.score, second.score) >= 0.9
    assert first.box == pytest.approx((0.03, 0.08, 0.9, 0.23), abs=0.06)
    assert second.box == pytest.approx((0.5, 0.73, 0.76, 0.87), abs=0.06)


def test_a_line_of_pixels_takes_no_more_than_a_picture():
    assert lines_of(Image.new("RGB", (1, LARGEST_SIDE))) == []


@pytest.mark.parametrize(
    ("size", "larger"),
    [
        ((300, 200), (1104, 736)),
        ((400, 100), (LARGEST_SIDE, 320)),
        ((ENOUGH, ENOUGH), (ENOUGH, ENOUGH)),
        ((LARGEST_SIDE, 10), (LARGEST_SIDE, 10)),
        ((1, 1), (ENOUGH, ENOUGH)),
    ],
)
def test_small_pictures_are_enlarged(size: tuple[int, int], larger: tuple[int, int]):
    enlarged = recognition._enlarged(Image.new("RGB", size))
    assert enlarged.size == larger
    height, width, _ = recognition._not_too_long(np.asarray(enlarged)).shape
    assert max(width, height) <= MAX_ASPECT * min(width, height)


@pytest.mark.parametrize("change", [{"path": "rapidocr/models/gone.onnx"}, {"sha256": "0" * 64}])
def test_a_model_that_is_missing_or_another_one_is_not_downloaded(
    change: dict[str, str], monkeypatch: pytest.MonkeyPatch, no_network: None
):
    recognition.check_recognition()
    model = replace(recognition.MODELS["Rec"], **change)
    monkeypatch.setitem(recognition.MODELS, "Rec", model)
    with pytest.raises(ImageSearchError) as error:
        recognition.check_recognition()
    assert str(error.value) == (
        f"{model.name!r} is not in rapidocr as read-images needs it; pip install --force-reinstall --no-deps "
        "rapidocr==3.10.0"
    )


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recognition, "find_spec", lambda name: None)
    with pytest.raises(ImageSearchError, match=r"pip install 'datasette-image-search\[ocr\]'"):
        recognition.check_recognition()
