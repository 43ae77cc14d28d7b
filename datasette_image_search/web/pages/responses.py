"""Answers to programs: JSON and CSV, with CORS headers if Datasette sends them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial, wraps
from typing import Any

from datasette.app import Datasette
from datasette.utils import CustomJSONEncoder, add_cors_headers
from datasette.utils.asgi import Base400, Request, Response
from datasette.views.base import DatasetteError

from ...store.values import json_value
from ..access.requested_table import RequestedTable
from ..errors import Handler
from ..urls import pairs_of, replaced
from .results import Answer
from .search_request import SearchRequest


def json_head(requested: RequestedTable) -> dict[str, Any]:
    """The beginning of each answer in JSON about an image table."""
    return {
        "ok": True,
        "database": requested.database.name,
        "table": requested.name,
        "model": requested.index.model,
    }


def json_response(
    requested: RequestedTable, wanted: SearchRequest, answer: Answer, description: str
) -> Response:
    absolute, urls = _absolute_in(requested), requested.urls
    pairs = pairs_of(requested.request)
    next_url = None
    if answer.next_offset is not None:
        next_url = absolute(urls.page(replaced(pairs, _next=answer.next_offset), "json"))
    return as_json(
        requested.datasette,
        {
            **json_head(requested),
            "query": wanted.query,
            "description": description,
            "count": answer.count.number,
            "count_truncated": not answer.count.is_exact,
            "matches": None if answer.matches is None else answer.matches.number,
            "matches_truncated": answer.matches is not None and not answer.matches.is_exact,
            "without_vector": answer.without_vector,
            "hits": [
                {
                    "id": image.id,
                    "score": image.score,
                    "relevance": image.relevance,
                    "at": image.at,
                    "matched": [asdict(match) for match in image.matched],
                    "thumbnail": absolute(urls.thumbnail(image.id, image.version, image.at)),
                    "url": absolute(urls.row(image.id)),
                    "row": image.row,
                }
                for image in answer.images
            ],
            "next": None if answer.next_offset is None else str(answer.next_offset),
            "next_url": next_url,
            "facet_results": {
                "results": _by_name(answer.facets.results),
                "timed_out": list(answer.facets.timed_out),
            },
            "suggested_facets": list(answer.facets.suggested),
            "warnings": list(answer.warnings),
            "plan": [
                {
                    "step": step.name,
                    "looked_at": step.looked_at,
                    "passed": step.passed,
                    "ms": round(step.milliseconds, 2),
                }
                for step in answer.plan
            ],
            "timing": {
                f"{name.replace(' ', '_')}_ms": round(duration, 2)
                for name, duration in answer.milliseconds.items()
            },
        },
    )


def _by_name(facets: tuple[dict[str, Any], ...]) -> dict[str, dict[str, Any]]:
    """Facets by name, as Datasette has them: the second facet of a column is called column_2."""
    results: dict[str, dict[str, Any]] = {}
    for facet in facets:
        name, number = facet["name"], 1
        while name in results:
            number += 1
            name = f"{facet['name']}_{number}"
        results[name] = facet
    return results


def _absolute_in(requested: RequestedTable) -> Callable[[str], str]:
    """Path -> URL."""
    return partial(requested.datasette.absolute_url, requested.request)


def csv_response(requested: RequestedTable, answer: Answer) -> Response:
    """
    The rows of one page with the texts that matched, the seconds of films, relevances and scores, with _dl as a file to save. A BLOB is
    the URL of its bytes.
    """
    absolute, urls = _absolute_in(requested), requested.urls
    text = io.StringIO()
    writer = csv.writer(text)
    columns = list(answer.images[0].row) if answer.images else [requested.table.key]
    added = ["matched", "at", "relevance", "score"]
    writer.writerow([*columns, *(_new_column(name, columns) for name in added)])
    for image in answer.images:
        cells = [
            absolute(urls.blob(image.id, column)) if isinstance(value, bytes) else value
            for column, value in image.row.items()
        ]
        matched = "; ".join(map(str, image.matched))
        writer.writerow([*cells, matched, image.at, image.relevance, image.score])
    return text_response(requested, text.getvalue(), "images.csv")


def text_response(requested: RequestedTable, text: str, name: str) -> Response:
    """A text, with _dl as a file of that name to save."""
    headers = {"x-content-type-options": "nosniff"}
    if requested.request.args.get("_dl"):
        headers["content-disposition"] = f'attachment; filename="{name}"'
    return _response(requested.datasette, text, "text/plain; charset=utf-8", headers=headers)


def _new_column(name: str, columns: list[str]) -> str:
    """The name, or one with it that no column of the table has."""
    taken = {column.lower() for column in columns}
    while name in taken:
        name = f"image_search_{name}"
    return name


def with_options(view: Handler) -> Handler:
    """The handler with an answer to OPTIONS, which browsers send before some requests to another host."""

    @wraps(view)
    async def answered(datasette: Datasette, request: Request) -> Response:
        if request.method == "OPTIONS":
            return _response(datasette, "ok", "text/plain; charset=utf-8")
        return await view(datasette, request)

    return answered


def accepts_json(request: Request) -> bool:
    return "application/json" in request.headers.get("accept", "")


def told_to_programs(view: Handler) -> Handler:
    """The handler, with JSON in place of a page for an error with a sentence, if the request accepts that."""

    @wraps(view)
    async def told(datasette: Datasette, request: Request) -> Response:
        try:
            return await view(datasette, request)
        except (Base400, DatasetteError) as error:
            if not accepts_json(request):
                raise
            sentence = str(getattr(error, "message", error))
            return error_response(datasette, sentence, error.status)

    return told


def error_response(datasette: Datasette, sentence: str, status: int = 400) -> Response:
    """JSON in the shape of Datasette's own errors."""
    return as_json(
        datasette, {"ok": False, "error": sentence, "status": status, "title": None}, status
    )


def as_json(datasette: Datasette, value: Any, status: int = 200) -> Response:
    try:
        text = json.dumps(value, cls=CustomJSONEncoder, allow_nan=False)
    except ValueError:
        text = json.dumps(json_value(value))
    return _response(datasette, text, "application/json; charset=utf-8", status)


def _response(
    datasette: Datasette,
    text: str,
    content_type: str,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    headers = dict(headers or {})
    if datasette.cors:
        add_cors_headers(headers)
    return Response(text, status=status, headers=headers, content_type=content_type)
