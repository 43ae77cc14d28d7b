"""Weight files: in the cache, on the hub when a person allows it, and what makes one unlike another."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .protocol import EmbedderError, WeightsMissing

HUB_TIMEOUT = 5.0
"""Seconds to wait for the hub's first answer: someone offline should not wait a minute to be told."""


def hub_weights(
    model_id: str, repo_id: str, filenames: Iterable[str], *, allow_download: bool
) -> Path:
    """
    The path of the first of `filenames` that the local cache has, or that the hub has.

    Without `allow_download` the network is never touched. Raises EmbedderError.
    """
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

    filenames = list(filenames)
    for filename in filenames:
        cached = try_to_load_from_cache(repo_id, filename)
        if isinstance(cached, str):
            return Path(cached)
    if not allow_download:
        raise missing_weights(model_id, "are not in the cache of this machine")
    try:
        # Asked once and first, because hf_hub_download retries for half a minute when offline.
        offered = {
            sibling.rfilename
            for sibling in HfApi().model_info(repo_id, timeout=HUB_TIMEOUT).siblings or []
        }
        wanted = next((filename for filename in filenames if filename in offered), None)
        if wanted is None:
            raise missing_weights(model_id, f"are not in {repo_id} on the hub")
        return Path(hf_hub_download(repo_id, wanted))
    except EmbedderError:
        raise
    except Exception as error:
        # The hub's client raises its own, its HTTP library's and the system's errors, by version.
        reason = f"are not in the cache and the hub did not answer ({_first_line(error)})"
        raise missing_weights(model_id, reason) from error


def missing_weights(model_id: str, reason: str) -> WeightsMissing:
    return WeightsMissing(
        f"the weights of {model_id} {reason}; "
        "use --model palette, which needs none, or --weights FILE for a file you have"
    )


def given_weights(path: Path) -> Path:
    """A --weights file that is really there, as an absolute path. Raises EmbedderError."""
    if not path.is_file():
        raise EmbedderError(
            f"there is no weights file {str(path)!r}; if it has moved, "
            "run embed-images once with --weights FILE"
        )
    return path.resolve()


def fingerprint(weights: Path, **settings: Any) -> str:
    """16 hex digits over the bytes of the weights and everything else that shapes a vector."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(f"{text}\n{_sha256(weights)}".encode()).hexdigest()[:16]


def _sha256(path: Path) -> str:
    # The hub's cache names a large file by its SHA-256, which spares reading it at every start.
    blob = path.resolve()
    if blob.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", blob.name):
        return blob.name
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
