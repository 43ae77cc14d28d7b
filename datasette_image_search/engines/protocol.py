"""The class that another package implements to keep vectors in an engine of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from ..errors import ImageSearchError, is_fault

if TYPE_CHECKING:
    import numpy as np


P = ParamSpec("P")
T = TypeVar("T")


class EngineError(ImageSearchError):
    """
    An engine that is not there, cannot be reached, or cannot do what was asked: a sentence that visitors of a server may
    read. `details`, such as the place and what a library said, are for the log and for commands.
    """

    def __init__(self, sentence: str, details: str = "") -> None:
        super().__init__(sentence)
        self.details = details

    def in_full(self) -> str:
        return f"{self} ({self.details})" if self.details else str(self)


def guarded(function: Callable[P, T]) -> Callable[P, T]:
    """The same, whose errors of any kind are an EngineError: it reads what anybody may have written."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except EngineError:
            raise
        except BaseException as error:
            if not is_fault(error):
                raise
            details = f"{type(error).__name__}: {error}"
            raise EngineError("the engine of its vectors failed", details) from error

    return call


@dataclass(frozen=True)
class EngineRequest:
    """
    The place of the vectors of one index, of so many `dimensions`. `token` is of the commit to search,
    or to go on from; None for the last one. If it `builds_on_cluster`, this process is connected to a cluster of Ray, which is
    to make the index.
    """

    uri: str
    dimensions: int
    token: str | None = None
    builds_on_cluster: bool = False


class VectorEngine(ABC):
    """
    Keeps vectors by ids, float32, shape (n, dimensions), and finds those with the highest inner products. Ids are int64, from
    0 up, each of one vector. Half precision is enough: scores that people see are computed from the database.

    The database is the truth, and whoever asks leaves out what an engine finds besides. So an engine need not be exact
    in the middle of a change, but `state` must be None then, or what was committed before. Many threads search at once;
    one writes. Every method raises EngineError, with a sentence, for what the storage refuses; all other errors of these
    methods become one.
    """

    def __init_subclass__(cls) -> None:
        for name in vars(VectorEngine).keys() & vars(cls).keys():
            if callable(method := vars(cls)[name]) and not name.startswith("__"):
                setattr(cls, name, guarded(method))

    types: Sequence[str] = ("auto",)
    """What `commit` can index vectors as; the first is the default."""

    keeps_commits: bool = False
    """
    Whether what was committed stays as it was until `clean_up` forgets it, `clear` included, and is read by a request of fewer
    dimensions too, as their first components; and `ids` tells what is there: only then it may be the only copy.
    """

    can_build_on_cluster: bool = False
    """Whether `optimize` heeds the cluster of a request."""

    @abstractmethod
    def state(self) -> str | None:
        """What the commit that is searched was given; None if there is none, or not all of it."""

    @abstractmethod
    def clear(self) -> None:
        """Begin anew, without vectors. What is not of this kind of engine stays, and raises EngineError."""

    @abstractmethod
    def add(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Keep n vectors more. None of the ids is there."""

    @abstractmethod
    def remove(self, ids: np.ndarray) -> None:
        """Forget some vectors; ids that are not there are no error."""

    @abstractmethod
    def optimize(self, type: str) -> None:
        """After changes: compact, and index as one of `types`. Raises EngineError for another."""

    @abstractmethod
    def commit(self, token: str, state: str) -> None:
        """All that was added and removed is to be searched from now on, by whoever asks for `token`."""

    def clean_up(self, tokens: Collection[str]) -> None:  # noqa: B027
        """
        A database names one of these commits now, the last, and named the others before: what none of them needs may go, and
        should not while a backup of the database may name it. If that fails, the next commit tries again.
        """

    @abstractmethod
    def count(self) -> int:
        """How many vectors there are."""

    def ids(self) -> np.ndarray:
        """The ids of all vectors, ascending, int64. Asked of an engine that `keeps_commits`."""
        raise EngineError("this engine does not tell which vectors it has")

    @abstractmethod
    def bytes_per_vector(self) -> float:
        """On the storage, about."""

    def efforts(self) -> Sequence[int]:
        """For `nearest`: how much an approximate search may look at, ascending; empty if all searches are exact."""
        return ()

    @abstractmethod
    def nearest(
        self,
        vectors: np.ndarray,
        n: int,
        ids: np.ndarray | None = None,
        *,
        effort: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        For each of m vectors, shape (m, dimensions), the highest inner products and their ids: (scores, ids), shape
        (m, up to n), best first, with ids of -1 where there are fewer. `ids`, ascending, limits the search to these. It
        is exact, but for the rounding to half precision, unless an `effort` is given.
        """

    @abstractmethod
    def scores(self, ids: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """The inner products of the vectors with some ids, ascending, shape (len(ids),); -inf for one that is not there."""

    @abstractmethod
    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """
        The vectors with some ids, ascending, shape (len(ids), dimensions), float32; zeros for one that is not there, or is
        known to be damaged. What a storage damages without notice is yours to notice, if this may be the only copy.
        """


EngineFactory = Callable[[EngineRequest], VectorEngine]
