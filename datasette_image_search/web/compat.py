"""The differences between Datasette 0.65 and 1.0, told apart by capability; and nothing else."""

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
from pathlib import Path
from typing import Any

from datasette.app import Datasette
from datasette.database import Database, connections
from datasette.facets import Facet
from datasette.filters import Filters
from datasette.plugins import pm
from datasette.utils.asgi import Request, Response
from jinja2 import Environment, FileSystemLoader

PATIENCE = 0.7
"""Seconds to wait for the threads that run SQL ..."""

TRIES = 3
"""... each time."""

EDIT_ALBUMS = "image-search-edit-albums"
"""The permission to change the albums of an image table in 0.65, which root has, unless a plugin says otherwise."""

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


async def can_change_rows(
    datasette: Datasette,
    actor: dict[str, Any] | None,
    action: str,
    database: str,
    table: str,
    side: str | None,
) -> bool:
    """
    Whether this actor may do an action of 1.0, such as "insert-row", to a side table of an image table, or make tables
    if that is None. 0.65 has no such permissions: there it is EDIT_ALBUMS, of the image table.
    """
    if hasattr(datasette, "allowed"):
        from datasette.resources import DatabaseResource, TableResource

        resource = DatabaseResource(database) if side is None else TableResource(database, side)
        return await datasette.allowed(action=action, resource=resource, actor=actor)
    is_root = actor is not None and actor.get("id") == "root"
    return await datasette.permission_allowed(
        actor, EDIT_ALBUMS, (database, table), default=is_root
    )


def rules_of_tables(denied: Iterable[tuple[str, str]]) -> Any:
    """The answer of `permission_resources_sql` of 1.0 that denies tables, each a database and a table."""
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
    """The tables of a database in the catalogue of 1.0, which has them also if it cannot be read."""
    rows = await datasette.get_internal_database().execute(
        "select table_name from catalog_tables where database_name = ?", [database]
    )
    return [name for (name,) in rows.rows]


def labels_ignore_actors(datasette: Datasette) -> bool:
    """Whether labels of foreign keys are shown to people who may not see the other table, as in 0.65."""
    return "actor" not in inspect.signature(datasette.expand_foreign_keys).parameters


def configuration_page_name(datasette: Datasette) -> str:
    """The name of Datasette's own page of its configuration."""
    return "metadata" if hasattr(datasette, "metadata") else "config"


def shown_configuration(datasette: Datasette) -> dict[str, Any]:
    """The configuration as that page shows it; 1.0 hides passwords and the like."""
    if hasattr(datasette, "metadata"):
        return datasette.metadata() or {}
    return datasette._config()


async def can_execute_sql(
    datasette: Datasette, actor: dict[str, Any] | None, database: str
) -> bool:
    """Whether this actor may run their own SQL, and so read anything in the database."""
    if hasattr(datasette, "allowed"):
        from datasette.resources import DatabaseResource

        return await datasette.allowed(
            action="execute-sql", resource=DatabaseResource(database), actor=actor
        )
    return await datasette.permission_allowed(actor, "execute-sql", database, default=True)


async def saved_query_sql(
    datasette: Datasette, actor: dict[str, Any] | None, database: str, name: str
) -> str | None:
    """The SQL of a saved query; None if there is none, or if it writes."""
    if hasattr(datasette, "get_query"):
        query = await datasette.get_query(database, name)
        return query.sql if query is not None and not query.is_write else None
    query = await datasette.get_canned_query(database, name, actor)
    return query["sql"] if query and not query.get("write") else None


async def saved_query_parameters(
    datasette: Datasette, request: Request, sql: str, given: Mapping[str, str]
) -> Mapping[str, Any]:
    """The parameters of a saved query: the given ones, magic ones, empty texts for the rest."""
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
    """The column filters in a query string, as Datasette reads them."""
    if not hasattr(datasette, "table_metadata"):
        return Filters(sorted(pairs))
    from datasette.views.base import ureg

    units = datasette.table_metadata(database, table).get("units", {})
    return Filters(sorted(pairs), units, ureg)


async def default_page_size(datasette: Datasette, database: str, table: str) -> int:
    """The number of rows on a table page if the request does not name one."""
    if hasattr(datasette, "table_metadata"):
        settings = datasette.table_metadata(database, table)
    else:
        settings = await datasette.table_config(database, table)
    size = settings.get("size") or datasette.page_size
    return datasette.max_returned_rows if size == "max" else int(size)


def csrf_token(request: Request) -> str:
    """
    The token that a POST must send as x-csrftoken. In 0.65 it comes with a cookie, which makes Datasette
    forbid all caching, so pages must not ask for it. 1.0 checks other headers, and ignores the token.
    """
    token = request.scope.get("csrftoken")
    return token() if token else ""


async def table_configuration(datasette: Datasette, database: str, table: str) -> dict[str, Any]:
    """The configuration of a table, such as its facets: metadata in 0.65."""
    if hasattr(datasette, "table_config"):
        return await datasette.table_config(database, table)
    return datasette.table_metadata(database, table)


async def table_title(datasette: Datasette, database: str, table: str) -> str:
    """The title of a table in the metadata, else its name."""
    if hasattr(datasette, "get_resource_metadata"):
        metadata = await datasette.get_resource_metadata(database, table)
    else:
        metadata = datasette.table_metadata(database, table)
    return str(metadata.get("title") or table)


def whole_configuration(datasette: Datasette) -> dict[str, Any]:
    """The configuration of the instance and all below it: metadata in 0.65."""
    if hasattr(datasette, "metadata"):
        return datasette.metadata() or {}
    return datasette.config or {}


def database_colour(database: Database) -> str:
    """Six hexadecimal digits; all databases of 0.65 have the same."""
    return getattr(database, "color", "ff0000")


def has_places_on_pages() -> bool:
    """Whether Datasette has hooks for what stands at the top of its pages, as 1.0 has."""
    return getattr(getattr(pm.hook, "top_homepage", None), "spec", None) is not None


def add_templates(env: Environment, folder: Path) -> None:
    """Templates that come before those of Datasette, and after those of people and of other plugins."""
    loaders = getattr(env.loader, "loaders", ())
    if loaders and isinstance(loaders[0], FileSystemLoader):
        loaders[0].searchpath.insert(-1, str(folder))


def renderer_with_error(
    datasette: Datasette, render: Callable[..., Awaitable[Response]]
) -> Callable[..., Awaitable[Response]]:
    """An output renderer that gets SQLite's error for a query as `error`; 0.65 has it in `data`."""
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
    Reopens the connections of all threads to a database, also those that a thread has not opened yet, so
    that all are to the same file. Call it while no request uses them. Both versions keep a connection per
    thread, 0.65 under the name of the database. False if a thread is too busy.
    """
    kept = getattr(database, "_thread_local_id", database.name)
    # Writes have a thread of their own, which is left running.
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
    """Runs once on each thread: all wait at the barrier, unless one of them is busy for too long."""
    with suppress(threading.BrokenBarrierError):
        all_there.wait(PATIENCE)
    conn = connections.__dict__.pop(kept, None)
    if conn is not None:
        conn.close()
    # An error of the file will come again with the next query.
    with suppress(sqlite3.Error):
        conn = database.connect()
        datasette._prepare_connection(conn, database.name)
        connections.__dict__[kept] = conn
    done.add(threading.get_ident())


def make_facet(
    kind: type[Facet], *args: Any, configuration: dict[str, Any], **options: Any
) -> Facet:
    """A facet of Datasette. 0.65 takes the configuration of its table as `metadata`."""
    takes = inspect.signature(Facet.__init__).parameters
    name = "table_config" if "table_config" in takes else "metadata"
    return kind(*args, **{name: configuration}, **options)


def load_sqlite_utils_plugins(datasette: Datasette) -> None:
    """
    Datasette 1.0 makes a sqlite_utils.Database of its connections. The first of these loads the plugins of
    sqlite-utils, this one among them, without a lock against other threads. So load them before there
    are threads.
    """
    if hasattr(datasette, "allowed"):
        from sqlite_utils.plugins import ensure_plugins_loaded

        ensure_plugins_loaded()
