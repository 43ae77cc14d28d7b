"""Pages that would look into the database for each of ten thousands of cells."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasette_image_search.web.access import visits

from ..serving import datasette_of, pictures, query_page

pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


async def test_a_page_has_a_limit_of_pictures_in_cells(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next page has them again, and the cells above the limit say what they hold."""
    monkeypatch.setattr(visits, "MOST_PICTURES", 50)
    columns = ", ".join(
        f"'/-/image-search/photos/images/' || id || '/thumbnail' as c{n}" for n in range(40)
    )
    datasette = datasette_of(database)
    for _ in range(2):
        page = await query_page(datasette, f"select id, {columns} from images")
        assert page.status_code == 200
        assert len(pictures(page)) == 50
        assert page.text.count("/8/thumbnail") >= 40
        page = await query_page(datasette, "select id, path from images")
        assert len(pictures(page)) == 8
