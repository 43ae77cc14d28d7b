"""What SQLite holds and JSON has no word for."""

from __future__ import annotations

import base64
import math
from typing import Any


def json_value(value: Any) -> Any:
    """The same as JSON can say it, as Datasette and sqlite-utils do: no infinity, bytes as base64."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return {"$base64": True, "encoded": base64.b64encode(value).decode("ascii")}
    if isinstance(value, dict):
        return {name: json_value(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(inner) for inner in value]
    return value
