"""What is no model of timm, told without importing it, which loads torch and takes seconds."""

from __future__ import annotations

import re

from .model_ids import TIMM, unknown_model
from .protocol import ModelRequest
from .weights import given_weights

NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.]")


def check_may_be_here(request: ModelRequest) -> None:
    """Raises UnknownModel if the id is none of timm's by its letters, and EmbedderError if its weights file is not there."""
    if NOT_IN_NAMES.search(request.model_id.removeprefix(TIMM)):
        raise unknown_model(request.model_id, None, "timm has none of this name")
    if request.weights is not None:
        given_weights(request.weights)
