"""What differs between Datasette 0.65 and 1.0, told apart by capability; and nothing else."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from datasette.app import Datasette
from datasette.database import Database, connections
from datasette.facets import Facet
from datasette.filters import Filters
from datasette.utils.asgi import Request, Response

PATIENCE = 0.7
"""Seconds to wait for the threads that run SQL ..."""

TRIES = 3
"""... each time."""

logger = logging.getLogger(__name__)


async def can_view_table(
    datasette: Datasette, actor: dict[str, Any] | None, database: str, table: str
) -> bool:
    """Whether this actor may see this table, by the table's, the database's and the instance's rules."""
    if hasattr(datasette, "allowed"):
        from datasette.resources import TableResource

        return await datasette.allowed(
            action="view-table", resource=TableResource(database, table), actor=actor
        )
    visible, _ = await datasette.check_visibility(
        actor,
        permissions=[
            ("view-table", (database, table)),
            ("view-database", database),
            "view-instance",
        ],
    )
    return visible


def rules_of_tables(denied: Iterable[tuple[str, str]]) -> Any:
    """What `permission_resources_sql` of 1.0 returns to deny tables, each a database and a table."""
    from datasette.permissions import PermissionSQL

    return PermissionSQL(
        sql="""
            select json_extract(value, '$[0]') as parent, json_extract(value, '$[1]') as child,
                0 as allow, 'made of an image table that is not allowed' as reason
            from json_each(:image_search_denied)
        """,
        params={"image_search_denied": json.dumps(list(denied))},
    )


async def listed_tables(datasette: Datasette, database: str) -> list[str]:
    """The tables that 1.0 lists of a database, also when it cannot be read."""
    rows = await datasette.get_internal_database().execute(
        "select table_name from catalog_tables where database_name = ?", [database]
    )
    return [name for (name,) in rows.rows]


def labels_ignore_actors(datasette: Datasette) -> bool:
    """Whether rows of other tables are called by name before those who may not see these tables."""
    return "actor" not in inspect.signature(datasette.expand_foreign_keys).parameters


def configuration_page_name(datasette: Datasette) -> str:
    """The page of Datasette that shows what the server was configured with."""
    return "metadata" if hasattr(datasette, "metadata") else "config"


def shown_configuration(datasette: Datasette) -> dict[str, Any]:
    """What that page shows; 1.0 leaves out passwords and the like."""
    if hasattr(datasette, "metadata"):
        return datasette.metadata() or {}
    return datasette._config()


async def can_execute_sql(
    datasette: Datasette, actor: dict[str, Any] | None, database: str
) -> bool:
    """Whether this actor may run SQL of their own, and so read anything in the database."""
    if hasattr(datasette, "allowed"):
        from datasette.resources import DatabaseResource

        return await datasette.allowed(
            action="execute-sql", resource=DatabaseResource(database), actor=actor
        )
    return await datasette.permission_allowed(actor, "execute-sql", database, default=True)


async def saved_query_sql(
    datasette: Datasette, actor: dict[str, Any] | None, database: str, name: str
) -> str | None:
    """The SQL of a query that has a name and only reads, or None where there is none."""
    if hasattr(datasette, "get_query"):
        query = await datasette.get_query(database, name)
        return query.sql if query is not None and not query.is_write else None
    query = await datasette.get_canned_query(database, name, actor)
    return query["sql"] if query and not query.get("write") else None


async def saved_query_parameters(
    datasette: Datasette, request: Request, sql: str, given: Mapping[str, str]
) -> Mapping[str, Any]:
    """What Datasette fills into a query that has a name: the given, magic ones, empty texts else."""
    from datasette.views.database import MagicParameters

    class Parameters(MagicParameters):
        def __missing__(self, name: str) -> str:
            return ""

    if not hasattr(MagicParameters, "execute_params"):
        return Parameters(given, request, datasette)
    parameters = Parameters(sql, given, request, datasette)
    await parameters.execute_params()
    return parameters


def column_filters(
    datasette: Datasette, database: str, table: str, pairs: Iterable[tuple[str, str]]
) -> Filters:
    """Datasette's own reading of the column filters in a query string."""
    if not hasattr(datasette, "table_metadata"):
        return Filters(sorted(pairs))
    from datasette.views.base import ureg

    units = datasette.table_metadata(database, table).get("units", {})
    return Filters(sorted(pairs), units, ureg)


async def default_page_size(datasette: Datasette, database: str, table: str) -> int:
    """How many rows a table page has where the request does not say."""
    if hasattr(datasette, "table_metadata"):
        settings = datasette.table_metadata(database, table)
    else:
        settings = await datasette.table_config(database, table)
    size = settings.get("size") or datasette.page_size
    return datasette.max_returned_rows if size == "max" else int(size)


def csrf_token(request: Request) -> str:
    """
    What a POST is to send as x-csrftoken. In 0.65 it comes with a cookie, which makes Datasette
    forbid all caching: so not for pages. 1.0 looks at other headers, and its token means nothing.
    """
    token = request.scope.get("csrftoken")
    return token() if token else ""


async def table_configuration(datasette: Datasette, database: str, table: str) -> dict[str, Any]:
    """What the server says of a table's facets and the like: metadata in 0.65."""
    if hasattr(datasette, "table_config"):
        return await datasette.table_config(database, table)
    return datasette.table_metadata(database, table)


async def table_title(datasette: Datasette, database: str, table: str) -> str:
    """The title that metadata gives a table, else its name."""
    if hasattr(datasette, "get_resource_metadata"):
        metadata = await datasette.get_resource_metadata(database, table)
    else:
        metadata = datasette.table_metadata(database, table)
    return str(metadata.get("title") or table)


def whole_configuration(datasette: Datasette) -> dict[str, Any]:
    """What the server was configured with, for the instance and below it: metadata in 0.65."""
    if hasattr(datasette, "metadata"):
        return datasette.metadata() or {}
    return datasette.config or {}


def database_colour(database: Database) -> str:
    """Six hexadecimal digits; all databases of 0.65 have the same."""
    return getattr(database, "color", "ff0000")


def renderer_with_error(
    datasette: Datasette, render: Callable[..., Awaitable[Response]]
) -> Callable[..., Awaitable[Response]]:
    """An output renderer that is told, as `error`, what SQLite has against a query; 0.65 says it in `data`."""
    if hasattr(datasette, "allowed"):
        return render

    async def render_with_error(
        datasette: Datasette,
        request: Request,
        database: str,
        table: str,
        columns: Sequence[str],
        rows: Sequence[Any],
        data: dict[str, Any],
    ) -> Response:
        error = data.get("error")
        return await render(datasette, request, database, table, columns, rows, error)

    return render_with_error


async def reopen_connections(datasette: Datasette, database: Database) -> bool:
    """
    All that Datasette has to a database, while no request needs them; and those that it has not yet, so
    that all are to the same file. Both versions keep them by thread, 0.65 under the name of the database.
    False if a thread is too busy.
    """
    kept = getattr(database, "_thread_local_id", database.name)
    # What writes has a thread of its own, which is left to itself.
    database._write_thread = database._write_queue = None
    if datasette.executor is None:
        database._read_connection = database._write_connection = None
        return True
    threads = datasette.setting("num_sql_threads")
    done: set[int] = set()
    for _ in range(TRIES):
        all_there = threading.Barrier(threads)
        reopen = partial(_reopen, datasette, database, kept, all_there, done)
        loop = asyncio.get_running_loop()
        await asyncio.gather(
            *(loop.run_in_executor(datasette.executor, reopen) for _ in range(threads))
        )
        if len(done) == threads:
            return True
    logger.warning("%s is still read by a thread that is busy", database.path)
    return False


def _reopen(
    datasette: Datasette,
    database: Database,
    kept: str,
    all_there: threading.Barrier,
    done: set[int],
) -> None:
    """Each thread has one of these to do, and none two: unless one of them is busy for too long."""
    with suppress(threading.BrokenBarrierError):
        all_there.wait(PATIENCE)
    conn = connections.__dict__.pop(kept, None)
    if conn is not None:
        conn.close()
    # What is wrong with the file is told by whatever is asked of it.
    with suppress(sqlite3.Error):
        conn = database.connect()
        datasette._prepare_connection(conn, database.name)
        connections.__dict__[kept] = conn
    done.add(threading.get_ident())


def make_facet(
    kind: type[Facet], *args: Any, configuration: dict[str, Any], **options: Any
) -> Facet:
    """A facet of Datasette; 0.65 calls the configuration of its table metadata."""
    takes = inspect.signature(Facet.__init__).parameters
    name = "table_config" if "table_config" in takes else "metadata"
    return kind(*args, **{name: configuration}, **options)


def load_sqlite_utils_plugins(datasette: Datasette) -> None:
    """
    Datasette 1.0 makes a sqlite_utils.Database of its connections, and the first of these loads the
    plugins of sqlite-utils, this one among them, with nothing that keeps a second thread from it. So
    before there are threads.
    """
    if hasattr(datasette, "allowed"):
        from sqlite_utils.plugins import ensure_plugins_loaded

        ensure_plugins_loaded()
