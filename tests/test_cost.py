"""What a file costs is known before it is opened, and no honest file is refused for it."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datasette_image_search.decoding import decode, profiles
from datasette_image_search.decoding.av1_size import av1_pixels
from datasette_image_search.decoding.boxes import Boxes
from datasette_image_search.decoding.cost import Cost, cost_of
from datasette_image_search.decoding.decode import decode_bytes
from datasette_image_search.decoding.opening import DecodeError, DecodeSettings, TooLarge

from .conftest import SHARED
from .hostile_files import (
    avif_that_lies,
    gif_of_blocks,
    jpeg2000_that_lies,
    jpeg_of_padding,
    jpeg_of_scans,
    jpeg_of_segments,
    pgm_of_comments,
    png_bomb,
    png_of_chunks,
    saved,
    tiff_of_a_tile,
    tiff_with_profile,
)

LIMITED = DecodeSettings(np.asarray, image_size=32, max_pixels=50_000_000)

FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM"]


@pytest.mark.parametrize(
    "data",
    [
        jpeg_of_scans(24_000, 24_000),
        jpeg_of_scans(24_000, 24_000, frame=0xC2),
        tiff_of_a_tile(30_000, 30_000),
        tiff_of_a_tile(30_000, 30_000, ">"),
        tiff_of_a_tile(30_000, 30_000, big=True),
        tiff_of_a_tile(30_000, 30_000, ">", big=True),
        jpeg2000_that_lies(30_000, 30_000),
        png_bomb(30_000, 30_000, megabytes=1),
    ],
    ids=[
        "scans",
        "progressive",
        "tile",
        "big-endian",
        "BigTIFF",
        "big-endian BigTIFF",
        "JP2",
        "PNG",
    ],
)
def test_a_file_of_some_bytes_that_takes_gigabytes_is_too_large(data: bytes) -> None:
    with pytest.raises(TooLarge, match="megapixels, more than the limit of 50"):
        decode_bytes(data, "a.jpg", LIMITED)


def test_an_avif_is_as_large_as_its_data_says() -> None:
    settings = DecodeSettings(np.asarray, image_size=32, max_pixels=1_000_000)
    with pytest.raises(TooLarge, match="the picture has 2 megapixels, more than the limit of 1"):
        decode_bytes(avif_that_lies(2000, 1000), "", settings)
    assert decode_bytes(saved((1000, 1000), "AVIF"), "", settings).width == 1000


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (jpeg_of_scans(2000, 2000, scans=3000), "it has more than 50 scans"),
        (jpeg_of_segments(101), "it has more than 100 parts of EXIF"),
        (jpeg_of_segments(2000, 0xFE, b""), "it has more than 2,000 segments before its pixels"),
        (jpeg_of_padding(1_000_000), "its header is mostly padding"),
        (jpeg_of_padding(1_000_000, b"\0"), "its header is mostly padding"),
        (jpeg_of_padding(2000, b"\xff\0\0"), "it has more than 2,000 segments before its pixels"),
        (pgm_of_comments(10_000), "its header has more than 10,000 bytes"),
        (b"P6\n" + b" " * 20_000 + b"8 8 255\n" + bytes(192), "its header has more than 10,000"),
        (pgm_of_comments(10_000, as_text=True), "it has more than 100 comments"),
        (png_of_chunks(100_000), "it has more than 10,000 chunks beside its pixels"),
        (gif_of_blocks(100_000), "it has more than 20,000 blocks before its pixels"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_pillow_would_parse_for_minutes_is_damaged(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as error:
        decode_bytes(data, "", LIMITED)
    assert str(error.value).startswith(f"the picture is damaged: {reason}")
    assert not isinstance(error.value, TooLarge)


@pytest.mark.parametrize(
    "data",
    [
        jpeg_of_segments(100),
        jpeg_of_segments(500, 0xE2, b"ICC_PROFILE\0" + bytes(1000)),
        jpeg_of_padding(500),
        pgm_of_comments(50),
        pgm_of_comments(50, as_text=True),
        gif_of_blocks(1000),
        png_of_chunks(1000),
        saved((64, 48), "JPEG", progressive=True),
    ],
    ids=["EXIF", "ICC", "padding", "PGM", "PGM as text", "GIF", "PNG", "progressive"],
)
def test_what_honest_files_have_much_of_is_decoded(data: bytes) -> None:
    assert decode_bytes(data, "", LIMITED).width in (8, 16, 64)


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(FORMATS))
def test_an_honest_picture_never_costs_more_than_its_pixels(
    width: int, height: int, format: str
) -> None:
    cost = cost_of(saved((width, height), format))
    assert cost.problem is None
    assert cost.pixels <= width * height
    if format in ("AVIF", "JPEG2000"):
        assert cost.pixels == width * height


@given(st.binary(max_size=200), st.sampled_from(FORMATS), st.randoms())
def test_whatever_the_bytes_are_they_cost_something(extra: bytes, format: str, chance) -> None:
    data = bytearray(saved((24, 16), format))
    for byte in extra:
        data[chance.randrange(min(len(data), 400))] = byte
    for some in (bytes(data), bytes(data[: chance.randrange(len(data))]), data[:12] + extra):
        assert isinstance(cost_of(bytes(some)), Cost)


@pytest.mark.skipif(not decode.HEIC, reason="pillow-heif is not installed")
def test_a_heic_is_looked_into() -> None:
    data = saved((640, 480), "HEIF")
    assert cost_of(data).problem is None
    assert len(list(Boxes(data).items())) >= 1


@pytest.mark.skipif(not SHARED.exists(), reason="no real photos here")
def test_no_real_photo_is_refused() -> None:
    suffixes = (".jpg", ".jpeg", ".heic", ".heif", ".avif", ".tif", ".tiff", ".jp2", ".gif")
    photos = [
        path
        for path in SHARED.rglob("*")
        if path.suffix.lower() in suffixes and "hostile" not in path.parts
    ]
    assert photos
    assert {path.name: cost_of(path.read_bytes()).problem for path in photos} == dict.fromkeys(
        [path.name for path in photos]
    )


# --- AVIF ------------------------------------------------------------------------------------------


def bits(*fields: tuple[int, int]) -> bytes:
    """Numbers and how many bits each has."""
    text = "".join(f"{value:0{width}b}" for value, width in fields if width)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")


def unit(kind: int, content: bytes) -> bytes:
    """Of AV1, with its size."""
    size, length = b"", len(content)
    while length > 127:
        size += bytes([length & 127 | 128])
        length >>= 7
    return bytes([kind << 3 | 2]) + size + bytes([length]) + content


SIZE = ((15, 4), (15, 4), (11_999, 16), (9_999, 16))


@pytest.mark.parametrize(
    "fields",
    [
        ((0, 3), (1, 1), (1, 1), (0, 5), *SIZE),
        ((0, 3), (0, 1), (0, 1), (0, 1), (0, 1), (0, 5), (0, 12), (3, 5), *SIZE),
        (
            *((0, 3), (0, 1), (0, 1)),
            # Timing, with a model of the decoder, and two ways to show the film.
            *((1, 1), (1, 32), (30, 32), (1, 1), (0b00101, 5), (1, 1), (9, 5), (1, 32), (9, 10)),
            *((1, 1), (1, 5)),
            *((0, 12), (9, 5), (1, 1), (1, 1), (0, 21), (1, 1), (5, 4)),
            *((0, 12), (3, 5), (0, 1), (0, 1)),
            *SIZE,
        ),
    ],
    ids=["still", "film", "film with timing"],
)
def test_the_size_of_av1_is_that_of_its_largest_frame(fields: tuple[tuple[int, int], ...]) -> None:
    header = unit(1, bits(*fields))
    assert av1_pixels(header) == 12_000 * 10_000
    delimiter, frame = unit(2, b""), unit(6, bytes(200))
    small = unit(1, bits((0, 3), (1, 1), (1, 1), (0, 5), (5, 4), (5, 4), (63, 6), (63, 6)))
    assert av1_pixels(delimiter + small) == 64 * 64
    assert av1_pixels(delimiter + small + frame + header + frame) == 12_000 * 10_000


def test_a_film_is_as_large_as_its_first_picture() -> None:
    pictures = [Image.new("RGB", (300, 200), colour) for colour in ("red", "green", "blue")]
    buffer = io.BytesIO()
    pictures[0].save(buffer, "AVIF", save_all=True, append_images=pictures[1:])
    assert cost_of(buffer.getvalue()) == Cost(60_000)


def test_boxes_that_are_the_same_bytes_many_times_are_no_picture() -> None:
    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">L4s", len(content) + 8, kind) + content

    start = box(b"ftyp", b"avif" + bytes(4) + b"avif")
    places = b"".join(struct.pack(">HHHLL", i, 0, 1, 0, 10_000) for i in range(1000))
    located = box(b"iloc", bytes([0, 0, 0, 0, 0x44, 0]) + struct.pack(">H", 1000) + places)
    data = start + box(b"meta", bytes(4) + located) + bytes(10_000)
    assert cost_of(data).problem == "its parts repeat the same bytes many times"
    deep = box(b"free", b"") * 10_001
    assert cost_of(start + deep).problem == "it has too many parts"


# --- Profiles --------------------------------------------------------------------------------------


def test_large_colour_profiles_are_used_and_not_remembered() -> None:
    profiles._remembered.cache_clear()
    for size in (30_000, 3_000_000, 4_000_000):
        assert decode_bytes(tiff_with_profile(size), "", LIMITED).width == 64
    assert profiles._remembered.cache_info().currsize == 1


SCAN = b"\xff\xda"


@pytest.mark.parametrize("progressive", [False, True])
def test_scans_are_counted_in_the_data_of_the_picture_only(progressive: bool) -> None:
    """A profile, or a film behind a moving photo, has these bytes by chance."""
    picture = saved((64, 64), "JPEG", progressive=progressive, icc_profile=100 * SCAN)
    film = b"\0\0\0\x18ftypmp42" + 100 * SCAN
    assert cost_of(picture + film).problem is None
    thumbnail = saved((64, 64), "JPEG", progressive=True)
    assert cost_of(picture + 20 * thumbnail).problem is None


def test_scans_with_tables_and_comments_between_them_are_counted() -> None:
    picture = saved((64, 64), "JPEG", progressive=True)
    last = picture[picture.rindex(SCAN) : -2]
    comment = b"\xff\xfe\0\x06abcd"
    assert cost_of(picture[:-2] + 60 * (comment + last) + picture[-2:]).problem == (
        "it has more than 50 scans"
    )
    assert cost_of(picture[:-2] + 3000 * comment + picture[-2:]).problem is not None


def test_scans_are_counted_behind_any_run_of_fill_bytes() -> None:
    """In one pass: the square of their number would take days."""
    picture = saved((64, 64), "JPEG", progressive=True)
    last = picture[picture.rindex(SCAN) : -2]
    fill = 4_000_000 * b"\xff"
    assert cost_of(picture[:-2] + fill + b"\0") == Cost(64 * 64 // 2)
    assert cost_of(picture[:-2] + fill + 60 * last).problem == "it has more than 50 scans"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_an_honest_tile_counts_as_it_is(order: str, big: bool) -> None:
    assert cost_of(tiff_of_a_tile(300, 200, order, big=big)).pixels == 60_000
