"""What programs get of a search page, beside what they get of the table."""

from __future__ import annotations

import csv
import io
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlite_utils import Database
from sqlite_utils.cli import cli

from .serving import ask, datasette_of

pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]

PAGE = "/-/image-search/photos/images"


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is no JSON")


@pytest.fixture
def odd(database: Path) -> Path:
    """photos.db, where one row has an infinity, a BLOB, and stars in a column called score."""
    with closing(Database(database, execute_plugins=False)) as db:
        db.execute("alter table images add column score real")
        db.execute("alter table images add column icon blob")
        db.execute(
            "update images set score = 5, icon = x'ff00', exposure_time = 9e999, lens = '=1'"
        )
        db.execute("update images set altitude = -9e999 where id = 6")
        db.conn.commit()
    return database


async def test_rows_are_those_of_the_table_page(odd: Path) -> None:
    datasette = datasette_of(odd)
    ours = await ask(datasette, f"{PAGE}.json?q=red&_facet=exposure_time")
    hits = json.loads(ours.text, parse_constant=refuse)["hits"]
    table = await ask(datasette, "/photos/images.json?_shape=array&_size=max")
    rows = {row["id"]: row for row in json.loads(table.text, parse_constant=refuse)}
    assert {hit["id"]: hit["row"] for hit in hits} == rows
    assert hits[0]["row"]["exposure_time"] is None


async def test_cells_of_csv_are_those_of_the_table_page_and_the_score_comes_last(odd: Path) -> None:
    with closing(Database(odd, execute_plugins=False)) as db:
        # The alpha's own CSV ends at the first BLOB, with an error in the place of a row.
        db.execute("update images set icon = null")
        db.conn.commit()
    datasette = datasette_of(odd)
    ours = await ask(datasette, f"{PAGE}.csv?q=red")
    table = await ask(datasette, "/photos/images.csv")
    header, *rows = csv.reader(io.StringIO(ours.text))
    expected_header, *expected = csv.reader(io.StringIO(table.text))
    assert header == [*expected_header, "matched", "at", "relevance", "image_search_score"]
    assert [row[-4] for row in rows if row[-4]] == ["red in filename"]
    assert sorted(row[:-4] for row in rows) == sorted(expected)
    scores = [float(row[-1]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert {row[header.index("score")] for row in rows} == {"5.0"}


async def test_the_address_of_a_blob_in_csv_has_its_bytes(odd: Path) -> None:
    datasette = datasette_of(odd)
    answer = await ask(datasette, f"{PAGE}.csv?q=red&_size=1")
    (row,) = csv.DictReader(io.StringIO(answer.text))
    assert (
        await ask(datasette, row["icon"].removeprefix("http://localhost"))
    ).content == b"\xff\x00"


async def test_a_column_of_the_table_is_no_score_of_a_search(odd: Path) -> None:
    datasette = datasette_of(odd)
    without = await ask(datasette, "/photos/images.images")
    assert "5.000" not in without.text
    searched = await ask(datasette, "/photos/images.images?_image_search=red")
    assert "5.000" not in searched.text
    assert "0." in searched.text


async def test_the_map_is_json_whatever_the_rows_hold(odd: Path) -> None:
    answer = await ask(datasette_of(odd), f"{PAGE}/map.json?_color=exposure_time")
    assert json.loads(answer.text, parse_constant=refuse)["ok"] is True


async def test_what_commands_print_is_json_too(odd: Path, folder: Path) -> None:
    (folder / "copy.jpg").write_bytes((folder / "red.jpg").read_bytes())
    run = CliRunner().invoke
    assert run(cli, ["embed-images", str(odd), "images", str(folder)]).exit_code == 0
    with closing(Database(odd, execute_plugins=False)) as db:
        db.execute("update images set width = 9e999, height = x'01'")
        db.conn.commit()
    for options in (["--json"], ["--nl"]):
        found = run(cli, ["find-duplicates", str(odd), "images", *options])
        assert found.exit_code == 0, found.output
        for document in [found.stdout] if options == ["--json"] else found.stdout.splitlines():
            json.loads(document, parse_constant=refuse)
