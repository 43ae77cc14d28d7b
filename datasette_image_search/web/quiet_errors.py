"""
Errors that were made by whoever asks: an answer, and no traceback on the terminal.

With the package rich installed, which our extra "transformers" brings along, Datasette prints each
error with the variables of all functions, on the thread that serves everybody: 0.6 seconds for a page
that is not there, and a minute for a long URL.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

from datasette.app import Datasette
from datasette.utils.asgi import Base400
from datasette.views.base import DatasetteError

_CORE = "datasette.handle_exception"


def without_traceback(
    datasette: Datasette, exception: Exception, responses: Sequence[Any]
) -> list[Any]:
    """
    What the hooks for an exception returned, with Datasette's own told not to print if the exception
    is one that Datasette has a sentence for. Of all others, which are faults, it prints all it knows.
    """
    if datasette.pdb or not isinstance(exception, Base400 | DatasetteError):
        return list(responses)
    return [_quiet(response) for response in responses]


def _quiet(response: Any) -> Any:
    if not isinstance(response, types.FunctionType) or response.__module__ != _CORE:
        return response
    # A copy that knows of no rich. To take it away for a moment would take it from other requests.
    copy = types.FunctionType(
        response.__code__,
        {**response.__globals__, "rich": None},
        response.__name__,
        response.__defaults__,
        response.__closure__,
    )
    copy.__kwdefaults__ = response.__kwdefaults__
    return copy
