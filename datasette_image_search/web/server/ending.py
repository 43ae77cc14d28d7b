"""The end of a server, within two seconds."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from ...decoding.decoding_process import end_all

GRACE = 1
"""Seconds to finish answers after the server was told to end."""

LAST = 0.5
"""Seconds after these for Datasette to close. It waits for its threads, and SQLite cannot be interrupted
while it waits for a function, for example while that loads a model."""

Message = dict[str, Any]
App = Callable[..., Awaitable[None]]


def with_an_end(app: App) -> App:
    """ASGI middleware around all of Datasette."""

    async def wrapped(scope: Message, receive: Callable[[], Awaitable[Message]], send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        ending = _Ending()

        async def told() -> Message:
            message = await receive()
            if message["type"] == "lifespan.startup":
                ending.prepare()
            elif message["type"] == "lifespan.shutdown":
                ending.begin()
            return message

        try:
            await app(scope, told, send)
        finally:
            ending.done()

    return wrapped


class _Ending:
    """
    uvicorn waits for all answers without a limit, and Datasette does not set one. So a loading model, or a
    client that does not read on, would keep a server alive until somebody kills it.
    """

    def __init__(self) -> None:
        self._server: Any = None
        self._timer: threading.Timer | None = None

    def prepare(self) -> None:
        """Called after uvicorn has begun to listen to signals, and before it serves."""
        server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        config = getattr(server, "config", None)
        if config is None or not hasattr(config, "timeout_graceful_shutdown"):
            return  # Another server, with limits of its own.
        self._server = server
        if config.timeout_graceful_shutdown is None:
            config.timeout_graceful_shutdown = GRACE

    def begin(self) -> None:
        """Called when all answers are finished or given up."""
        end_all()
        if self._server is not None:
            self._timer = threading.Timer(LAST, os._exit, [1])
            self._timer.daemon = True
            self._timer.start()

    def done(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
