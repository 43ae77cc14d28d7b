"""The nodes of a Ray cluster: connecting to it, and what room there is for actors."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..errors import counted
from .head import (
    AGAIN,
    ClusterError,
    ClusterLost,
    Head,
    Watch,
    authenticate,
    authentication_kept,
    head_of_this,
    in_reach,
    in_short,
    resolved,
    watched,
)

HERE = "local"
"""The address that starts Ray on this machine."""

USUAL_CPUS = 4
"""Processors of an actor without a GPU: with more, its threads wait for each other."""

ROOM_SECONDS = 20.0
"""The cluster takes some to know that a run before has ended."""

RECONNECT_SECONDS = 86_400
"""For which Ray itself tries to reach a head that does not answer."""

TASK_SECONDS = 120.0
"""The longest time in which a node of ray:// tells what is free: it starts a process for that."""


@dataclass(frozen=True)
class Place:
    """Room for an actor: on a node, with so many processors and GPUs of it, which decodes with `threads`."""

    node: str
    name: str
    cpus: int
    gpus: int
    threads: int

    @property
    def size(self) -> int:
        """GPUs, or processors if it has none."""
        return self.gpus or self.cpus

    @property
    def needs(self) -> str:
        return counted(self.gpus, "GPU") if self.gpus else counted(self.cpus, "processor")


@contextmanager
def connected(address: str) -> Iterator[Head]:
    """
    The head of a cluster, to which Ray in this process is connected; if it is connected already, it is left as it is. Whoever
    asks Ray anything has a Watch of the head: while that is away, Ray waits. Raises ClusterError without Ray, and if there is
    none at the address.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == HERE:
        options |= {"include_dashboard": False}
    try:
        import ray
    except ImportError:
        raise ClusterError(
            "--ray needs an extra: pip install 'datasette-image-search[ray]'"
        ) from None
    if ray.is_initialized():
        yield head_of_this()
        return
    with authentication_kept(), _settings_of(address):
        try:
            address = resolved(address)
            if address != HERE:
                authenticate(address)
            ray.init(address=address, **options)
        except (OSError, ValueError, RuntimeError) as error:
            raise ClusterError(
                f"there is no Ray at {address!r} ({in_short(error)}); start it with `ray start --head`, or leave the address out "
                "to start it here"
            ) from error
        try:
            yield head_of_this()
        finally:
            ray.shutdown()


@contextmanager
def _settings_of(address: str) -> Iterator[None]:
    """
    Ray's own settings, for as long as the context lasts. What is started here tells nobody of itself, and listens on loopback. A head
    elsewhere may be away for longer than a minute, after which Ray would end this process.
    """
    from ray._private import ray_constants

    # Ray reads this when it is imported, and so do the processes that it starts.
    reaches = ray_constants.ENABLE_RAY_CLUSTER
    meant = {"RAY_USAGE_STATS_ENABLED": "0"}
    if address == HERE:
        meant[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
        ray_constants.ENABLE_RAY_CLUSTER = False
    else:
        meant["RAY_gcs_rpc_server_reconnect_timeout_s"] = str(RECONNECT_SECONDS)
    added = meant.keys() - os.environ.keys()
    os.environ.update({name: meant[name] for name in added})
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = reaches
        for name in added:
            os.environ.pop(name, None)


def nodes_of(watch: Watch) -> list[dict[str, Any]]:
    """The nodes of the cluster that this process is connected to, as ray.nodes() tells them. Raises ClusterLost."""
    import ray

    with in_reach():
        return watched(ray.nodes, watch)


def places_of(nodes: Sequence[Mapping[str, Any]], cpus: int | None) -> list[Place]:
    """
    A place for each GPU of all nodes, as ray.nodes() tells them; if there is none, for each `cpus` processors, None for
    USUAL_CPUS or what a smaller node has. Raises ClusterError if that is none.
    """
    alive = [node for node in nodes if node["Alive"]]
    names = node_names(alive)
    by_gpu = [place for node in alive for place in _on_gpus(node, names, cpus)]
    places = by_gpu or [place for node in alive for place in _on_cpus(node, names, cpus)]
    if not places:
        most = max((_count(node, "CPU") for node in alive), default=0)
        raise ClusterError(
            f"an actor needs {counted(cpus or 1, 'processor')}, and no node has more than {most}: the cluster has "
            f"{counted(len(alive), 'node')}; give a smaller --ray-cpus, or add nodes"
        )
    return places


def wait_for_room(places: Sequence[Place], watch: Watch) -> None:
    """
    Until there is room for an actor at one of the places, as far as that is known. Raises ClusterLost if there is none, or
    the head stays away.
    """
    deadline = time.monotonic() + ROOM_SECONDS
    while True:
        if watch.is_there(anew=True):
            if any(map(_has_room, places, _free(places, watch))):
                return
            if time.monotonic() > deadline:
                raise no_room(places, watch)
        time.sleep(0.2)


def no_room(places: Sequence[Place], watch: Watch) -> ClusterLost:
    """The error of a cluster in which no actor can run at any of the places, with what is free of it."""
    least = min(places, key=lambda place: place.size)
    most = max(_free(places, watch))
    return ClusterLost(
        f"no actor can run: one needs {least.needs} of one node, and no node has more than {most:g} free; wait until "
        f"others are done, or add nodes, and {AGAIN}"
    )


def _has_room(place: Place, free: float) -> bool:
    return place.size <= free


def _free(places: Sequence[Place], watch: Watch) -> list[float]:
    """What is free of the resource of each place, on its node."""
    with in_reach():
        of = watched(_free_by_node, watch)
    resources = ((place, "GPU" if place.gpus else "CPU") for place in places)
    return [float(of.get(place.node, {}).get(resource, 0)) for place, resource in resources]


def _free_by_node() -> Mapping[str, Mapping[str, float]]:
    import ray
    from ray._private.state import available_resources_per_node
    from ray.util.client import ray as client

    if client.is_connected():
        # Only the nodes know it. A task that needs no processor runs on any of them.
        task = ray.remote(num_cpus=0)(available_resources_per_node)
        free: Mapping[str, Mapping[str, float]] = ray.get(task.remote(), timeout=TASK_SECONDS)
        return free
    return available_resources_per_node()


def node_names(nodes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Node id -> the name of its machine, with some of the id if several have the same name."""
    names = {node["NodeID"]: node["NodeManagerHostname"] for node in nodes}
    often = Counter(names.values())
    return {
        node: f"{name} ({node[:6]})" if often[name] > 1 else name for node, name in names.items()
    }


def _on_gpus(
    node: Mapping[str, Any], names: Mapping[str, str], cpus: int | None
) -> Iterator[Place]:
    gpus = _count(node, "GPU")
    for _ in range(gpus):
        # It reserves no processor, so that it never waits for one.
        threads = cpus or max(_count(node, "CPU") // gpus, 1)
        yield Place(node["NodeID"], names[node["NodeID"]], 0, 1, threads)


def _on_cpus(
    node: Mapping[str, Any], names: Mapping[str, str], cpus: int | None
) -> Iterator[Place]:
    has = _count(node, "CPU")
    each = cpus or min(USUAL_CPUS, has)
    for _ in range(has // each if each else 0):
        yield Place(node["NodeID"], names[node["NodeID"]], each, 0, each)


def _count(node: Mapping[str, Any], resource: str) -> int:
    return int(node["Resources"].get(resource, 0))
