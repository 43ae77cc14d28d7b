"""Approximate indexes: whatever a person asks for is built, or refused with a sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import faiss
import numpy as np
import pytest

from datasette_image_search.progress import silent
from datasette_image_search.search import approximate as approximate_module
from datasette_image_search.search import codes as codes_module
from datasette_image_search.search.approximate import (
    AUTO_EXACT,
    CANDIDATES,
    RECALL_AT,
    Approximate,
    IndexTypeError,
    Tuning,
    _without_polysemous_codes,
    build,
    empty_index,
    exact_ids,
    extended,
    resolve_type,
    tune,
)
from datasette_image_search.search.sidecar import open_approximate, write_sidecar

from .made_codes import BUILDABLE, INDEX, REFUSED, make_codes
from .random_tables import random_vectors

DIMENSIONS = 16
VECTORS = random_vectors(1200, DIMENSIONS)
CODES = make_codes(VECTORS)
QUERIES = random_vectors(30, DIMENSIONS, seed=1)
HELD_OUT = random_vectors(100, DIMENSIONS, seed=2)


def make_approximate(factory: str, codes=CODES) -> Approximate:
    return tune(build(codes, factory), codes, factory, factory, QUERIES)


def recall(
    approximate: Approximate, codes=CODES, queries: np.ndarray = HELD_OUT, k: int = RECALL_AT[0]
) -> float:
    found = approximate.propose(queries)
    truth = exact_ids(codes, queries, k)
    shares = [len(np.intersect1d(a, b)) / len(a) for a, b in zip(truth, found, strict=True)]
    return float(np.mean(shares))


# --- Which one -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "vectors", "factory"),
    [
        ("auto", 0, None),
        ("auto", AUTO_EXACT, None),
        ("auto", AUTO_EXACT + 1, "IVF4096,SQ8"),
        ("auto", 5_000_000, "IVF8192,SQ8"),
        ("flat", 5_000_000, None),
        ("ivf", 300, "IVF7,SQ8"),
        ("ivf", 1, "IVF1,SQ8"),
        ("ivf", 0, "IVF1,SQ8"),
        ("OPQ8,IVF16,PQ8", 10, "OPQ8,IVF16,PQ8"),
    ],
)
def test_a_type_becomes_a_factory_string(type: str, vectors: int, factory: str | None) -> None:
    assert resolve_type(type, vectors) == factory


# --- How it is built -----------------------------------------------------------------------------


@pytest.mark.parametrize("factory", BUILDABLE)
def test_what_faiss_makes_is_built_tuned_written_and_read_again(
    tmp_path: Path, factory: str
) -> None:
    made = make_approximate(factory)
    assert made.faiss_index.ntotal == len(CODES)
    assert made.tuning.recall > 0.95
    assert recall(made) > 0.9
    index = replace(INDEX, dimensions=DIMENSIONS)
    write_sidecar(tmp_path / "file", index, made)
    opened = open_approximate(tmp_path / "file", index)
    assert opened.tuning == made.tuning
    for one, other in zip(made.propose(HELD_OUT), opened.propose(HELD_OUT), strict=True):
        assert set(one) == set(other)


@pytest.mark.parametrize("factory", ["IVF16,SQ8", "HNSW16", "PCA8,IVF4,Flat"])
def test_its_size_is_that_of_the_file_that_faiss_writes(tmp_path: Path, factory: str) -> None:
    made = make_approximate(factory)
    faiss.write_index(made.faiss_index, str(tmp_path / "file"))
    assert made.bytes_per_vector() * len(CODES) == (tmp_path / "file").stat().st_size


@pytest.mark.parametrize("factory", REFUSED)
def test_what_faiss_does_not_make_is_refused_with_a_sentence(factory: str) -> None:
    with pytest.raises(IndexTypeError) as refused:
        tune(build(CODES, factory), CODES, factory, factory, QUERIES)
    sentence = str(refused.value)
    assert repr(factory) in sentence
    assert "\n" not in sentence
    assert "Error in" not in sentence
    assert len(sentence) < 250


@pytest.mark.parametrize("n", [1, 2, 5, 39, 100])
@pytest.mark.parametrize("type", ["ivf", "HNSW32_SQ8", "IVF1,PQ2"])
def test_few_vectors_are_indexed_or_refused(n: int, type: str) -> None:
    codes = make_codes(VECTORS[:n])
    factory = resolve_type(type, n)
    try:
        made = tune(build(codes, factory), codes, type, factory, QUERIES)
    except IndexTypeError as refused:
        assert type == "IVF1,PQ2"
        assert str(refused).endswith(  # noqa: PT017
            f"needs at least 256 vectors, and there are {n}; use --type flat, which is exact, and fast "
            "for so few"
        )
    else:
        assert recall(made, codes) == 1


def test_a_gpu_that_is_not_there_is_said() -> None:
    with pytest.raises(IndexTypeError, match="leave --gpu out"):
        build(CODES, "IVF16,SQ8", gpu=True)


def test_progress_goes_from_nothing_to_all() -> None:
    reported: list[tuple[str, int, int]] = []
    index = build(CODES, "IVF16,SQ8", report=lambda *step: reported.append(step))
    tune(index, CODES, "ivf", "IVF16,SQ8", QUERIES, report=lambda *step: reported.append(step))
    for doing in ("Training", "Adding", "Tuning"):
        steps = [(done, of) for name, done, of in reported if name == doing]
        assert steps == sorted(steps)
        assert steps[0][0] == 0
        assert steps[-1][0] == steps[-1][1]


def closeness(index: faiss.IndexIVF) -> float:
    """The mean cosine of a vector to the centroid of its list."""
    scores, _ = index.quantizer.search(VECTORS, 1)
    return float(scores.mean())


def test_lists_that_begin_with_those_of_parts_are_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    one_level = build(CODES, "IVF64,SQ8")
    monkeypatch.setattr(approximate_module, "ONE_LEVEL", 8)
    told: list[tuple[str, int, int]] = []
    two_levels = build(CODES, "IVF64,SQ8", report=lambda *step: told.append(step))
    assert two_levels.quantizer.ntotal == 64
    # Eight parts, two iterations of all, and the end.
    done = [done for name, done, of in told if name == "Training"]
    assert done == [0, *range(8), 8, 9, 10]
    assert closeness(two_levels) == pytest.approx(closeness(one_level), rel=0.02)
    begun = approximate_module._centroids_of_parts(VECTORS, 64, silent).reshape(64, DIMENSIONS)
    assert len(np.unique(begun, axis=0)) == 64


def test_more_lists_than_parts_have_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most vectors are the same, and few are all others: each part has no more lists than vectors."""
    monkeypatch.setattr(approximate_module, "ONE_LEVEL", 8)
    codes = make_codes(np.concatenate([np.repeat(VECTORS[:1], 500, axis=0), VECTORS[:50]]))
    assert build(codes, "IVF200,SQ8").quantizer.ntotal == 200
    with pytest.raises(IndexTypeError, match="needs at least 600 vectors, and there are 550"):
        build(codes, "IVF600,SQ8")


# --- How it is tuned -----------------------------------------------------------------------------


@pytest.mark.parametrize("target", [0.5, 0.9, 0.98, 1.0])
@pytest.mark.parametrize("factory", ["IVF16,SQ8", "HNSW16_SQ8"])
def test_the_recall_that_was_asked_for_is_reached(factory: str, target: float) -> None:
    """Of as many as pages show, too, which takes looking into more lists than the best few do."""
    made = tune(build(CODES, factory), CODES, factory, factory, QUERIES, target=target)
    assert [k for k, _ in made.tuning.recalls] == [20, 128]
    for k, stated in made.tuning.recalls:
        assert stated >= target
        assert stated == pytest.approx(recall(made, queries=QUERIES, k=k), abs=1e-6)
        assert recall(made, k=k) > target - 0.05
    assert (made.tuning.deepest, made.tuning.queries) == (128, len(QUERIES))


def test_less_is_asked_of_less() -> None:
    index = build(CODES, "IVF16,Flat")
    little, much = (
        tune(index, CODES, "ivf", "IVF16,Flat", QUERIES, target=target).tuning.parameters
        for target in (0.5, 1.0)
    )
    assert int(little.removeprefix("nprobe=")) < int(much.removeprefix("nprobe="))


def test_what_cannot_reach_the_target_comes_as_close_as_it_can() -> None:
    codes = make_codes(random_vectors(6000, DIMENSIONS))
    made = tune(build(codes, "PQ1x2"), codes, "PQ1x2", "PQ1x2", QUERIES, target=1.0)
    assert 0 < made.tuning.recall < 1
    assert made.tuning.candidates == CANDIDATES[-1]


def test_what_was_tuned_by_0_1_is_known_of_its_best_20_only() -> None:
    made = make_approximate("IVF16,SQ8").tuning
    written = {key: value for key, value in asdict(made).items() if key != "recalls"}
    old = Tuning.of_json({**written, "recall": 0.985, "recall_at": 20})
    assert (old.recalls, old.deepest, old.recall) == (((20, 0.985),), 20, 0.985)
    assert old.factory == made.factory
    assert Tuning.of_json(json.loads(json.dumps(asdict(made)))) == made


@pytest.mark.parametrize(
    "factory",
    ["PQ8x4", "IVF4,PQ8x4", "OPQ8,IVF4,PQ8x4", "IVF4,PQ8x4,RFlat", "PQ8x4,RFlat", "HNSW8_PQ8"],
)
def test_no_codes_are_trained_that_no_search_reads(factory: str) -> None:
    """Polysemous ones: for a million vectors that takes minutes."""
    index = empty_index(DIMENSIONS, factory)
    quantisers = list(quantisers_of(index))
    assert [part.do_polysemous_training for part in quantisers] == [True]
    _without_polysemous_codes(index)
    assert [part.do_polysemous_training for part in quantisers] == [False]


def quantisers_of(index: faiss.Index) -> Iterator[faiss.Index]:
    index = faiss.downcast_index(index)
    for name in ("index", "base_index", "storage"):
        if hasattr(index, name):
            yield from quantisers_of(getattr(index, name))
    if hasattr(index, "do_polysemous_training"):
        yield index


# --- How it grows --------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", ["IVF16,SQ8", "HNSW16_SQ8", "PCA8,IVF16,SQ8", "L2norm,Flat"])
def test_what_is_added_is_found_as_in_one_built_anew(tmp_path: Path, factory: str) -> None:
    """From a file, as embed-images does it: FAISS ends the process where a mapped index grows."""
    index = replace(INDEX, dimensions=DIMENSIONS)
    write_sidecar(tmp_path / "file", index, make_approximate(factory, make_codes(VECTORS[:1000])))
    opened = open_approximate(tmp_path / "file", index, mapped=False)
    grown = extended(opened, CODES, lambda *_: None)
    assert grown.vector_ids.tolist() == CODES.vector_ids.tolist()
    assert recall(grown) > 0.9
    write_sidecar(tmp_path / "file", index, grown)
    assert recall(open_approximate(tmp_path / "file", index)) == pytest.approx(recall(grown))


def test_what_was_deleted_stays_in_it_for_a_while(tmp_path: Path) -> None:
    grown = extended(make_approximate("IVF16,SQ8"), make_codes(VECTORS[200:], 201), lambda *_: None)
    assert len(grown.vector_ids) == len(VECTORS)


@pytest.mark.parametrize(
    ("held", "now"), [(500, slice(None)), (1200, slice(300, None)), (1200, slice(0, 0))]
)
def test_it_is_built_anew_where_most_of_it_is_new_or_much_is_gone(held: int, now: slice) -> None:
    codes = make_codes(VECTORS[now], (now.start or 0) + 1)
    before = make_approximate("IVF4,SQ8", make_codes(VECTORS[:held]))
    assert extended(before, codes, lambda *_: None) is None


def test_what_faiss_cannot_add_to_is_built_anew() -> None:
    codes = make_codes(VECTORS[:1100])
    nsg = faiss.index_factory(DIMENSIONS, "NSG16", faiss.METRIC_INNER_PRODUCT)
    nsg.add(codes.decoded(np.arange(len(codes))))
    before = tune(nsg, codes, "NSG16", "NSG16", QUERIES)
    assert extended(before, CODES, lambda *_: None) is None


def test_a_large_collection_is_added_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_approximate("IVF16,SQ8")
    monkeypatch.setattr(codes_module, "BLOCK", 300)
    assert recall(make_approximate("IVF16,SQ8")) == pytest.approx(recall(whole))
