"""
Whatever is done to a collection, in whatever order: after each step all searches, of connections and servers
that were there all the time and of new ones, find what brute force finds, and a vector is of the picture
that its row has.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from datasette.app import Datasette
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlite_utils import Database

from datasette_image_search.embedders import registry
from datasette_image_search.embedders.palette import PaletteEmbedder
from datasette_image_search.search.query import image_term
from datasette_image_search.store import find_index

from ..serving import datasette_of
from ..vector_files import unit, write_npy
from .forked import TURNED, Ended, Forker, know_another_model
from .scenarios import draw, succeed
from .searches import (
    FILTERS,
    Query,
    State,
    check_connection,
    connected,
    hits_of_json,
    ids_on_page,
    is_of,
    state_of,
)
from .whole import HALF_PRECISION, check_tables

pytestmark = pytest.mark.datasette

PICTURES = 40
"""At first: so many that a sidecar outlives a change or two."""

POOL = 60
"""Pictures that files can have."""

OWN = "mine"
"""A person's own table, whose keys are texts and whose images are BLOBs."""

KEYS = ("a", "b", "c d", "#1", "ü 📷", "it's", '"', "%", "-1", "7")

IMPORTED = "my/model"

PLACES = {
    "sidecar": ("--engine", "sidecar", "--stored-vectors"),
    "lance": ("--engine", "lance", "--stored-vectors"),
    "lance alone": ("--engine", "lance", "--no-stored-vectors"),
}
"""Where vectors can be, and the options of index-images that bring them there."""

PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
"""To explain, too, would trace each line."""

pick = st.integers(0, 10**6)
"""One of however many there are."""


@dataclass(frozen=True)
class Start:
    """What every example begins as a copy of, and the vector of each picture by its sha256."""

    folder: Path
    forker: Forker
    vectors: dict[str, np.ndarray]


@dataclass(frozen=True)
class Imported:
    """
    Vectors by the paths that they were imported for, and by the sha256 that the table had for these: a copy of a picture
    gets the vector of one of its copies.
    """

    by_path: dict[str, np.ndarray]
    by_sha256: dict[str, list[np.ndarray]]

    def of(self, path: str, sha256: str | None) -> list[np.ndarray]:
        by_path = self.by_path.get(path)
        return [*([] if by_path is None else [by_path]), *self.by_sha256.get(sha256, ())]


@dataclass
class Server:
    """A connection and a Datasette that stay. `before` is what was in files that others took the place of."""

    conn: sqlite3.Connection
    datasette: Datasette
    before: list[State] = field(default_factory=list)


@pytest.fixture(scope="module")
def start(scratch: Callable[[], Path], forker: Forker) -> Start:
    folder = scratch() / "any order"
    for number in range(POOL):
        draw(folder / "pool" / f"{number}.bmp", number)
    run = ("embed-images", folder / "pool.db", "images", folder / "pool", "-s")
    succeed(forker.run(*run, "--model", "palette"))
    with closing(sqlite3.connect(folder / "pool.db")) as conn:
        vectors = {
            sha256: np.frombuffer(vector, "<f4")
            for sha256, vector in conn.execute("select sha256, vector from _images_vectors")
        }
    place = folder / "start"
    for number in range(PICTURES):
        draw(place / "pictures" / f"{number}.bmp", number)
    with closing(sqlite3.connect(place / "photos.db")) as conn, conn:
        conn.execute(f"create table {OWN} (name text primary key, picture blob, path text)")
        for number, key in enumerate(KEYS[:6]):
            picture = (folder / "pool" / f"{number}.bmp").read_bytes()
            conn.execute(f"insert into {OWN} values (?, ?, ?)", [key, picture, f"{number}"])
    run = ("-s", "--model", "palette")
    database = place / "photos.db"
    succeed(forker.run("embed-images", database, "images", place / "pictures", *run))
    succeed(forker.run("embed-images", database, OWN, "--content-column", "picture", *run))
    return Start(folder, forker, vectors)


@pytest.fixture
def another_model() -> Iterator[None]:
    """Known to this process too."""
    know_another_model(registry._factories())
    yield
    registry._factories().pop(TURNED)


class AnyOrder(RuleBasedStateMachine):
    """What can be done to photos.db, which is served, and to the folder of its pictures."""

    start: Start
    begins_in: Sequence[str]
    """One of these PLACES, for both tables."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=self.start.folder))
        shutil.copytree(self.start.folder / "start", self.folder, dirs_exist_ok=True)
        self.path = self.folder / "photos.db"
        self.pictures = self.folder / "pictures"
        self.write("update image_search_roots set path = ?", [str(self.pictures)])
        self.loop = asyncio.new_event_loop()
        self.servers: list[Server] = []
        self.snapshots: list[Path] = []
        self.made = 0
        self.imported = Imported({}, {})
        self.imported_then: dict[Path, Imported] = {}
        self.were_alone = False
        self.random = Random(0)

    def teardown(self) -> None:
        self.start.forker.call(check_new_process, self.path)
        for server in self.servers:
            server.conn.close()
            for database in server.datasette.databases.values():
                with suppress(Exception):
                    database.close()
            server.datasette.executor.shutdown(wait=False)
        self.loop.close()
        shutil.rmtree(self.folder)

    # --- What is there ---------------------------------------------------------------------------

    def write(self, sql: str, values: Sequence = ()) -> int:
        """As another program does: without our functions, and without recursive triggers."""
        with closing(sqlite3.connect(self.path, timeout=30)) as conn, conn:
            return conn.execute(sql, values).rowcount

    def read(self, sql: str, values: Sequence = ()) -> list[tuple]:
        with closing(sqlite3.connect(self.path, timeout=30)) as conn:
            return conn.execute(sql, values).fetchall()

    def state(self, table: str = "images") -> State:
        with closing(connected(self.path)) as conn:
            return state_of(conn, table)

    def ids(self) -> list[int]:
        return [id for (id,) in self.read("select id from images order by id")]

    def one(self, pick: int) -> int | None:
        ids = self.ids()
        return ids[pick % len(ids)] if ids else None

    def files(self) -> list[Path]:
        return sorted(self.pictures.rglob("*.bmp"))

    def file(self, pick: int) -> Path:
        files = self.files()
        return files[pick % len(files)]

    def number(self) -> int:
        """Another one each time, for names."""
        self.made += 1
        return self.made

    def has_log(self) -> bool:
        return self.read("pragma journal_mode") == [("wal",)]

    def is_imported(self) -> bool:
        return self.state().model == IMPORTED

    def run(self, *arguments: object, fails: bool = False) -> Ended:
        """A command that has to succeed, or where it cannot, to say so."""
        ended = self.start.forker.run(*arguments)
        assert "Traceback" not in ended.output, ended.output
        assert ended.code == 0 or (fails and ended.code == 1), ended
        return ended

    # --- Searches --------------------------------------------------------------------------------

    @initialize(pick=pick)
    def serve(self, pick: int) -> None:
        """The first example that Hypothesis tries is the simplest, one rule again and again: little is found by it."""
        self.is_simplest = pick == 0
        if self.is_simplest:
            return
        place = self.begins_in[pick % len(self.begins_in)]
        if place != "sidecar":
            for table in ("images", OWN):
                self.move_the_vectors(table, place)
        self.another_server()

    @rule()
    def another_server(self) -> None:
        """As after a restart, while the old one still answers."""
        if len(self.servers) < 3:
            datasette = datasette_of(self.path, plugin={"engines": ["beside"]})
            self.servers.append(Server(connected(self.path), datasette))

    @rule()
    def a_new_process_searches(self) -> None:
        self.start.forker.call(check_new_process, self.path)

    @precondition(lambda self: not self.is_simplest)
    @invariant()
    def all_find_what_is_there(self) -> None:
        self.random = Random(self.random.random())
        with closing(connected(self.path)) as conn:
            for table in ("images", OWN):
                check_connection(conn, self.random, table)
            self.check_vectors(conn)
            now = state_of(conn)
        for server in self.servers:
            for table in ("images", OWN):
                check_connection(server.conn, self.random, table)
            self.loop.run_until_complete(self.check_pages(server, now))

    def check_vectors(self, conn: sqlite3.Connection) -> None:
        """That each is of the picture that its row has."""
        state = state_of(conn)
        paths = dict(conn.execute("select id, path from images"))
        for id, vector in zip(state.images, state.vectors, strict=True):
            sha256 = state.rows[id]
            if state.model == IMPORTED:
                right = self.imported.of(paths[id], sha256)
            else:
                assert sha256 in self.start.vectors, f"{id} has a vector of no picture"
                right = [np.roll(self.start.vectors[sha256], 100 * (state.model == TURNED))]
            assert any(is_same(vector, each) for each in right), (
                f"{id}, {paths[id]} has the vector of another picture"
            )
        own = state_of(conn, OWN)
        contents = dict(conn.execute(f"select name, picture from {OWN}"))
        for key, vector in zip(own.images, own.vectors, strict=True):
            right = self.start.vectors[hashlib.sha256(contents[key]).hexdigest()]
            assert is_same(vector, right), f"{key} has the vector of another picture"

    async def check_pages(self, server: Server, now: State) -> None:
        """The search page, or its JSON, under a filter too: all of one state."""
        states = [now, *server.before]
        name = self.random.choice([name for name in FILTERS if name != "none"])
        queries = list(self.random.choice(states).queries(self.random))
        for query in queries:
            format = self.random.choice([".json", ""])
            params = {"q": query.text, "_by": "likeness", "_size": 100, **FILTERS[name][1]}
            path = f"/-/image-search/photos/images{format}"
            response = await server.datasette.client.get(path, params=params)
            problems = [
                problem_of(state, query, response, name, is_json=bool(format)) for state in states
            ]
            assert None in problems, f"{query.text[:20]} {name}: {problems}"

    # --- What other programs write ---------------------------------------------------------------

    @rule(pick=pick, given=st.sampled_from(["none", "next", "low", "negative", "high"]))
    def insert(self, pick: int, given: str) -> None:
        ids = self.ids()
        last = max(ids, default=0)
        id = {"none": None, "next": last + 1, "low": pick % 50 + 1, "negative": -pick - 1}.get(
            given, last + pick
        )
        self.write(
            "insert or ignore into images (id, root_id, path, size) values (?, 1, ?, 1)",
            [id, f"nowhere/{self.number()}.bmp"],
        )

    @rule(pick=pick)
    def replace_over_the_path(self, pick: int) -> None:
        self.write(
            "insert or replace into images (root_id, path, size) "
            "select root_id, path, 1 from images where id = ?",
            [self.one(pick)],
        )

    @rule(pick=pick)
    def replace_over_the_id(self, pick: int) -> None:
        id = self.one(pick)
        if id is not None:
            path = f"nowhere/{self.number()}.bmp"
            self.write("replace into images (id, root_id, path) values (?, 1, ?)", [id, path])

    @rule(picks=st.lists(pick, min_size=1, max_size=3), again=st.booleans())
    def delete(self, picks: list[int], again: bool) -> None:
        """And use the ids again."""
        for id in {self.one(pick) for pick in picks} - {None}:
            self.write("delete from images where id = ?", [id])
            if again:
                path = f"nowhere/{self.number()}.bmp"
                self.write("insert into images (id, root_id, path) values (?, 1, ?)", [id, path])

    @rule()
    def delete_the_last(self) -> None:
        """Its id is given to the next row."""
        self.write("delete from images where id = (select max(id) from images)")
        path = f"nowhere/{self.number()}.bmp"
        self.write("insert into images (root_id, path) values (1, ?)", [path])

    @rule(pick=pick, new=st.sampled_from([1, -5, 10**6, 2**40]))
    def renumber(self, pick: int, new: int) -> None:
        self.write("update or ignore images set id = ? where id = ?", [new, self.one(pick)])

    @rule(first=pick, second=pick)
    def swap_ids(self, first: int, second: int) -> None:
        one, other = self.one(first), self.one(second)
        free = max([*self.ids(), 0]) + 1
        if one != other:
            for new, old in ((free, one), (one, other), (other, free)):
                self.write("update images set id = ? where id = ?", [new, old])

    @rule(pick=pick, other=pick)
    def say_that_it_is_another_picture(self, pick: int, other: int) -> None:
        sha256 = list(self.start.vectors)[other % POOL]
        self.write("update images set sha256 = ? where id = ?", [sha256, self.one(pick)])

    @rule(pick=pick)
    def change_a_column(self, pick: int) -> None:
        self.write("update images set size = size + 1, iso = 7 where id = ?", [self.one(pick)])

    @rule(pick=pick)
    def rename_in_the_table(self, pick: int) -> None:
        path = f"nowhere/{self.number()}.bmp"
        if not self.is_imported():
            self.write("update images set path = ? where id = ?", [path, self.one(pick)])

    def has_only_known_vectors(self) -> bool:
        """Whether each has a sha256. Without triggers only that tells whose a vector is."""
        return self.read("select 1 from _images_vectors where sha256 is null limit 1") == []

    @precondition(lambda self: self.has_only_known_vectors())
    @rule()
    def drop_triggers(self) -> None:
        names = "select name from sqlite_master where type = 'trigger' and tbl_name = 'images'"
        for (name,) in self.read(names):
            self.write(f'drop trigger "{name}"')

    @precondition(lambda self: self.has_only_known_vectors())
    @rule(pick=pick)
    def transform(self, pick: int) -> None:
        with closing(Database(self.path, execute_plugins=False)) as db:
            db["images"].transform(defaults={"iso": pick})

    @rule(pick=pick)
    def delete_a_vector(self, pick: int) -> None:
        self.write("delete from _images_vectors where image_id = ?", [self.one(pick)])

    @precondition(lambda self: self.has_triggers())
    @rule(pick=pick, kind=st.sampled_from(["short", "nan", "zero", "of no image"]))
    def write_what_is_no_vector(self, pick: int, kind: str) -> None:
        state = self.state()
        dimensions = state.vectors.shape[1]
        values = {
            "short": [1.0],
            "nan": [float("nan")] * dimensions,
            "zero": [0.0] * dimensions,
            "of no image": [1.0] + [0.0] * (dimensions - 1),
        }[kind]
        without = [id for id in state.everything if id not in state.images]
        if kind == "of no image":
            # A row that comes later must not have it.
            without = [max([*state.everything, 0]) + pick % 2 + 1]
        if without:
            blob = np.array(values, "<f4").tobytes()
            self.write(
                "insert or ignore into _images_vectors (index_id, image_id, vector) "
                "select min(id), ?, ? from image_search_indexes where image_table = 'images'",
                [without[pick % len(without)], blob],
            )

    @rule()
    def vacuum(self) -> None:
        with closing(sqlite3.connect(self.path, timeout=30)) as conn:
            conn.execute("vacuum")

    @rule()
    def keep_a_log(self) -> None:
        with closing(sqlite3.connect(self.path, timeout=30)) as conn:
            conn.execute("pragma journal_mode = wal")

    @rule(key=st.sampled_from(KEYS), pick=pick, how=st.sampled_from(["insert", "replace"]))
    def add_to_the_own_table(self, key: str, pick: int, how: str) -> None:
        sql = f"insert or {'ignore' if how == 'insert' else 'replace'} into {OWN} values (?, ?, ?)"
        self.write(sql, [key, self.picture(pick), str(pick)])

    @rule(key=st.sampled_from(KEYS), pick=pick)
    def change_a_blob(self, key: str, pick: int) -> None:
        self.write(f"update {OWN} set picture = ? where name = ?", [self.picture(pick), key])

    @rule(key=st.sampled_from(KEYS), again=st.booleans(), pick=pick)
    def delete_from_the_own_table(self, key: str, again: bool, pick: int) -> None:
        self.write(f"delete from {OWN} where name = ?", [key])
        if again:
            self.write(f"insert into {OWN} values (?, ?, '')", [key, self.picture(pick)])

    @rule(old=st.sampled_from(KEYS), new=st.sampled_from(KEYS))
    def rename_a_key(self, old: str, new: str) -> None:
        self.write(f"update or ignore {OWN} set name = ? where name = ?", [new, old])

    def picture(self, pick: int) -> bytes:
        return (self.start.folder / "pool" / f"{pick % POOL}.bmp").read_bytes()

    # --- What happens to files -------------------------------------------------------------------

    @rule(pick=pick)
    def add_a_file(self, pick: int) -> None:
        draw(self.pictures / "new" / f"{self.number()}.bmp", pick % POOL)

    @rule(pick=pick, other=pick)
    def replace_a_file(self, pick: int, other: int) -> None:
        draw(self.file(pick), other % POOL)

    @rule(pick=pick)
    def touch_a_file(self, pick: int) -> None:
        when = 1_700_000_000 + self.number()
        os.utime(self.file(pick), (when, when))

    @rule(pick=pick, how=st.sampled_from(["name", "case", "folder"]))
    def rename_a_file(self, pick: int, how: str) -> None:
        file = self.file(pick)
        name = {"name": f"{self.number()}.bmp", "case": file.name.swapcase()[:-4] + ".bmp"}
        file.rename(
            file.with_name(name[how]) if how in name else self.pictures / f"{self.number()}.bmp"
        )

    @rule(pick=pick)
    def copy_a_file(self, pick: int) -> None:
        shutil.copy(self.file(pick), self.pictures / f"copy {self.number()}.bmp")

    @precondition(lambda self: len(self.files()) > 5)
    @rule(pick=pick)
    def delete_a_file(self, pick: int) -> None:
        self.file(pick).unlink()

    # --- Runs ------------------------------------------------------------------------------------

    @rule(options=st.sampled_from([(), ("--prune",), ("--retry-failed",), ("--copies",)]))
    def embed(self, options: tuple[str, ...]) -> None:
        self.embed_images(*options, fails=self.is_imported())

    @rule(model=st.sampled_from([PaletteEmbedder.id, TURNED]))
    def replace_the_model(self, model: str) -> None:
        self.embed_images("--replace-model", "--model", model, "--prune")

    def embed_images(self, *options: str, fails: bool = False) -> None:
        run = ("embed-images", self.path, "images", self.pictures, "-s", *options)
        if self.run(*run, fails=fails).code:
            return
        with closing(sqlite3.connect(self.path)) as conn:
            check_tables(conn)
        rows = dict(self.read("select path, sha256 from images"))
        state = self.state()
        for file in self.files():
            path = file.relative_to(self.pictures).as_posix()
            assert path in rows, f"{path} has no row"
            sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
            # Of imported vectors nobody knows which bytes they are of.
            assert state.model == IMPORTED or rows[path] == sha256, path
        ids = dict(self.read("select path, id from images"))
        gone = (
            set()
            if "--prune" in options
            else {ids[path] for path in rows if not (self.pictures / path).exists()}
        )
        without = set(state.everything) - set(state.images) - gone
        assert not without, f"no vectors after a run: {without}"

    @rule()
    def embed_the_own_table(self) -> None:
        self.run("embed-images", self.path, OWN, "--content-column", "picture", "-s")
        with closing(sqlite3.connect(self.path)) as conn:
            check_tables(conn, OWN)
            state = state_of(conn, OWN)
        assert set(state.images) == set(state.everything)

    @rule(type=st.sampled_from(["auto", "flat", "IVF2,SQ8", "SQ8", "HNSW32_SQ8"]))
    def index(self, type: str) -> None:
        if self.state().images:
            with closing(sqlite3.connect(self.path)) as conn:
                is_of_faiss = find_index(conn, "images").engine is None
            if not is_of_faiss and type not in ("auto", "flat"):
                type = "ivf_rq"
            self.run("index-images", self.path, "images", "--type", type, "-s")

    @rule(table=st.sampled_from(["images", OWN]), place=st.sampled_from(list(PLACES)))
    def move_the_vectors(self, table: str, place: str) -> None:
        if self.state(table).images:
            self.run("index-images", self.path, table, *PLACES[place], "-s")
            self.were_alone |= place == "lance alone"

    @precondition(lambda self: self.has_triggers())
    @rule()
    def import_vectors(self) -> None:
        paths = [file.relative_to(self.pictures).as_posix() for file in self.files()]
        known = {path for (path,) in self.read("select path from images")}
        vectors = unit(len(paths), 16, seed=self.number())
        source, names = write_npy(self.folder, paths, vectors)
        run = ("import-image-vectors", self.path, "images", source, "--paths", names, "-s")
        how = ("--root", self.pictures, "--model", IMPORTED, "--unknown", "add")
        ended = self.run(*run, *how, "--replace-model", fails=bool(known - set(paths)))
        if ended.code == 0:
            by_path, by_sha256 = dict(zip(paths, vectors, strict=True)), defaultdict(list)
            for path, sha256 in self.read("select path, sha256 from images where sha256 not null"):
                if path in by_path:
                    by_sha256[sha256].append(by_path[path])
            self.imported = Imported(by_path, by_sha256)

    def has_triggers(self) -> bool:
        sql = "select count(*) from sqlite_master where type = 'trigger' and tbl_name = 'images'"
        return self.read(sql)[0][0] >= 4

    @precondition(lambda self: not self.is_imported())
    @rule()
    def tag_and_find_duplicates(self) -> None:
        self.run("tag-images", self.path, "images", "red", "green", "blue", "-s")
        self.run("find-duplicates", self.path, "images", "--write", "-s")

    # --- Snapshots, and what becomes of files beside ---------------------------------------------

    @rule()
    def take_a_snapshot(self) -> None:
        if len(self.snapshots) == 3:
            self.snapshots.pop(0)
        snapshot = self.folder / f"snapshot {self.number()}" / "photos.db"
        snapshot.parent.mkdir()
        back_up(self.path, snapshot)
        for sidecar in self.sidecars():
            shutil.copy(sidecar, snapshot.with_name(sidecar.name))
        self.snapshots.append(snapshot)
        self.imported_then[snapshot] = self.imported

    @precondition(lambda self: self.snapshots)
    @rule(pick=pick, with_sidecars=st.booleans())
    def restore_a_snapshot(self, pick: int, with_sidecars: bool) -> None:
        back_up(self.snapshot(pick), self.path)
        self.be_as_in(pick, with_sidecars)

    @precondition(lambda self: self.snapshots and not self.has_log())
    @rule(pick=pick, with_sidecars=st.booleans())
    def copy_a_snapshot(self, pick: int, with_sidecars: bool) -> None:
        copy = self.copy_of_snapshot(pick)
        if copy is not None:
            shutil.copyfile(copy, self.path)
            self.be_as_in(pick, with_sidecars)

    @precondition(lambda self: self.snapshots and not self.has_log())
    @rule(pick=pick, with_sidecars=st.booleans())
    def move_a_snapshot(self, pick: int, with_sidecars: bool) -> None:
        copy = self.copy_of_snapshot(pick)
        if copy is None:
            return
        before = self.state()
        for server in self.servers:
            server.before.append(before)
        copy.replace(self.path)
        self.be_as_in(pick, with_sidecars)

    def snapshot(self, pick: int) -> Path:
        return self.snapshots[pick % len(self.snapshots)]

    def copy_of_snapshot(self, pick: int) -> Path | None:
        """
        Of an age that the database never had, by which SQLite tells whether the pages that it has in
        memory are good; None for one with a log, which cannot take a file's place while others look.
        """
        copy = self.folder / "copy.db"
        shutil.copyfile(self.snapshot(pick), copy)
        with closing(sqlite3.connect(copy)) as conn:
            if conn.execute("pragma journal_mode").fetchone() == ("wal",):
                return None
            for version in range(100 * self.number()):
                conn.execute(f"pragma user_version = {version}")
        return copy

    def be_as_in(self, pick: int, with_sidecars: bool) -> None:
        """What goes with a database that is that of a snapshot now."""
        snapshot = self.snapshot(pick)
        self.imported = self.imported_then[snapshot]
        if with_sidecars:
            for sidecar in snapshot.parent.glob("*.faiss"):
                shutil.copy(sidecar, self.path.with_name(sidecar.name))

    @rule(pick=pick, how=st.sampled_from(["delete", "cut", "spoil", "old"]))
    def damage_a_sidecar(self, pick: int, how: str) -> None:
        sidecars = self.sidecars()
        if not sidecars:
            return
        sidecar = sidecars[pick % len(sidecars)]
        if how == "delete":
            sidecar.unlink()
        elif how == "cut":
            os.truncate(sidecar, pick % (sidecar.stat().st_size + 1))
        elif how == "spoil":
            with sidecar.open("r+b") as file:
                file.seek(pick % sidecar.stat().st_size)
                file.write(b"\0" * 100)
        elif self.snapshots:
            self.be_as_in(pick, with_sidecars=True)

    def sidecars(self) -> list[Path]:
        return sorted(self.folder.glob("*.faiss"))

    @precondition(lambda self: not self.were_alone)
    @rule(pick=pick)
    def delete_a_dataset(self, pick: int) -> None:
        """What was alone once may be alone again in a snapshot."""
        datasets = sorted(self.folder.glob("*.lance"))
        if datasets:
            shutil.rmtree(datasets[pick % len(datasets)])


def is_same(vector: np.ndarray, right: np.ndarray) -> bool:
    """But for half precision, as an engine has it."""
    return np.allclose(vector, right, atol=HALF_PRECISION)


def back_up(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)


def check_new_process(path: Path) -> None:
    for table in ("images", OWN):
        with closing(connected(path)) as conn:
            check_connection(conn, Random(0), table)


def problem_of(
    state: State, query: Query, response: Any, filter: str, *, is_json: bool
) -> str | None:
    """Why a page is not that of a state; None where it is."""
    ids = {image_term(id): number for number, id in enumerate(state.images)}
    if query.text.startswith("#") and query.text not in ids:
        return None if response.status_code == 400 else f"there is no {query.text}"
    if response.status_code != 200:
        return f"{response.status_code}: {response.text[:500]}"
    if query.text.startswith("#"):
        query = Query(query.asked, query.text, state.vectors[ids[query.text]])
    elif len(query.vector) != state.vectors.shape[1]:
        return "the model is another"
    if is_json:
        answer = json.loads(response.text)
        rows = {hit["id"]: hit["row"]["sha256"] for hit in answer["hits"]}
        if any(state.rows.get(id) != sha256 for id, sha256 in rows.items()):
            return "the rows are of another state"
        return is_of(state, query, hits_of_json(answer), 100, filter)
    scores = state.scores(query.vector)
    hits = [(id, scores.get(id, 0.0)) for id in ids_on_page(response.text, int)]
    return is_of(state, query, hits, 100, filter)


@pytest.mark.share(20)
@pytest.mark.usefixtures("another_model")
@pytest.mark.parametrize(
    "places", [["sidecar"], ["lance", "lance alone"]], ids=["sidecar", "lance"]
)
def test_searches_find_what_is_there_whatever_is_done(
    start: Start, rounds: Iterator[Random], places: Sequence[str]
) -> None:
    for random in rounds:
        machine: Callable = seed(random.randrange(2**32))(
            type("AnyOrder", (AnyOrder,), {"start": start, "begins_in": places})
        )
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=2,
                stateful_step_count=8,
                deadline=None,
                phases=PHASES,
                print_blob=True,
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
