"""
The start of Datasette, before the first request.

A thread opens indexes and loads models that have words, so that the first search need not wait for
them. After that it checks large sidecars for damage. It downloads nothing, and neither the first
request nor the end of Datasette waits for it.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from datasette.app import Datasette
from datasette.utils import StartupError

from ... import store
from ...api import Images
from ...embedders.protocol import TextNotUnderstood
from ...engines.places import allow_only
from ...errors import ImageSearchError, printable
from ...search.checking import check_files, has_large_files
from ...store.connections import check_sqlite, open_to_read
from ...store.indexes import WeightsOf, all_indexes, image_table_names
from ..access.side_tables import hide_in_all, hide_labels
from ..configuration import (
    ConfigurationError,
    configured_engines,
    configured_weights,
    log_problems,
    warm_up_queries,
)

ANY_WORDS = "a photo"
"""The query if the configuration names none: the first words take longer than the next."""

CHECKED_AFTER = 10.0
"""Seconds that the first visitor has the disk for himself: beside the check of a large file a first search takes a third longer."""

logger = logging.getLogger(__name__)


async def start(datasette: Datasette) -> None:
    """Raises StartupError, which Datasette prints and ends with."""
    try:
        check_sqlite()
    except ImageSearchError as error:
        raise StartupError(str(error)) from error
    log_problems(datasette)
    with suppress(ConfigurationError):
        # `log_problems` has logged it; then nothing is asked.
        allow_only(())
        allow_only(configured_engines(datasette))
    hide_labels(datasette)
    # Opens each database, which the warm-up needs: `read_like_datasette` is called then.
    await hide_in_all(datasette)
    _start_warm_up(datasette)


def _start_warm_up(datasette: Datasette) -> None:
    """Returns at once; the thread ends with the process, whatever it is doing."""
    databases = {
        name: Path(database.path)
        for name, database in datasette.databases.items()
        if database.path is not None and not database.is_memory
    }
    thread = threading.Thread(
        target=warm_up, args=(datasette, databases), name="image-search-warm-up", daemon=True
    )
    thread.start()


def warm_up(datasette: Datasette, databases: dict[str, Path]) -> None:
    """Warms up all image tables of some databases, by name, and checks their large files. Problems are logged."""
    weights_of = configured_weights(datasette)
    for name, path in databases.items():
        try:
            with closing(open_to_read(path)) as conn:
                for table in image_table_names(conn):
                    try:
                        queries = warm_up_queries(datasette, name, table)
                        if queries is not None:
                            _warm_up_table(conn, table, queries, weights_of)
                    except sqlite3.Error:
                        raise
                    except ConfigurationError:
                        # `log_problems` has logged it.
                        continue
                    except Exception as error:
                        # An error of torch or FAISS for one table must not stop the others.
                        _log(logging.WARNING, f"{name}/{table} is not warmed up: {error}")
        except store.NewerVersion as error:
            _log(logging.WARNING, f"{name} is not searched: {error}")
        except sqlite3.Error as error:
            # Requests will say that the database is locked or damaged.
            _log(logging.INFO, f"{name} is not warmed up: {error}")
    _check_large_files(datasette, databases)


def _warm_up_table(
    conn: sqlite3.Connection, table: str, queries: Sequence[str], weights_of: WeightsOf
) -> None:
    images = Images(conn, table, weights_of=weights_of, raw_errors=True)
    for index in store.read_indexes(conn, table):
        images.open(model=index.model)
        for query in queries or (ANY_WORDS,):
            try:
                images.ask(query, model=index.model)
            except TextNotUnderstood as error:
                if queries:
                    raise
                _log(logging.DEBUG, f"no words to warm up: {error}")


def _check_large_files(datasette: Datasette, databases: dict[str, Path]) -> None:
    """After a while, because it may read gigabytes."""
    has_waited = False
    for name, path in databases.items():
        # What hinders this has hindered the warm-up, which has logged it.
        with suppress(ImageSearchError, sqlite3.Error), closing(open_to_read(path)) as conn:
            for index in all_indexes(conn):
                with suppress(ImageSearchError, OSError):
                    if warm_up_queries(datasette, name, index.image_table) is None:
                        continue
                    if not has_waited and has_large_files(conn, index):
                        time.sleep(CHECKED_AFTER)
                        has_waited = True
                    for problem in check_files(conn, index):
                        _log(logging.WARNING, f"{problem}, and is no longer searched")


def _log(level: int, sentence: str) -> None:
    """Logs one line, also if the author of the database gave a table a name with more."""
    logger.log(level, "%s", printable(sentence))
