"""What a thumbnail is stored as: photos as JPEG, drawings as they were stored before there were JPEGs."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from datasette_image_search.decoding.decode import decode_picture
from datasette_image_search.decoding.opening import DecodeSettings
from datasette_image_search.decoding.thumbnails import is_drawn, make_thumbnail

from .conftest import SHARED
from .test_decode import photo_like, saved

SETTINGS = DecodeSettings(np.asarray, image_size=224, thumbnail_size=320, max_pixels=50_000_000)


@cache
def text(size: tuple[int, int], colour: str = "black", background: str = "white") -> Image.Image:
    picture = Image.new("RGB", size, background)
    for top in range(0, size[1], 16):
        words = f"These are some words in line {top}, as on a screen. " * 4
        ImageDraw.Draw(picture).text((9, top), words, colour, ImageFont.load_default(13))
    return picture


def slide(size: tuple[int, int]) -> Image.Image:
    """White words on colours that run into each other: 10,000 of them, and none is common."""
    ramps = [
        Image.linear_gradient("L"),
        Image.linear_gradient("L").transpose(Image.Transpose.ROTATE_90),
    ]
    picture = Image.merge("RGB", [*ramps, ramps[0]]).resize(size, Image.Resampling.BICUBIC)
    ImageDraw.Draw(picture).text((9, 9), "A talk", "white", ImageFont.load_default(size[1] // 5))
    return picture


DRAWN: dict[str, Callable[[], Image.Image]] = {
    "text": lambda: text((480, 300)),
    "text on dark": lambda: text((480, 300), "#9cdcfe", "#1e1e1e"),
    "blue on red": lambda: text((480, 300), "blue", "red"),
    "a large screen": lambda: text((2560, 1440)),
    "a slide": lambda: slide((960, 600)),
}


def opened(thumbnail: bytes) -> Image.Image:
    return Image.open(io.BytesIO(thumbnail))


def difference(thumbnail: bytes, picture: Image.Image) -> float:
    """From the picture of the same size in brightness, of 255, on average."""
    small = picture.resize(opened(thumbnail).size, Image.Resampling.LANCZOS)
    seen, expected = (np.asarray(each.convert("L"), float) for each in (opened(thumbnail), small))
    return float(np.abs(seen - expected).mean())


@pytest.mark.parametrize("kind", DRAWN)
def test_a_drawing_is_a_webp_which_is_smaller_than_a_jpeg(kind: str) -> None:
    picture = DRAWN[kind]()
    thumbnail = make_thumbnail(picture, 320)
    assert opened(thumbnail).format == "WEBP"
    assert max(opened(thumbnail).size) == 320
    small = picture.resize(opened(thumbnail).size, Image.Resampling.BICUBIC)
    assert len(thumbnail) < len(saved(small, "JPEG", quality=82, optimize=True))
    assert difference(thumbnail, picture) < 5


def test_few_colours_are_stored_without_loss() -> None:
    """JPEG halves the resolution of colours, which a pattern of single pixels does not survive."""
    colours = np.array([[255, 0, 0], [0, 0, 255], [255, 255, 0]], np.uint8)
    pattern = colours[np.random.default_rng(0).integers(0, 3, (60, 80))]
    thumbnail = make_thumbnail(Image.fromarray(pattern), 320)
    assert opened(thumbnail).format == "WEBP"
    assert (np.asarray(opened(thumbnail).convert("RGB")) == pattern).all()


def test_an_icon_is_stored_without_loss() -> None:
    icon = photo_like((64, 64))
    thumbnail = make_thumbnail(icon, 320)
    assert opened(thumbnail).format == "WEBP"
    assert opened(thumbnail).convert("RGB").tobytes() == icon.tobytes()


def test_a_photo_is_a_jpeg_that_is_hardly_different() -> None:
    picture = photo_like((640, 480))
    thumbnail = make_thumbnail(picture, 320)
    assert opened(thumbnail).format == "JPEG"
    assert opened(thumbnail).size == (320, 240)
    assert len(thumbnail) < 320 * 240 / 2
    assert difference(thumbnail, picture) < 5
    small = picture.resize((320, 240), Image.Resampling.BICUBIC)
    standard = saved(small, "JPEG", quality=79, optimize=True)
    assert len(thumbnail) < len(standard)
    assert difference(thumbnail, picture) < difference(standard, picture)


@pytest.mark.parametrize("background", ["black", "white"])
def test_a_photo_with_a_plain_margin_is_no_drawing(background: str) -> None:
    """Of a scanner, or of a thing before a wall."""
    picture = Image.new("RGB", (640, 480), background)
    picture.paste(photo_like((500, 380)), (70, 50))
    assert not is_drawn(picture)


@pytest.mark.parametrize("quality", [75, 95])
def test_a_screenshot_that_was_sent_as_a_jpeg_is_drawn(quality: int) -> None:
    data = saved(DRAWN["a large screen"](), "JPEG", quality=quality)
    assert is_drawn(decode_picture(data, "", SETTINGS))


@pytest.mark.skipif(not SHARED.exists(), reason="no real photos here")
@pytest.mark.parametrize("folder", ["exif/camera", "flickr8k-clip/photos"])
def test_real_photos_are_no_drawings(folder: str) -> None:
    paths = sorted((SHARED / folder).rglob("*.jpg"))[:20]
    assert paths
    assert [
        path for path in paths if is_drawn(decode_picture(path.read_bytes(), "", SETTINGS))
    ] == []


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 9000)])
def test_a_line_is_a_picture_too(size: tuple[int, int]) -> None:
    assert max(opened(make_thumbnail(photo_like(size), 200)).size) <= 200
