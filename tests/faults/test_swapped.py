"""
A server, while the file of its database is restored, replaced, or left by a run that was killed: rows and
scores are of one state of one file, and after a restore in place of that which is there.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from datasette.app import Datasette

from .. import only_ours
from ..serving import HANGS, Server, running
from . import traced
from .forked import Forker
from .scenarios import draw, succeed
from .searches import Query, State, connected, hits_of_json, ids_on_page, is_of, state_of

pytestmark = pytest.mark.datasette

QUERY_PAGE = "/{}/-/query.json" if hasattr(Datasette, "allowed") else "/{}.json"

FIRST = 60
"""Pictures of the backup; then MORE are added, few enough for the sidecar to stay, and after it was
restored as many others."""

MORE = 3

ASKED_FOR = (3, FIRST + 2)


# --- How one file takes the place of another -------------------------------------------------------


def restore(backup: Path, database: Path) -> None:
    """As .restore of sqlite3 does."""
    with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(database)) as target:
        source.backup(target)


def copy_over(backup: Path, database: Path) -> None:
    """Of another age than what is there, by which SQLite tells whether the pages that it has are good."""
    with closing(sqlite3.connect(backup)) as conn:
        for version in range(100):
            conn.execute(f"pragma user_version = {version}")
    shutil.copyfile(backup, database)


def move(backup: Path, database: Path) -> None:
    backup.replace(database)


def move_with_sidecar(backup: Path, database: Path) -> None:
    """One that is of no use to the file that is there until then."""
    for sidecar in backup.parent.glob(f"{backup.name}-image-search-*"):
        sidecar.replace(database.with_name(sidecar.name.replace(backup.name, database.name)))
    backup.replace(database)


def vacuum_and_move(backup: Path, database: Path) -> None:
    with closing(sqlite3.connect(backup)) as conn:
        conn.execute("vacuum into ?", [str(backup.with_suffix(".vacuumed"))])
    backup.with_suffix(".vacuumed").replace(database)


WAYS = (restore, copy_over, move, move_with_sidecar, vacuum_and_move)

IN_PLACE = (restore, copy_over)
"""What any connection sees, also one that was open before."""

CASES = [
    (way, source, looks)
    for way in WAYS
    for source, looks in Random(f"{os.environ['FAULT_SEED']} {way.__name__}").sample(
        [("backup", False), ("backup", True), ("another", True)],
        3 if "SOAK_MINUTES" in os.environ else 2,
    )
]
"""What takes the place of what is served: that from which it came, or one of other pictures; and whether
anybody looks before more is added. Two of these three for each way, by FAULT_SEED; in a soak all."""


def name_of(way: Callable, source: str, looks: bool) -> str:
    return f"{way.__name__}_{source}{'_looks' * looks}"


@dataclass(frozen=True)
class Collection:
    """A database that is served, what will take its place, and a folder of pictures to add then."""

    server: Server
    path: Path
    source: Path
    others: Path

    @property
    def name(self) -> str:
        return self.path.stem

    def state(self, path: Path | None = None) -> State:
        with closing(connected(path or self.path)) as conn:
            return state_of(conn)

    def get(self, path: str, **params: object) -> tuple[int, str]:
        url = f"{self.server.url}{path}?{urllib.parse.urlencode(params)}"
        try:
            with urllib.request.urlopen(url, timeout=HANGS) as response:
                return response.status, response.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(errors="replace")

    def search(self, format: str = "", **params: object) -> tuple[int, str]:
        return self.get(f"/-/image-search/{self.name}/images{format}", **params)

    def query(self, sql: str) -> tuple[int, list[dict[str, Any]]]:
        status, text = self.get(QUERY_PAGE.format(self.name), sql=sql, _shape="array")
        return status, json.loads(text)


@pytest.fixture(scope="module")
def folder(scratch: Callable[[], Path], forker: Forker) -> Path:
    """Databases and folders of pictures: served.db is backup.db with more."""
    folder = scratch() / "swapped"
    for name, first, count in (
        *(("pictures", 0, FIRST), ("more", 200, MORE), ("others", 300, MORE)),
        ("other pictures", 1000, FIRST + MORE),
    ):
        for number in range(count):
            draw(folder / name / f"{number}.bmp", first + number)

    def embed(database: str, pictures: str) -> None:
        run = ("embed-images", folder / database, "images", folder / pictures, "-s")
        succeed(forker.run(*run, "--model", "palette"))

    embed("backup.db", "pictures")
    copy_with_sidecars(folder / "backup.db", folder / "served.db")
    embed("served.db", "more")
    embed("another.db", "other pictures")
    return folder


def copy_with_sidecars(original: Path, copy: Path) -> None:
    copy.parent.mkdir(exist_ok=True)
    for file in original.parent.glob(f"{original.name}*"):
        shutil.copy(file, copy.with_name(file.name.replace(original.name, copy.name)))


@pytest.fixture(scope="module")
def collections(folder: Path) -> Iterator[dict[str, Collection]]:
    """One for each way and source, all served by one process, and one more."""
    sources = {name_of(*case): case[1] for case in CASES}
    sources["killed"] = "backup"
    places = {name: (folder / name / f"{name}.db", folder / name / "new.db") for name in sources}
    for name, (path, source) in places.items():
        copy_with_sidecars(folder / "served.db", path)
        copy_with_sidecars(folder / f"{sources[name]}.db", source)
    line = [sys.executable, only_ours.__file__, "serve"]
    line += [str(path) for path, _ in places.values()]
    with running([*line, "--setting", "sql_time_limit_ms", "20000"]) as server:
        yield {
            name: Collection(server, path, source, folder / "others")
            for name, (path, source) in places.items()
        }


@pytest.mark.parametrize(("way", "source", "looks"), CASES)
def test_another_file_takes_the_place_of_what_is_served(
    collections: dict[str, Collection],
    forker: Forker,
    way: Callable[[Path, Path], None],
    source: str,
    looks: bool,
) -> None:
    random = Random(os.environ["FAULT_SEED"])
    collection = collections[name_of(way, source, looks)]
    before, placed = collection.state(), collection.state(collection.source)
    # One after the other, so that some of the server's threads have not opened the file yet.
    check_answers(collection, [before], random)
    assert collection.search("/map.json")[0] == 200

    now = [placed] if way in IN_PLACE else [before, placed]
    way(collection.source, collection.path)
    if looks:
        with asked_all_the_time(collection, now):
            check_answers(collection, now, random)
            assert collection.search("/map.json")[0] == 200
            check_answers(collection, now, random)

    with asked_all_the_time(collection, [*now, NEXT] if looks else []):
        run = ("embed-images", collection.path, "images", collection.others, "-s")
        succeed(forker.run(*run))
    added = collection.state()
    assert len(added.images) == len(placed.images) + MORE
    check_answers(collection, [added] if way in IN_PLACE else [*now, added], random)
    forker.call(check_new_process, collection.path)


NEXT = None
"""Stands for the states that a run comes through."""


def check_new_process(path: Path) -> None:
    from .whole import check_whole

    check_whole(path, "new")


def check_answers(collection: Collection, states: Sequence[State], random: Random) -> None:
    """Of the page, as HTML and JSON, and of SQL: each is of one of these states."""
    ids = sorted({id for state in states for id in state.images})
    for id in [*random.sample(ids, 3), ids[-1]]:
        status, text = collection.search(".json", q=f"#{id}", _size=100)
        check_json(status, text, id, states)
    status, text = collection.search(q="red", _size=100)
    assert status == 200, text
    shown = ids_on_page(text, int)
    rankings = [ranking(state, "red") for state in states]
    assert shown in rankings, f"{shown} is none of {rankings}"
    for sql in (
        "select id, sha256, image_similarity(id, '#3') as score from images order by id",
        "select images.id, sha256, json_extract(hit.value, '$.score') as score from "
        "json_each((select image_search_agg(id, '#3', 100) from images)) as hit "
        "cross join images on images.id = json_extract(hit.value, '$.id') order by 1",
    ):
        status, rows = collection.query(sql)
        assert status == 200, rows
        found = [{(row["id"], row["sha256"]): row["score"] for row in rows}]
        right = [
            {(id, state.rows[id]): pytest.approx(score, abs=1e-3) for id, score in scores.items()}
            for state in states
            for scores in [state.scores(state.vectors[state.images.index(3)])]
        ]
        assert found[0] in right, f"{found} is none of {right}"


def ranking(state: State, words: str) -> list:
    from datasette_image_search.embedders.palette import PaletteEmbedder

    scores = state.scores(PaletteEmbedder().encode_texts([words])[0])
    return sorted(scores, key=lambda id: (-scores[id], id))


def check_json(status: int, text: str, id: int, states: Sequence[State | None]) -> None:
    if status == 503:
        assert json.loads(text)["error"]
        return
    known = [state for state in states if state is not NEXT]
    if status == 400:
        assert NEXT in states or any(id not in state.images for state in known), text
        return
    assert status == 200, text
    answer = json.loads(text)
    if NEXT in states:
        # Whichever state it is: an image is like itself.
        own = [hit["score"] for hit in answer["hits"] if hit["id"] == id]
        assert own == [pytest.approx(1, abs=1e-3)], answer["hits"]
        return
    problems = [problem_of(state, id, answer) for state in known]
    assert None in problems, "\n".join(map(str, problems))


def problem_of(state: State, id: int, answer: dict) -> str | None:
    if id not in state.images:
        return f"{id} is not there"
    others = [
        hit["id"] for hit in answer["hits"] if state.rows.get(hit["id"]) != hit["row"]["sha256"]
    ]
    if others:
        return f"the rows of {others} are of another state"
    query = Query(f"#{id}", f"#{id}", state.vectors[state.images.index(id)])
    return is_of(state, query, hits_of_json(answer), 100)


@contextmanager
def asked_all_the_time(collection: Collection, states: Sequence[State | None]) -> Iterator[None]:
    """Others ask meanwhile, if there are states for it."""
    done = threading.Event()
    problems: list[BaseException] = []

    def ask(id: int) -> None:
        # As fast as they can, they would take all processors from what they ask about.
        while not done.wait(0.1):
            try:
                check_json(*collection.search(".json", q=f"#{id}", _size=100), id, states)
            except BaseException as problem:
                problems.append(problem)
                return

    threads = [threading.Thread(target=ask, args=[id]) for id in ASKED_FOR] if states else []
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()
    if problems:
        raise problems[0]


def test_a_run_is_killed_while_it_commits(
    collections: dict[str, Collection], forker: Forker
) -> None:
    """Its journal is left, which a server can undo only if it may write."""
    if traced.problem() is not None:
        pytest.skip(traced.problem())
    random = Random(os.environ["FAULT_SEED"])
    collection = collections["killed"]
    before = collection.state()
    check_answers(collection, [before], random)
    run = ("embed-images", collection.path, "images", collection.others, "-s")
    journal = collection.path.with_name(f"{collection.path.name}-journal")
    # The first commit is of tables and roots.
    assert traced.killed_at_unlink(forker, journal, 2, *run).killed
    assert journal.exists()
    for path in ("", ".json", "/map", "/map.json", "/1/thumbnail"):
        status, text = collection.search(path, q="red")
        assert status in (200, 503), text
        assert "Traceback" not in text
    # What was committed before that, of the same run, may be there.
    check_json(*collection.search(".json", q="#3", _size=100), 3, [before, collection.state()])
    succeed(forker.run(*run))
    check_answers(collection, [collection.state()], random)
