"""The models that --model accepts, and those that are on this machine already."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from . import open_clip_models, things_wheels
from .model_ids import DEFAULT_MODEL, HUB, TIMM
from .packages import packages_needed
from .protocol import EmbedderError
from .registry import registered_name, registered_names
from .things_wheels import THINGS
from .weights import cached_file

MOST_OUTLINES = 40
"""The most timm models to build, without weights, for their dimensions: 0.3 s each."""


@dataclass(frozen=True)
class Recommendation:
    """`download` is in bytes: four for each parameter, as these are published."""

    model_id: str
    sentence: str
    licence: str
    download: int


RECOMMENDED = (
    Recommendation(
        DEFAULT_MODEL,
        "The default: knows what is in a picture, and needs no graphics card.",
        "MIT",
        605_000_000,
    ),
    Recommendation(
        "MobileCLIP2-S0/dfndr2b",
        "Small and fast: made for telephones, an eighth of the default's parameters for pictures.",
        "Apple, for research only (apple-amlr)",
        299_000_000,
    ),
    Recommendation(
        "ViT-SO400M-16-SigLIP2-384/webli",
        "The best: needs a graphics card and the extra transformers, and also reads many languages.",
        "Apache 2.0",
        4_544_000_000,
    ),
    Recommendation(
        "ViT-B-16-SigLIP2-256/webli",
        "Many languages, on a computer without a graphics card; needs the extra transformers.",
        "Apache 2.0",
        1_501_000_000,
    ),
    Recommendation(
        THINGS,
        "Meaning where no hub can be reached: pip brings it, with the extra things. Weaker than CLIP.",
        "Apache 2.0 for both models",
        things_wheels.DOWNLOAD,
    ),
    Recommendation(
        "palette",
        "No download: sees colours, light and where they are, but no meaning.",
        "Apache 2.0, as all of this package",
        0,
    ),
)


@dataclass(frozen=True)
class ListedModel:
    """
    `image_size` is in pixels, `download` in bytes; None if unknown without the hub, or for models of
    other packages, whose `id` may end in "/" for a family. `words` is True if the model reads words.
    Only a few have `recommended` and `licence`, sentences.
    """

    id: str
    dimensions: int | None
    image_size: int | None
    words: bool | None
    download: int | None
    cached: bool
    recommended: str | None = None
    licence: str | None = None


def check_model(model_id: str, *, has_weights: bool = False) -> None:
    """
    Raises UnknownModel if there is no model of this name, EmbedderError if it cannot be loaded even
    with weights. `has_weights` is True if a file has its weights.
    """
    name = registered_name(model_id)
    with packages_needed(model_id):
        if name == TIMM:
            from .timm import check_name

            check_name(model_id)
        elif name is None and not model_id.startswith(HUB):
            open_clip_models.check_name(model_id, registered_names(), has_weights=has_weights)


def known_dimensions(model_id: str) -> int | None:
    """The dimensions of a model, without loading its weights; None if unknown."""
    try:
        check_model(model_id, has_weights=True)
    except EmbedderError:
        return None
    name = registered_name(model_id)
    if name == TIMM:
        from .timm import outline_of

        return outline_of(model_id.removeprefix(TIMM)).head_hidden_size
    if name is not None or model_id.startswith(HUB):
        return None
    return open_clip_models.dimensions_of(model_id.partition("/")[0])


def listed_models(text: str = "", *, with_timm: bool = True) -> list[ListedModel]:
    """
    All models with this text in their name or description, the recommended ones first. Those of timm
    come last, and only if asked for, because to list them loads timm and torch.
    """
    by_id = {each.model_id: each for each in RECOMMENDED}
    rank = {model_id: at for at, model_id in enumerate(by_id)}

    def wanted(model_id: str) -> bool:
        said = by_id[model_id].sentence if model_id in by_id else ""
        return text.lower() in f"{model_id} {said}".lower()

    ids = dict.fromkeys(["palette", *registered_names()])
    models = [_registered(each) for each in ids if each != TIMM and wanted(each)]
    with packages_needed("the list of models"):
        models += _of_open_clip(wanted)
    models = [
        _with_recommendation(model, by_id[model.id]) if model.id in by_id else model
        for model in models
    ]
    models.sort(key=lambda model: rank.get(model.id, len(rank)))
    if with_timm:
        with packages_needed("the list of timm's models"):
            models += _of_timm(wanted)
    return models


def _with_recommendation(model: ListedModel, said: Recommendation) -> ListedModel:
    download = said.download if model.download is None else model.download
    return replace(model, download=download, recommended=said.sentence, licence=said.licence)


def _registered(model_id: str) -> ListedModel:
    if model_id == THINGS:
        here = things_wheels.is_installed()
        return ListedModel(model_id, things_wheels.DIMENSIONS, things_wheels.SIDE, True, None, here)
    if model_id != "palette":
        return ListedModel(model_id, None, None, None, None, True)
    from .palette import PaletteEmbedder

    palette = PaletteEmbedder()
    return ListedModel(model_id, palette.dimensions, palette.image_size, True, 0, True)


def _of_open_clip(wanted: Callable[[str], bool]) -> Iterator[ListedModel]:
    for architecture, tag in open_clip_models.all_published():
        model_id = f"{architecture}/{tag}"
        if wanted(model_id):
            repo_id, filenames = open_clip_models.tag_files(architecture, tag)
            file = cached_file(repo_id, filenames) if repo_id else None
            yield ListedModel(
                model_id,
                open_clip_models.dimensions_of(architecture),
                open_clip_models.image_size_of(architecture),
                True,
                _size(file),
                file is not None,
            )


def _of_timm(wanted: Callable[[str], bool]) -> Iterator[ListedModel]:
    from . import uncompiled  # noqa: F401, before timm

    # isort: split
    import timm

    from .timm import WEIGHTS_NAMES, outline_of, repository

    names = [name for name in timm.list_models(pretrained=True) if wanted(TIMM + name)]
    for name in names:
        file = cached_file(repository(name), WEIGHTS_NAMES)
        published = timm.get_pretrained_cfg(name)
        few = len(names) <= MOST_OUTLINES
        yield ListedModel(
            TIMM + name,
            outline_of(name).head_hidden_size if few else None,
            min(published.input_size[1:]) if published else None,
            False,
            _size(file),
            file is not None,
        )


def _size(file: Path | None) -> int | None:
    return None if file is None else file.stat().st_size
