"""
Measure `embed-images --ray` on this machine: how the images a second grow with the actors, and what Ray costs.

    python benchmarks/ray_scaling.py
    python benchmarks/ray_scaling.py --images 5000 --rounds 3

The model of the first table sleeps 100 ms for each batch, as one does that waits for a GPU; so actors need no processors. The
second table is of the model palette, on the processors of this machine. The start of Ray and of its actors is not counted.
Processor time is that of this process and of all that it started: on a busy machine it says more than the clock. It needs Linux.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasette_image_search.ingest import pipeline
from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images
from datasette_image_search.ingest.report import Progress, Summary

ROOT = Path(__file__).resolve().parents[1]

ACTORS = (1, 2, 4, 8, 16)

BATCH = 1
"""Pictures a batch of the model that sleeps: with more, two processors are what 8 actors wait for."""

PLUGIN = """
import time
import numpy as np
from datasette_image_search.embedders.palette import PaletteEmbedder
from datasette_image_search.hookspecs import hookimpl


class Sleeping(PaletteEmbedder):
    id = "sleeping"

    def encode_images(self, inputs):
        time.sleep(0.1)
        vectors = np.ones((len(inputs), self.dimensions), np.float32)
        for vector, pixels in zip(vectors, inputs):
            some = np.ravel(pixels)[:: max(1, np.size(pixels) // self.dimensions)][: self.dimensions]
            vector[: len(some)] = some + 1.0
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@hookimpl
def register_image_embedders(register):
    register("sleeping", lambda request: Sleeping())
"""


def install_model(site: Path) -> None:
    info = site / "sleeping-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sleeping\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[datasette_image_search]\nsleeping = sleeping\n")
    (site / "sleeping.py").write_text(PLUGIN)
    sys.path.insert(0, str(site))
    paths = [str(site), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)


def draw(folder: Path, count: int, size: tuple[int, int]) -> Path:
    rng = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"{number // 500}"
        place.mkdir(parents=True, exist_ok=True)
        few = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        few.resize(size, Image.Resampling.BICUBIC).save(place / f"{number:05}.jpg")
    return folder


def processor_time() -> float:
    """Seconds of this process and of all below it."""
    parents, ticks = {}, {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            words = file.read_text().rpartition(")")[2].split()
            pid = int(file.parent.name)
            parents[pid], ticks[pid] = int(words[1]), sum(map(int, words[11:15]))
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(ticks[pid] for pid in ours) / os.sysconf("SC_CLK_TCK")


class Clock:
    """The time from the first image to the last, of a clock and of processors, and the seconds in which batches were written."""

    def __init__(self) -> None:
        self.began = self.ended = self.writing = self.used_before = self.used = 0.0

    def on_progress(self, progress: Progress) -> None:
        if progress.doing != "Embedding":
            return
        if not progress.done:
            self.began, self.used_before = time.perf_counter(), processor_time()
        if progress.done == progress.total:
            self.ended, self.used = time.perf_counter(), processor_time()

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def processor_seconds(self) -> float:
        return self.used - self.used_before

    @contextmanager
    def timing_writes(self) -> Iterator[None]:
        write = pipeline.write_batch

        def timed(*args: Any) -> None:
            started = time.perf_counter()
            write(*args)
            self.writing += time.perf_counter() - started

        pipeline.write_batch = timed
        try:
            yield
        finally:
            pipeline.write_batch = write


def run(folder: Path, **options: Any) -> tuple[Summary, Clock]:
    clock = Clock()
    with tempfile.TemporaryDirectory() as place, clock.timing_writes():
        request = EmbedRequest(Path(place, "photos.db"), "images", (folder,), **options)
        return embed_images(request, clock.on_progress), clock


def scaling(folder: Path, batches: int, numbers: Sequence[int]) -> list[tuple[Any, ...]]:
    import ray

    rows: list[tuple[Any, ...]] = []
    for actors in numbers:
        photos = draw(folder / str(actors), BATCH * batches * actors, (16, 12))
        ray.init(
            address="local",
            num_cpus=actors,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=200_000_000,
        )
        try:
            summary, clock = run(
                photos, model="sleeping", batch_size=BATCH, workers=1, ray="local", ray_cpus=1
            )
        finally:
            ray.shutdown()
        rate = summary.embedded / clock.seconds
        one = rows[0][1] / rows[0][0] if rows else rate / actors
        share = clock.writing / clock.seconds
        used = clock.processor_seconds / clock.seconds
        rows.append((actors, rate, rate / (actors * one), used, share))
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def beside_threads(folder: Path, count: int, rounds: int) -> list[tuple[Any, ...]]:
    photos = draw(folder / "photos", count, (640, 480))
    ways: dict[str, dict[str, Any]] = {
        "without Ray": {},
        "--ray --ray-cpus 1": {"ray": "local", "ray_cpus": 1},
        "--ray": {"ray": "local"},
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    used: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, options in ways.items():
            _, clock = run(photos, model="palette", **options)
            seconds[way].append(clock.seconds)
            used[way].append(clock.processor_seconds)
            print(way, seconds[way][-1], used[way][-1], file=sys.stderr, flush=True)
    rows = []
    for way in ways:
        ratios = [_ratio(times[way], times["without Ray"]) for times in (seconds, used)]
        rows.append((way, median(seconds[way]), median(used[way]), *ratios))
    return rows


def _ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """By pairs, each of which had the same neighbours on the machine."""
    return median(ours / other for ours, other in zip(times, others, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", type=int, default=5000, help="photos of the second table")
    parser.add_argument("--batches", type=int, default=60, help="for each actor of the first")
    parser.add_argument("--rounds", type=int, default=3, help="of the second")
    parser.add_argument("--actors", type=int, nargs="*", default=ACTORS, help="of the first")
    arguments = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    # Ray's actors would wait for all other programs of a busy machine, which a run without Ray does not.
    os.environ.update(RAY_worker_niceness="0")
    with tempfile.TemporaryDirectory() as folder:
        install_model(Path(folder, "site"))
        columns = ["actors", "images/s", "of linear", "processors used", "time that is writing"]
        rows = scaling(Path(folder), arguments.batches, arguments.actors)
        print(tabulate(rows, columns, floatfmt=("", ".1f", ".2f", ".2f", ".2f")), flush=True)
        if not arguments.rounds:
            return
        columns = ["", "s", "s of processors", "of the time without Ray", "of the processor time"]
        rows = beside_threads(Path(folder), arguments.images, arguments.rounds)
        print("", tabulate(rows, columns, floatfmt=("", ".1f", ".1f", ".2f", ".2f")), sep="\n")


if __name__ == "__main__":
    main()
