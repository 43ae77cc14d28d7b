"""What befalls the file of a database that is served: another takes its place, or a writer is killed."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from datasette.app import Datasette

from datasette_image_search.store.connections import is_left_half_written
from datasette_image_search.web.errors import HALF_WRITTEN
from datasette_image_search.web.server import database_files

from .conftest import COLOURS, draw_picture
from .serving import HANGS, ask, datasette_of, pictures

PAGE = "/-/image-search/photos/images"
pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


@pytest.fixture
def other(tmp_path: Path, embed: Callable[..., Path]) -> Path:
    """A database of the same pictures in the opposite order, and one more: ids are of other pictures."""
    folder = tmp_path / "others"
    for number, colour in enumerate((*sorted(COLOURS, reverse=True), "pink")):
        draw_picture(folder / f"{number} {colour}.jpg", colour)
    return embed(folder, name="other.db")


async def json_of(datasette: Datasette, path: str) -> dict:
    response = await ask(datasette, path)
    assert response.status_code == 200, response.text
    return response.json()


async def use_every_thread(datasette: Datasette) -> None:
    """Each has a connection from then on."""
    await asyncio.gather(*(ask(datasette, "/photos/images.json") for _ in range(20)))


# --- Another file in its place -----------------------------------------------------------------------


@pytest.mark.parametrize("before", ["nobody asked", "the table", "a search", "the map"])
async def test_rows_and_ranking_are_of_the_file_that_is_there(
    database: Path, other: Path, before: str
) -> None:
    datasette = datasette_of(database, plugin={"warm_up": False})
    await datasette.invoke_startup()
    if before != "nobody asked":
        await use_every_thread(datasette)
    if before == "a search":
        assert (await json_of(datasette, f"{PAGE}.json?q=red"))["hits"][0]["row"][
            "path"
        ] == "red.jpg"
    elif before == "the map":
        await json_of(datasette, f"{PAGE}/map.json")
    other.replace(database)
    for colour in ("white", "pink"):
        for _ in range(4):
            hit = (await json_of(datasette, f"{PAGE}.json?q={colour}&_size=1"))["hits"][0]
            assert hit["row"]["path"].endswith(f" {colour}.jpg")
            page = await ask(datasette, f"/photos/images?_image_search={colour}&_image_search_k=1")
            assert pictures(page)[0].endswith(f" {colour}.jpg")
    rows = await json_of(datasette, "/photos/images.json?_shape=array")
    assert len(rows) == 9
    names = (await json_of(datasette, f"{PAGE}/map.json"))["images"]["name"]
    assert sorted(names) == sorted(row["path"] for row in rows)
    sql = "select path, image_similarity(id, '#1') as score from images order by 2 desc limit 1"
    query = "/photos/-/query.json" if hasattr(datasette, "allowed") else "/photos.json"
    response = await datasette.client.get(query, params={"sql": sql, "_shape": "array"})
    assert response.json() == [{"path": "0 yellow.jpg", "score": pytest.approx(1, abs=1e-3)}]


@pytest.mark.parametrize("way", ["moved", "copied over"])
async def test_a_private_table_of_another_name_in_its_place_is_as_private(
    folder: Path, embed: Callable[..., Path], way: str
) -> None:
    """Two databases that were made alike have the same version of their schema."""
    served = embed(folder, name="photos.db")
    other = embed(folder, name="other.db", table="pictures")
    with closing(sqlite3.connect(served)) as one, closing(sqlite3.connect(other)) as two:
        version = "pragma schema_version"
        assert one.execute(version).fetchone() == two.execute(version).fetchone()
    nobody = {"allow": {"id": "root"}}
    datasette = datasette_of(
        served, rules={"databases": {"photos": {"tables": {"images": nobody, "pictures": nobody}}}}
    )
    await datasette.invoke_startup()
    await use_every_thread(datasette)
    if way == "moved":
        other.replace(served)
    else:
        shutil.copyfile(other, served)
    for _ in range(3):
        for table in (
            "pictures",
            "_pictures_thumbnails",
            "_pictures_vectors",
            "_pictures_failures",
        ):
            assert (await ask(datasette, f"/photos/{table}.json")).status_code == 403
            assert (await ask(datasette, f"/photos/{table}.json", "root")).status_code == 200
        found = await ask(datasette, "/-/image-search/photos/pictures.json?q=red&_size=1", "root")
        assert found.json()["hits"][0]["row"]["path"] == "red.jpg"


async def test_nobody_sees_a_mixture_while_files_take_each_others_place(
    database: Path, other: Path
) -> None:
    datasette = datasette_of(database)
    await datasette.invoke_startup()
    one = database.with_name("one.db")
    shutil.copy(database, one)
    is_over = False

    async def ask_on(colour: str) -> None:
        while not is_over:
            found = await json_of(datasette, f"{PAGE}.json?q={colour}&_size=1")
            (hit,) = found["hits"]
            assert hit["row"]["path"].endswith(f"{colour}.jpg"), found
            page = await ask(datasette, f"/photos/images?_image_search={colour}&_image_search_k=1")
            assert pictures(page)[0].endswith(f"{colour}.jpg")

    asking = [asyncio.ensure_future(ask_on(colour)) for colour in COLOURS[:4]]
    for number in range(12):
        moved = database.with_name("moved.db")
        shutil.copy((other, one)[number % 2], moved)
        moved.replace(database)
        await asyncio.sleep(0.1)
    is_over = True
    await asyncio.gather(*asking)


async def test_a_page_that_asks_its_own_server_does_not_wait_for_itself(
    database: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_files, "PATIENCE", 3600)
    datasette = datasette_of(database)
    await datasette.invoke_startup()

    async def app(scope: dict, receive: Callable, send: Callable) -> None:
        other.replace(database)
        found.append(await json_of(datasette, f"{PAGE}.json?q=red"))

    found: list[dict] = []
    outer = database_files.between_requests(datasette)(app)
    await asyncio.wait_for(outer({"type": "http"}, None, None), HANGS)
    assert found[0]["hits"]


async def test_a_file_that_was_only_written_to_keeps_its_connections(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*args: object) -> None:
        raise AssertionError("connections were closed")

    datasette = datasette_of(database)
    await use_every_thread(datasette)
    monkeypatch.setattr(database_files, "reopen_connections", refuse)
    with closing(sqlite3.connect(database)) as writer:
        writer.execute("delete from images where id = 1")
        writer.commit()
        writer.execute("vacuum")
    hits = (await json_of(datasette, f"{PAGE}.json?q=red"))["hits"]
    assert 1 not in [hit["id"] for hit in hits]


# --- A writer that was killed --------------------------------------------------------------------------


@pytest.fixture
def half_written(database: Path) -> Path:
    """As a program leaves it that is killed in the middle of a commit: more is in the file, and a journal."""
    left = database.with_name("left.db")
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("pragma cache_size = 1")
        writer.execute("begin")
        writer.execute("update images set lens = 'half written'")
        writer.execute(
            "create table filler as select randomblob(100000) from images, images as more"
        )
        shutil.copy(database, left)
        shutil.copy(f"{database}-journal", f"{left}-journal")
        writer.execute("rollback")
    return left


def put_in_place(left: Path, database: Path) -> None:
    shutil.copy(f"{left}-journal", f"{database}-journal")
    shutil.copyfile(left, database)
    assert is_left_half_written(database)


ASKED = (
    f"{PAGE}?q=red",
    f"{PAGE}.json?q=red",
    f"{PAGE}/map.json",
    f"{PAGE}/1/thumbnail",
    "/photos/images",
)


@pytest.mark.parametrize("when", ["before it starts", "while it runs"])
async def test_a_server_that_may_write_puts_it_right(
    database: Path, half_written: Path, when: str
) -> None:
    datasette = datasette_of(database)
    if when == "while it runs":
        await use_every_thread(datasette)
    put_in_place(half_written, database)
    for path in ASKED:
        assert (await ask(datasette, path)).status_code == 200
    rows = await json_of(datasette, "/photos/images.json?_shape=array")
    assert {row["lens"] for row in rows} == {None}


@pytest.mark.parametrize("path", ASKED)
async def test_one_that_may_not_says_so_in_a_sentence(
    database: Path,
    half_written: Path,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(database_files, "recover", lambda path: False)
    datasette = datasette_of(database)
    await datasette.invoke_startup()
    put_in_place(half_written, database)
    before = database.read_bytes()
    response = await ask(datasette, path)
    assert response.status_code == 503, response.text
    assert HALF_WRITTEN in response.text
    if path.startswith(PAGE):
        assert "Traceback (most recent call last)" not in capsys.readouterr().err
    assert database.read_bytes() == before


async def test_what_was_half_written_is_never_searched(database: Path, half_written: Path) -> None:
    """To open it as one that never changes reads it as it is."""
    from datasette_image_search.store.connections import open_to_read

    put_in_place(half_written, database)
    with pytest.raises(sqlite3.OperationalError), closing(open_to_read(database)) as conn:
        conn.execute("select lens from images").fetchall()
