"""How an approximate search is tuned, and what it was measured to find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import counted

TARGET_RECALL = 0.98

RECALL_AT = (20, 128)
"""The best so many are to be found, each with the target: of a search that looks at the first few, and
of the two pages that people look at. It is not used for more: among these it would miss more."""


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
