"""
The sentence of an SQL function that failed: SQLite itself only says that a function raised an exception.

The sentence does not come back with the error, and the threads that run SQL serve everybody. So nothing
is kept from the run that failed. The same SQL is run once more for the person whose page it is, with a
thread-local listener.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from datasette.app import Datasette
from datasette.utils import escape_sqlite, sqlite_timelimit, tilde_decode
from datasette.utils.asgi import Request, Response
from datasette.views.base import DatasetteError

from ..errors import printable
from ..store.filters import all_of
from .compat import can_execute_sql, column_filters, saved_query_parameters, saved_query_sql
from .errors import on_other_pages
from .urls import column_pairs

_RAISED = "user-defined"
"""The beginning of SQLite's messages for an exception in a function or aggregate."""

logger = logging.getLogger(__name__)

_heard = threading.local()
"""The last sentence that this thread reported while it runs SQL again; unset otherwise."""


def hear(sentence: str) -> None:
    """The `tell` of the SQL functions."""
    if hasattr(_heard, "sentence"):
        _heard.sentence = sentence


def warn(database: str, sentence: str) -> None:
    """Logs a problem that the administrator of the server can solve."""
    logger.warning("%s", printable(f"{database}: {sentence}"))


async def sentence_of(
    datasette: Datasette, database: str, sql: str, params: Mapping[str, Any]
) -> str | None:
    """
    The sentence of a function of this plugin that fails in a query; None if none fails.

    Only for a person who may run SQL: a sentence names a term, which may be a value from a row.
    """
    if "image_" not in sql.lower():
        return None

    def run(conn: sqlite3.Connection) -> str | None:
        _heard.sentence = None
        try:
            with sqlite_timelimit(conn, datasette.sql_time_limit_ms):
                # As many rows as Datasette reads.
                conn.execute(sql, params).fetchmany(datasette.max_returned_rows + 1)
        except sqlite3.Error as error:
            return _heard.sentence if str(error).startswith(_RAISED) else None
        finally:
            del _heard.sentence
        return None

    return await datasette.get_database(database).execute_fn(run)


async def query_page_vars(datasette: Datasette, request: Request, database: str) -> dict[str, Any]:
    """For the page of a query that failed: the sentence in place of SQLite's error."""
    if not await can_execute_sql(datasette, request.actor, database):
        return {}
    given = {name: request.args[name] for name in request.args}
    sql = given.pop("sql", None)
    # To Datasette a missing parameter is an empty text.
    params: Mapping[str, Any] = defaultdict(str, given)
    if "table" in request.url_vars:
        name = tilde_decode(request.url_vars["table"])
        sql = await saved_query_sql(datasette, request.actor, database, name)
        params = await saved_query_parameters(datasette, request, sql or "", given)
    if not sql:
        return {}
    sentence = await sentence_of(datasette, database, sql, params)
    return {"error": sentence} if sentence else {}


async def explain(datasette: Datasette, request: Request, exception: Exception) -> Response | None:
    """
    The answer to an error that Datasette has none for. For a table page whose _where= failed, puts the
    sentence into the exception instead, and returns None.
    """
    if (response := on_other_pages(exception)) is not None:
        return response
    await _explain_where(datasette, request, exception)
    return None


async def _explain_where(datasette: Datasette, request: Request, exception: Exception) -> None:
    if not isinstance(exception, DatasetteError) or not str(exception.message).startswith(_RAISED):
        return
    wheres = request.args.getlist("_where")
    try:
        database = datasette.get_database(route=tilde_decode(request.url_vars["database"])).name
        table = tilde_decode(request.url_vars["table"])
    except KeyError:
        return
    if not wheres or not await can_execute_sql(datasette, request.actor, database):
        return
    columns = column_filters(datasette, database, table, column_pairs(request))
    clauses, params = columns.build_where_clauses(table)
    sql = f"select 1 from {escape_sqlite(table)} where {all_of([*clauses, *wheres])}"
    exception.message = await sentence_of(datasette, database, sql, params) or exception.message
