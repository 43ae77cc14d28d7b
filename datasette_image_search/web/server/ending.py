"""What belongs to a whole server: an end within seconds."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from ...ingest.decoding_process import end_all

GRACE = 3
"""Seconds that answers have to be finished in, when the server is told to end."""

LAST = 1.5
"""Seconds after these for Datasette to close what it has open. It waits for its threads, and SQLite
cannot be interrupted while it waits for a function, such as a model that is being loaded."""

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
    uvicorn waits for all answers, however long they take, as Datasette does not say otherwise. So one
    model that loads, or one client that does not read on, would keep a server alive that was told to
    end; until it is killed, if anybody does.
    """

    def __init__(self) -> None:
        self._server: Any = None
        self._timer: threading.Timer | None = None

    def prepare(self) -> None:
        """After uvicorn has begun to listen to signals, and before it serves."""
        server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        config = getattr(server, "config", None)
        if config is None or not hasattr(config, "timeout_graceful_shutdown"):
            return  # Another server, which has its own ways.
        self._server = server
        if config.timeout_graceful_shutdown is None:
            config.timeout_graceful_shutdown = GRACE

    def begin(self) -> None:
        """All answers are finished, or will never be."""
        end_all()
        if self._server is not None:
            self._timer = threading.Timer(LAST, os._exit, [1])
            self._timer.daemon = True
            self._timer.start()

    def done(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
