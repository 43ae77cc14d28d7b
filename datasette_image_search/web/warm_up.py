"""
What the first search would wait for, done in a thread when Datasette starts: indexes are opened, and
models that have words are loaded. After that, large sidecars are checked for damage. Nothing is
downloaded, and nobody waits for it, neither the first request nor whoever ends Datasette.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from datasette.app import Datasette

from .. import store
from ..embedders.protocol import TextNotUnderstood
from ..errors import printable
from ..search.checking import check_files
from ..search.live import live_index
from ..search.query import WeightsOf, query_vector
from .configuration import ConfigurationError, configured_weights, warm_up_queries
from .preparing import connection_of_our_own

ANY_WORDS = "a photo"
"""Searched for where the configuration names no queries: the first words take longer than the next."""

logger = logging.getLogger(__name__)


def start(datasette: Datasette) -> None:
    """At once; the thread ends with the process, whatever it is doing."""
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
    for index in store.read_indexes(conn, table):
        live_index(conn, index)
        try:
            for query in queries or (ANY_WORDS,):
                try:
                    query_vector(conn, index, query, weights_of)
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
