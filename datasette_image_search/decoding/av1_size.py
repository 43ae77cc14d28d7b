"""The size of the pictures in AV1 data, read from the data itself, as its decoder does."""

from __future__ import annotations

MAX_UNITS = 10_000
"""The most units of the data to read."""

_SEQUENCE_HEADER = 1


def av1_pixels(data: bytes) -> int:
    """Width times height of the largest picture; 0 if the data is not AV1."""
    position = pixels = 0
    for _ in range(MAX_UNITS):
        if position >= len(data):
            break
        header = data[position]
        if header & 0x81:
            break  # Bits that are always 0.
        position += 2 if header & 4 else 1
        size = len(data) - position
        if header & 2:
            size, position = _leb128(data, position)
        if header >> 3 & 15 == _SEQUENCE_HEADER:
            pixels = max(pixels, _frame_pixels(data[position : position + min(size, 1000)]))
        position += size
    return pixels


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    """A number, and the position after it."""
    number = 0
    for shift in range(0, 56, 7):
        byte = data[position] if position < len(data) else 0
        number |= (byte & 0x7F) << shift
        position += 1
        if not byte & 0x80:
            break
    return number, position


def _frame_pixels(header: bytes) -> int:
    """The pixels of the largest frame, from section 5.5.1 of the AV1 specification."""
    bits = _Bits(header)
    bits.take(3 + 1)
    if bits.take(1):  # A header for a still picture only.
        bits.take(5)
    else:
        delay_length = _skip_timing(bits)
        with_delay = bits.take(1)
        for _ in range(bits.take(5) + 1):
            bits.take(12)
            if bits.take(5) > 7:
                bits.take(1)
            if delay_length and bits.take(1):
                bits.take(2 * delay_length + 1)
            if with_delay and bits.take(1):
                bits.take(4)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return (bits.take(width_bits) + 1) * (bits.take(height_bits) + 1)


def _skip_timing(bits: _Bits) -> int:
    """Bits of a delay, 0 if the header has none."""
    if not bits.take(1):
        return 0
    bits.take(32 + 32)
    if bits.take(1):
        zeros = 0
        while zeros < 32 and not bits.take(1):
            zeros += 1
        bits.take(zeros)
    if not bits.take(1):
        return 0
    delay_length = bits.take(5) + 1
    bits.take(32 + 5 + 5)
    return delay_length


class _Bits:
    """The bits of some bytes, one after the other; 0 after the end."""

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        number = self._number >> self._left if self._left >= 0 else self._number << -self._left
        return number & ((1 << count) - 1)
