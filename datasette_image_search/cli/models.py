"""`image-models`: list the models to choose from."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ..errors import ImageSearchError
from .output import print_table

if TYPE_CHECKING:
    from ..embedders.catalogue import ListedModel

HEADERS = ("model", "dimensions", "pixels", "search by", "download", "cached")


@click.argument("text", default="")
@click.option("--all", "all_models", is_flag=True, help="List all models, not the recommended only")
@click.option("--json", "as_json", is_flag=True, help="Output JSON")
def image_models(text: str, all_models: bool, as_json: bool) -> None:
    """
    List the recommended models that images can be embedded with

    TEXT selects, of all models, those that have it in their name or description. Any other model of the hub
    that open_clip can read works too, as hf-hub:OWNER/NAME. The dimensions of timm models are shown if TEXT
    selects at most 40 of them.

    \b
    Examples:
        sqlite-utils image-models
        sqlite-utils image-models --all
        sqlite-utils image-models siglip2
        sqlite-utils image-models timm/vgg16
    """
    from ..api import Images

    try:
        models = Images.models(text, with_timm=bool(text) or (as_json and all_models))
    except ImageSearchError as error:
        raise click.ClickException(str(error)) from error
    if not text and not all_models:
        models = [model for model in models if model.recommended is not None]
    if as_json:
        click.echo(json.dumps([asdict(model) for model in models], indent=2, ensure_ascii=False))
        return
    if not models:
        raise click.ClickException(
            f"no model has {text!r} in its name; sqlite-utils image-models --all lists them all"
        )
    _print_recommended(models)
    _print_table(models)
    if all_models and not text:
        click.echo("and the picture-only models of timm: sqlite-utils image-models timm")
    elif not text:
        click.echo("\nAll others: sqlite-utils image-models --all")


def _print_recommended(models: list[ListedModel]) -> None:
    for model in models:
        if model.recommended is not None:
            click.echo(f"{model.id}\n    {model.recommended} Licence: {model.licence}.")
    if models[0].recommended is not None:
        click.echo()


def _print_table(models: list[ListedModel]) -> None:
    rows = [
        (
            f"{model.id}..." if model.id.endswith("/") else model.id,
            model.dimensions,
            model.image_size,
            {True: "words, pictures", False: "pictures", None: ""}[model.words],
            "" if model.download is None else f"{model.download / 1e6:,.0f} MB",
            "yes" if model.cached else "",
        )
        for model in models
    ]
    print_table(rows, HEADERS, ("left", "right", "right", "left", "right", "left"))
