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
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from datasette.app import Datasette

from ... import store
from ...api import Images
from ...embedders.protocol import TextNotUnderstood
from ...errors import printable
from ...search.checking import check_files
from ...search.query import WeightsOf
from ..access.side_tables import hide_in_all, hide_labels
from ..configuration import (
    ConfigurationError,
    configured_weights,
    log_problems,
    warm_up_queries,
)
from .preparing import connection_of_our_own

ANY_WORDS = "a photo"
"""Searched for where the configuration names no queries: the first words take longer than the next."""

logger = logging.getLogger(__name__)


async def start(datasette: Datasette) -> None:
    log_problems(datasette)
    hide_labels(datasette)
    # Opens each database, from which on it is known how.
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
    """All image tables of some databases, by name. What is wrong with one is logged."""
    weights_of = configured_weights(datasette)
    for name, path in databases.items():
        try:
            with closing(connection_of_our_own(path)) as conn:
                for table in store.image_table_names(conn):
                    try:
                        queries = warm_up_queries(datasette, name, table)
                        if queries is not None:
                            _warm_up_table(conn, table, queries, weights_of)
                    except sqlite3.Error:
                        raise
                    except ConfigurationError:
                        # Said at the start, with everything else that is wrong there.
                        continue
                    except Exception as error:
                        # Whatever torch or FAISS has against one table, the others can do without.
                        _log(logging.WARNING, f"{name}/{table} is not warmed up: {error}")
        except store.NewerVersion as error:
            _log(logging.WARNING, f"{name} is not searched: {error}")
        except sqlite3.Error as error:
            # A database that is locked or damaged is told by whatever is asked of it.
            _log(logging.INFO, f"{name} is not warmed up: {error}")


def _warm_up_table(
    conn: sqlite3.Connection, table: str, queries: Sequence[str], weights_of: WeightsOf
) -> None:
    images = Images(conn, table, weights_of)
    for index in store.read_indexes(conn, table):
        images.open(model=index.model)
        try:
            for query in queries or (ANY_WORDS,):
                try:
                    images.ask(query, model=index.model)
                except TextNotUnderstood as error:
                    if queries:
                        raise
                    _log(logging.DEBUG, f"no words to warm up: {error}")
        finally:
            # Last, as it may read gigabytes.
            for problem in check_files(conn, index):
                _log(logging.WARNING, f"{problem}, and is no longer searched")


def _log(level: int, sentence: str) -> None:
    """In one line: whoever made the database named its tables."""
    logger.log(level, "%s", printable(sentence))
