"""Which model a run is with, and which index of the table: one there is, a new one, or one in place of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..embedders.registry import DEFAULT_MODEL
from ..errors import ImageSearchError
from ..store import Index


class RunError(ImageSearchError):
    """A run that would make no sense, refused before anything is written."""


class AsksForModel(Protocol):
    """What a request says of models; `model` None is the model of the table."""

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
    `index` is the one to add to, None for a new one. The `replaced` are searched until it is whole, and
    then give way to it. `given_up` is an unfinished one that the table is rid of at once.
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
        """Whether what is added to is not what is searched."""
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
    The choice for a table with these indexes. `fingerprint` is that of the embedder, where it is known:
    an index that is to come in place of others is begun anew if it is of another one, or for whoever
    has all vectors of it at once (`anew`).

    Raises RunError where the request leaves it open, or contradicts itself.
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
    """Go on with the unfinished one, or promote one of several, or begin anew."""
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
    # Of a single one, it is the same name with other weights, or simply everything anew.
    kept = next((index for index in indexes if fits(index)), None) if len(indexes) > 1 else None
    replaced = tuple(index for index in indexes if index is not kept)
    return ModelChoice(model, kept, replaced, given_up=unfinished)
