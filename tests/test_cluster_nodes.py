from __future__ import annotations

import os
import sys
from unittest import mock

import pytest

from datasette_image_search.cluster import nodes as module
from datasette_image_search.cluster.head import ClusterError, ClusterLost
from datasette_image_search.cluster.nodes import (
    Place,
    connected,
    node_names,
    places_of,
    wait_for_room,
)

HERE = mock.Mock(**{"is_there.return_value": True})
"""A head that answers."""


def node(id: str, *, alive: bool = True, name: str = "", **resources: float) -> dict:
    """A node as ray.nodes() tells it."""
    return {
        "NodeID": id,
        "Alive": alive,
        "NodeManagerHostname": name or f"host-{id}",
        "Resources": resources,
    }


@pytest.mark.parametrize(
    ("cpus", "counts"),
    [(None, [4, 4, 2]), (1, [1] * 10), (2, [2] * 5), (3, [3, 3]), (8, [8])],
)
def test_each_node_has_room_for_actors_with_so_many_processors(cpus: int | None, counts: list[int]):
    places = places_of([node("a", CPU=8.0), node("b", CPU=2.0), node("c", memory=1.0)], cpus)
    assert [place.cpus for place in places] == counts
    assert all(place.threads == place.cpus and not place.gpus for place in places)


def test_with_gpus_each_has_an_actor_and_reserves_no_processor():
    """A processor that somebody else has would leave a GPU idle."""
    nodes = [node("a", CPU=16.0, GPU=2.0), node("b", CPU=1.0, GPU=1.0), node("c", CPU=64.0)]
    assert places_of(nodes, None) == [
        *[Place("a", "host-a", 0, 1, threads=8)] * 2,
        Place("b", "host-b", 0, 1, threads=1),
    ]
    assert {place.threads for place in places_of(nodes, 3)} == {3}


@pytest.mark.parametrize(
    ("nodes", "cpus", "sentence"),
    [
        ([node("a", CPU=2.0)], 4, "an actor needs 4 processors, and no node has more than 2"),
        ([node("a", CPU=0.5)], None, "an actor needs 1 processor, and no node has more than 0"),
        ([node("a", CPU=4.0, alive=False)], 1, "the cluster has 0 nodes"),
    ],
)
def test_no_room_is_said(nodes: list[dict], cpus: int | None, sentence: str):
    with pytest.raises(ClusterError, match=sentence):
        places_of(nodes, cpus)


def test_room_is_on_one_node(monkeypatch: pytest.MonkeyPatch):
    """Half of an actor here and half there are none."""
    free = [1.0, 1.0]
    monkeypatch.setattr(module, "_free", lambda *_: free)
    monkeypatch.setattr(module, "ROOM_SECONDS", 0.0)
    places = places_of([node("a", CPU=2.0), node("b", CPU=2.0)], 2)
    sentence = "one needs 2 processors of one node, and no node has more than 1 free; wait until"
    with pytest.raises(ClusterLost, match=sentence):
        wait_for_room(places, HERE)

    free[1] = 2.0
    wait_for_room(places, HERE)


def test_with_a_client_room_is_on_one_node_too(monkeypatch: pytest.MonkeyPatch):
    """It told of the whole cluster, in which a run waited for minutes."""
    ray = pytest.importorskip("ray")
    of = {"a": {"CPU": 3.0}, "b": {"CPU": 3.0}}
    task = mock.Mock(**{"return_value.remote.return_value": of})
    monkeypatch.setattr("ray.util.client.ray.is_connected", lambda: True)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "remote", lambda **options: task)
    monkeypatch.setattr(ray, "get", lambda told, timeout: told)
    monkeypatch.setattr(module, "ROOM_SECONDS", 0.0)
    places = places_of([node("a", CPU=4.0), node("b", CPU=4.0)], 4)

    with pytest.raises(ClusterLost, match=r"needs 4 processors of one .* more than 3 free"):
        wait_for_room(places, HERE)

    of["b"]["CPU"] = 4.0
    wait_for_room(places, HERE)


def test_no_head_that_is_away_is_asked_for_room(monkeypatch: pytest.MonkeyPatch):
    """Ray would wait for it without an end."""
    monkeypatch.setattr(module, "_free", lambda *_: pytest.fail("it is asked"))
    monkeypatch.setattr(module, "ROOM_SECONDS", 0.0)
    head = mock.Mock(**{"is_there.side_effect": [False, ClusterLost("it stays away")]})
    with pytest.raises(ClusterLost, match="stays away"):
        wait_for_room(places_of([node("a", CPU=1.0)], 1), head)


def test_a_head_may_be_away_for_long_without_an_end_of_this_process(
    monkeypatch: pytest.MonkeyPatch,
):
    """Ray ends it after a minute, also in the middle of a commit."""
    pytest.importorskip("ray")
    name = "RAY_gcs_rpc_server_reconnect_timeout_s"
    monkeypatch.delenv(name, raising=False)
    with module._settings_of("10.0.0.2:6379"):
        assert float(os.environ[name]) > 3600
    assert name not in os.environ


def test_machines_of_the_same_name_are_told_apart():
    nodes = [node("abcdef123", name="vm"), node("123456abc", name="vm"), node("c", name="other")]
    assert list(node_names(nodes).values()) == ["vm (abcdef)", "vm (123456)", "other"]


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    sentence = r"--ray needs an extra: pip install 'datasette-image-search\[ray\]'"
    with pytest.raises(ClusterError, match=sentence), connected("local"):
        pass
