"""What the configuration of Datasette says to this plugin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..embedders.protocol import EmbedderError

if TYPE_CHECKING:
    from datasette.app import Datasette

    from ..search.query import WeightsOf
    from ..store import Index

PLUGIN = "datasette-image-search"


def configured_weights(datasette: Datasette) -> WeightsOf:
    """
    Where weights are that somebody embedded with from a file: `weights: {MODEL: FILE}`. The path in
    the database is not followed, because who made the database must not choose what is opened.
    """
    files = (datasette.plugin_config(PLUGIN) or {}).get("weights") or {}

    def weights_of(index: Index) -> Path | None:
        if index.weights is None:
            return None
        if index.model not in files:
            raise EmbedderError(
                f"{index.image_table!r} was embedded with weights of {index.model} in a file; name "
                f"it in Datasette's configuration: plugins, {PLUGIN}, weights, {index.model}"
            )
        return Path(files[index.model])

    return weights_of
