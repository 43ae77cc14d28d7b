"""Answers to programs: JSON and CSV, with CORS headers where Datasette sends them."""

from __future__ import annotations

import csv
import io
import json
from functools import wraps
from typing import Any

from datasette.app import Datasette
from datasette.utils import CustomJSONEncoder, add_cors_headers
from datasette.utils.asgi import Request, Response

from ...store import json_value
from ..access.requested_table import ViewedTable
from ..errors import View
from ..urls import Links, pairs_of, replaced
from .results import Answer
from .search_request import SearchRequest


def json_response(
    datasette: Datasette,
    request: Request,
    viewed: ViewedTable,
    links: Links,
    wanted: SearchRequest,
    answer: Answer,
    description: str,
) -> Response:
    def absolute(path: str) -> str:
        return datasette.absolute_url(request, path)

    pairs = pairs_of(request)
    next_url = None
    if answer.next_offset is not None:
        next_url = absolute(links.page(replaced(pairs, _next=answer.next_offset), "json"))
    return as_json(
        datasette,
        {
            "ok": True,
            "database": viewed.database.name,
            "table": viewed.name,
            "model": viewed.index.model,
            "query": wanted.query,
            "description": description,
            "count": answer.count.number,
            "count_truncated": not answer.count.is_exact,
            "without_vector": answer.without_vector,
            "hits": [
                {
                    "id": picture.id,
                    "score": picture.score,
                    "thumbnail": absolute(links.thumbnail(picture.id, picture.version)),
                    "url": absolute(links.row(picture.id)),
                    "row": picture.row,
                }
                for picture in answer.pictures
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
    """As Datasette does: the second facet of a column is called column_2."""
    results: dict[str, dict[str, Any]] = {}
    for facet in facets:
        name, number = facet["name"], 1
        while name in results:
            number += 1
            name = f"{facet['name']}_{number}"
        results[name] = facet
    return results


def csv_response(
    datasette: Datasette, request: Request, viewed: ViewedTable, links: Links, answer: Answer
) -> Response:
    """The rows of one page with their scores; with _dl as a file to save. A BLOB is where it is to be had."""

    def absolute(path: str) -> str:
        return datasette.absolute_url(request, path)

    text = io.StringIO()
    writer = csv.writer(text)
    columns = list(answer.pictures[0].row) if answer.pictures else [viewed.table.key]
    writer.writerow([*columns, _score_column(columns)])
    for picture in answer.pictures:
        cells = [
            absolute(links.blob(picture.id, column)) if isinstance(value, bytes) else value
            for column, value in picture.row.items()
        ]
        writer.writerow([*cells, picture.score])
    headers = {"x-content-type-options": "nosniff"}
    if request.args.get("_dl"):
        headers["content-disposition"] = 'attachment; filename="images.csv"'
    return _response(datasette, text.getvalue(), "text/plain; charset=utf-8", headers=headers)


def _score_column(columns: list[str]) -> str:
    """The columns of the table keep their names."""
    taken = {column.lower() for column in columns}
    name = "score"
    while name in taken:
        name = f"image_search_{name}"
    return name


def with_options(view: View) -> View:
    """The view, which a browser may ask first whether it may ask: as Datasette's own views do."""

    @wraps(view)
    async def answered(datasette: Datasette, request: Request) -> Response:
        if request.method == "OPTIONS":
            return _response(datasette, "ok", "text/plain; charset=utf-8")
        return await view(datasette, request)

    return answered


def error_response(datasette: Datasette, sentence: str, status: int = 400) -> Response:
    """In the shape of Datasette's own."""
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
