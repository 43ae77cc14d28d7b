"""How an approximate search is tuned, and what it was measured to find."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..errors import counted

TARGET_RECALL = 0.98

RECALL_AT = (20, 128)
"""The best so many are to be found, each with the target: of a search that looks at the first few, and
of the two pages that people look at. It is not used for more: among these it would miss more."""


MOST_CANDIDATES = 2**16


@dataclass(frozen=True)
class Tuning:
    """
    `type` is what a person asked for, `factory` the string for faiss.index_factory, `parameters`
    what is set for a search, such as "nprobe=40". `recalls` has k with the share of the best k that was
    found for `queries` queries, `target` is what it was tuned for.
    """

    type: str
    factory: str
    parameters: str
    candidates: int
    target: float
    recalls: tuple[tuple[int, float], ...]
    queries: int

    @property
    def deepest(self) -> int:
        """The highest k whose recall is known: nobody can say what of more it would find."""
        return max(k for k, _ in self.recalls)

    @property
    def recall(self) -> float:
        """The lowest of them."""
        return min(recall for _, recall in self.recalls)

    def __str__(self) -> str:
        recalls = " and ".join(f"recall@{k} {recall:.3f}" for k, recall in self.recalls)
        return f"{recalls} for {counted(self.queries, 'query', 'queries')}"

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Tuning:
        """Of what asdict() gave, also in 0.1. Raises TypeError or ValueError for anything else."""
        values = dict(values)
        if "recall_at" in values:
            values["recalls"] = [(values.pop("recall_at"), values.pop("recall"))]
        recalls = tuple((int(k), float(recall)) for k, recall in values.pop("recalls"))
        return cls(**values, recalls=recalls)

    @classmethod
    def believed(cls, values: dict[str, Any], parameters: re.Pattern[str]) -> Tuning:
        """
        As of_json(), but anybody may have written it. Raises TypeError or ValueError for a value that no tuning has, such
        as other `parameters`.
        """
        try:
            tuning = cls.of_json(values)
        except OverflowError as error:
            raise ValueError from error
        texts, numbers = (tuning.type, tuning.factory), (tuning.target, tuning.queries)
        if (
            all(isinstance(text, str) for text in texts)
            and all(isinstance(number, int | float) for number in numbers)
            and parameters.fullmatch(tuning.parameters)
            and isinstance(tuning.candidates, int)
            and 0 < tuning.candidates <= MOST_CANDIDATES
            and tuning.recalls
            and all(0 < k <= max(RECALL_AT) and 0 <= share <= 1 for k, share in tuning.recalls)
        ):
            return tuning
        raise ValueError
