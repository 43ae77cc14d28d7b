"""The facets of the search page are those of the table page, over all rows that match."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from sqlite_utils import Database
from sqlite_utils.cli import cli

from datasette_image_search.store.tables import column_names

from .serving import ask, datasette_of

pytestmark = pytest.mark.datasette

PAGE = "/-/image-search/photos/images.json"
TABLE = "/photos/images.json"


def some_value(column: str, rng: random.Random) -> Any:
    """A value as people have them in such a column, some of them odd."""
    kinds: dict[str, list[Callable[[], Any]]] = {
        "tags": [
            lambda: json.dumps(rng.choices(["sea", "sky", "Sea", 'a "b"'], k=rng.randrange(4))),
            lambda: json.dumps([rng.choice([1, 2.5, None, True, "sea", "1"])]),
            lambda: None,
        ],
        "stars": [lambda: rng.randrange(4), lambda: rng.choice([None, 2.0, "2", "", " "])],
        "day": [
            lambda: f"2021-0{rng.randrange(1, 4)}-11",
            lambda: rng.choice([None, "2021-02-11T10:00:00", "yesterday", "2021-02-30", 7]),
        ],
    }
    choices = kinds.get(column, [lambda: rng.choice(["x", "X", "é", None, 3, "[odd] & ?"])])
    return rng.choice(choices)()


COLUMNS = ("tags", "stars", "day", "value", "count", "an odd] name", "__folder", "key")


def fill(database: Path, rng: random.Random) -> None:
    with closing(Database(database, execute_plugins=False)) as db:
        for column in COLUMNS:
            if column not in column_names(db.conn, "images"):
                db.execute(f'alter table images add column "{column}"')
        for id in range(1, 9):
            row = {column: some_value(column, rng) for column in COLUMNS}
            db.table("images").update(id, row)
        db.conn.commit()


def results(answer: dict[str, Any]) -> dict[str, Any]:
    facets = answer["facet_results"]
    found = facets.get("results", facets)
    kept = ("value", "label", "count", "selected")
    return {
        name: (
            facet["type"],
            facet["truncated"],
            [{key: value[key] for key in kept} for value in facet["results"]],
        )
        for name, facet in found.items()
    }


@pytest.mark.asyncio
async def test_all_facets_agree_with_the_table_page_on_random_tables(database: Path) -> None:
    rng = random.Random(7)
    compared = 0
    for _ in range(5):
        fill(database, rng)
        datasette = datasette_of(database)
        for _ in range(12):
            kind = rng.choice(["_facet", "_facet", "_facet_date", "_facet_array", "_facet_year"])
            column = rng.choice([*COLUMNS, "id", "root_id", "width", "folder"])
            column = "tags" if kind == "_facet_array" else column
            filters = rng.choice(
                [{}, {"stars__gt": "1"}, {"tags__arraycontains": "sea"}, {"_where": "id % 2 or 0"}]
            )
            asked = {kind: column, "_facet_size": rng.choice(["1", "3", "max"]), **filters}
            there = await ask(datasette, _with(TABLE, {**asked, "_extra": "facet_results"}))
            if there.status_code != 200:
                # Datasette's own do not stand every name of a column, nor every value.
                continue
            here = await ask(datasette, _with(PAGE, {**asked, "_size": "1"}))
            assert here.status_code == 200, here.text
            assert results(here.json()) == results(there.json()), asked
            compared += 1
    assert compared > 40


def _with(path: str, arguments: dict[str, str]) -> str:
    return f"{path}?{httpx.QueryParams(arguments)}"


@pytest.mark.asyncio
async def test_equal_lists_of_several_images_are_counted_once_for_each(database: Path) -> None:
    with closing(Database(database, execute_plugins=False)) as db:
        db.execute("alter table images add column tags text")
        db.execute("""update images set tags = '["sea", "sky", "sea"]' where id > 3""")
        db.conn.commit()
    answer = await ask(datasette_of(database), f"{PAGE}?q=red&_facet_array=tags&_size=1")
    (_, _, values) = results(answer.json())["tags"]
    assert [(value["value"], value["count"]) for value in values] == [("sea", 5), ("sky", 5)]


@pytest.mark.asyncio
async def test_tags_are_counted_whichever_column_they_are_asked_of(database: Path) -> None:
    arguments = ["tag-images", str(database), "images", "red", "blue", "--template", "{}"]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    datasette = datasette_of(database)
    counts = [
        results((await ask(datasette, f"{PAGE}?_facet_tag={column}")).json())["images_tags"]
        for column in ("id", "folder")
    ]
    assert counts[0] == counts[1]
    assert sum(value["count"] for value in counts[0][2]) == 8
