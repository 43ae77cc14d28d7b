from __future__ import annotations

import pytest

from datasette_image_search.quantities import bytes_in_words, exposure_in_words


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (3_249_000_000, "3.2 GB")]
)
def test_sizes_are_in_decimal_units(size: int, words: str):
    assert bytes_in_words(size) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1 / 250, "1/250 s"), (0.00005, "1/20,000 s"), (0.3, "0.3 s"), (2.5, "2.5 s"), (30, "30 s")],
)
def test_exposures_are_as_on_a_camera(seconds: float, words: str):
    assert exposure_in_words(seconds) == words
