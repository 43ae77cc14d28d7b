"""Months or years as headings among pictures that are in the order of their dates."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .commands import change
from .serving import ask, datasette_of

PAGE = "/-/image-search/photos/images"
pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


@pytest.fixture
def dated(database: Path) -> Path:
    taken = {1: "2021-06-30T23:59:59", 2: "2021-06-01", 3: "2021-05-31T00:00:00", 4: "2020-06"}
    change(
        database,
        *(f"update images set taken_at = '{date}' where id = {id}" for id, date in taken.items()),
        "update images set taken_at = 'at noon' where id = 5",
        "delete from images where id > 6",
    )
    return database


async def shown(database: Path, search: str) -> list[str]:
    """The headings and the ids of the pictures, in the order of the page."""
    page = (await ask(datasette_of(database), f"{PAGE}?{search}")).text
    return re.findall(r'(?<=class="image-search-date"><h3>)[^<]*|(?<=<li id="image-)\d+', page)


async def test_each_month_begins_with_its_heading(dated: Path) -> None:
    oldest = await shown(dated, "_sort=taken_at&id__in=1,2,3,4,6")
    assert oldest == [
        "June 2020",
        "4",
        "May 2021",
        "3",
        "June 2021",
        "2",
        "1",
        "Without a date",
        "6",
    ]
    newest = await shown(dated, "id__in=1,2,3,4,6")
    assert newest == [
        "June 2021",
        "1",
        "2",
        "May 2021",
        "3",
        "June 2020",
        "4",
        "Without a date",
        "6",
    ]
    # A page has the month that it begins in, also if it began before.
    for place, found in ((1, ["June 2021", "2"]), (4, ["Without a date", "6"])):
        assert await shown(dated, f"id__in=1,2,3,4,6&_size=1&_next={place}") == found


@pytest.mark.parametrize("search", ["q=red&id__lt=3", "_sort=width&id__lt=3", "id__in=5,6"])
async def test_other_orders_and_images_without_dates_have_none(dated: Path, search: str) -> None:
    found = await shown(dated, search)
    assert len(found) == 2
    assert all(map(str.isdigit, found))


async def test_an_order_by_date_of_what_a_query_found_has_them(dated: Path) -> None:
    found = await shown(dated, "q=red&_sort_desc=taken_at&_limit=9&id__lt=4")
    assert found == ["June 2021", "1", "2", "May 2021", "3"]


async def test_many_months_with_an_image_or_two_are_years(dated: Path) -> None:
    change(dated, "update images set taken_at = '2020-07-01' where id = 5")
    found = await shown(dated, "id__lt=6")
    assert found == ["2021", "1", "2", "3", "2020", "5", "4"]


async def test_what_is_added_to_a_page_goes_on_with_its_months(dated: Path) -> None:
    change(dated, "update images set taken_at = '2020-07-01' where id = 5")
    datasette = datasette_of(dated)
    page = (await ask(datasette, f"{PAGE}?_size=3")).text
    assert 'data-by-date="month"' in page
    headers = {"image-search-more": "month"}
    more = await datasette.client.get(f"{PAGE}?_size=3&_next=3", headers=headers)
    assert re.findall("<h3>([^<]*)", more.text) == ["July 2020", "June 2020", "Without a date"]


async def test_what_is_no_date_has_no_heading(dated: Path) -> None:
    change(dated, "update images set taken_at = '2021:06:03 10:00' where id = 5")
    assert await shown(dated, "id__in=1,2,3,5") == ["5", "June 2021", "1", "2", "May 2021", "3"]
