"""Numbers with units, as people write them."""

from __future__ import annotations


def bytes_in_words(size: int) -> str:
    """A size in decimal units, as file managers show it: "3.2 MB"."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def exposure_in_words(seconds: float) -> str:
    """ "1/250 s", or "2.5 s" for a long one; `seconds` must be above 0."""
    return f"{seconds:g} s" if seconds >= 0.3 else f"1/{round(1 / seconds):,} s"
