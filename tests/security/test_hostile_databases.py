"""Datasettes that serve some forty databases which were made to harm them, many at once."""

from __future__ import annotations

import http.client
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from random import Random
from urllib.parse import quote

import pytest
from datasette.app import Datasette

from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images

from .. import only_ours
from ..conftest import COLOURS, draw_picture
from ..serving import HANGS, Server, ends, running
from .hostile_databases import SPOILED, make_hostile

pytestmark = pytest.mark.datasette

MEMORY = 600 * 2**20
"""Bytes that a server may take beyond what it has when nothing was asked."""


PATHS = (
    "/{db}",
    "/{db}.json",
    "/{db}/images",
    "/{db}/images.json",
    "/{db}/images?_image_search=red",
    "/{db}/images.images",
    "/{db}/images?_facet=folder&_facet_tag=1",
    "/{db}/images/1",
    "/{db}/images?_image_tag=x",
    "/-/image-search/{db}",
    "/-/image-search/{db}/images",
    "/-/image-search/{db}/images?q=red",
    "/-/image-search/{db}/images.json?q=red",
    "/-/image-search/{db}/images.json?q=%231",
    "/-/image-search/{db}/images.csv",
    "/-/image-search/{db}/images.json?_image_tag=x",
    "/-/image-search/{db}/images/map",
    "/-/image-search/{db}/images/map.json",
    "/-/image-search/{db}/images/map.json?_color=folder",
    "/-/image-search/{db}/images/1/thumbnail",
    "/-/image-search/{db}/images/2/thumbnail",
    "/-/image-search/{db}/images/1/image",
    "/-/image-search/{db}/images/3/image",
    "/-/image-search/{db}/images/4/image",
)

QUERIES = (
    "select image_search('red', 5)",
    "select image_search('red', 5, 'images')",
    "select id, image_similarity(id, 'red', 'images') from images limit 5",
    "select image_search_agg(id, '#1', 5, 'images') from images",
    "select image_classify(id, '[\"red\", \"blue\"]', 'images') from images limit 3",
    "select hex(image_vector('#1', 'images'))",
    "select image_search_status()",
    "select * from wide limit 3",
    "select * from deep limit 3",
)


READ_BY_DATASETTE = (
    "image-table-with-gigabytes",
    "path-that-is-computed",
    "migrations-that-are-computed",
)
"""Datasette's own pages read all values of a row, whatever their size, and so end for want of memory."""


def paths_of(database: str) -> list[str]:
    """A third by FAULT_SEED, as there are so many databases."""
    sql_page = "/{db}/-/query.json?sql=" if hasattr(Datasette, "allowed") else "/{db}.json?sql="
    paths = [*PATHS, *(sql_page + quote(sql) for sql in QUERIES)]
    if database in READ_BY_DATASETTE:
        paths = [path for path in paths if path.startswith("/-/image-search")]
    chance = Random(os.environ["FAULT_SEED"] + database)
    paths = [path for path in paths if chance.random() < 1 / 3]
    return [path.replace("{db}", database) for path in paths]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Iterable[str]], list[Path]]:
    """make(names) makes these databases, once each."""
    folder = tmp_path_factory.mktemp("hostile")
    for colour in COLOURS:
        draw_picture(folder / "pictures" / f"{colour}.jpg", colour)
    sound = folder / "sound.db"
    embed_images(EmbedRequest(sound, "images", (folder / "pictures",), model="palette"))
    made = cache(lambda name: make_hostile(sound, folder, name))
    return lambda names: [made(name) for name in names]


IMPATIENTLY = ("--setting", "sql_time_limit_ms", "300")
"""An endless view takes all of the limit for each page, which is one second else."""


@contextmanager
def serving(databases: Iterable[Path]) -> Iterator[Server]:
    command = [sys.executable, only_ours.__file__, "serve", *map(str, databases)]
    with running([*command, *IMPATIENTLY]) as server:
        yield server


SERVERS = 3
"""Each has its share of the databases: each one makes all answers of Datasette take longer."""

GROUPS = [list(SPOILED)[first::SERVERS] for first in range(SERVERS)]

BY_CHANCE = Random(os.environ["FAULT_SEED"]).randrange(SERVERS)

ASKED = [BY_CHANCE] if hasattr(Datasette, "allowed") else list(range(SERVERS))
"""The groups of a run. On Datasette 1.0 it is one by chance: the readers of databases are the same, and its pages slower."""


def answer(server: Server, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=HANGS)
    with closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()


@pytest.mark.parametrize("group", ASKED)
def test_whatever_databases_hold_their_server_answers(
    make: Callable[[Iterable[str]], list[Path]], group: int
) -> None:
    """
    Without a fault of ours, in time, in bounded memory, and with no file of somebody else's. One test for each server: processes
    that share the tests of one would each start it.
    """
    with serving(make(GROUPS[group])) as server:
        for name in GROUPS[group]:
            server.forget_peak()
            idle = server.memory()
            for path in paths_of(name):
                status, body = answer(server, path)
                if path.startswith("/-/image-search"):
                    assert status < 500 or status == 503, (path, body[:300])
                assert b"root:" not in body, path
            assert server.memory("VmHWM") - idle < MEMORY, name
            assert answer(server, "/-/versions.json")[0] == 200, name
        os.kill(server.pid, signal.SIGTERM)
        assert ends(server)


def test_a_sidecar_with_lists_on_the_disk_touches_no_file(
    make: Callable[[Iterable[str]], list[Path]],
) -> None:
    (database,) = make(["sidecar-with-lists-on-the-disk"])
    with serving([database]) as server:
        answer(server, f"/-/image-search/{database.stem}/images.json?q=red")
    assert database.with_suffix(".victim").read_bytes() == b"mine"


def test_a_server_that_has_just_started_ends_when_it_is_told_to(
    make: Callable[[Iterable[str]], list[Path]],
) -> None:
    """While it reads what it needs for its first searches."""
    with serving(make(GROUPS[BY_CHANCE])) as server:
        os.kill(server.pid, signal.SIGTERM)
        assert ends(server)
