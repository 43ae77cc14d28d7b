"""
Measure what threads of FAISS cost and save when processors are busy. "Quiet" is the machine as it is;
"busy" adds as many endless loops as it has processors.

    python benchmarks/threads.py                    # everything, about 15 minutes on 2 cores
    python benchmarks/threads.py search             # a query: one thread or all, one asker or three
    python benchmarks/threads.py commands           # index-images and torch: threads that spin or sleep
    python benchmarks/threads.py quantiser          # training with and without polysemous codes

The script alternates between the two sides of a comparison, and ratios compare neighbours, because machines
are noisy.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import faiss
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from collection import image_vectors, make_collection, text_vectors
from sqlite_utils import Database

from datasette_image_search.search import approximate
from datasette_image_search.search.codes import encode
from datasette_image_search.search.freshness import live_index
from datasette_image_search.search.indexing import index_images
from datasette_image_search.store import Index, find_index
from datasette_image_search.store.stored_vectors import StoredVectors
from datasette_image_search.store.tables import ImageTable

SPINNING = {"GOMP_SPINCOUNT": "300000"}
"""What FAISS does where nobody says OMP_WAIT_POLICY."""

ASLEEP = {"OMP_WAIT_POLICY": "PASSIVE"}

ASKERS = (1, 3)
"""Threads that search at once; Datasette has three."""

QUERIES = 100


@contextmanager
def busy(how: str) -> Iterator[None]:
    count = (os.cpu_count() or 1) if how == "busy" else 0
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def seconds(command: list[str], environment: dict[str, str]) -> float:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OMP", "GOMP"))}
    started = time.perf_counter()
    subprocess.run(command, env={**clean, **environment}, check=True, capture_output=True)
    return time.perf_counter() - started


def compare(
    what: str, how: str, run: Callable[[int], float], names: tuple[str, str], n: int
) -> None:
    """Two ways by turns: `run` takes which of them, and gives what it took."""
    with busy(how):
        pairs = [(run(0), run(1)) for _ in range(n)]
    first, second = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    print(
        f"{what:<34} {how:<6} {names[0]} {first:8.2f}   {names[1]} {second:8.2f}   {ratio:6.2f} x",
        flush=True,
    )


# --- Parts ---------------------------------------------------------------------------------------


def search(database: Path, repeated: int) -> None:
    print(
        "\nMilliseconds of a query, and of processors for it: all threads (spinning, as in a server), one"
    )
    with closing(Database(database, execute_plugins=False)) as db:
        index_images(db, "images", type="ivf", queries=text_vectors(200))
        live = live_index(db.conn, find_index(db.conn))
    assert live.approximate is not None
    print(f"  {live.approximate.tuning}, {live.approximate.tuning.parameters}")
    indexes = {
        "exact": (live.segments[0].faiss_index, 128),
        "ivf": (live.approximate.faiss_index, live.approximate.tuning.candidates),
    }
    queries = text_vectors(QUERIES, seed=5)
    for name, (index, k) in indexes.items():
        if name == "ivf":
            # What 0.1 set, for threads to share the lists of a query.
            faiss.extract_index_ivf(index).parallel_mode = 1
        for how in ("quiet", "busy"):
            for askers in ASKERS:
                for what, number in (("", 0), (", processors", 1)):

                    def run(which: int, index=index, k=k, askers=askers, number=number) -> float:
                        threads = 1 if which else os.cpu_count() or 1
                        return _asked(index, k, queries, askers, threads)[number]

                    compare(f"{name}, {askers} at once{what}", how, run, ("all", "one"), repeated)


def _asked(
    index: faiss.Index, k: int, queries: np.ndarray, askers: int, threads: int
) -> tuple[float, float]:
    """
    Milliseconds of a query, the median, where so many ask one after another; and those that all
    processors worked for one.
    """
    taken: list[float] = []

    def ask() -> None:
        faiss.omp_set_num_threads(threads)
        for query in queries[: max(10, len(queries) // askers)]:
            started = time.perf_counter()
            index.search(query[None], k)
            taken.append((time.perf_counter() - started) * 1000)

    started = time.process_time()
    asking = [threading.Thread(target=ask) for _ in range(askers)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    worked = (time.process_time() - started) * 1000
    return statistics.median(taken), worked / len(taken)


def commands(database: Path, repeated: int) -> None:
    print("\nSeconds, threads that spin and threads that sleep")
    index = [sys.executable, "-m", "sqlite_utils", "index-images", str(database), "images"]
    torch = [sys.executable, "-c", MODEL]
    for what, command in (
        ("index-images --type ivf", [*index, "--type", "ivf"]),
        ("ViT-B-32, 96 images", torch),
    ):
        for how in ("quiet", "busy"):

            def run(which: int, command: list[str] = command) -> float:
                return seconds(command, ASLEEP if which else SPINNING)

            compare(what, how, run, ("spin", "sleep"), repeated)


MODEL = """
import open_clip, torch
model = open_clip.create_model("ViT-B-32").eval()
with torch.inference_mode():
    for _ in range(3):
        model.encode_image(torch.zeros(32, 3, 224, 224))
"""


def _index(dimensions: int) -> Index:
    table = ImageTable("images", "id", key_is_integer=True)
    named = {"id": 1, "image_table": table.name, "model": "", "weights": None, "fingerprint": ""}
    return Index(
        **named, dimensions=dimensions, generation=0, sidecar=None, sidecar_vector_id=0, table=table
    )


def quantiser(_: Path, repeated: int) -> None:
    print("\nSeconds to build IVF256,PQ64 of 20,000 vectors, with polysemous codes and without")
    vectors = image_vectors(20_000)
    ids = np.arange(1, len(vectors) + 1)
    codes = encode(_index(512), [StoredVectors(ids, ids.tolist(), vectors)])
    without = approximate._without_polysemous_codes

    def run(which: int) -> float:
        approximate._without_polysemous_codes = without if which else lambda index: None
        started = time.perf_counter()
        approximate.build(codes, "IVF256,PQ64")
        return time.perf_counter() - started

    compare("build", "quiet", run, ("with", "without"), repeated)


PARTS = {"search": search, "commands": commands, "quantiser": quantiser}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--repeated", type=int, default=3)
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"there is no part {min(unknown)!r}")
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "photos.db"
        make_collection(database, arguments.images)
        for name, part in PARTS.items():
            if name in (arguments.parts or PARTS):
                part(database, arguments.repeated)


if __name__ == "__main__":
    main()
