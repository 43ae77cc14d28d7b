"""A real S3 API on loopback, in this process: moto's, which fails as often as it is told to."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any

from moto.backends import get_backend
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

FAULTS = {
    500: ("500 Internal Server Error", "InternalError", "We encountered an internal error"),
    403: ("403 Forbidden", "AccessDenied", "Access Denied"),
    503: ("503 Slow Down", "SlowDown", "Please reduce your request rate"),
}
"""Status -> its line, and what S3 says with it."""

PASSING = (500, 503)


class S3Server:
    """
    `asked` counts the requests by method. Of each few GETs for objects and listings, one has one of the faults that pass.
    `first_page_only` refuses all further pages of a listing.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.every = 0
        self.first_page_only = False
        self._app = DomainDispatcherApplication(create_backend_app)
        self._faults = cycle(PASSING)
        self._lock = threading.Lock()

    def reset(self) -> None:
        """No buckets, no counts and no faults, as at the beginning."""
        self.asked.clear()
        self.every = 0
        self.first_page_only = False
        for backends in get_backend("s3").values():
            for backend in backends.values():
                backend.reset()

    def __call__(self, environ: dict[str, Any], start: Callable) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        with self._lock:
            self.asked[method] += 1
            fails = self.every and method == "GET" and self.asked[method] % self.every == 0
            status = next(self._faults) if fails else 0
        if self.first_page_only and "continuation-token=" in environ["QUERY_STRING"]:
            status = 403
        if status:
            line, code, message = FAULTS[status]
            start(line, [("content-type", "application/xml")])
            said = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
            return [f'<?xml version="1.0" encoding="UTF-8"?>{said}'.encode()]
        return self._app(environ, start)


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *_: Any) -> None:
        pass


@contextmanager
def s3_server() -> Iterator[tuple[S3Server, str]]:
    """The server and its URL."""
    app = S3Server()
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield app, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
