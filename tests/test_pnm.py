"""PNM of all kinds are read, and at once."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from datasette_image_search.decoding.opening import DecodeError

from .test_decode import CORNERS, corners_of, decode, four_corners, middle


def plain(kind: str, header: str, *samples: int, comment: str = "") -> bytes:
    return f"{kind}\n{comment}{header}\n{' '.join(map(str, samples))}\n".encode()


@pytest.mark.parametrize("maximum", [1, 100, 255, 256, 1000, 65_535])
def test_the_largest_sample_is_the_brightest(maximum: int):
    kind = ">u2" if maximum > 255 else "u1"
    half = np.full(3 * 40 * 30, maximum // 2, kind).tobytes()
    expected = round(maximum // 2 / maximum * 255)
    for magic, bands in ((b"P5", 1), (b"P6", 3)):
        data = b"%s 40 30 %d\n" % (magic, maximum) + half[: len(half) * bands // 3]
        assert middle(decode(data)) == pytest.approx([expected] * 3, abs=1)


def test_colours_of_16_bits():
    pixels = (np.asarray(four_corners(96, 64)).astype(">u2") * 257).tobytes()
    assert corners_of(decode(b"P6 96 64 65535\n" + pixels).model_input) == list(CORNERS)


def test_a_dark_grey_of_16_bits_stays_dark():
    assert middle(decode(b"P5 40 30 65535\n" + b"\0\xfa" * 40 * 30)) == [1, 1, 1]


@pytest.mark.parametrize("maximum", [255, 1023, 65_535])
def test_samples_as_text(maximum: int):
    samples = [value * maximum // 255 for value in (200, 100, 50)] * 40 * 30
    assert middle(decode(plain("P3", f"40 30 {maximum}", *samples))) == pytest.approx(
        [200, 100, 50], abs=1
    )
    grey = plain("P2", f"40 30 {maximum}", *[samples[0]] * 40 * 30, comment="# of a scanner\n")
    assert middle(decode(grey)) == pytest.approx([200] * 3, abs=1)


def test_comments_may_stand_between_samples():
    data = b"P2 4 2 255\n" + b"7 9 # 1000 2000\n 8 10\r\n" * 2
    assert decode(data).model_input[..., 0].tolist() == [[7, 9, 8, 10]] * 2


def test_bits_need_no_blanks_between_them():
    expected = [[0, 255, 255], [255, 0, 0]]
    for pixels in (b"100\n011", b"1 0 0 0 1 1", b"1\t0 0 01 1 # end"):
        assert decode(b"P1 3 2\n" + pixels).model_input[..., 0].tolist() == expected


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1)])
def test_a_line_is_a_picture(size: tuple[int, int]):
    count = size[0] * size[1]
    assert decode(plain("P2", f"{size[0]} {size[1]} 255", *[9] * count)).width == size[0]


def test_samples_above_the_maximum_are_the_brightest():
    assert middle(decode(b"P5 40 30 100\n" + bytes([200]) * 40 * 30)) == [255] * 3


@pytest.mark.parametrize(
    "data",
    [
        b"P6 40 30 65535\n" + bytes(100),
        b"P5 40 30 100\n" + bytes(100),
        plain("P2", "40 30 255", *[1] * 100),
        b"P1 40 30\n1010",
        b"P2 4 2 255\n1 2 3 x 5 6 7 8",
        b"P1 4 2\n10201010",
    ],
)
def test_missing_and_wrong_samples_are_damage(data: bytes):
    with pytest.raises(DecodeError, match="the picture is damaged"):
        decode(data)


def test_a_large_one_is_read_by_numpy_alone(monkeypatch: pytest.MonkeyPatch):
    """Pillow takes up to a minute for it."""

    def slow(*_: object, **__: object) -> None:
        raise AssertionError("Pillow's own decoder was asked")

    monkeypatch.setattr("PIL.PpmImagePlugin.PpmPlainDecoder.decode", slow)
    monkeypatch.setattr("PIL.PpmImagePlugin.PpmDecoder.decode", slow)
    size = (1000, 800)
    picture = Image.effect_noise(size, 50)
    as_text = b" ".join(b"%d" % value for value in picture.tobytes())
    decoded = decode(b"P2 %d %d 255\n" % size + as_text)
    assert decoded.model_input.std() > 10
    assert decode(b"P6 %d %d 1000\n" % size + bytes(6 * 800_000)).width == 1000
