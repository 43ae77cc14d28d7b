"""
Datasette's own page of its configuration, without the paths of this machine that ours has: of folders
and of weights. In 0.65 it is called /-/metadata, in 1.0 /-/config.
"""

from __future__ import annotations

from typing import Any

from datasette.app import Datasette
from datasette.utils.asgi import Request, Response
from datasette.views.special import JsonDataView

from .compat import configuration_page, shown_configuration
from .configuration import without_paths


async def page(datasette: Datasette, request: Request) -> Response:
    name = f"{configuration_page(datasette)}.json"
    view = JsonDataView(datasette, name, lambda: _shown(datasette))
    return await view.dispatch_request(request)


def _shown(datasette: Datasette) -> dict[str, Any]:
    return without_paths(shown_configuration(datasette))
