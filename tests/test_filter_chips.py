"""The filters of a search page as chips, one for what belongs together."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from .commands import change
from .serving import ask, datasette_of

PAGE = "/-/image-search/photos/images"
pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


async def chips(database: Path, *pairs: tuple[str, str]) -> dict[str, list[tuple[str, str]]]:
    """The words of each chip, and the query string of the page without it."""
    page = await ask(datasette_of(database), f"{PAGE}?{urlencode(pairs)}")
    found = re.findall(r'<li>([^<]*) <a href="([^"]*)" class="cross" aria-label="Remove', page.text)
    return {unescape(words): parse_qsl(urlsplit(unescape(url)).query) for words, url in found}


async def test_the_ends_of_a_range_are_one_chip(database: Path) -> None:
    kept = ("camera_make", "Canon")
    assert await chips(
        database,
        ("taken_at__gte", "2021"),
        kept,
        ("taken_at__lt", "2024"),
        ("width__gt", "10"),
        ("width__lte", "100"),
        ("iso__gte", "100"),
    ) == {
        "Taken: 2021 to 2023": [
            kept, ("width__gt", "10"), ("width__lte", "100"), ("iso__gte", "100")
        ],
        "Camera: Canon": [
            ("taken_at__gte", "2021"), ("taken_at__lt", "2024"), ("width__gt", "10"),
            ("width__lte", "100"), ("iso__gte", "100"),
        ],
        "10 < width \u2264 100": [
            ("taken_at__gte", "2021"), kept, ("taken_at__lt", "2024"), ("iso__gte", "100")
        ],
        "iso \u2265 100": [
            ("taken_at__gte", "2021"), kept, ("taken_at__lt", "2024"), ("width__gt", "10"),
            ("width__lte", "100"),
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([("taken_at__gte", "2021-06")], "Taken: since June 2021"),
        ([("mtime__gte", "2021"), ("mtime__lt", "2022")], "Changed: 2021"),
        ([("taken_at__gte", "20210101")], "taken_at \u2265 20210101"),
        ([("mtime__lt", "2021-W01-1")], "mtime < 2021-W01-1"),
        ([("taken_at__gt", "2021"), ("taken_at__lt", "2022")], "2021 < taken_at < 2022"),
        ([("width__gt", "10"), ("width__gt", "20")], "width > 10 and width > 20"),
        ([("lens__in", "Rome, Paris")], "Lens: Rome or Paris"),
        ([("lens__in", '["Rome", "Paris", "Bath"]')], "Lens: Rome, Paris or Bath"),
        ([("lens__in", '["Rome"]')], "Lens: Rome"),
        ([("lens__in", r'["\ud800"]')], r"Lens: \ud800"),
        ([("lens__notin", "Rome")], 'lens not in ["Rome"]'),
        ([("lens__in", "[")], "lens__in=["),
        ([("iso", "100")], "iso: 100"),
        ([("camera_make", "")], 'camera_make = ""'),
        ([("_search_title", "bus")], 'text "bus" in title'),
        (
            [("_through", json.dumps({"table": "images_x", "column": "tag", "value": "sea"}))],
            'images_x.tag = "sea"',
        ),
        ([("_through", "x")], "_through=x"),
    ],
)
async def test_a_filter_in_words(database: Path, pairs: list[tuple[str, str]], words: str) -> None:
    assert await chips(database, *pairs) == {words: []}


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        (
            "taken_at__gte=banana",
            "'taken_at' holds dates, and 'banana' is none; write it as 2021-06-30, 2021-06 or 2021",
        ),
        ("mtime__lt=30.6.2021", "'mtime' holds dates, and '30.6.2021' is none; write it as"),
        ("width__lt=wide", "'width' holds numbers, and 'wide' is none"),
        ("f_number__gte=f/2", "'f_number' holds numbers, and 'f/2' is none"),
    ],
)
async def test_a_value_that_a_column_cannot_be_compared_with_is_told(
    database: Path, pair: str, sentence: str
) -> None:
    answer = await ask(datasette_of(database), f"{PAGE}.json?{pair}")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(sentence)


@pytest.mark.parametrize(
    "pair", ["taken_at__gte=2021-06-01T10:00", "taken_at__lt=202", "width__gt=1e1"]
)
async def test_other_values_are_compared(database: Path, pair: str) -> None:
    change(database, "update images set taken_at = '2021-07-01T00:00:00' where id = 1")
    assert (await ask(datasette_of(database), f"{PAGE}.json?{pair}")).status_code == 200


async def test_a_column_of_texts_is_compared_with_any(database: Path) -> None:
    change(database, "alter table images add column grade text", "update images set grade = 'b'")
    assert (await ask(datasette_of(database), f"{PAGE}.json?grade__gte=a")).json()["count"] == 8
