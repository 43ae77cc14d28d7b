"""
Measure how fast near-duplicates are found among n vectors.

    python benchmarks/duplicates.py                              # 10,000 to 100,000 of our own
    python benchmarks/duplicates.py --vectors images.npy -n 50000

Our own vectors are like CLIP's in what matters: 512 dimensions, a narrow cone with a mean score of about
0.5, and a few directions that hold most of the spread. In each set, 1 in 50 vectors is a near-duplicate
of another one, with a score of about 0.98. `joined` counts how many of these were found, and `other` how
many other vectors were joined. `plain` is the time to compute only the scores of all pairs, by sgemm in
blocks, measured on a part of them; `ratio` compares the two times.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np

from datasette_image_search.search.duplicates import connected

DIMENSIONS = 512
BLOCK = 4096
PART = 8
"""Blocks of scores that `plain` is measured on."""


def clip_like(n: int, random: np.random.Generator) -> np.ndarray:
    """Shape (n, DIMENSIONS), float32, unit norm."""
    spread = (1.0 / np.arange(1, DIMENSIONS + 1) ** 0.5).astype(np.float32)
    vectors = random.standard_normal((n, DIMENSIONS), dtype=np.float32) * spread
    vectors[:, -1] += np.sqrt((spread**2).sum())
    return normalised(vectors)


def normalised(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def plant(vectors: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Make near-duplicates of every fiftieth vector, at other places; shape (m, 2), the pairs."""
    places = random.permutation(len(vectors))[: len(vectors) // 50 * 2].reshape(-1, 2)
    noise = normalised(random.standard_normal((len(places), vectors.shape[1]), dtype=np.float32))
    vectors[places[:, 1]] = normalised(vectors[places[:, 0]] + 0.2 * noise)
    return places


def plain_seconds(vectors: np.ndarray) -> float:
    """Of all pairs once, from the time of PART blocks."""
    rows, columns = vectors[:BLOCK], vectors[-BLOCK:]
    rows @ columns.T
    started = time.perf_counter()
    for _ in range(PART):
        (rows @ columns.T).max()
    pairs = len(rows) * len(columns) * PART
    return (time.perf_counter() - started) / pairs * len(vectors) ** 2 / 2


def report(vectors: np.ndarray, threshold: float) -> None:
    vectors = vectors.copy()
    planted = plant(vectors, np.random.default_rng(1))
    started = time.perf_counter()
    labels = connected(vectors.__getitem__, len(vectors), threshold)
    seconds = time.perf_counter() - started
    found = (labels[planted[:, 0]] == labels[planted[:, 1]]).sum()
    joined = (labels != np.arange(len(labels))).sum()
    plain = plain_seconds(vectors)
    print(
        f"{len(vectors):>9,} {threshold:>9.2f} {seconds:>8.1f} {f'{found:,}/{len(planted):,}':>14} "
        f"{joined - found:>8,} {plain:>8.1f} {plain / seconds:>6.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--vectors", type=Path, help="a .npy file, shape (n, dimensions)")
    parser.add_argument("-n", type=int, nargs="*", default=[10_000, 30_000, 100_000])
    parser.add_argument("--threshold", type=float, nargs="*", default=[0.95, 0.9])
    options = parser.parse_args()
    if options.vectors:
        vectors = normalised(np.load(options.vectors).astype(np.float32))
    else:
        vectors = clip_like(max(options.n), np.random.default_rng(0))
    print(
        f"{'n':>9} {'threshold':>9} {'seconds':>8} {'joined':>14} {'other':>8} {'plain':>8} {'ratio':>6}"
    )
    for n in options.n:
        for threshold in options.threshold:
            report(vectors[:n], threshold)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory {peak:.1f} GB, with the vectors and copies of them for this measurement")


if __name__ == "__main__":
    main()
