"""
Measure whether decoding, the model and writing hold each other up: a run with a model that costs nothing.

    python benchmarks/overlap.py FOLDER             # two minutes for 300 photos of 3 megapixels
    python benchmarks/overlap.py FOLDER --lock      # and who holds the interpreter's lock; needs a C compiler

The decoders should never wait for anything but a processor. Linux says how long each thread ran, and how long it could
have run if another process had not had the processor; the rest is waiting. So other work on the machine does not matter.

--lock counts the time of a thread that decodes with the lock of the interpreter and without. As many threads can decode
at once as the time with it goes into the whole. It needs a Python with a shared library, and uses LD_PRELOAD.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
from open_clip.transform import PreprocessCfg, image_transform_v2

from datasette_image_search.decoding.decode import decode_bytes
from datasette_image_search.decoding.opening import DecodeSettings
from datasette_image_search.embedders.preprocessing import TransformPreprocess
from datasette_image_search.embedders.protocol import Embedder
from datasette_image_search.ingest import pipeline
from datasette_image_search.ingest.report import Progress
from datasette_image_search.ingest.survey import EmbedRequest

SIDE = 224

COUNTING = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

static void *(*save)(void);
static void (*restore)(void *);
static __thread double since, with_lock, without;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

__attribute__((constructor)) static void find(void) {
    save = dlsym(RTLD_NEXT, "PyEval_SaveThread");
    restore = dlsym(RTLD_NEXT, "PyEval_RestoreThread");
}

void *PyEval_SaveThread(void) {
    double t = now();
    with_lock += t - since;
    since = t;
    return save();
}

void PyEval_RestoreThread(void *state) {
    without += now() - since;
    restore(state);
    since = now();
}

void start_counting(void) { with_lock = without = 0; since = now(); }
double seconds_with_lock(void) { return with_lock + now() - since; }
double seconds_without(void) { return without; }
"""
"""Takes the place of the two functions by which C code gives the lock away and takes it back."""


class Free(Embedder):
    """Sees pictures of 224 pixels as ViT-B-32 does, and takes no time for their vectors."""

    id = "palette"  # The command has to know it.
    fingerprint = "free"
    dimensions = 512
    image_size = SIDE
    preprocess = TransformPreprocess(
        partial(image_transform_v2, PreprocessCfg(size=SIDE), is_train=False)
    )

    def encode_images(self, inputs: np.ndarray) -> np.ndarray:
        vectors = inputs.reshape(len(inputs), -1)[:, : self.dimensions] + np.float32(3)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def seconds_of_threads() -> dict[str, float]:
    """Name -> seconds that a thread ran, or waited for a processor only."""
    found = {}
    for thread in threading.enumerate():
        ran, could_run, _ = (
            Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()
        )
        found[thread.name] = (int(ran) + int(could_run)) / 1e9
    return found


def measure_run(folder: Path, workers: int) -> None:
    marks: list[tuple[int, float, dict[str, float]]] = []

    def mark(progress: Progress) -> None:
        marks.append((progress.done, time.perf_counter(), seconds_of_threads()))

    with tempfile.TemporaryDirectory() as work, patch.object(pipeline, "load_embedder") as load:
        load.return_value = Free()
        request = EmbedRequest(
            Path(work, "free.db"), "images", [folder], model="palette", workers=workers
        )
        pipeline.embed_images(request, mark)
    # Without the start, and without the end, when nothing is left to decode.
    (first, started, before), (last, ended, after) = marks[1], marks[-3]
    seconds = ended - started
    print(f"{workers} decoders, {(last - first) / seconds:.1f} images/s")
    for name in sorted(before.keys() & after.keys()):
        print(f"  {name:<12} busy {(after[name] - before[name]) / seconds:.3f} of the time")


def measure_lock(folder: Path) -> None:
    lock = ctypes.PyDLL(os.environ["LD_PRELOAD"])
    for name in ("seconds_with_lock", "seconds_without"):
        getattr(lock, name).restype = ctypes.c_double
    photos = [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))[:24]]
    for size in (320, None):
        settings = DecodeSettings(Free.preprocess, SIDE, thumbnail_size=size)
        decode_bytes(photos[0], "", settings)
        lock.start_counting()
        for photo in photos:
            decode_bytes(photo, "", settings)
        held, free = (
            seconds / len(photos) * 1e3
            for seconds in (lock.seconds_with_lock(), lock.seconds_without())
        )
        print(
            f"thumbnail {size}: {held + free:.1f} ms, {held:.1f} of it with the lock: "
            f"{(held + free) / held:.1f} threads"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--lock", action="store_true")
    parser.add_argument("--counted", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.counted:
        measure_lock(options.folder)
        return
    measure_run(options.folder, options.workers)
    if options.lock:
        with tempfile.TemporaryDirectory() as work:
            library = Path(work, "counting.so")
            compiler = ["cc", "-O2", "-shared", "-fPIC", "-o", library, "-x", "c", "-", "-ldl"]
            subprocess.run(compiler, input=COUNTING, text=True, check=True)
            subprocess.run(
                [sys.executable, __file__, str(options.folder), "--counted"],
                env={**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"},
                check=True,
            )


if __name__ == "__main__":
    main()
