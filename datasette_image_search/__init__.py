"""
`Images`, its error, and Datasette's hooks. sqlite-utils imports this package too, on the way to `cli`, so nothing
here may import Datasette at module level: the markers come from pluggy, and each hook calls into its
room.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from pluggy import HookimplMarker

from .errors import ImageSearchError

if TYPE_CHECKING:
    from datasette.app import Datasette
    from datasette.facets import Facet
    from datasette.filters import FilterArguments
    from datasette.utils.asgi import Request, Response
    from jinja2 import Environment
    from markupsafe import Markup

    from .api import Images
    from .web.access.visits import Application
    from .web.datasette_pages.menus import Link

Actor = dict[str, Any] | None

hookimpl = HookimplMarker("datasette")

__all__ = ["ImageSearchError", "Images"]


def __getattr__(name: str) -> Any:
    if name == "Images":
        from .api import Images

        return Images
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@hookimpl
def prepare_connection(conn: sqlite3.Connection, database: str, datasette: Datasette) -> None:
    from .sql import register_functions
    from .web.configuration import MOST_TEXTS, configured_weights
    from .web.server import database_files
    from .web.server.preparing import read_like_datasette
    from .web.sql_errors import hear, warn

    database_files.put_right(datasette, database)
    problem = register_functions(
        conn, tell=hear, weights_of=configured_weights(datasette), most_texts=MOST_TEXTS
    )
    if problem is not None:
        warn(database, problem)
    read_like_datasette(datasette, database)


@hookimpl
def register_facet_classes() -> list[type[Facet]]:
    from .web.facets.kinds import KindFacet
    from .web.facets.words import AlbumFacet, KeywordFacet, TagFacet
    from .web.facets.years import YearFacet

    return [YearFacet, KindFacet, TagFacet, KeywordFacet, AlbumFacet]


@hookimpl
def startup(datasette: Datasette) -> Awaitable[None]:
    from .web.server import starting

    return starting.start(datasette)


@hookimpl(specname="asgi_wrapper")
def between_requests(datasette: Datasette) -> Callable[[Application], Application]:
    from .web.server import database_files

    return database_files.between_requests(datasette)


@hookimpl(specname="asgi_wrapper")
def with_visits() -> Callable[[Application], Application]:
    from .web.access.visits import with_visits

    return with_visits


@hookimpl(wrapper=True)
def actor_from_request(request: Request) -> Generator[None, list[Any], list[Any]]:
    from .web.access import visits

    answers = yield
    return list(visits.remembering(answers, request))


@hookimpl(wrapper=True)
def permission_allowed(
    datasette: Datasette, actor: Actor, action: str, resource: Any
) -> Generator[None, list[Any], list[Any]]:
    """For 0.65, where the last answer counts."""
    from .web.access import side_tables

    answers = yield
    if action != "view-table" or not isinstance(resource, tuple | list) or len(resource) != 2:
        return answers
    return [*answers, side_tables.denial(datasette, actor, *resource)]


@hookimpl
def permission_resources_sql(
    datasette: Datasette, actor: Actor, action: str
) -> Awaitable[Any] | None:
    """For 1.0."""
    from .web.access import side_tables

    return side_tables.rules(datasette, actor) if action == "view-table" else None


@hookimpl
def register_routes(datasette: Datasette) -> list[tuple[str, Callable[..., Any]]]:
    from .web.compat import configuration_page_name
    from .web.configuration import configuration_page
    from .web.errors import told_when_locked, told_when_missing, told_with_the_list
    from .web.media import pictures, uploads
    from .web.pages import (
        album_pages,
        archives,
        duplicates_page,
        geographic_map,
        image_page,
        map_page,
        search_page,
    )
    from .web.pages.responses import with_options
    from .web.pages.sets import of_a_set, with_short_links

    routes = [
        (r"^/-/image-search$", search_page.tables_page),
        (
            r"^/-/image-search/(?P<database>[^/]+)$",
            told_with_the_list(search_page.tables_page),
        ),
        (
            # The names are tilde-encoded, so a dot in the path begins a format and nothing else.
            r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/.]+)(?:\.(?P<format>json|csv))?$",
            told_with_the_list(with_short_links(search_page.search_page)),
        ),
        (
            r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/]+)/among/(?P<among>[^/]+)/$",
            told_with_the_list(of_a_set(search_page.search_page)),
        ),
        (
            r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/]+)/among/(?P<among>[^/]+)/(?P<id>[^/]+)$",
            told_with_the_list(of_a_set(image_page.image_page)),
        ),
        (
            # An id may be a text without letters.
            r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/]+)/(?P<id>[^/]*)/thumbnail$",
            told_when_missing(pictures.thumbnail),
        ),
        (
            r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/]+)/(?P<id>[^/]*)/image$",
            told_when_missing(pictures.image),
        ),
        (
            r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/]+)/(?P<id>[^/]*)/preview$",
            told_when_missing(pictures.preview),
        ),
        (r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/]+)/upload$", uploads.upload),
        (
            r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/]+)/(?P<kind>originals|previews)\.zip$",
            archives.archive,
        ),
        (
            r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/]+)/map(?:\.(?P<format>json))?$",
            told_with_the_list(map_page.map_page),
        ),
        (
            r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/]+)/albums(?:\.(?P<format>json))?$",
            told_with_the_list(album_pages.albums_page),
        ),
        (
            r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/]+)/album/(?P<album>[0-9]+)$",
            told_with_the_list(album_pages.album),
        ),
        (
            r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/]+)/earth(?:\.(?P<format>json))?$",
            told_with_the_list(geographic_map.geographic_map),
        ),
        (
            r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/]+)/duplicates(?:\.(?P<format>txt|csv))?$",
            told_with_the_list(duplicates_page.duplicates_page),
        ),
        (
            r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/]+)/(?P<id>[^/]*)$",
            told_with_the_list(with_short_links(image_page.image_page)),
        ),
        (rf"^/-/{configuration_page_name(datasette)}(?:\.(?P<format>json))?$", configuration_page),
    ]
    return [(path, with_options(told_when_locked(view))) for path, view in routes]


@hookimpl(wrapper=True)
def filters_from_request(
    request: Request, database: str, table: str, datasette: Datasette
) -> Generator[None, list[Any], list[Any]]:
    from .web.datasette_pages import table_page

    others = yield
    if not request.args.get(table_page.ARGUMENT):
        return others
    return [table_page.filters_with_search(datasette, request, database, table, others)]


@hookimpl(specname="filters_from_request")
def filters_by_words(
    request: Request, database: str, table: str, datasette: Datasette
) -> Awaitable[FilterArguments] | None:
    from .web.facets import words

    if not words.asked_for(request):
        return None
    return words.filter_by_words(datasette, request, database, table)


@hookimpl(specname="filters_from_request")
def filters_among(
    request: Request, database: str, table: str, datasette: Datasette
) -> Awaitable[FilterArguments | None] | None:
    from .web.datasette_pages.among_filter import filter_among
    from .web.urls import AMONG

    if AMONG not in request.args:
        return None
    return filter_among(datasette, request, database, table)


@hookimpl
def prepare_jinja2_environment(env: Environment) -> None:
    from .web.datasette_pages import template_vars

    template_vars.prepare(env)


@hookimpl
def extra_template_vars(
    template: str | None,
    database: str | None,
    table: str | None,
    columns: Sequence[str] | None,
    request: Request | None,
    datasette: Datasette,
) -> Awaitable[dict[str, Any]]:
    from .web.datasette_pages import template_vars

    return template_vars.of_page(datasette, request, template, database, table, columns)


@hookimpl
def extra_css_urls(
    template: str | None, database: str | None, table: str | None, datasette: Datasette
) -> Awaitable[list[str]]:
    from .web.datasette_pages import template_vars

    return template_vars.css_urls(datasette, template, database, table)


@hookimpl
def render_cell(
    row: Any, value: Any, column: str, table: str | None, database: str, datasette: Datasette
) -> Awaitable[Markup | None] | None:
    from .web.datasette_pages import cells, linked_cells

    return linked_cells.first_of(
        cells.cell_with_picture(datasette, database, table, row, column, value),
        linked_cells.linked_cell(datasette, database, table, column, value),
    )


@hookimpl
def register_output_renderer(datasette: Datasette) -> dict[str, Any]:
    from .web.compat import load_sqlite_utils_plugins, renderer_with_error
    from .web.datasette_pages import images_output

    # Datasette calls this hook first of ours, while it is made.
    load_sqlite_utils_plugins(datasette)
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


@hookimpl(specname="handle_exception", wrapper=True)
def print_no_traceback(
    datasette: Datasette, exception: Exception
) -> Generator[None, list[Any], list[Any]]:
    from .web.errors import without_traceback

    return without_traceback(datasette, exception, (yield))


@hookimpl(specname="asgi_wrapper")
def end_in_time() -> Callable[[Any], Any]:
    from .web.server.ending import with_an_end

    return with_an_end


@hookimpl
def menu_links(datasette: Datasette, actor: Actor) -> Awaitable[list[Link]]:
    from .web.datasette_pages import menus

    return menus.menu(datasette, actor)


@hookimpl
def database_actions(datasette: Datasette, actor: Actor, database: str) -> Awaitable[list[Link]]:
    from .web.datasette_pages import menus

    return menus.of_database(datasette, actor, database)


@hookimpl
def table_actions(
    datasette: Datasette, actor: Actor, database: str, table: str
) -> Awaitable[list[Link]]:
    from .web.datasette_pages import menus

    return menus.of_table(datasette, actor, database, table)


@hookimpl
def view_actions(
    datasette: Datasette, actor: Actor, database: str, view: str
) -> Awaitable[list[Link]]:
    from .web.datasette_pages import menus

    return menus.of_table(datasette, actor, database, view)


@hookimpl
def row_actions(
    datasette: Datasette, actor: Actor, database: str, table: str, row: Any
) -> Awaitable[list[Link]]:
    from .web.datasette_pages import menus

    return menus.of_row(datasette, actor, database, table, row)


@hookimpl
def top_homepage(datasette: Datasette, request: Request) -> Awaitable[Markup]:
    from .web.datasette_pages import menus

    return menus.above_databases(datasette, request)


@hookimpl
def top_database(datasette: Datasette, request: Request, database: str) -> Awaitable[Markup]:
    from .web.datasette_pages import menus

    return menus.above_tables(datasette, request, database)


@hookimpl
def top_table(
    datasette: Datasette, request: Request, database: str, table: str
) -> Awaitable[Markup]:
    from .web.datasette_pages import table_page

    return table_page.above_rows(datasette, request, database, table)
