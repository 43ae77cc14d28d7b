"""What the configuration of Datasette says to this plugin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..embedders.protocol import EmbedderError
from ..errors import ImageSearchError

if TYPE_CHECKING:
    from datasette.app import Datasette

    from ..search.query import WeightsOf
    from ..store import Index

PLUGIN = "datasette-image-search"

MOST_TEXTS = 50
"""Different texts that one SQL statement may search for. A text takes a CLIP model up to 60 ms, SQLite
cannot interrupt it, and all requests share three threads for SQL."""

MAX_UPLOAD_BYTES = 25_000_000
"""Of an uploaded picture, unless `max_upload_bytes` says otherwise."""


class ConfigurationError(ImageSearchError):
    """A setting of this plugin that makes no sense."""


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


def configured_roots(datasette: Datasette, database: str, table: str) -> tuple[Path, ...]:
    """
    The folders below which originals of this table may be opened: `roots: [FOLDER, ...]`. The roots
    in the database are not believed, for whoever writes to it could name any folder there.

    Raises ConfigurationError where they are no absolute paths.
    """
    roots = _setting(datasette, "roots", database, table)
    if roots is None:
        return ()
    if isinstance(roots, str):
        roots = [roots]
    if not isinstance(roots, list) or not all(isinstance(root, str) for root in roots):
        raise ConfigurationError(
            f"plugins, {PLUGIN}, roots must be a list of folders, such as [/home/me/Pictures]"
        )
    folders = tuple(Path(root).expanduser() for root in roots)
    if not all(folder.is_absolute() for folder in folders):
        raise ConfigurationError(
            f"plugins, {PLUGIN}, roots must be absolute paths, such as /home/me/Pictures"
        )
    return folders


def max_upload_bytes(datasette: Datasette, database: str, table: str) -> int:
    """Bytes that an uploaded picture may have: `max_upload_bytes: NUMBER`."""
    limit = _setting(datasette, "max_upload_bytes", database, table)
    if limit is None:
        return MAX_UPLOAD_BYTES
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise ConfigurationError(
            f"plugins, {PLUGIN}, max_upload_bytes must be a whole number of bytes"
        )
    return limit


def warm_up_queries(datasette: Datasette, database: str, table: str) -> tuple[str, ...] | None:
    """
    The queries whose vectors are made ready when Datasette starts: `warm_up: [QUERY, ...]`. Empty where
    none are named, None for `warm_up: false`, where nothing is to be loaded before it is asked for.
    """
    queries = _setting(datasette, "warm_up", database, table)
    if queries is None or queries is True:
        return ()
    if queries is False:
        return None
    if not isinstance(queries, list) or not all(isinstance(query, str) for query in queries):
        raise ConfigurationError(
            f"plugins, {PLUGIN}, warm_up must be a list of queries, such as [dogs, a red car], or false"
        )
    return tuple(queries)


def _setting(datasette: Datasette, name: str, database: str, table: str) -> Any:
    """
    A setting as the table, else the database, else the instance has it. By name: Datasette's own
    fallback takes all settings of the first of them that has any.
    """
    for place in ({"database": database, "table": table}, {"database": database}, {}):
        settings = datasette.plugin_config(PLUGIN, fallback=False, **place)
        if isinstance(settings, dict) and name in settings:
            return settings[name]
    return None
