"""
Datasette's hooks. sqlite-utils imports this package too, on the way to `cli`, so nothing here may
import Datasette at module level: the markers come from pluggy, and each hook calls into its room.
"""

from pluggy import HookimplMarker

hookimpl = HookimplMarker("datasette")


@hookimpl
def prepare_connection(conn, datasette):
    from .sql import register_functions
    from .web.configuration import MOST_TEXTS, configured_weights
    from .web.sql_errors import hear

    register_functions(
        conn, report=hear, weights_of=configured_weights(datasette), most_texts=MOST_TEXTS
    )


@hookimpl
def register_facet_classes():
    from .web.year_facet import YearFacet

    return [YearFacet]


@hookimpl
def startup(datasette):
    from .web import warm_up

    warm_up.start(datasette)


@hookimpl
def register_routes():
    from .web import map_page, media, pages, uploads

    return [
        (r"^/-/image-search$", pages.tables_page),
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


@hookimpl(wrapper=True)
def filters_from_request(request, database, table, datasette):
    from .web import table_page

    others = yield
    if not request.args.get(table_page.ARGUMENT):
        return others
    return [table_page.filters_with_search(datasette, request, database, table, others)]


@hookimpl(specname="filters_from_request")
def filters_by_tag(request, database, table, datasette):
    from .web import tags

    if not request.args.get(tags.ARGUMENT):
        return None
    return tags.filter_by_tags(datasette, request, database, table)


@hookimpl(specname="register_facet_classes")
def register_tag_facet():
    from .web.tags import TagFacet

    return [TagFacet]


@hookimpl
def extra_template_vars(template, database, table, columns, request, datasette):
    from .web import template_vars

    return template_vars.of_page(datasette, request, template, database, table, columns)


@hookimpl
def extra_css_urls(template, database, table, datasette):
    from .web import template_vars

    return template_vars.css_urls(datasette, template, database, table)


@hookimpl
def render_cell(row, value, column, table, database, datasette):
    from .web import cells

    return cells.cell_with_picture(datasette, database, table, row, column, value)


@hookimpl
def register_output_renderer():
    from .web import images_output

    return {
        "extension": "images",
        "render": images_output.render,
        "can_render": images_output.can_render,
    }


@hookimpl
def handle_exception(datasette, request, exception):
    from .web import sql_errors

    return sql_errors.explain(datasette, request, exception)


@hookimpl
def menu_links(datasette, actor):
    from .web import links

    return links.menu(datasette, actor)


@hookimpl
def database_actions(datasette, actor, database):
    from .web import links

    return links.of_database(datasette, actor, database)


@hookimpl
def table_actions(datasette, actor, database, table):
    from .web import links

    return links.of_table(datasette, actor, database, table)


@hookimpl
def row_actions(datasette, actor, database, table, row):
    from .web import links

    return links.of_row(datasette, actor, database, table, row)
