"""
Reading for people who wait at a page of a server: storage is asked once, and a web server only for parts, and for
nothing of another host.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

_visiting: ContextVar[bool] = ContextVar("visiting", default=False)


def is_visiting() -> bool:
    return _visiting.get()


def visiting(work: Callable[[], T]) -> T:
    """The result of `work`, which reads for such people."""
    token = _visiting.set(True)
    try:
        return work()
    finally:
        _visiting.reset(token)


def guard_web(fs: Any) -> None:
    """Has fsspec's storage of web servers, which asks nothing before, keep to that: then it raises OSError."""
    traces = fs.client_kwargs.get("trace_configs") or []
    if _guard() not in traces:
        fs.client_kwargs = {**fs.client_kwargs, "trace_configs": [*traces, _guard()]}


@cache
def _guard() -> Any:
    from aiohttp import TraceConfig

    guard = TraceConfig()
    guard.on_request_redirect.append(_check_redirect)
    guard.on_request_end.append(_check_part)
    return guard


# aiohttp copies the context of the thread that asks fsspec.


async def _check_redirect(_session: Any, _context: Any, sent: Any) -> None:
    headers = sent.response.headers
    url_of = type(sent.url)
    told = sent.url.join(url_of(headers.get("Location") or headers.get("URI") or ""))
    is_safer = (sent.url.port, told.port) == (80, 443)
    if is_visiting() and (
        told.host != sent.url.host or (told.port != sent.url.port and not is_safer)
    ):
        raise OSError("the web server names another host, which is not asked")


async def _check_part(_session: Any, _context: Any, sent: Any) -> None:
    first, _, last = sent.headers.get("Range", "").removeprefix("bytes=").partition("-")
    if not is_visiting() or not first or not last or sent.response.status != 200:
        return
    told = sent.response.content_length
    if told is None or told > int(last) - int(first) + 1:
        raise OSError("the web server sends no parts of files")
