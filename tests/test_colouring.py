"""Values -> colours and a legend."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasette_image_search.maps.colouring import (
    CATEGORIES,
    LONGEST_LABEL,
    NO_VALUE,
    OTHER,
    STEPS,
    by_score,
    colouring,
    plain,
)


def colours_of(values: list[Any]) -> list[str]:
    coloured = colouring("column", values)
    return [coloured.colours[code] for code in coloured.codes]


def test_labels_are_short_and_values_are_told_apart_by_all_of_them() -> None:
    begin = "a" * LONGEST_LABEL
    coloured = colouring("column", [begin, begin + "b", begin + "c", begin + "c"])
    assert [(entry.label, entry.count) for entry in coloured.legend] == [
        (begin[1:] + "…", 2),
        (begin, 1),
        (begin[1:] + "…", 1),
    ]


def test_the_commonest_values_have_a_colour_and_the_rest_is_other() -> None:
    values = [name for at, name in enumerate("abcdefghijkl") for _ in range(20 - at)]
    coloured = colouring("letter", [*values, None, ""])
    assert [(entry.label, entry.count) for entry in coloured.legend] == [
        *((name, 20 - at) for at, name in enumerate("abcdefghi")),
        ("other (4 values)", 11 + 10 + 9 + 1),
        ("no value", 1),
    ]
    assert [entry.colour for entry in coloured.legend] == [*CATEGORIES, OTHER, NO_VALUE]
    assert coloured.scale is None
    assert colours_of(["a", None, "b", "a"])[0] == CATEGORIES[0]


def test_few_numbers_are_categories_and_many_a_scale() -> None:
    assert colouring("rating", [1, 2, 3, 2]).scale is None
    coloured = colouring("iso", [100 * n for n in range(1, 21)])
    assert coloured.scale == ("< 138", "> 1,962")
    assert coloured.codes.tolist() == sorted(coloured.codes.tolist())
    assert (coloured.codes[0], coloured.codes[-1]) == (0, STEPS - 1)
    assert coloured.legend == ()


def test_one_that_is_far_out_does_not_make_all_others_the_same() -> None:
    coloured = colouring("size", [*range(100), 10**12])
    assert len(set(coloured.codes.tolist())) > STEPS / 2


def test_dates_are_a_scale() -> None:
    days = [f"2021-{month:02}-05T10:00:00" for month in range(1, 13)]
    coloured = colouring("taken_at", [*days, None, "2022-01-05", "2022-01-05 10:00:00"])
    assert coloured.scale == ("< 2021-01-13", "> 2022-01-05")
    assert [(entry.label, entry.count) for entry in coloured.legend] == [("no value", 1)]
    assert coloured.colours[coloured.codes[12]] == NO_VALUE
    # Where one is none, all are words.
    assert colouring("taken_at", [*days, "2021-13-45T10:00:00"]).scale is None


def test_by_the_scores_of_a_query() -> None:
    coloured = by_score('"red"', np.linspace(-0.1, 0.4, 60, dtype=np.float32))
    assert coloured.title == 'likeness to "red"'
    assert coloured.scale == ("< -0.090", "> 0.390")
    assert by_score("x", np.full(3, 0.5, dtype=np.float32)).scale == ("0.500", "0.500")
    assert by_score("x", np.empty(0, dtype=np.float32)).legend == ()


def test_without_a_column_all_are_alike() -> None:
    assert plain(3).codes.tolist() == [0, 0, 0]
    assert plain(3).legend == ()


values = st.lists(
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text() | st.dates().map(str)
)


@given(values)
def test_every_image_has_a_colour_and_the_legend_counts_them(drawn: list[Any]) -> None:
    coloured = colouring("anything", drawn)
    assert len(coloured.codes) == len(drawn)
    used = Counter(coloured.colours[code] for code in coloured.codes)
    counted = {entry.colour: entry.count for entry in coloured.legend}
    if coloured.scale is None:
        assert counted == dict(used)
    else:
        assert counted.get(NO_VALUE, 0) == used[NO_VALUE]


@given(values, st.randoms())
def test_the_order_of_the_images_is_nothing(drawn: list[Any], random) -> None:
    shuffled = list(range(len(drawn)))
    random.shuffle(shuffled)
    colours = colours_of(drawn)
    assert colours_of([drawn[at] for at in shuffled]) == [colours[at] for at in shuffled]


@pytest.mark.parametrize("value", [True, 7, 2.5, "word"])
def test_one_value_is_one_colour(value: object) -> None:
    assert colours_of([value] * 3) == [CATEGORIES[0]] * 3
