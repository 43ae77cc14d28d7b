"""Datasettes for tests, and what is read off their pages, in 0.65 and 1.0 alike."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
from datasette.app import Datasette


def serving(*databases: Path, rules: dict[str, Any] | None = None, **options: Any) -> Datasette:
    """
    `rules` are permissions and table settings, which are all metadata in 0.65. In 1.0 they are
    configuration.
    """
    place = "config" if hasattr(Datasette, "allowed") else "metadata"
    return Datasette([str(path) for path in databases], **{place: rules or {}}, **options)


async def get(
    datasette: Datasette, path: str, actor: str | None = None, **params: Any
) -> httpx.Response:
    await datasette.invoke_startup()
    cookies = {}
    if actor is not None:
        cookies["ds_actor"] = datasette.sign({"a": {"id": actor}}, "actor")
    return await datasette.client.get(path, params=params or None, cookies=cookies)


async def query_page(
    datasette: Datasette, sql: str, extension: str = "", actor: str | None = None, **params: Any
) -> httpx.Response:
    """The page of a query on the database photos; it moved in 1.0."""
    path = "/photos/-/query" if hasattr(datasette, "allowed") else "/photos"
    return await get(datasette, path + extension, actor, sql=sql, **params)


def pictures(response: httpx.Response) -> list[str]:
    """The names of the pictures on a page, in its order."""
    return re.findall(r'<img [^>]*alt="([^"]*)"', response.text)
