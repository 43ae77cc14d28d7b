from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasette_image_search.metadata.numbers import number_of, numbers_in


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12", 12.0),
        (" -1.5 ", -1.5),
        ("1.2e-05", 1.2e-05),
        ("306/10", 30.6),
        ("1e1/4", 2.5),
        ("7.", 7.0),
        ("1/0", None),
        ("1e999", None),
        ("9" * 5_000, None),
        ("1/" + "9" * 5_000, 0.0),
        ("1_000", None),
        ("nan", None),
        ("12 m", None),
        ("", None),
        (None, None),
    ],
)
def test_numbers(text: str | None, number: float | None):
    assert number_of(text) == number


def test_numbers_between_other_things():
    assert numbers_in("43,30.6N") == [43.0, 30.6]
    assert numbers_in("43/1,306/10,1.2e-05 E") == [43.0, 30.6, 1.2e-05]
    assert math.isnan(numbers_in("1/0")[0])


@given(st.text(alphabet="0123456789.eE/+-_ ,\N{ARABIC-INDIC DIGIT ONE}N"), st.integers(1, 5_000))
def test_any_text_is_a_finite_number_or_none(text: str, times: int):
    for each in (text, text * times, text.replace("0", "9" * times)):
        found = number_of(each)
        assert found is None or math.isfinite(found)
        numbers_in(each)
