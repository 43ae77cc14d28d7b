"""
Approximate FAISS indexes: which one suits a collection, how it is built, and how it is tuned.

One proposes candidates, whose scores are then computed from the codes, so that it decides only what
is looked at and no score or order depends on it. Below AUTO_EXACT vectors none is made unless a
person asks: there the exact search of all codes takes no longer than people notice.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass, replace

import faiss
import numpy as np

from ..engines.faiss_threads import threads_for
from ..errors import ImageSearchError
from ..progress import Report, silent
from ..store.code_dimensions import ALIGNMENT
from .codes import Codes, fitted
from .faiss_files import is_readable
from .tuning import RECALL_AT, TARGET_RECALL, Tuning

AUTO_EXACT = 1_000_000
"""Vectors up to which "auto" is exact: 40 ms a query, at 512 dimensions and on one processor."""

CANDIDATES = (256, 1024, 4096)
"""How many candidates may be proposed: coarser codes need more."""

TRAINING_PER_LIST = 40
"""FAISS warns below 39 training vectors for each list."""

ITERATIONS = 10
"""Of k-means; more of them change the recall by less than its error."""

ONE_LEVEL = 1024
"""Lists up to which k-means begins with random vectors. For more, the vectors are first put into parts, as many as the
square root of the lists, and each part finds its share of them; LAST_ITERATIONS of all follow. With 8,192 lists this takes a
quarter of the time, for the same recall."""

LAST_ITERATIONS = 2

TYPES = ("auto", "flat", "ivf")

FORMER_TYPES = {"hnsw": "HNSW32_SQ8", "ivfpq": "ivf"}
"""Names that a database may have from earlier versions, and the types that are made for them now."""

MOST_ZEROS = 256
"""Components that an index may have besides those of the codes."""

_TOO_SMALL = re.compile(r"(?<!\d)0+(?!\d)|HNSW0*1(?!\d)")
"""In a factory string, what FAISS ends the process on: parts of nothing, and a graph of single links."""

_TOO_FEW = re.compile(r"should be at least as large as number of clusters \((\d+)\)")
"""What FAISS says, of vectors to train with."""


class IndexTypeError(ImageSearchError):
    """An approximate index that FAISS cannot make, or not of so few vectors."""


@dataclass(frozen=True)
class Approximate:
    """
    `vector_ids` has the id of the vector at each position of the FAISS index. `file` and `memory` are as
    those of Codes.
    """

    faiss_index: faiss.Index
    vector_ids: np.ndarray
    tuning: Tuning
    file: tuple[int, ...] | None = None
    memory: np.ndarray | None = None

    def prepared(self) -> Approximate:
        """
        With the parameters of its tuning set. Only before anybody else searches it: FAISS keeps
        them in the index.
        """
        _set(self.faiss_index, self.tuning.parameters)
        return self

    def propose(self, vectors: np.ndarray, n: int | None = None) -> list[np.ndarray]:
        """
        For each of m vectors, shape (m, dimensions), the ids of up to n vectors, by default of its `candidates`, the best by
        the codes here first.
        """
        return _proposed(self, vectors, self.tuning.candidates if n is None else n)

    @property
    def has_lists(self) -> bool:
        return _lists(self.faiss_index) is not None

    def reaching(self, vector: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
        """
        The scores, by the codes here, and the ids of the vectors with one above `least`, as far as they are in the lists
        that a search looks into. An id of a film may come several times. Only if it `has_lists`.
        """
        with threads_for(vector[None]):
            query = np.ascontiguousarray(fitted(vector[None], self.faiss_index.d))
            _, scores, positions = self.faiss_index.range_search(query, least)
        known = self._is_known(positions)
        return scores[known], self.vector_ids[positions[known]]

    def _is_known(self, positions: np.ndarray) -> np.ndarray:
        # A file may have any labels in its lists.
        return (positions >= 0) & (positions < len(self.vector_ids))

    def bytes_per_vector(self) -> float:
        """In the file, which is written to nowhere: it may have gigabytes."""
        lengths: list[int] = []
        writer = faiss.PyCallbackIOWriter(lambda block: lengths.append(len(block)))
        faiss.write_index(self.faiss_index, writer)
        return sum(lengths) / max(1, self.faiss_index.ntotal)


def resolve_type(type: str, vectors: int) -> str | None:
    """
    The factory string for one of TYPES, or any other as it is; None if the search is exact.

    The number of lists follows FAISS's guidelines: about 4 sqrt(n), a power of two.
    """
    if type == "auto":
        type = "ivf" if vectors > AUTO_EXACT else "flat"
    lists = 2 ** max(2, round(np.log2(4 * max(1, vectors) ** 0.5)))
    lists = min(lists, max(1, vectors // TRAINING_PER_LIST))
    return {"flat": None, "ivf": f"IVF{lists},SQ8"}.get(type, type)


def build(codes: Codes, factory: str, *, gpu: bool = False, report: Report = silent) -> faiss.Index:
    """
    An index of all codes by a factory string, trained on some of them.

    Raises IndexTypeError for what FAISS does not make, and where `gpu` is asked for in vain.
    """
    index = _index_for(codes, factory, gpu=gpu)
    try:
        _train(index, codes, report)
        _add(index, codes, 0, report)
    except (RuntimeError, MemoryError) as error:
        said = str(error).split(": ")[-1].strip()
        if (few := _TOO_FEW.search(said)) and len(codes) < int(few[1]):
            raise IndexTypeError(
                f"an index by {factory!r} needs at least {int(few[1]):,} vectors, and there are "
                f"{len(codes):,}; use --type flat, which is exact, and fast for so few"
            ) from error
        raise IndexTypeError(
            f"FAISS cannot build {factory!r} of {len(codes):,} vectors: {said}; use another --type, "
            "or flat, which is exact"
        ) from error
    return faiss.index_gpu_to_cpu(index) if gpu else index


def _index_for(codes: Codes, factory: str, *, gpu: bool) -> faiss.Index:
    """
    An index of nothing yet, for codes. If these have biases, it may have more components, all zeros, as a
    product quantiser needs a multiple of its parts.
    """
    components = codes.faiss_index.d
    try:
        return empty_index(components, factory, gpu=gpu)
    except IndexTypeError:
        for more in range(ALIGNMENT, MOST_ZEROS + 1, ALIGNMENT) if codes.has_biases else ():
            with suppress(IndexTypeError):
                return empty_index(components + more, factory, gpu=gpu)
        raise


def empty_index(dimensions: int, factory: str, *, gpu: bool = False) -> faiss.Index:
    """
    An index by a factory string, of nothing yet.

    Raises IndexTypeError for what FAISS does not make, and where `gpu` is asked for in vain.
    """
    none = f"FAISS makes no index of {dimensions} dimensions by {factory!r}"
    others = f"use one of {', '.join(TYPES)}, or a factory string such as IVF1024,SQ8"
    if _TOO_SMALL.search(factory):
        raise IndexTypeError(f"{none}, in which a number is too small; {others}")
    try:
        index = faiss.index_factory(dimensions, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise IndexTypeError(f"{none}; {others}") from error
    if not is_readable(index):
        raise IndexTypeError(
            f"an index by {factory!r} cannot be kept in a file here; use one of {', '.join(TYPES)}, or a "
            "factory string without fs, NSG and the like, such as IVF1024,SQ8"
        )
    return _on_gpu(index, factory) if gpu else index


def extended(approximate: Approximate, codes: Codes, report: Report) -> Approximate | None:
    """
    The same with those codes whose ids are higher, without training again; None if FAISS cannot
    add to it, or it would not be worth it: where it has held less than half of them, or a fifth of
    what it holds is gone.

    Adds to the FAISS index itself, which must not be mapped from a file: FAISS ends the process
    where memory that is not its own would have to grow.
    """
    assert approximate.file is None
    last = int(approximate.vector_ids[-1]) if len(approximate.vector_ids) else 0
    first = int(np.searchsorted(codes.vector_ids, last, side="right"))
    if first < len(codes) / 2 or first < 0.8 * len(approximate.vector_ids):
        return None
    try:
        _add(approximate.faiss_index, codes, first, report)
    except RuntimeError:
        return None
    vector_ids = np.concatenate([approximate.vector_ids, codes.vector_ids[first:]])
    return Approximate(approximate.faiss_index, vector_ids, approximate.tuning)


def tune(
    index: faiss.Index,
    codes: Codes,
    asked: str,
    factory: str,
    queries: np.ndarray,
    *,
    target: float = TARGET_RECALL,
    report: Report = silent,
) -> Approximate:
    """
    The index with the fastest parameters that reach a recall of `target`, for each of RECALL_AT, for
    the queries, shape (n, dimensions), or where none do, with those of the highest recall.
    """
    none = tuple((k, 0.0) for k in RECALL_AT)
    untuned = Tuning(asked, factory, "", CANDIDATES[0], target, none, len(queries))
    approximate = Approximate(index, codes.vector_ids, untuned).prepared()
    truth = exact_ids(codes, queries, max(RECALL_AT))
    best: tuple[tuple[bool, float], Approximate] | None = None
    for step, candidates in enumerate(CANDIDATES):
        report("Tuning", step, len(CANDIDATES))
        tuned, milliseconds = _least_effort(approximate, candidates, queries, truth)
        recall = tuned.tuning.recall
        reached = recall >= target
        merit = (reached, -milliseconds if reached else recall)
        if best is None or merit > best[0]:
            best = merit, tuned
        if reached and step > 0:
            # More candidates, and fewer lists to find them in, never paid a third time.
            break
    report("Tuning", len(CANDIDATES), len(CANDIDATES))
    assert best is not None
    return best[1].prepared()


def exact_ids(codes: Codes, queries: np.ndarray, k: int) -> list[np.ndarray]:
    """The ids of the k best by the codes for each query, shape (n, dimensions), best first."""
    _, positions = codes.nearest(queries, k)
    return [codes.vector_ids[row] for row in positions]


def _least_effort(
    approximate: Approximate,
    candidates: int,
    queries: np.ndarray,
    truth: list[np.ndarray],
) -> tuple[Approximate, float]:
    """With the least effort that reaches the target at so many candidates, and its milliseconds."""
    efforts = _efforts(approximate.faiss_index, candidates)
    low, high = 0, len(efforts) - 1
    while low < high:
        middle = (low + high) // 2
        found, _ = _found(approximate, efforts[middle], candidates, queries, truth)
        # Above it by twice its standard error, so that other queries reach it as well.
        errors = found.std(axis=1) / len(queries) ** 0.5
        enough = (found.mean(axis=1) - 2 * errors >= approximate.tuning.target).all()
        low, high = (low, middle) if enough else (middle + 1, high)
    parameters = efforts[low] if efforts else ""
    found, milliseconds = _found(approximate, parameters, candidates, queries, truth)
    tuning = replace(
        approximate.tuning,
        parameters=parameters,
        candidates=candidates,
        recalls=tuple(zip(RECALL_AT, found.mean(axis=1).tolist(), strict=True)),
    )
    return replace(approximate, tuning=tuning), milliseconds


def _found(
    approximate: Approximate,
    parameters: str,
    candidates: int,
    queries: np.ndarray,
    truth: list[np.ndarray],
) -> tuple[np.ndarray, float]:
    """
    The share of the best that is found, shape (len(RECALL_AT), queries), and the milliseconds of one
    query.
    """
    _set(approximate.faiss_index, parameters)
    # Of this thread, which does all of it, whatever else the machine does meanwhile.
    started = time.thread_time()
    proposed = [_proposed(approximate, query[None], candidates)[0] for query in queries]
    milliseconds = (time.thread_time() - started) * 1000 / len(queries)
    is_found = [np.isin(best, ids) for best, ids in zip(truth, proposed, strict=True)]
    shares = [[found[:k].mean() for found in is_found] for k in RECALL_AT]
    return np.array(shares), milliseconds


def _proposed(approximate: Approximate, vectors: np.ndarray, candidates: int) -> list[np.ndarray]:
    n = min(candidates, approximate.faiss_index.ntotal)
    with threads_for(vectors):
        queries = fitted(vectors, approximate.faiss_index.d)
        _, positions = approximate.faiss_index.search(np.ascontiguousarray(queries), n)
    return [approximate.vector_ids[row[approximate._is_known(row)]] for row in positions]


def _efforts(index: faiss.Index, candidates: int) -> list[str]:
    """Parameters for a search, from the least effort to the greatest; none where FAISS has none."""
    lists = _lists(index)
    if lists is None:
        while isinstance(index := faiss.downcast_index(index), faiss.IndexPreTransform):
            index = index.index
        if isinstance(index, faiss.IndexHNSW):
            return [f"efSearch={candidates * factor}" for factor in (1, 2, 4, 8)]
        return []
    steps = np.unique(np.geomspace(1, lists, 200).astype(int))
    return [f"nprobe={probes}" for probes in steps]


def _lists(index: faiss.Index) -> int | None:
    """How many lists an index has, None for one that has no such thing."""
    try:
        return faiss.extract_index_ivf(index).nlist
    except RuntimeError:
        return None


def _set(index: faiss.Index, parameters: str) -> None:
    if parameters:
        faiss.ParameterSpace().set_index_parameters(index, parameters)


def _train(index: faiss.Index, codes: Codes, report: Report) -> None:
    if index.is_trained:
        return
    lists = _lists(index) or 1024
    n = min(len(codes), max(lists * TRAINING_PER_LIST, 50_000))
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.choice(len(codes), n, replace=False))
    sample = fitted(codes.decoded(chosen), index.d)
    if isinstance(index, faiss.IndexIVF):
        _train_lists(index, sample, report)
    else:
        report("Training", 0, 1)
    _without_polysemous_codes(index)
    index.train(sample)
    report("Training", ITERATIONS, ITERATIONS)


def _without_polysemous_codes(index: faiss.Index) -> None:
    """
    Of product quantisers, which FAISS orders for minutes so that they can be compared by their bits:
    no search of ours does that.
    """
    inner = [faiss.downcast_index(index)]
    while inner:
        part = inner.pop()
        wrapped = (getattr(part, name, None) for name in ("index", "base_index", "storage"))
        inner += [faiss.downcast_index(each) for each in wrapped if each is not None]
        if hasattr(part, "do_polysemous_training"):
            part.do_polysemous_training = False


def _train_lists(index: faiss.IndexIVF, sample: np.ndarray, report: Report) -> None:
    """K-means of the lists an iteration at a time, which IndexIVF.train() does without a word."""
    clustering = faiss.Clustering(index.d, index.nlist)
    clustering.niter, clustering.spherical = 1, True
    clustering.max_points_per_centroid = len(sample)
    clustering.min_points_per_centroid = 1
    iterations = ITERATIONS
    if ONE_LEVEL < index.nlist <= len(sample) // 2:
        report("Training", 0, ITERATIONS)
        iterations = LAST_ITERATIONS
        centroids = _centroids_of_parts(sample, index.nlist, report)
        faiss.copy_array_to_vector(centroids, clustering.centroids)
    for iteration in range(iterations):
        report("Training", ITERATIONS - iterations + iteration, ITERATIONS)
        index.quantizer.reset()
        clustering.train(sample, index.quantizer)


def _centroids_of_parts(sample: np.ndarray, lists: int, report: Report) -> np.ndarray:
    """The centroids of so many lists, shape (lists * dimensions,): each part of the sample has its share of them."""
    parts = _k_means(sample, round(lists**0.5))
    _, nearest = parts.index.search(sample, 1)
    sizes = np.bincount(nearest[:, 0], minlength=parts.k)
    bounds = np.rint(np.cumsum(sizes) * (lists / len(sample))).astype(int)
    shares = np.diff(bounds, prepend=0)
    centroids = []
    for part, share in enumerate(shares):
        report("Training", (ITERATIONS - LAST_ITERATIONS) * part // parts.k, ITERATIONS)
        if share:
            centroids.append(_k_means(sample[nearest[:, 0] == part], int(share)).centroids)
    return np.concatenate(centroids).ravel()


def _k_means(sample: np.ndarray, k: int) -> faiss.Kmeans:
    k_means = faiss.Kmeans(
        sample.shape[1],
        k,
        niter=ITERATIONS,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=len(sample),
    )
    k_means.train(sample)
    return k_means


def _add(index: faiss.Index, codes: Codes, first: int, report: Report) -> None:
    added, count = 0, len(codes) - first
    for block in codes.blocks(first):
        report("Adding", added, count)
        index.add(fitted(block, index.d))
        added += len(block)
    report("Adding", count, count)


def _on_gpu(index: faiss.Index, factory: str) -> faiss.Index:
    if not hasattr(faiss, "StandardGpuResources"):
        raise IndexTypeError(
            "this FAISS is built without GPUs (as faiss-cpu is); install one that is built with "
            "them, or leave --gpu out"
        )
    if not faiss.get_num_gpus():
        raise IndexTypeError("FAISS finds no GPU here; leave --gpu out")
    try:
        return faiss.index_cpu_to_all_gpus(index)
    except RuntimeError as error:
        raise IndexTypeError(f"FAISS cannot build {factory!r} on a GPU; leave --gpu out") from error
