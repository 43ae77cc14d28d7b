"""
Datasette's hooks. sqlite-utils imports this package too, on the way to `cli`, so nothing here may
import Datasette at module level: the markers come from pluggy, and each hook calls into its room.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from pluggy import HookimplMarker

if TYPE_CHECKING:
    from datasette.app import Datasette
    from datasette.facets import Facet
    from datasette.filters import FilterArguments
    from datasette.utils.asgi import Request, Response
    from markupsafe import Markup

    from .web.links import Link

Actor = dict[str, Any] | None

hookimpl = HookimplMarker("datasette")


@hookimpl
def prepare_connection(conn: sqlite3.Connection, database: str, datasette: Datasette) -> None:
    from .sql import register_functions
    from .web import database_files
    from .web.configuration import MOST_TEXTS, configured_weights
    from .web.sql_errors import hear

    database_files.put_right(datasette, database)
    register_functions(
        conn, report=hear, weights_of=configured_weights(datasette), most_texts=MOST_TEXTS
    )


@hookimpl
def register_facet_classes() -> list[type[Facet]]:
    from .web.tags import TagFacet
    from .web.year_facet import YearFacet

    return [YearFacet, TagFacet]


@hookimpl
def startup(datasette: Datasette) -> None:
    from .web import database_files, warm_up
    from .web.configuration import log_problems

    log_problems(datasette)
    database_files.watch(datasette)
    warm_up.start(datasette)


@hookimpl
def asgi_wrapper(datasette: Datasette) -> Callable[[Any], Any]:
    from .web import database_files

    return database_files.between_requests(datasette)


@hookimpl
def register_routes() -> list[tuple[str, Callable[..., Any]]]:
    from .web import map_page, media, pages, uploads
    from .web.locked import told_when_locked

    routes = [
        (r"^/-/image-search$", pages.tables_page),
        (r"^/-/image-search/(?P<database>[^/]+)$", pages.tables_page),
        (
            # The names are tilde-encoded, so a dot in the path begins a format and nothing else.
            r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/.]+)(?:\.(?P<format>json|csv))?$",
            pages.search_page,
        ),
        (
            r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/]+)/(?P<id>[^/]+)/thumbnail$",
            media.thumbnail,
        ),
        (
            r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/]+)/(?P<id>[^/]+)/image$",
            media.image,
        ),
        (r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/]+)/upload$", uploads.upload),
        (
            r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/]+)/map(?:\.(?P<format>json))?$",
            map_page.map_page,
        ),
    ]
    return [(path, told_when_locked(view)) for path, view in routes]


@hookimpl(wrapper=True)
def filters_from_request(
    request: Request, database: str, table: str, datasette: Datasette
) -> Generator[None, list[Any], list[Any]]:
    from .web import table_page

    others = yield
    if not request.args.get(table_page.ARGUMENT):
        return others
    return [table_page.filters_with_search(datasette, request, database, table, others)]


@hookimpl(specname="filters_from_request")
def filters_by_tag(
    request: Request, database: str, table: str, datasette: Datasette
) -> Awaitable[FilterArguments] | None:
    from .web import tags

    if not request.args.get(tags.ARGUMENT):
        return None
    return tags.filter_by_tags(datasette, request, database, table)


@hookimpl
def extra_template_vars(
    template: str | None,
    database: str | None,
    table: str | None,
    columns: Sequence[str] | None,
    request: Request | None,
    datasette: Datasette,
) -> Awaitable[dict[str, Any]]:
    from .web import template_vars

    return template_vars.of_page(datasette, request, template, database, table, columns)


@hookimpl
def extra_css_urls(
    template: str | None, database: str | None, table: str | None, datasette: Datasette
) -> Awaitable[list[str]]:
    from .web import template_vars

    return template_vars.css_urls(datasette, template, database, table)


@hookimpl
def render_cell(
    row: Any, value: Any, column: str, table: str | None, database: str, datasette: Datasette
) -> Awaitable[Markup | None] | None:
    from .web import cells

    return cells.cell_with_picture(datasette, database, table, row, column, value)


@hookimpl
def register_output_renderer(datasette: Datasette) -> dict[str, Any]:
    from .web import images_output
    from .web.compat import renderer_with_error

    return {
        "extension": "images",
        "render": renderer_with_error(datasette, images_output.render),
        "can_render": images_output.can_render,
    }


@hookimpl
def handle_exception(
    datasette: Datasette, request: Request, exception: Exception
) -> Awaitable[Response | None]:
    from .web import sql_errors

    return sql_errors.explain(datasette, request, exception)


@hookimpl
def menu_links(datasette: Datasette, actor: Actor) -> Awaitable[list[Link]]:
    from .web import links

    return links.menu(datasette, actor)


@hookimpl
def database_actions(datasette: Datasette, actor: Actor, database: str) -> Awaitable[list[Link]]:
    from .web import links

    return links.of_database(datasette, actor, database)


@hookimpl
def table_actions(
    datasette: Datasette, actor: Actor, database: str, table: str
) -> Awaitable[list[Link]]:
    from .web import links

    return links.of_table(datasette, actor, database, table)


@hookimpl
def row_actions(
    datasette: Datasette, actor: Actor, database: str, table: str, row: Any
) -> Awaitable[list[Link]]:
    from .web import links

    return links.of_row(datasette, actor, database, table, row)


@hookimpl
def top_homepage(datasette: Datasette, request: Request) -> Awaitable[Markup]:
    from .web import links

    return links.above_databases(datasette, request)


@hookimpl
def top_database(datasette: Datasette, request: Request, database: str) -> Awaitable[Markup]:
    from .web import links

    return links.above_tables(datasette, request, database)
