"""
The choice of the model of a run, and of the index: an existing one, a new one, or one that replaces
others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..embedders.model_ids import DEFAULT_MODEL
from ..errors import ImageSearchError
from ..store import Index


class RunError(ImageSearchError):
    """The run makes no sense, and is refused before anything is written."""


class AsksForModel(Protocol):
    """The options of a request about models; `model` None is the model of the table."""

    @property
    def table(self) -> str: ...

    @property
    def model(self) -> str | None: ...

    @property
    def add_model(self) -> bool: ...

    @property
    def replace_model(self) -> bool: ...

    @property
    def keep_model(self) -> bool: ...


@dataclass(frozen=True)
class ModelChoice:
    """
    `index` is the one to add to, None for a new one. Searches use the `replaced` until it is complete.
    `given_up` is an unfinished index that is dropped at once.
    """

    model: str
    index: Index | None = None
    replaced: tuple[Index, ...] = ()
    given_up: Index | None = None

    @property
    def is_replacement(self) -> bool:
        return bool(self.replaced) or self.is_unfinished

    @property
    def is_unfinished(self) -> bool:
        """Whether the run adds to an index that is not searched yet."""
        return bool(self.replaced if self.index is None else self.index.unfinished)


def choose_model(
    request: AsksForModel,
    indexes: Sequence[Index],
    unfinished: Index | None = None,
    fingerprint: str | None = None,
    *,
    anew: bool = False,
) -> ModelChoice:
    """
    The choice for a table with these indexes. `fingerprint` is that of the embedder, if known: an
    unfinished index of another one is started again. `anew` also starts it again, for a caller that has
    all vectors at once.

    Raises RunError if the request is ambiguous or contradicts itself.
    """
    _check_options(request, unfinished)
    if request.replace_model and (indexes or unfinished):
        if anew:
            model = request.model or DEFAULT_MODEL
            return ModelChoice(model, None, tuple(indexes), given_up=unfinished)
        return _replacement(request, indexes, unfinished, fingerprint)
    given_up = unfinished if request.keep_model else None
    if not indexes:
        return ModelChoice(request.model or DEFAULT_MODEL, given_up=given_up)
    models = [index.model for index in indexes]
    if request.model is None or request.model in models:
        index = indexes[0] if request.model is None else indexes[models.index(request.model)]
        return ModelChoice(index.model, index, given_up=given_up)
    if unfinished is not None and request.model == unfinished.model:
        raise RunError(
            f"table {request.table!r} still uses {' and '.join(models)}, because the index by "
            f"{request.model} is unfinished: finish it with --replace-model, or give it up with "
            "--keep-model"
        )
    if request.add_model:
        return ModelChoice(request.model)
    raise RunError(
        f"table {request.table!r} is embedded with {' and '.join(models)}, not {request.model}; "
        f"use --model {models[0]}, or --add-model for a second index beside it, "
        "or --replace-model to embed everything again"
    )


def _check_options(request: AsksForModel, unfinished: Index | None) -> None:
    options = {
        "--add-model makes a second index": request.add_model,
        "--replace-model replaces the existing ones": request.replace_model,
        "--keep-model keeps the existing ones": request.keep_model,
    }
    given = [option for option, is_given in options.items() if is_given]
    if len(given) > 1:
        raise RunError(f"{', '.join(given)}: choose one")
    if request.keep_model and unfinished is None:
        raise RunError(
            f"--keep-model gives up an unfinished --replace-model, and {request.table!r} has none; run it "
            "without"
        )


def _replacement(
    request: AsksForModel,
    indexes: Sequence[Index],
    unfinished: Index | None,
    fingerprint: str | None,
) -> ModelChoice:
    """Continue the unfinished index, or promote one of several, or start again."""
    model = request.model
    if model is None and unfinished is not None:
        model = unfinished.model
    if model is None:
        if len(indexes) > 1:
            models = [index.model for index in indexes]
            raise RunError(
                f"table {request.table!r} is embedded with {' and '.join(models)}; name with --model the "
                "one to keep, or another one to embed everything again with"
            )
        model = indexes[0].model

    def fits(index: Index) -> bool:
        return index.model == model and fingerprint in (None, index.fingerprint)

    if unfinished is not None and fits(unfinished):
        return ModelChoice(model, unfinished, tuple(indexes))
    # With a single one, the name is the same and the weights may differ, or everything is embedded again.
    kept = next((index for index in indexes if fits(index)), None) if len(indexes) > 1 else None
    replaced = tuple(index for index in indexes if index is not kept)
    return ModelChoice(model, kept, replaced, given_up=unfinished)
