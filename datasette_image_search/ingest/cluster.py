"""
Images encoded by the actors of a Ray cluster: lists of files go out, and batches of rows, vectors and thumbnails come
back, in the order of the files.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..cluster.head import AGAIN, LOOK_SECONDS, ClusterError, ClusterLost, Watch, in_reach, watched
from ..cluster.nodes import Place, connected, no_room, nodes_of, places_of, wait_for_room
from ..decoding.opening import Unreadable
from ..embedders.protocol import Embedder, ModelRequest
from ..errors import ImageSearchError, counted
from .cluster_worker import PACKAGE, Ready, Task, Worker
from .encoding import EncodedBatch, EncodingSettings, batch_of_failures
from .own_images import ImageSource, OwnImage
from .report import NodeWork
from .walk import FoundFile

AT_ONCE = 2
"""Batches that an actor works on: it decodes one while it encodes another."""

PER_ACTOR = AT_ONCE + 1
"""Batches that an actor has: the next one is there when one is done."""

UNWRITTEN = 16
"""Batches for each actor that are out, or wait for those before them. More would be much memory, fewer make all wait for
one film."""

CONTENT = 32 * 2**20
"""Bytes of pictures in a table that are sent together: an actor has some batches of them."""

SAMPLES = 20
"""Images of a root that are tried, for one that this machine can read."""

TRIES = 3

START_SECONDS = 300.0
"""The longest time in which no actor starts, of those that wait for it: on a busy machine many processes start at once."""

JOIN_SECONDS = 10.0
"""How long those that are ready wait, while nothing comes, for the others to be looked at before anything is written."""

PREPARE_SECONDS = 1200.0
"""The longest time in which one gets ready: a node may download the model first."""

LOST = (
    "the process that read it, or its node, ended three times while it had this file and those beside it; the next run "
    "tries again"
)


@dataclass
class _Batch:
    """
    Images that are sent together, and by what: with their content, if that is in the table, by a reference. `tries` counts
    the actors that were lost with it.
    """

    number: int
    images: Sequence[ImageSource]
    sent: Any
    tries: int = 0


@dataclass(eq=False)
class _Actor:
    """
    An actor at its place. It is started and gets ready, each of which a reference tells, and then has batches, by
    the references of what comes back. `deaths` counts those before it that ended before they were ready, and `asked` is when it
    was asked to get ready.
    """

    place: Place
    handle: Any
    started: Any
    deaths: int
    prepared: Any = None
    asked: float = 0.0
    device: str | None = None
    batches: dict[Any, _Batch] = field(default_factory=dict)

    @property
    def refs(self) -> list[Any]:
        return [ref for ref in (self.started, self.prepared) if ref is not None] + list(
            self.batches
        )

    @property
    def has_suspect(self) -> bool:
        return any(batch.tries for batch in self.batches.values())


@contextmanager
def cluster_encoder(
    address: str,
    cpus: int | None,
    model: ModelRequest,
    embedder: Embedder,
    settings: EncodingSettings,
    samples: Iterable[ImageSource],
    *,
    workers: int | None = None,
    on_waiting: Callable[[str], None] = lambda waiting: None,
) -> Iterator[ClusterEncoder]:
    """
    An Encoder that is a Ray cluster, whose actors have the same model as `embedder`, and the roots that the `samples` are
    below. `cpus` is as in places_of(), and `workers` replaces the number of threads that decode. What is waited for is told to `on_waiting`. Raises ClusterError, before
    any work, if there is no cluster or no room in it, or if a node is not fit for this run.
    """
    with connected(address) as head:
        import ray

        watch = Watch(head)

        weights = None
        if model.weights is not None:
            content = np.fromfile(model.weights, np.uint8)
            with in_reach():
                weights = ray.put(content)
        task = Task(
            version(PACKAGE),
            replace(model, weights=None),
            Path(model.weights or "").name,
            embedder.fingerprint,
            settings,
            tuple(_readable(samples)),
        )
        places = places_of(nodes_of(watch), cpus)
        wait_for_room(places, watch)
        encoder = ClusterEncoder(places, task, weights, workers, watch)
        try:
            encoder.start(on_waiting)
            yield encoder
        finally:
            encoder.close()


def _readable(samples: Iterable[ImageSource]) -> Iterator[ImageSource]:
    """The first image below each root that this machine can read."""
    tried: Counter[str] = Counter()
    for image in samples:
        root = image.root if isinstance(image, FoundFile) else ""
        is_file = isinstance(image, FoundFile) or image.file is not None
        if tried[root] >= SAMPLES or not is_file or image.problem is not None:
            continue
        tried[root] += 1
        with suppress(OSError):
            image.read(1)
            tried[root] = SAMPLES
            yield image


class ClusterEncoder:
    """
    The actors of a run. One that dies is replaced if its node is alive; what it had goes to others, alone, so that
    a file that ends processes takes no other files along.
    """

    def __init__(
        self,
        places: Sequence[Place],
        task: Task,
        weights: Any,
        workers: int | None,
        watch: Watch,
    ) -> None:
        import ray

        self._ray = ray
        self._worker = ray.remote(Worker)
        self._task, self._weights, self._workers = task, weights, workers
        self._watch = watch
        self._lost: deque[_Batch] = deque()
        self._done: dict[int, list[EncodedBatch]] = {}
        self._losses: dict[str, int] = {}
        self._devices: dict[str, str] = {}
        self._most: dict[str, int] = {}
        self._problems: dict[str, str] = {}
        self._is_running = False
        self._moved = time.monotonic()
        self._seconds = 0.0
        self._places = places
        self._actors = [self._made(place) for place in places]

    # --- The actors ------------------------------------------------------------------------------------

    def start(self, on_waiting: Callable[[str], None]) -> None:
        """
        Wait until the actors are ready, or until only some are and nothing comes of the others for JOIN_SECONDS: these
        join when they are. Raises ClusterError.
        """
        while any(actor.device is None for actor in self._actors):
            on_waiting(self.where)
            self._look({})
            quiet = time.monotonic() - self._moved
            if quiet > JOIN_SECONDS and any(each.device is not None for each in self._actors):
                break
            self._check_starting()
        self._is_running = True

    def close(self) -> None:
        for actor in list(self._actors):
            self._remove(actor)

    @property
    def where(self) -> str:
        ready = [actor for actor in self._actors if actor.device is not None]
        nodes, waiting = {actor.place.node for actor in ready}, len(self._actors) - len(ready)
        told = f"{counted(len(nodes), 'node')}, {counted(len(ready), 'actor')}" if ready else ""
        awaited = f"waiting for {counted(waiting, 'actor')}" if waiting else ""
        return ", ".join(filter(None, [told, awaited]))

    def nodes(self, images: Mapping[str, int], /) -> tuple[NodeWork, ...]:
        seconds = max(self._seconds, 1e-3)
        names = {place.node: place.name for place in self._places}
        return tuple(
            NodeWork(
                name,
                self._most.get(node, 0),
                self._devices.get(node, ""),
                images.get(node, 0),
                images.get(node, 0) / seconds,
                self._losses.get(node, 0),
                self._problems.get(node),
            )
            for node, name in names.items()
        )

    @in_reach()
    def _made(self, place: Place, deaths: int = 0) -> _Actor:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        worker: Any = self._worker.options(
            num_cpus=place.cpus,
            num_gpus=place.gpus,
            max_concurrency=AT_ONCE,
            scheduling_strategy=NodeAffinitySchedulingStrategy(place.node, soft=False),
        )
        handle: Any = watched(worker.remote, self._watch)
        return _Actor(place, handle, handle.is_there.remote(), deaths)

    def _prepare(self, actor: _Actor) -> None:
        threads = self._workers or actor.place.threads
        beside = sum(each.place.node == actor.place.node for each in self._actors)
        settings = replace(self._task.settings, workers=threads, decoders=threads * beside)
        task = replace(self._task, settings=settings)
        actor.started, actor.asked = None, time.monotonic()
        with in_reach():
            actor.prepared = actor.handle.prepare.remote(task, self._weights)

    def _is_ready(self, actor: _Actor, ready: Ready) -> None:
        if ready.problem is not None:
            self._remove(actor)
            raise ClusterError(f"node {actor.place.name} {ready.problem}")
        actor.prepared, actor.device = None, ready.device
        node = actor.place.node
        self._devices[node] = ready.device
        here = [
            each for each in self._actors if each.place.node == node and each.device is not None
        ]
        self._most[node] = max(self._most.get(node, 0), len(here))

    def _remove(self, actor: _Actor) -> None:
        self._actors.remove(actor)
        # Also of one that does not answer, whose memory another one will want.
        with suppress(ClusterLost, ValueError), in_reach():
            self._ray.kill(actor.handle)

    def _replace(self, actor: _Actor, error: Exception) -> None:
        """Raises ClusterError if it was the last, or one of the first, and not as its node has died."""
        self._remove(actor)
        place, deaths = actor.place, 0
        is_alive = any(
            each["Alive"] and each["NodeID"] == place.node for each in nodes_of(self._watch)
        )
        if actor.device is None:
            if is_alive and not self._is_running:
                raise ClusterError(
                    f"an actor on node {place.name} ended before it was ready ({_why(error)}); check that {PACKAGE} "
                    f"{self._task.version} is installed there, and that its memory is enough for the model"
                )
            deaths = actor.deaths + 1
        for batch in actor.batches.values():
            self._losses[place.node] = self._losses.get(place.node, 0) + 1
            self._lose(batch)
        if is_alive and deaths < TRIES:
            self._actors.append(self._made(place, deaths))
        elif is_alive:
            self._problems[place.node] = (
                f"an actor on node {place.name} ended {counted(deaths, 'time')} before it was ready ({_why(error)}), and "
                "others did without it"
            )
        self._check_some(self._actors)

    def _check_some(self, actors: Sequence[_Actor]) -> None:
        if not actors:
            raise no_room(self._places, self._watch)

    # --- The batches -----------------------------------------------------------------------------------

    def encode(
        self,
        images: Iterable[ImageSource],
        roots: Mapping[str, int],
        with_content: Callable[[ImageSource], ImageSource],
        is_wanted: Callable[[], bool],
    ) -> Iterator[EncodedBatch]:
        """As encode_in_batches(). What a replaced actor cannot do any more is a ClusterError of all of them."""
        began = self._moved = time.monotonic()
        try:
            yield from self._encode(map(with_content, images), roots, is_wanted)
        finally:
            self._seconds += time.monotonic() - began

    def _encode(
        self,
        images: Iterator[ImageSource],
        roots: Mapping[str, int],
        is_wanted: Callable[[], bool],
    ) -> Iterator[EncodedBatch]:
        left = self._listed(images)
        sent = written = 0
        has_more = True
        while is_wanted():
            while has_more and sent - written < UNWRITTEN * len(self._actors):
                actor = self._idlest()
                if actor is None:
                    break
                batch = next(left, None)
                has_more = batch is not None
                if batch is not None:
                    self._send(actor, batch, roots)
                    sent += 1
            self._send_lost(roots)
            while written in self._done:
                yield from self._done.pop(written)
                written += 1
            if not has_more and written == sent:
                return
            self._look(roots)
            self._check_starting()

    def _idlest(self) -> _Actor | None:
        """The actor to send a new batch to, if one has room. While a lost one waits for an idle actor, none has."""
        if self._lost:
            return None
        free = [
            actor
            for actor in self._actors
            if actor.device is not None and len(actor.batches) < PER_ACTOR and not actor.has_suspect
        ]
        return min(free, key=lambda actor: len(actor.batches), default=None)

    def _send_lost(self, roots: Mapping[str, int]) -> None:
        for actor in self._actors:
            if self._lost and actor.device is not None and not actor.batches:
                self._send(actor, self._lost.popleft(), roots)

    def _send(self, actor: _Actor, batch: _Batch, roots: Mapping[str, int]) -> None:
        with in_reach():
            actor.batches[actor.handle.encode.remote(batch.sent, roots)] = batch

    def _lose(self, batch: _Batch) -> None:
        batch.tries += 1
        self._lost.append(batch)

    def _look(self, roots: Mapping[str, int]) -> None:
        """What has come back, or nothing for a moment."""
        of = {ref: actor for actor in self._actors for ref in actor.refs}
        if not of:
            return
        if not self._watch.is_there():
            time.sleep(LOOK_SECONDS)
            return
        with in_reach():
            come, _ = self._ray.wait(list(of), num_returns=1, timeout=LOOK_SECONDS)
            if come:
                come, _ = self._ray.wait(list(of), num_returns=len(of), timeout=0)
                self._moved = time.monotonic()
        for ref in come:
            actor = of[ref]
            if actor in self._actors:
                self._receive(actor, ref)
        self._give_up(roots)

    def _receive(self, actor: _Actor, ref: Any) -> None:
        errors = self._ray.exceptions
        value = self._come(ref)
        if isinstance(value, errors.RayTaskError):
            raise _told(actor, value) from value
        if isinstance(value, errors.RayError):
            # Else it is asked for again when the head is there.
            if self._watch.is_there(anew=True):
                self._replace(actor, value)
            return
        if ref == actor.started:
            self._prepare(actor)
        elif ref == actor.prepared:
            self._is_ready(actor, value)
        else:
            batch = actor.batches.pop(ref)
            self._done[batch.number] = [replace(each, node=actor.place.node) for each in value]

    @in_reach()
    def _come(self, ref: Any) -> Any:
        """What a call of an actor has returned, or the error that it, or Ray about it, has raised, which may be an OSError too."""
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            return error

    def _give_up(self, roots: Mapping[str, int]) -> None:
        for batch in [each for each in self._lost if each.tries >= TRIES]:
            self._lost.remove(batch)
            failed = batch_of_failures(batch.images, Unreadable(LOST), roots)
            self._done[batch.number] = [failed]

    def _check_starting(self) -> None:
        """An actor may find that somebody else has taken its room, or may never get ready."""
        quiet = time.monotonic() - self._moved
        if quiet > START_SECONDS:
            self._check_some([actor for actor in self._actors if actor.started is None])
        slow = [
            actor
            for actor in self._actors
            if actor.prepared is not None and time.monotonic() - actor.asked > PREPARE_SECONDS
        ]
        for actor in slow:
            self._remove(actor)
            name, minutes = actor.place.name, f"{PREPARE_SECONDS / 60:g}"
            self._problems[actor.place.node] = problem = (
                f"an actor on node {name} has not loaded the model in {minutes} minutes; look at what that node does, or send "
                "the weights with --weights"
            )
            if not self._actors:
                raise ClusterLost(f"{problem}, and {AGAIN}")

    def _listed(self, images: Iterator[ImageSource]) -> Iterator[_Batch]:
        number = 0
        while some := tuple(sent_together(images, self._task.settings.batch_size)):
            # What is sent by a reference may go out again, and is not kept in this process.
            bare = tuple(_without_content(image) for image in some)
            yield _Batch(number, bare, some if bare == some else self._put(some))
            number += 1

    @in_reach()
    def _put(self, images: tuple[ImageSource, ...]) -> Any:
        return self._ray.put(images)


def sent_together(images: Iterator[ImageSource], size: int) -> Iterator[ImageSource]:
    """The next `size` images, or fewer with about CONTENT bytes of content."""
    weight = 0
    for image in islice(images, size):
        yield image
        weight += len(image.content or b"") if isinstance(image, OwnImage) else 0
        if weight > CONTENT:
            return


def _without_content(image: ImageSource) -> ImageSource:
    return replace(image, content=None) if isinstance(image, OwnImage) else image


def _why(error: Exception) -> str:
    """The words for an actor that ended. Those of Ray for too little memory are a page."""
    said = str(error).strip()
    if "memory_usage_threshold" in said:
        return "the memory of the node was nearly full"
    return (said.splitlines() or [type(error).__name__])[-1].strip()


def _told(actor: _Actor, error: Any) -> Exception:
    """The error that an actor has raised, as this process would have."""
    cause = error.cause
    if isinstance(cause, ImageSearchError):
        return ClusterError(f"node {actor.place.name}: {cause}")
    return cause if isinstance(cause, Exception) else error
