"""
Vectors in a dataset of Lance: a folder on a disk or a share, or in object storage.

Each change of a dataset is a version of its own, and a tag names the one that a database believes. So a writer that is
killed leaves the version that is searched as it was, and readers go on with theirs while another is made.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..files.remote_urls import is_url
from ..files.whole_files import sync_names
from .half_precision import best_of
from .lance_rows import MOST_NAMED, among, filter_by, parts, rows_of
from .protocol import EngineError, EngineRequest, VectorEngine

if TYPE_CHECKING:
    import lance
    import pyarrow

BEGUN = "image_search_begun"
STATE = "image_search_state"
TRAINED = "image_search_trained"
"""Where a dataset keeps the mark that it is ours, the state of a commit, and the number of vectors that its index was trained for."""

ALIGNMENT = 8
"""The quantizers of Lance take vectors of a multiple of so many components."""

AUTO_EXACT = 50_000
"""Vectors up to which "auto" makes no index: reading all of them takes some 100 ms."""

FEWEST = 4_096
"""Vectors below which no index is trained, whoever asks for it."""

ALWAYS = {"_transactions", "_versions"}
LAYOUT = {"data", "_deletions", "_indices", "_refs", *ALWAYS}
"""The folders of a dataset, and those that each has, one of them at least if it is damaged."""

READ_FOR = timedelta(hours=1)
"""How long the files of any former version stay for those who still read it."""

KEPT_FOR = timedelta(days=7)
"""How long a former commit stays, from the next one on, for copies of the database that still name it."""

T = TypeVar("T")


class LanceEngine(VectorEngine):
    """See VectorEngine. Nothing is made before it is cleared."""

    types: Sequence[str] = ("auto", "flat", "ivf_rq", "ivf_pq")
    keeps_commits = True
    can_build_on_cluster = True

    def __init__(self, request: EngineRequest) -> None:
        self._uri = request.uri
        self._token = request.token
        self._builds_on_cluster = request.builds_on_cluster
        self._dimensions = request.dimensions
        self._width = -(-request.dimensions // ALIGNMENT) * ALIGNMENT
        self._lance = _imported()
        self._dataset = None
        # A last version that cannot be read is cleared, or is an error then.
        with suppress(EngineError) if request.token is None else nullcontext():
            self._dataset = self._opened(request.token)

    def _opened(self, token: str | None) -> lance.LanceDataset | None:
        try:
            version = None if token is None else _tag(token)
            dataset = self._lance.dataset(self._uri, version=version)
        except (ValueError, OSError) as error:
            if _says_missing(error):
                return None
            raise self._refused(error) from error
        if dataset.base_paths():
            raise EngineError(
                "the Lance dataset has its files elsewhere, as a clone has; copy it as a whole",
                self._uri,
            )
        return dataset

    def state(self) -> str | None:
        if self._dataset is None:
            return None
        return self._asked(lambda dataset: dataset.config()).get(STATE)

    def clear(self) -> None:
        """
        An empty version has a mark before any vector comes: so whoever is killed meanwhile, or finds that damaged, may
        clear it again.
        """
        newest = self._last() if self._dataset is None else self._dataset
        if newest is None and _is_of_others(Path(self._uri)):
            raise EngineError(
                f"{self._uri!r} has other files than a dataset; name an empty folder, or one that is not there, as --uri"
            )
        if (
            newest is not None
            and not newest.config().keys() & {STATE, BEGUN}
            and newest.count_rows()
        ):
            raise EngineError(
                f"{self._uri!r} is a dataset of another program; give another --uri, or delete it"
            )
        nothing = self._table(np.empty(0, np.int64), np.empty((0, self._dimensions), np.float32))
        self._dataset = self._changed(
            lambda: self._lance.write_dataset(nothing, self._uri, mode="overwrite")
        )
        self._asked(lambda dataset: dataset.update_config({BEGUN: "1"}))

    def _last(self) -> lance.LanceDataset | None:
        """The last version, None if there is none. What cannot be read stays: versions before it may be all that somebody has."""
        try:
            return self._opened(None)
        except EngineError as error:
            raise EngineError(
                f"{error}; versions of it may be all that somebody has, so delete it only if nobody needs it, or name another "
                "place with index-images --uri",
                error.details,
            ) from error

    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        self._go_on()
        table = self._table(ids, vectors)
        with self._alone():
            self._dataset = self._asked(
                lambda dataset: self._lance.write_dataset(table, dataset, mode="append")
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Raises EngineError if more than one change came to the dataset meanwhile, which is to be ours."""
        before = self._version()
        yield
        if self._version() > before + 1:
            raise self._not_alone()

    def _version(self) -> int:
        return self._asked(lambda dataset: dataset.version)

    def _go_on(self) -> None:
        """From the version that was opened, whatever a writer that was killed left after it."""
        if self._dataset is not None and self._dataset.version != self._dataset.latest_version:
            self._last()
            self._asked(lambda dataset: dataset.restore())

    def remove(self, ids: np.ndarray) -> None:
        self._go_on()
        for some in parts(ids, MOST_NAMED):
            self._asked(partial(_delete, ids=some))

    def optimize(self, type: str) -> None:
        if type not in self.types:
            raise EngineError(
                f"lance makes no index of type {type!r}; use one of {', '.join(self.types)}"
            )
        if self._dataset is None:
            return
        self._go_on()
        self._asked(lambda dataset: dataset.optimize.compact_files())
        names = {each.name for each in self._described()}
        if "id_idx" not in names:
            self._asked(lambda dataset: dataset.create_scalar_index("id", "BTREE", name="id_idx"))
        is_whole = self._index_vectors(type, has_index="vector_idx" in names)
        # What is whole would be written once more.
        grown = {"index_names": ["id_idx"]} if is_whole else {}
        self._asked(lambda dataset: dataset.optimize.optimize_indices(**grown))

    def _index_vectors(self, type: str, *, has_index: bool) -> bool:
        """As the type says; trained again once there are twice as many vectors. Whether it was made just now, in one piece."""
        n, trained = self.count(), self._asked(lambda dataset: dataset.config()).get(TRAINED, "")
        if type == "auto":
            type = "ivf_rq" if n > AUTO_EXACT else "flat"
        if type == "flat" or n < FEWEST:
            if has_index:
                self._asked(lambda dataset: dataset.drop_index("vector_idx"))
            return False
        kind, _, count = trained.partition(":")
        if has_index and kind == type and n < 2 * int(count):
            return False
        options: dict[str, Any] = {}
        if type == "ivf_pq":
            options["num_sub_vectors"] = self._width // ALIGNMENT
        options |= {"index_type": type.upper(), "name": "vector_idx", "metric": "dot"}
        if self._builds_on_cluster:
            from .lance_on_ray import build

            self._dataset = self._asked(lambda dataset: build(dataset, n, **options))
        else:
            self._asked(lambda dataset: dataset.create_index("vector", replace=True, **options))
        self._asked(lambda dataset: dataset.update_config({TRAINED: f"{type}:{n}"}))
        return not self._builds_on_cluster

    def commit(self, token: str, state: str) -> None:
        self._go_on()
        with self._alone():
            self._asked(lambda dataset: dataset.update_config({STATE: state}))
        version = self._version()
        tags = self._changed(lambda: self._lance.dataset(_as_url(self._uri)).tags)
        self._changed(lambda: tags.create(_tag(token), version))
        if self._token is not None:
            # From now on its days are counted.
            self._changed(partial(_date_tag, tags, _tag(self._token)))
        self._changed(lambda: _sync_all(Path(self._uri)))

    def clean_up(self, tokens: Collection[str]) -> None:
        since = datetime.now(timezone.utc) - KEPT_FOR
        for name, tag in self._asked(lambda dataset: dataset.tags.list()).items():
            of, is_ours, commit = name.partition(_tag(""))
            dated = tag.get("updated_at")
            is_old = dated is not None and dated < since
            if is_ours and not of and is_old and commit not in tokens:
                self._asked(partial(_delete_tag, name=name))
        self._asked(
            lambda dataset: dataset.cleanup_old_versions(
                READ_FOR, error_if_tagged_old_versions=False
            )
        )

    def count(self) -> int:
        return 0 if self._dataset is None else self._asked(lambda dataset: dataset.count_rows())

    def ids(self) -> np.ndarray:
        if self._dataset is None:
            return np.empty(0, np.int64)
        table = self._asked(lambda dataset: dataset.to_table(["id"]))
        return np.sort(table.column("id").to_numpy())

    def bytes_per_vector(self) -> float:
        """Without the codes of an index, which take a tenth."""
        return 2.0 * self._width + 12

    def efforts(self) -> Sequence[int]:
        """Lists to look into."""
        if self._dataset is None or "vector_idx" not in {each.name for each in self._described()}:
            return ()
        stats = self._asked(lambda dataset: dataset.stats.index_stats("vector_idx"))
        lists = max(each["num_partitions"] for each in stats["indices"])
        return np.unique(np.geomspace(1, lists, 60).astype(int)).tolist()

    def nearest(
        self,
        vectors: np.ndarray,
        n: int,
        ids: np.ndarray | None = None,
        *,
        effort: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        if effort is not None and ids is None:
            found = [self._proposed(vector, n, effort) for vector in vectors]
            return _padded([scores for scores, _ in found], [each for _, each in found])
        best = np.empty((len(vectors), 0), np.float32), np.empty((len(vectors), 0), np.int64)
        for held, halves in self._blocks(ids):
            best = _merged(*best, *_best_of(vectors, held, halves, n), n)
        return best

    def scores(self, ids: np.ndarray, vector: np.ndarray) -> np.ndarray:
        scores = np.full(len(ids), -np.inf, dtype=np.float32)
        for held, halves in self._blocks(ids):
            (found,), (named,) = _best_of(vector[None], held, halves, len(held))
            scores[np.searchsorted(ids, held)] = np.nan
            scores[np.searchsorted(ids, named[named >= 0])] = found[named >= 0]
        return scores

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        vectors = np.zeros((len(ids), self._dimensions), dtype=np.float32)
        for held, halves in self._blocks(ids, checked=True):
            vectors[np.searchsorted(ids, held)] = halves[:, : self._dimensions]
        return vectors

    def _proposed(self, vector: np.ndarray, n: int, effort: int) -> tuple[np.ndarray, np.ndarray]:
        """The codes of the index propose; the vectors of what they propose decide."""
        nearest = {
            "column": "vector",
            "q": _widened(vector[None], self._width)[0].astype(np.float16),
            "k": n,
            "metric": "dot",
            "nprobes": effort,
        }
        table = self._asked(
            lambda dataset: dataset.scanner(
                ["id", "vector"], nearest=nearest, disable_scoring_autoprojection=True
            ).to_table()
        )
        (scores,), (ids,) = _best_of(vector[None], *self._arrays(table), n)
        return scores, ids

    def _blocks(
        self, ids: np.ndarray | None, *, checked: bool = False
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """
        Ids and vectors in half precision, of some ids, ascending, or of all; if they are to be `checked`, without those that are
        damaged.
        """
        if self._dataset is None or (ids is not None and not len(ids)):
            return
        columns = ["id", "vector", "check"] if checked else ["id", "vector"]
        read = rows_of(self._dataset, ids, columns)
        while (rows := self._changed(lambda: next(read, None))) is not None:
            held, halves = self._arrays(rows)
            if ids is not None:
                is_asked = among(ids, held)
                held, halves = held[is_asked], halves[is_asked]
            if len(held):
                yield held, halves

    def _arrays(self, rows: pyarrow.Table | pyarrow.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
        vectors = rows.column("vector")
        if hasattr(vectors, "combine_chunks"):
            vectors = vectors.combine_chunks()
        flat = vectors.flatten().to_numpy(zero_copy_only=False)
        # Of other reference queries they may have more components.
        ids, halves = rows.column("id").to_numpy(), flat.reshape(-1, vectors.type.list_size)
        if "check" in rows.schema.names:
            is_whole = _checks(ids, halves) == rows.column("check").to_numpy()
            ids, halves = ids[is_whole], halves[is_whole]
        return ids, halves

    def _table(self, ids: np.ndarray, vectors: np.ndarray) -> pyarrow.Table:
        import pyarrow

        width = self._width
        padded = _widened(vectors, width).astype(np.float16)
        values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(padded.reshape(-1)), width)
        checks = pyarrow.array(_checks(ids, padded), pyarrow.uint32())
        named = pyarrow.array(ids, pyarrow.int64())
        return pyarrow.table({"id": named, "vector": values, "check": checks})

    def _described(self) -> list[Any]:
        return self._asked(lambda dataset: dataset.describe_indices())

    def _asked(self, ask: Callable[[Any], T]) -> T:
        assert self._dataset is not None
        return self._changed(lambda: ask(self._dataset))

    def _changed(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except (ValueError, OSError, RuntimeError) as error:
            raise self._refused(error) from error

    def _not_alone(self) -> EngineError:
        return EngineError(
            "another program changed the Lance dataset at the same time; run this again, and let only one write there",
            self._uri,
        )

    def _refused(self, error: Exception) -> EngineError:
        # Its messages end in places of its own source.
        said = str(error).split(", /")[0].splitlines()[0]
        if said.startswith("Incompatible transaction"):
            return self._not_alone()
        return EngineError("the Lance dataset cannot be used", f"{self._uri!r}: {said}")


def _imported() -> Any:
    # It warns of empty lists, and of what it will change itself, which are no problems of anybody's.
    os.environ.setdefault("LANCE_LOG", "error")
    os.environ.setdefault("LANCE_INCLUDE_VECTOR_CENTROIDS", "false")
    try:
        import lance
    except ModuleNotFoundError as error:
        raise EngineError(
            "lance needs an extra: pip install 'datasette-image-search[lance]'"
        ) from error
    return lance


def _delete(dataset: Any, ids: np.ndarray) -> None:
    dataset.delete(filter_by(ids))


def _delete_tag(dataset: Any, name: str) -> None:
    dataset.tags.delete(name)


def _date_tag(tags: Any, name: str) -> None:
    """The date of a tag is today's, if there is one: a dataset that was lost may have been begun anew."""
    tag = tags.list().get(name)
    if tag is not None:
        tags.update(name, tag["version"])


def _as_url(place: str) -> str:
    """Of a folder on a disk: by its path, Lance writes tags first to one of another name, where an "ü" is "%C3%BC"."""
    return (
        place if is_url(place) else f"file-object-store{Path(place).as_uri().removeprefix('file')}"
    )


def _checks(ids: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """CRC-32 of each id with its vector in half precision, uint32: Lance gives back what a disk has damaged without a word."""
    rows = np.hstack(
        [ids.astype("<i8")[:, None].view(np.uint8), halves.astype("<f2").view(np.uint8)]
    )
    return np.fromiter(map(zlib.crc32, rows), np.uint32, len(rows))


def _is_of_others(place: Path) -> bool:
    """Whether there is something that is no dataset, not even a damaged one. Nothing is where a URL seems to lead as a path."""
    if not place.is_dir():
        return place.exists()
    names = {each.name for each in place.iterdir()}
    return bool(names) and not (names <= LAYOUT and names & ALWAYS)


def _sync_all(folder: Path) -> None:
    """The disk has the files of a dataset in a folder, and their names: a database may have no others of these vectors."""
    if not folder.is_dir():
        return  # It is elsewhere.
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        else:
            sync_names(file)
    sync_names(folder)
    sync_names(folder.parent)


def _says_missing(error: Exception) -> bool:
    return "was not found" in str(error) or "does not exist" in str(error)


def _tag(token: str) -> str:
    return f"image-search-{token}"


def _best_of(
    vectors: np.ndarray, ids: np.ndarray, halves: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """As best_of(), with ids in place of rows."""
    scores, rows = best_of(_widened(vectors, halves.shape[1]), halves, n)
    return scores, np.where(rows < 0, -1, ids[rows])


def _widened(vectors: np.ndarray, width: int) -> np.ndarray:
    """With zeros at their ends, shape (n, width), float32."""
    return np.pad(vectors, ((0, 0), (0, width - vectors.shape[1]))).astype(np.float32, copy=False)


def _merged(
    scores: np.ndarray, ids: np.ndarray, more: np.ndarray, held: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """The n best of some, shape (m, up to n), and of others, best first."""
    scores, ids = np.hstack([scores, more]), np.hstack([ids, held])
    order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)


def _padded(
    scores: Sequence[np.ndarray], ids: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    n = max(map(len, ids), default=0)
    all_scores = np.full((len(ids), n), -np.inf, dtype=np.float32)
    all_ids = np.full((len(ids), n), -1, dtype=np.int64)
    for at, (row, named) in enumerate(zip(scores, ids, strict=True)):
        all_scores[at, : len(row)], all_ids[at, : len(named)] = row, named
    return all_scores, all_ids
