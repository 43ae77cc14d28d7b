"""The options of this plugin in the configuration of Datasette, and their problems."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from datasette.app import Datasette
from datasette.utils.asgi import Request, Response
from datasette.views.special import JsonDataView

from ..embedders.protocol import EmbedderError
from ..engines.places import BESIDE, place_of
from ..engines.protocol import EngineError
from ..errors import ImageSearchError, most_similar
from ..files.remote import check_storage
from ..files.remote_urls import RemoteError, clean_url, is_url
from ..search.correction import Rank
from .compat import configuration_page_name, shown_configuration, whole_configuration

if TYPE_CHECKING:
    from ..store import Index
    from ..store.indexes import WeightsOf

PLUGIN = "datasette-image-search"

MOST_TEXTS = 50
"""Different texts that one SQL statement may search for. A CLIP model takes up to 60 ms for a text, SQLite
cannot interrupt it, and all requests share three threads for SQL."""

MAX_UPLOAD_BYTES = 25_000_000
"""Of an uploaded picture; the default of `max_upload_bytes`."""

MAX_ZIP_BYTES = 2_000_000_000
"""Of the pictures in one; the default of `max_zip_bytes`."""

logger = logging.getLogger(__name__)


class ConfigurationError(ImageSearchError):
    """An option of this plugin with an invalid value."""


def configured_weights(datasette: Datasette) -> WeightsOf:
    """
    The files of weights that tables were embedded with: `weights: {MODEL: FILE}`. The paths in the
    database are not followed: its author must not choose which files a server opens.
    """
    settings = datasette.plugin_config(PLUGIN)
    written = settings.get("weights") if isinstance(settings, dict) else None

    def weights_of(index: Index) -> Path | None:
        if index.weights is None:
            return None
        files = _weights(written or {})
        if index.model not in files:
            raise EmbedderError(
                f"{index.image_table!r} was embedded with weights of {index.model} from a file; name "
                f"that file in Datasette's configuration: plugins, {PLUGIN}, weights, {index.model}"
            )
        return files[index.model]

    return weights_of


def configured_roots(datasette: Datasette, database: str, table: str) -> tuple[Path | str, ...]:
    """
    The folders below which originals of this table may be opened, and URLs of such: `roots: [FOLDER, ...]`. The roots
    in the database are not believed, because anybody who writes to it could name any folder.

    Raises ConfigurationError if they are neither absolute paths nor URLs.
    """
    return _setting(datasette, "roots", database, table, ())


def configured_engines(datasette: Datasette) -> tuple[str, ...]:
    """
    The places of vectors that are in engines: `engines: [PLACE, ...]`, where BESIDE stands for those beside the databases.
    What a database names is not followed, as its author must not choose what a server asks.

    Raises ConfigurationError.
    """
    settings = datasette.plugin_config(PLUGIN)
    written = settings.get("engines") if isinstance(settings, dict) else None
    return () if written is None else _engines(written)


def max_upload_bytes(datasette: Datasette, database: str, table: str) -> int:
    """The most bytes of an uploaded picture: `max_upload_bytes: NUMBER`."""
    return _setting(datasette, "max_upload_bytes", database, table, MAX_UPLOAD_BYTES)


def max_zip_bytes(datasette: Datasette, database: str, table: str) -> int:
    """The most bytes of pictures in a ZIP, 0 for no ZIPs: `max_zip_bytes: NUMBER`."""
    return _setting(datasette, "max_zip_bytes", database, table, MAX_ZIP_BYTES)


def warm_up_queries(datasette: Datasette, database: str, table: str) -> tuple[str, ...] | None:
    """
    The queries whose vectors are made when Datasette starts: `warm_up: [QUERY, ...]`. Empty if none are
    named; None for `warm_up: false`, which loads nothing before the first search.
    """
    return _setting(datasette, "warm_up", database, table, ())


def rank(datasette: Datasette, database: str, table: str) -> Rank:
    """The order of hits: `rank: cosine` for the score alone."""
    return _setting(datasette, "rank", database, table, "corrected")


def map_tiles(datasette: Datasette, database: str, table: str) -> dict[str, str] | None:
    """The tiles below the map of the earth: `tiles: {url: URL, attribution: TEXT}`; None for an outline of our own."""
    return _setting(datasette, "tiles", database, table, None)


# --- Values ------------------------------------------------------------------------------


def _weights(files: Any) -> dict[str, Path]:
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise _wrong(
            "weights must have a line with a file for each model, such as "
            "ViT-B-32/mine: /home/me/mine.safetensors"
        )
    return {str(model): Path(file) for model, file in files.items()}


def _roots(roots: Any) -> tuple[Path | str, ...]:
    if isinstance(roots, str):
        roots = [roots]
    if not _are_texts(roots):
        raise _wrong("roots must be a list of folders, such as [/home/me/Pictures]")
    try:
        places = tuple(
            clean_url(root) if is_url(root) else Path(root).expanduser() for root in roots
        )
    except RemoteError as error:
        raise _wrong(f"roots: {error}") from None
    if not all(isinstance(place, str) or place.is_absolute() for place in places):
        raise _wrong("roots must be absolute paths, such as /home/me/Pictures")
    return places


def _bytes(limit: Any, name: str) -> int:
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise _wrong(f"{name} must be a whole number of bytes")
    return limit


def _warm_up(queries: Any) -> tuple[str, ...] | None:
    if isinstance(queries, bool):
        return () if queries else None
    if not _are_texts(queries):
        raise _wrong("warm_up must be a list of queries, such as [dogs, a red car], or false")
    return tuple(queries)


def _are_texts(written: Any) -> bool:
    return isinstance(written, list) and all(isinstance(each, str) for each in written)


def _wrong(sentence: str) -> ConfigurationError:
    return ConfigurationError(f"plugins, {PLUGIN}, {sentence}")


def _rank(written: Any) -> Rank:
    if written not in get_args(Rank):
        raise _wrong(f"rank must be {' or '.join(get_args(Rank))}")
    return cast("Rank", written)


def _tiles(written: Any) -> dict[str, str]:
    named = written if isinstance(written, dict) else {}
    url, attribution = named.get("url"), named.get("attribution", "")
    is_url = isinstance(url, str) and all(part in url for part in ("{z}", "{x}", "{y}"))
    if not is_url or not isinstance(attribution, str) or set(named) - {"url", "attribution"}:
        raise _wrong(
            "tiles must have a line url, with {z}, {x} and {y} in it, and may have a line attribution"
        )
    return {"url": str(url), "attribution": attribution}


def _engines(places: Any) -> tuple[str, ...]:
    if not _are_texts(places):
        raise _wrong(
            "engines must be a list of folders or URLs, such as [s3://bucket/photos.lance]"
        )
    try:
        return tuple(BESIDE if place == BESIDE else place_of(place) for place in places)
    except EngineError as error:
        raise _wrong(f"engines: {error}") from None


OPTIONS: Mapping[str, Callable[[Any], Any]] = {
    "roots": _roots,
    "max_upload_bytes": partial(_bytes, name="max_upload_bytes"),
    "max_zip_bytes": partial(_bytes, name="max_zip_bytes"),
    "warm_up": _warm_up,
    "weights": _weights,
    "rank": _rank,
    "tiles": _tiles,
    "engines": _engines,
}
"""Option -> function that reads its value. These raise ConfigurationError."""


def _setting(datasette: Datasette, name: str, database: str, table: str, default: Any) -> Any:
    """
    An option of the table, else of the database, else of the instance. Datasette's own fallback does not
    look for one option: it takes all of the first place that has any.
    """
    for place in ({"database": database, "table": table}, {"database": database}, {}):
        settings = datasette.plugin_config(PLUGIN, fallback=False, **place)
        if isinstance(settings, dict) and name in settings:
            value = settings[name]
            return default if value is None else OPTIONS[name](value)
    return default


PATHS = ("roots", "weights", "engines")
"""Options with paths of this machine, which only its administrator should see."""

HIDDEN = "***"
"""Replaces these, as it replaces passwords in Datasette 1.0."""


def without_paths(written: Any) -> Any:
    """A copy of a configuration, or of a part of it, with HIDDEN for our PATHS."""
    if isinstance(written, list):
        return [without_paths(each) for each in written]
    if not isinstance(written, dict):
        return written
    return {
        name: _option_without_paths(value) if name == PLUGIN else without_paths(value)
        for name, value in written.items()
    }


def _option_without_paths(settings: Any) -> Any:
    if not isinstance(settings, dict):
        return settings
    return {name: HIDDEN if name in PATHS else value for name, value in settings.items()}


async def configuration_page(datasette: Datasette, request: Request) -> Response:
    """Datasette's own page of its configuration, /-/metadata in 0.65 and /-/config in 1.0, without our PATHS."""
    name = f"{configuration_page_name(datasette)}.json"
    view = JsonDataView(datasette, name, lambda: without_paths(shown_configuration(datasette)))
    return await view.dispatch_request(request)


# --- Problems -------------------------------------------------------------------------


def log_problems(datasette: Datasette) -> None:
    """Logs a line for each problem."""
    for problem in configuration_problems(datasette):
        logger.warning("%s", problem)


def configuration_problems(datasette: Datasette) -> Iterator[str]:
    """
    A sentence for each option that is misspelt, invalid or names a missing file. Without it a misspelt
    option would silently do nothing.
    """
    for place, names, written in _places(whole_configuration(datasette)):
        for plugin in _mapping(written.get("plugins")):
            if plugin != PLUGIN and _ALMOST_PLUGIN.fullmatch(str(plugin)):
                yield f"{place}plugins, {plugin}: no plugin has this name; it must be {PLUGIN!r}"
        settings = datasette.plugin_config(PLUGIN, fallback=False, **names)
        if isinstance(settings, dict):
            for option, value in settings.items():
                for problem in _problems_of(str(option), value, of_instance=not names):
                    yield place + problem
        elif settings is not None:
            yield f"{place}plugins, {PLUGIN} must have options such as roots below it"


_ALMOST_PLUGIN = re.compile("(datasette[-_ ]?)?images?[-_ ]?search", re.IGNORECASE)


def _places(written: dict[str, Any]) -> Iterator[tuple[str, dict[str, str], dict[str, Any]]]:
    """
    The places where a plugin can be configured: each as the beginning of a sentence, as arguments of
    `plugin_config`, and with the configuration that is written there.
    """
    yield "", {}, written
    for database, in_database in _mapping(written.get("databases")).items():
        place = f"databases, {database}, "
        yield place, {"database": database}, _mapping(in_database)
        for table, in_table in _mapping(_mapping(in_database).get("tables")).items():
            names = {"database": database, "table": table}
            yield f"{place}tables, {table}, ", names, _mapping(in_table)


def _mapping(written: Any) -> dict[str, Any]:
    return written if isinstance(written, dict) else {}


def _problems_of(option: str, value: Any, *, of_instance: bool) -> Iterator[str]:
    name = f"plugins, {PLUGIN}, {option}"
    if option not in OPTIONS:
        closest = most_similar(option, OPTIONS)
        hint = f"did you mean {closest!r}?" if closest else f"the options are {', '.join(OPTIONS)}"
        yield f"{name}: there is no such option; {hint}"
    elif option in ("weights", "engines") and not of_instance:
        yield f"{name} applies to all databases; move it to plugins at the top level"
    elif value is not None:
        try:
            read = OPTIONS[option](value)
        except ConfigurationError as error:
            yield str(error)
            return
        if option == "roots":
            for place in read:
                if isinstance(place, str):
                    try:
                        check_storage(place)
                    except RemoteError as error:
                        yield f"{name}: {error}"
                elif not place.is_dir():
                    yield f"{name}: there is no folder {str(place)!r}; its originals are not shown"
        if option == "weights":
            for model, file in read.items():
                if not file.is_file():
                    yield f"{name}, {model}: there is no file {str(file)!r}"
