"""
The recipes of docs/recipes.md: the very text of their blocks is run, from top to bottom, each recipe in
a home of its own with the photos of the demo in ~/Pictures, and what it promises is looked for.

One thing is not as it is for people: CLIP's weights are on few machines, so `recipe_models` stands for
the two models that the recipes name, with the colours of palette in place of meaning ("the sea" is
blue). That CLIP finds the sea is not tested here, that everything around it does what is said is.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageDraw, ImageFont

from . import recipe_models
from .commands import change, query
from .conftest import draw_picture
from .documents import (
    PROJECT,
    Block,
    assert_prints,
    be_at_home,
    blocks_of,
    install_recipe_models,
)
from .drawn_films import draw_film
from .serving import HANGS, PATIENTLY, Server, pictures, running

RECIPES = PROJECT / "docs" / "recipes.md"

SECTION = re.compile(r"^## (.*)$", re.MULTILINE)
HIT = re.compile(r"^ *-?\d\.\d{4} +\S+ +(.*)$", re.MULTILINE)


def sections() -> dict[str, list[Block]]:
    """Title -> blocks; the one without a title is what all recipes begin with."""
    texts = SECTION.split(RECIPES.read_text(encoding="utf-8"))
    return {
        title: blocks_of(text) for title, text in zip(["", *texts[1::2]], texts[::2], strict=True)
    }


class Recipe:
    """The blocks of a recipe, taken one by one in their order."""

    def __init__(self, blocks: list[Block], home: Path) -> None:
        self.blocks, self.home = list(blocks), home

    def take(self, language: str) -> Block:
        block = self.blocks.pop(0)
        assert block.language == language, block.text
        return block

    def run(self) -> str:
        """What the next commands print: what the recipe shows of it, if it does."""
        printed = self.take("bash").run(self.home)
        if self.blocks and self.blocks[0].is_output:
            assert_prints(printed, self.blocks.pop(0).text)
        return printed

    def rows(self) -> list[dict]:
        """What the next SQL selects."""
        return json.loads(self.take("sql").run(self.home))

    def page(self, server: Server) -> httpx.Response:
        """What is at the next address."""
        return loaded(server, self.take("url").text.strip())

    @contextmanager
    def serve(self, command: str = "datasette photos.db") -> Iterator[Server]:
        program, *arguments = command.split()
        assert program == "datasette"
        with running([program, *arguments, *PATIENTLY], cwd=self.home) as server:
            yield server


def fetched(url: str) -> httpx.Response:
    """However busy the machine is."""
    return httpx.get(url, timeout=HANGS)


def loaded(server: Server, address: str) -> httpx.Response:
    """What is at an address once the model is loaded, or is known not to be there."""
    while (page := fetched(server.url + address)).status_code == 202:
        time.sleep(0.1)
    return page


def hits(printed: str) -> list[str]:
    """The paths in the table that search-images prints."""
    return [re.sub(r" +\S+ in \w+(; .*)?$", "", hit) for hit in HIT.findall(printed)]


def found_on(page: httpx.Response) -> list[str]:
    """The names of the hits, without the pictures of the query."""
    return [name for name in pictures(page) if name]


def add_album(recipe: Recipe, table: str, name: str) -> None:
    command = f"sqlite-utils album-images photos.db {table} '{name}' --where 'rowid < 10'"
    assert "9 images added" in Block("bash", "", command).run(recipe.home)


# --- The setting -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_recipe_models(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def begun(
    demo_photos: Path, program: Path, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A home after what all recipes begin with."""
    home = tmp_path_factory.mktemp("begun") / "home"
    shutil.copytree(demo_photos, home / "Pictures")
    with pytest.MonkeyPatch.context() as monkeypatch:
        be_at_home(monkeypatch, home, program, models)
        begin = Recipe(sections()[""], home)
        assert "60 embedded" in begin.run()
        assert not begin.blocks
    return home


@pytest.fixture
def recipe(
    request: pytest.FixtureRequest,
    begun: Path,
    program: Path,
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Recipe]:
    """The recipe that the test names, in a home of its own; in the end none of it may be left."""
    home = shutil.copytree(begun, tmp_path / "home")
    change(
        home / "photos.db",
        f"update image_search_roots set path = '{home / 'Pictures'}'",
    )
    be_at_home(monkeypatch, home, program, models)
    recipe = Recipe(sections()[request.param], home)
    yield recipe
    assert not recipe.blocks


TITLES: list[str] = []
"""Of the recipes that have a test."""


def for_recipe(title: str) -> pytest.MarkDecorator:
    TITLES.append(title)
    return pytest.mark.parametrize("recipe", [title], indirect=True, ids=[title])


# --- The recipes -------------------------------------------------------------------------------------


@pytest.mark.datasette
@for_recipe("Photos of the sea from 2021 with this camera")
def test_photos_of_the_sea_from_2021_with_this_camera(recipe: Recipe) -> None:
    cameras = recipe.rows()
    assert cameras[0] == {"camera_model": "EOS 40D", "photos": 18}
    found = hits(recipe.run())
    assert found[:2] == ["2021 Lisbon/blue sea.jpg", "2021 Lisbon/sailing boats.jpg"]
    rows = recipe.rows()
    assert [row["path"] for row in rows] == found
    assert len(rows) == 5
    assert all(row["taken_at"].startswith("2021") for row in rows)
    scores = [row["score"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    with recipe.serve() as server:
        page = recipe.page(server)
    assert found_on(page) == [Path(path).name for path in found]
    both = "select path from images where camera_model = 'iPhone 12' and taken_at like '2021%'"
    assert set(found) < {path for (path,) in query(recipe.home / "photos.db", both)}


@pytest.mark.datasette
@for_recipe("More like these two but not that")
def test_more_like_these_two_but_not_that(recipe: Recipe) -> None:
    names = dict(query(recipe.home / "photos.db", "select id, filename from images"))
    with recipe.serve() as server:
        page = recipe.page(server)
    found = found_on(page)
    assert set(found[:2]) == {names[17], names[20]}
    assert found.index(names[21]) > 10
    others = hits(recipe.run())
    assert len(others) == 5
    assert [Path(path).name for path in others] == [
        name for name in found if name not in (names[17], names[20], names[21])
    ][:5]
    assert Path(hits(recipe.run())[0]).name == names[17]


@pytest.mark.datasette
@for_recipe("One picture per duplicate group")
def test_one_picture_per_duplicate_group(recipe: Recipe) -> None:
    sent = recipe.home / "Pictures" / "sent"
    sent.mkdir()
    for name in ("blue sea.jpg", "sailing boats.jpg"):
        shutil.copy(recipe.home / "Pictures" / "2021 Lisbon" / name, sent / f"copy of {name}")
    Block("bash", "", "sqlite-utils embed-images photos.db images ~/Pictures").run(recipe.home)
    before = query(recipe.home / "photos.db", "select count(*) from images")
    assert before == [(62,)]

    recipe.run()
    everything = [row["path"] for row in recipe.rows()]
    assert len(everything) == 60
    rows = recipe.rows()
    assert len(rows) == 10
    assert {row["path"] for row in rows} <= set(everything)
    with recipe.serve() as server:
        page = recipe.page(server)
    shown = found_on(page)
    for name in ("blue sea.jpg", "sailing boats.jpg"):
        assert len([found for found in shown if found.endswith(name)]) == 1
        assert len([path for path in everything if path.endswith(name)]) == 1
    assert query(recipe.home / "photos.db", "select count(*) from images") == before


@pytest.mark.datasette
@for_recipe("Keep what you found")
def test_keep_what_you_found(recipe: Recipe) -> None:
    recipe.run()
    with recipe.serve() as server:
        page = recipe.page(server)
    paths = {row["path"] for row in recipe.rows()}
    assert len(paths) == 8
    assert {Path(path).name for path in paths} == set(found_on(page))
    recipe.run()
    copies = {file.name: file.read_bytes() for file in (recipe.home / "frame").iterdir()}
    assert copies == {
        Path(path).name: (recipe.home / "Pictures" / path).read_bytes() for path in paths
    }


@pytest.mark.datasette
@for_recipe("Publish without the originals")
def test_publish_without_the_originals(
    recipe: Recipe, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_album(recipe, "images", "Nobody shall know")
    recipe.run()
    command = recipe.take("bash").text
    shutil.rmtree(recipe.home / "Pictures")
    published = recipe.home / "elsewhere"
    published.mkdir()
    shutil.move(recipe.home / "public.db", published)
    content = (published / "public.db").read_bytes()
    assert str(recipe.home).encode() not in content
    assert b"oranges.jpg" not in content
    assert b"Nobody shall know" not in content
    assert query(published / "public.db", "select count(*) from images_album_members") == [(0,)]
    assert len(content) < (recipe.home / "photos.db").stat().st_size
    for counted in (
        "count(latitude) + count(country) + count(state) + count(city) from images",
        "count(latitude) + count(longitude) + count(city) from _images_places",
    ):
        assert query(published / "public.db", f"select {counted}") == [(0,)]

    address = recipe.take("url").text.strip()
    without = os.environ["PYTHONPATH"].removesuffix(os.pathsep + str(models))
    monkeypatch.setenv("PYTHONPATH", without)  # Where there are no weights.
    served = Recipe([], published)
    with served.serve(command) as server:
        page = loaded(server, address)
        assert page.status_code == 200
        assert found_on(page)[0] == "blue sea.jpg"
        thumbnails = re.findall(r'<img [^>]*src="([^"]*/thumbnail[^"]*)"', page.text)
        assert thumbnails
        for path in thumbnails[:3]:
            thumbnail = fetched(server.url + path)
            assert thumbnail.headers["content-type"] == "image/jpeg"
            assert "immutable" in thumbnail.headers["cache-control"]
            original = fetched(server.url + path.replace("/thumbnail", "/image"))
            assert original.status_code == 404
        # Without the model, words are found in texts only.
        words = loaded(server, address.partition("?")[0] + "?q=the+sea")
        assert words.status_code == 200
        assert "weights" in words.text
        assert "blue sea.jpg" in found_on(words)
        words = loaded(server, address.partition("?")[0] + "?q=nobody+wrote+this")
        assert words.status_code == 400
        assert "weights" in words.text


@pytest.mark.datasette
@for_recipe("Keep it fresh with cron")
def test_keep_it_fresh_with_cron(recipe: Recipe, program: Path) -> None:
    times, line = re.fullmatch(r"((?:\S+ ){5})(.*)\n", recipe.take("crontab").text).groups()
    assert times == "17 * * * * "
    assert "%" not in line  # Which cron takes for the end of the line.
    installed = recipe.home / ".venv" / "bin" / "sqlite-utils"
    installed.parent.mkdir(parents=True)
    installed.write_text(f'#!/bin/sh\nexec {program}/sqlite-utils "$@"\n')
    installed.chmod(0o755)
    # All that cron gives to a command.
    environment = {"HOME": str(recipe.home), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
    environment["PYTHONPATH"] = os.environ["PYTHONPATH"]

    def cron() -> str:
        """The last line in the log."""
        subprocess.run(["/bin/sh", "-c", line], cwd="/", env=environment, check=False)
        return (recipe.home / "embed.log").read_text().splitlines()[-1]

    folder = recipe.home / "Pictures"
    assert cron().startswith("0 embedded, 60 unchanged")
    draw_picture(folder / "new.jpg", "navy")
    with recipe.serve() as server:
        assert cron().startswith("1 embedded, 60 unchanged")
        shown = fetched(f"{server.url}/-/image-search/photos/images.json?filename=new.jpg")
        assert shown.json()["count"] == 1
        (folder / "new.jpg").unlink()
        assert "60 unchanged" in cron()
        assert query(recipe.home / "photos.db", "select count(*) from images") == [(60,)]
    folder.rename(recipe.home / "unplugged")
    assert cron().startswith("Error: ")
    assert query(recipe.home / "photos.db", "select count(*) from images") == [(60,)]


@for_recipe("Move to another drive")
def test_move_to_another_drive(recipe: Recipe) -> None:
    recipe.run()
    recipe.run()
    (root,) = query(recipe.home / "photos.db", "select path from image_search_roots")
    assert root == (str(recipe.home / "Archive" / "Pictures"),)
    assert query(recipe.home / "photos.db", "select count(*) from images") == [(60,)]


@for_recipe("Change the model")
def test_change_the_model(recipe: Recipe) -> None:
    listed = recipe.run()
    assert recipe_models.OTHER_MODEL in listed
    before = dict(query(recipe.home / "photos.db", "select path, id from images"))
    found = hits(recipe.run())
    first, second = found[:5], found[5:]
    assert first[0] == second[0] == "2021 Lisbon/blue sea.jpg"
    models = "select model from image_search_indexes order by id"
    assert query(recipe.home / "photos.db", models) == [
        (recipe_models.DEFAULT_MODEL,),
        (recipe_models.OTHER_MODEL,),
    ]
    recipe.run()
    assert query(recipe.home / "photos.db", models) == [(recipe_models.OTHER_MODEL,)]
    assert dict(query(recipe.home / "photos.db", "select path, id from images")) == before
    again = Block("bash", "", "sqlite-utils embed-images photos.db images ~/Pictures")
    assert again.run(recipe.home).startswith("0 embedded, 60 unchanged")
    search = Block("bash", "", "sqlite-utils search-images photos.db images 'the sea' -k 5")
    assert hits(search.run(recipe.home)) == second


@for_recipe("Take an image table out of a database")
def test_take_an_image_table_out_of_a_database(recipe: Recipe) -> None:
    database = recipe.home / "photos.db"
    everything = "select name from sqlite_master where name not like 'sqlite_%' order by name"
    before = query(database, everything)
    assert recipe.run().startswith("60 embedded")
    assert query(database, everything) != before
    add_album(recipe, "imges", "Beach")
    recipe.run()
    assert query(database, everything) == before
    assert query(database, "select image_table from image_search_indexes") == [("images",)]
    assert query(database, "select count(*) from images") == [(60,)]
    recipe.run()
    assert query(database, everything) == before
    assert query(database, "select count(*) from _images_vectors") == [(60,)]
    assert len(list(recipe.home.glob("photos.db-image-search-*.faiss"))) == 1


@for_recipe("Delete the rows of files that are left out now")
def test_delete_the_rows_of_files_that_are_left_out_now(recipe: Recipe) -> None:
    pictures = recipe.home / "Pictures"
    (pictures / "@Recycle").mkdir()
    shutil.copy(next(pictures.rglob("*.jpg")), pictures / "@Recycle" / "IMG_1.jpg")
    embed = "sqlite-utils embed-images photos.db images ~/Pictures"
    Block("bash", "", f"{embed} ~/Pictures/@Recycle/IMG_1.jpg").run(recipe.home)
    tables = "images", "_images_vectors", "_images_thumbnails"
    database = recipe.home / "photos.db"
    counts = [f"select count(*) from {name}" for name in tables]
    assert [query(database, each) for each in counts] == [[(61,)]] * 3
    recipe.run()
    assert [query(database, each) for each in counts] == [[(60,)]] * 3
    assert "60 unchanged" in Block("bash", "", embed).run(recipe.home)


@pytest.mark.datasette
@for_recipe("Use with datasette-cluster-map")
def test_use_with_datasette_cluster_map(recipe: Recipe) -> None:
    with recipe.serve(recipe.take("bash").text) as server:
        table = recipe.page(server)
        assert 'DATASETTE_CLUSTER_MAP_LATITUDE_COLUMN = "latitude"' in table.text
        assert 'DATASETTE_CLUSTER_MAP_LONGITUDE_COLUMN = "longitude"' in table.text
        (script,) = re.findall(r'<script [^>]*src="([^"]*datasette-cluster-map\.js)"', table.text)
        assert fetched(server.url + script).status_code == 200

        search = recipe.page(server)
        (link,) = re.findall(r'<a href="([^"]*)"[^>]*>map</a>', search.text)
        linked = fetched(server.url + link.replace("&amp;", "&"))
        assert "DATASETTE_CLUSTER_MAP_LATITUDE_COLUMN" in linked.text
        assert "_image_search=the+sea" in link

        # What the script asks for, of which it draws the rows.
        asked = "_size=max&_labels=on&_extra=count&_extra=next_url&_shape=objects"
        path = str(table.url).replace("/photos/images?", "/photos/images.json?")
        answer = fetched(f"{path}&{asked}").json()
        if "Unknown _extra" in str(answer.get("error")):
            pytest.skip("this datasette-cluster-map asks this Datasette for what it does not know")
        assert len(answer["rows"]) == 20
        assert any(row["latitude"] is not None for row in answer["rows"])


@pytest.mark.datasette
@for_recipe("Where photos were taken")
def test_where_photos_were_taken(recipe: Recipe) -> None:
    change(recipe.home / "photos.db", "delete from _images_places")
    change(recipe.home / "photos.db", "update images set country = null, city = null, state = null")
    assert recipe.run() == "33 images located, 6 too far from any town\n"

    cities = recipe.rows()
    assert cities[0] == {"country": "Switzerland", "city": "Zermatt", "photos": 9}

    portugal = "select path from images where country = 'Portugal'"
    in_portugal = {path for (path,) in query(recipe.home / "photos.db", portugal)}
    found = hits(recipe.run())
    assert len(found) == 5
    assert set(found) <= in_portugal

    with recipe.serve() as server:
        page = recipe.page(server)
        names = {Path(path).name for path in in_portugal}
        assert names >= set(map(html.unescape, found_on(page)))
        assert "Ajuda" in page.text


@pytest.mark.datasette
@for_recipe("Find what is written in a screenshot")
def test_find_what_is_written_in_a_screenshot(recipe: Recipe) -> None:
    pytest.importorskip("rapidocr")
    screenshot = Image.new("RGB", (480, 360), "lightblue")
    font = ImageFont.load_default(40)
    ImageDraw.Draw(screenshot).text((60, 200), "Wifi: mango42", fill="black", font=font)
    (recipe.home / "Pictures" / "screenshots").mkdir()
    screenshot.save(recipe.home / "Pictures" / "screenshots" / "router.png")
    Block("bash", "", "sqlite-utils embed-images photos.db images ~/Pictures").run(recipe.home)
    assert recipe.run() == "1 image read, 1 with text\n"

    (row,) = recipe.rows()
    assert (row["path"], "mango42" in row["text"]) == ("screenshots/router.png", True)
    left, top, right, bottom = json.loads(row["box"])
    assert left < 0.2 < right < 0.9
    assert 0.5 < top < 0.6 < bottom < 0.75
    assert "wifi in the picture" in recipe.run()
    with recipe.serve() as server:
        assert found_on(recipe.page(server)) == ["router.png"]


@pytest.mark.datasette
@for_recipe("The moment in a film")
def test_the_moment_in_a_film(recipe: Recipe) -> None:
    pytest.importorskip("av")
    draw_film(recipe.home / "Pictures" / "by train.mp4", [("green", 2), ("blue", 2), ("white", 3)])
    assert recipe.run().startswith("1 embedded, 60 unchanged")
    (film,) = recipe.rows()
    assert (film["path"], film["duration"]) == ("by train.mp4", 7)
    assert 2 <= film["at"] < 4
    with recipe.serve() as server:
        page = recipe.page(server)
        assert found_on(page) == ["by train.mp4"]
        assert f">0:0{int(film['at'])}</span>" in page.text


@pytest.mark.datasette
@for_recipe("SQL over an existing table of mine")
def test_sql_over_an_existing_table_of_mine(recipe: Recipe) -> None:
    (recipe.home / "holidays.csv").write_text(recipe.take("csv").text, encoding="utf-8")
    recipe.run()
    mine = recipe.home / "my.db"
    before = query(mine, "select * from holidays"), query(mine, "pragma table_info(holidays)")
    assert recipe.run().startswith("4 embedded")
    assert before == (
        query(mine, "select * from holidays"),
        query(mine, "pragma table_info(holidays)"),
    )
    rows = recipe.rows()
    assert rows[0]["place"] == "Lisbon"
    assert {row["place"] for row in rows} == {"Lisbon", "Namibia", "Iceland"}
    assert {row["place"] for row in recipe.rows()} == {"Sydney", "Namibia", "Iceland"}
    with recipe.serve("datasette my.db") as server:
        page = recipe.page(server)
    assert found_on(page)[0] == "blue sea.jpg"
    assert len(found_on(page)) == 3


def test_every_recipe_is_run_and_can_be_jumped_to() -> None:
    text = RECIPES.read_text(encoding="utf-8")
    titles = [title for title in sections() if title]
    assert titles == TITLES
    for title in titles:
        assert f"- [{title}](#{title.lower().replace(' ', '-')})\n" in text
