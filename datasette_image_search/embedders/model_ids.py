"""The ids of models: the default, the beginnings of families, and the error for an id of no model."""

from __future__ import annotations

from .protocol import UnknownModel

DEFAULT_MODEL = "ViT-B-32-256/datacomp_s34b_b86k"

TIMM = "timm/"
HUB = "hf-hub:"
"""The prefix of the ids of models on the hub."""

MODELS = (
    "a model is 'things', 'palette', 'timm/NAME', 'hf-hub:OWNER/NAME', or ARCHITECTURE/PRETRAINED of open_clip "
    f"such as {DEFAULT_MODEL!r}"
)


def unknown_model(model_id: str, closest: str | None, explained: str = MODELS) -> UnknownModel:
    """The error for an unknown id, with the most similar one, or with `explained` instead."""
    said = f"{explained};" if closest is None else f"did you mean {closest!r}?"
    return UnknownModel(
        f"there is no model {model_id!r}; {said} sqlite-utils image-models --all lists them",
        closest,
    )
