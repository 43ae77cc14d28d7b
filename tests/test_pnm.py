"""PNM of all kinds are read, and at once."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from datasette_image_search.decoding import pnm
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


@pytest.mark.parametrize("at_once", [6, 7, 8, 50])
def test_a_picture_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch, at_once: int):
    monkeypatch.setattr(pnm, "_AT_ONCE", at_once)
    values = np.random.default_rng(at_once).integers(0, 65_536, 20 * 10, np.uint16)
    wide = values.astype(">u2").tobytes()
    expected = (values.reshape(10, 20) / 257).round()
    lines = b"\r\n".join(b"%5d  %d" % tuple(pair) for pair in values.reshape(-1, 2))
    commented = b"# 12 34\n" + lines.replace(b"\r\n", b"#9 9\r\n", 60) + b"#"
    for data in (
        b"P5 20 10 65535\n" + wide,
        *(b"P2 20 10 65535\n" + text for text in (lines, commented, lines + b"\n# end")),
    ):
        assert np.array_equal(decode(data).model_input[..., 0], expected)
    bits = "".join(str(value & 1) for value in values)
    for text in (bits, " ".join(bits), bits.replace("11", "1 # 0\n1", 20)):
        picture = decode(f"P1 20 10\n{text}".encode()).model_input[..., 0]
        assert np.array_equal(picture, 255 * (1 - (values & 1)).reshape(10, 20))


@pytest.mark.parametrize(
    "data",
    [
        b"P3 500 400 255\n" + b"7 " * 600_000,
        b"P6 500 400 65535\n" + bytes(1_200_000),
        b"P3 500 400 255\n#\n" + b"7 " * 600_000 + b"#\n" * 50,
        b"P1 1000 600\n" + b"1" * 600_000,
    ],
    ids=["text", "16 bits", "comments", "bits"],
)
def test_its_samples_take_a_byte_each(monkeypatch: pytest.MonkeyPatch, data: bytes):
    """So that the limit of pixels is one of memory."""
    monkeypatch.setattr(pnm, "_AT_ONCE", 1000)
    picture = Image.open(io.BytesIO(data))
    tracemalloc.start()
    try:
        assert pnm.slow_pnm(picture, data) is not None
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 600_000 <= most < 900_000


def test_what_is_behind_the_samples_is_not_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pnm, "_AT_ONCE", 100)
    assert decode(b"P2 2 1 255\n7 8\n" + b"9 " * 1000 + b"rubbish").width == 2
    assert decode(b"P2 2 1 255\n7 8\0rubbish").width == 2
    assert decode(b"P1 2 1\n1 0\0rubbish").width == 2


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1)])
def test_a_line_is_a_picture(size: tuple[int, int]):
    count = size[0] * size[1]
    assert decode(plain("P2", f"{size[0]} {size[1]} 255", *[9] * count)).width == size[0]


def test_samples_above_the_maximum_are_the_brightest():
    assert middle(decode(b"P5 40 30 100\n" + bytes([200]) * 40 * 30)) == [255] * 3
    assert middle(decode(plain("P2", "40 30 100", *[10**30] * 40 * 30))) == [255] * 3


@pytest.mark.parametrize(
    "data",
    [
        b"P6 40 30 65535\n" + bytes(100),
        b"P5 40 30 100\n" + bytes(100),
        plain("P2", "40 30 255", *[1] * 100),
        b"P1 40 30\n1010",
        b"P2 4 2 255\n1 2 3 x 5 6 7 8",
        b"P1 4 2\n10201010",
        b"P1 4 2\n1010-10101",
        plain("P2", "4 2 255", 1, 2, 3, -5, 5, 6, 7, 8),
        b"P2 4 2 255\n1 2 3 4 5 6 7" + b" " * 100,
        b"P2 4 2 255\n1 2 3 4 5 6 7 # 8",
        b"P2 1 2 255\n" + b"7" * 2_000_000,
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
