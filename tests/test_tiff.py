from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasette_image_search.metadata.tiff import LONGEST_VALUE, MOST_BYTES, MOST_NUMBERS, Tiff

BYTE, ASCII, SHORT, LONG, RATIONAL, UTF8 = 1, 2, 3, 4, 5, 129


def tiff(*entries: tuple[int, int, int, bytes], order: str = "<", behind: bytes = b"") -> bytes:
    """A TIFF of one directory: tag, type, number of values, and what stands in their place."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    for tag, kind, count, value in entries:
        head += struct.pack(f"{order}HHI", tag, kind, count) + value.ljust(4, b"\0")
    return head + struct.pack(f"{order}I", 0) + behind


@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_and_texts_in_both_orders(order: str):
    data = tiff(
        (1, SHORT, 2, struct.pack(f"{order}2H", 7, 9)),
        (2, UTF8, 3, b"Zu\0"),
        (3, RATIONAL, 1, struct.pack(f"{order}I", 50)),
        order=order,
        behind=struct.pack(f"{order}2I", 1, 250),
    )
    assert Tiff(data).first({1, 2, 3, 4}) == {1: (7, 9), 2: b"Zu\0", 3: (0.004,)}
    assert Tiff(data).first({2}) == {2: b"Zu\0"}


def test_a_damaged_tag_costs_no_other():
    data = tiff(
        (1, ASCII, 900, struct.pack("<I", 900_000)),
        (2, 77, 1, b"x"),
        (3, SHORT, 0, b""),
        (4, BYTE, LONGEST_VALUE + 1, struct.pack("<I", 8)),
        (5, ASCII, 3, b"ok\0"),
    )
    assert Tiff(data).first({1, 2, 3, 4, 5}) == {5: b"ok\0"}


def test_a_fraction_of_zero_is_no_number():
    data = tiff((1, RATIONAL, 1, struct.pack("<I", 26)), behind=struct.pack("<2I", 1, 0))
    ((value,),) = Tiff(data).first({1}).values()
    assert math.isnan(value)
    assert Tiff(data).directory(value, {1}) == {}


def test_many_tags_with_the_same_bytes_are_short():
    """Each of them as long as the file, they would take its size many times over."""
    texts, numbers = range(50), range(50, 100)
    start = 14 + 12 * 100
    data = tiff(
        *((tag, ASCII, 1_000_000, struct.pack("<I", start)) for tag in texts),
        *((tag, RATIONAL, 125_000, struct.pack("<I", start)) for tag in numbers),
        behind=b"\1\0\0\0" * 250_000,
    )
    found = Tiff(data).first(range(100))
    assert {len(found[tag]) for tag in texts} == {MOST_BYTES}
    assert {len(found[tag]) for tag in numbers} == {MOST_NUMBERS}


def test_a_block_is_whole_and_of_any_type():
    size = 3 * MOST_BYTES
    data = tiff(
        (1, BYTE, size, struct.pack("<I", 38)),
        (2, LONG, size // 4, struct.pack("<I", 38)),
        behind=b"abcd" * (size // 4),
    )
    assert Tiff(data).blocks({1, 2, 3}) == {1: data[38:], 2: data[38:]}
    assert Tiff(b"none").blocks({1}) == {}


def test_offsets_of_64_bits():
    data = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 1)
    data += struct.pack("<HHQ8s", 1, ASCII, 9, struct.pack("<Q", 44)) + b"Example1\0"
    assert Tiff(data).first({1}) == {1: b"Example1\0"}


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_error(noise: bytes):
    for start in (b"", b"II*\0\x08\0\0\0", b"MM\0+\0\x08\0\0"):
        Tiff(start + noise).first(range(70_000))
