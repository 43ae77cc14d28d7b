"""
Datasette's hooks. sqlite-utils imports this package too, on the way to `cli`, so nothing here may
import Datasette at module level: the markers come from pluggy, and each hook calls into its room.
"""

from pluggy import HookimplMarker

hookimpl = HookimplMarker("datasette")


@hookimpl
def prepare_connection(conn, datasette):
    from .sql import register_functions
    from .web.configuration import configured_weights

    register_functions(conn, weights_of=configured_weights(datasette))


@hookimpl
def register_routes():
    from .web import media, pages, uploads

    return [
        (r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/]+)$", pages.search_page),
        (
            r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/]+)/(?P<id>[^/]+)/thumbnail$",
            media.thumbnail,
        ),
        (
            r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/]+)/(?P<id>[^/]+)/image$",
            media.image,
        ),
        (r"^/-/image-search/(?P<database>[^/]+)/(?P<table>[^/]+)/upload$", uploads.upload),
    ]
