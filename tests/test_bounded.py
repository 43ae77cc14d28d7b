"""Pages of a collection that is too large to be looked at as a whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from datasette.app import Datasette
from sqlite_utils import Database

from datasette_image_search import Images
from datasette_image_search.engines import places
from datasette_image_search.engines.lance import LanceEngine
from datasette_image_search.search import approximate, bounded, fusion, planner
from datasette_image_search.search.indexing import index_images
from datasette_image_search.store import ordering
from datasette_image_search.web.pages import results

from .kept import lists_of_few
from .random_tables import add_images, random_vectors
from .serving import ask, datasette_of

pytestmark = [pytest.mark.datasette, pytest.mark.asyncio]

PAGE = "/-/image-search/photos/images"

ALIKE = 150


@pytest.fixture(scope="module", params=["sidecar", "lance"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 images, the first 150 of them alike, of which the index looks into a few of many lists."""
    path = tmp_path_factory.mktemp("large") / "photos.db"
    vectors = random_vectors(600, 32)
    vectors[:ALIKE] = vectors[0] + 0.6 * vectors[:ALIKE]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with closing(Database(path, execute_plugins=False)) as db:
        add_images(db, vectors)
        with db.conn:
            db.execute("update images set title = 'harbour' where id % 7 = 0")
        if request.param == "lance":
            # Servers of other tests name the places that may be read.
            unserved = mock.patch.object(places, "_served", [])
            efforts = mock.patch.object(LanceEngine, "efforts", return_value=[2])
            with unserved, efforts, lists_of_few():
                index_images(db, "images", engine="lance", type="ivf_rq")
        else:
            with mock.patch.object(approximate, "_efforts", return_value=["nprobe=2"]):
                index_images(db, "images", type="IVF64,SQ8")
    return path


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(places, "_served", [])
    with mock.patch.multiple(bounded, LARGE=500, MOST=100):
        yield


def served(path: Path) -> Datasette:
    """It opens what is beside the database."""
    return datasette_of(path, plugin={"engines": ["beside"]})


async def test_a_page_says_how_many_matches_there_are_at_least(path: Path) -> None:
    datasette = served(path)
    answer = (await ask(datasette, f"{PAGE}.json?q=%231&_size=5")).json()
    assert all(hit["relevance"] > 0.95 for hit in answer["hits"])
    assert answer["matches_truncated"]
    assert 5 < answer["matches"] < ALIKE
    said = f"At least {answer['matches']} of 600 images match image 1"
    assert answer["description"].startswith(said.partition(" image 1")[0])
    page = await ask(datasette, f"{PAGE}?q=%231&_size=5")
    assert f"At least {answer['matches']} of 600 images" in page.text
    assert all(step["looked_at"] < 600 for step in answer["plan"])


async def test_all_that_a_page_leaves_by_a_limit_are_matches(path: Path) -> None:
    with Images(path) as images:
        matches = {hit.id for hit in images.search("#1", 600, min_relevance=0.95)}
    datasette = served(path)
    url = f"{PAGE}.json?q=%231&_size=40&_matches_only=1"
    answer = (await ask(datasette, url)).json()
    assert answer["count_truncated"]
    assert answer["count"] == answer["matches"] < len(matches)
    assert {hit["id"] for hit in answer["hits"]} <= matches
    assert answer["description"].startswith(f"At least {answer['count']} images match")
    everything = (await ask(datasette, f"{PAGE}.json?q=%231&_size=10&_sort=id")).json()
    ids = [hit["id"] for hit in everything["hits"]]
    assert ids == sorted(ids)
    assert set(ids) <= matches


async def test_what_is_known_is_said_as_it_is(path: Path) -> None:
    datasette = served(path)
    answer = (await ask(datasette, f"{PAGE}.json?q=%23400&_size=5")).json()
    # The last match of the lists is on the page, but others may be in other lists.
    assert (answer["matches"], answer["matches_truncated"]) == (1, True)
    assert answer["description"].startswith("At least 1 of 600 images matches")
    # So few are all looked at.
    few = (await ask(datasette, f"{PAGE}.json?q=%23400&_size=5&id__gte=399&id__lte=410")).json()
    assert (few["matches"], few["matches_truncated"]) == (1, False)
    none = (
        await ask(datasette, f"{PAGE}.json?q=%23400&_matches_only=1&_size=5&id__not=400")
    ).json()
    assert (none["count"], none["count_truncated"]) == (0, True)
    assert none["description"].startswith("0 images where id != 400 match")


async def test_pages_by_likeness_and_text_show_each_image_once(path: Path) -> None:
    datasette = served(path)
    with mock.patch.object(fusion, "DEPTH", 60), mock.patch.multiple(planner, FIRST=16, WIDEST=60):
        for limit in ("", "&_matches_only=1"):
            url, shown = f"{PAGE}.json?q=%231+%2B+text:harbour{limit}&_size=23", []
            while url:
                answer = (await ask(datasette, url)).json()
                shown += [hit["id"] for hit in answer["hits"]]
                url = (answer["next_url"] or "").removeprefix("http://localhost")
            assert len(shown) == len(set(shown))
            assert set(range(7, 601, 7)) <= set(shown)
            assert (len(shown) == 600) == (not limit)


async def test_python_is_answered_as_before(path: Path) -> None:
    with Images(path) as images:
        exact = images.search("#1", 300, exact=True)
        assert images.search("#1", 300) == exact
        some = images.search("#1", 50, where="id % 2 = 0")
        assert some == [hit for hit in exact if hit.id % 2 == 0][:50]


async def test_pages_in_the_order_of_a_date_are_parts_of_one(path: Path, tmp_path: Path) -> None:
    """Whether an index of the dates finds all, the first alone, or none, and more match than can be followed."""
    copied = shutil.copytree(path.parent, tmp_path / "copied") / "photos.db"
    with closing(Database(copied, execute_plugins=False)) as db, db.conn:
        db.execute("update images set taken_at = printf('20%02d', id * 37 % 90) where id % 9")
    datasette = served(copied)
    for sort in ("_sort", "_sort_desc"):
        walks = []
        for in_turn in (1_000, 4, 0):
            url, shown = f"{PAGE}.json?q=%231&_by=likeness&{sort}=taken_at&_size=8", []
            with (
                mock.patch.object(results, "DEEPEST", 52),
                mock.patch.object(ordering, "IN_TURN", in_turn),
            ):
                while url:
                    answer = (await ask(datasette, url)).json()
                    shown += [(hit["row"]["taken_at"], hit["id"]) for hit in answer["hits"]]
                    url = (answer["next_url"] or "").removeprefix("http://localhost")
            assert len({id for _, id in shown}) == len(shown) == 48 < answer["matches"]
            walks.append(shown)
        assert walks[0] == walks[1] == walks[2]
        dates = [date for date, _ in walks[0] if date is not None]
        assert dates == sorted(dates, reverse=sort == "_sort_desc")


@pytest.mark.parametrize("path", ["sidecar"], indirect=True)
async def test_pages_in_the_order_of_a_date_have_the_closest_of_more_matches(path: Path) -> None:
    with Images(path) as images:
        best = images.search("#1", 48, matches_only=True, exact=True)
        assert len(best) == 48 < len(images.search("#1", 600, matches_only=True, exact=True))
    datasette = served(path)
    with mock.patch.object(results, "DEEPEST", 48), mock.patch.object(bounded, "LARGE", 10**9):
        url, shown = f"{PAGE}.json?q=%231&_by=likeness&_sort=taken_at&_size=8", []
        while url:
            answer = (await ask(datasette, url)).json()
            shown += [hit["id"] for hit in answer["hits"]]
            url = (answer["next_url"] or "").removeprefix("http://localhost")
    assert len(shown) == len(set(shown)) == 48
    assert set(shown) == {hit.id for hit in best}
