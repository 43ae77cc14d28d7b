"""The values that can hold a picture: a BLOB, and the texts that stand for bytes."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote_to_bytes

ENCODED = 3 / 2
"""Letters of base64 for a byte at most: 4 for 3 bytes, line breaks, and quoted signs that URIs have."""

QUOTED = 3.0
"""Letters for a byte at most in a data URI without base64."""

LONGEST_HEAD = 1000
"""Letters of a data URI before its data: a media type with its parameters."""

_URL_SAFE = str.maketrans("-_", "+/")


def content_of(value: object) -> bytes:
    """The bytes of a BLOB, of a data URI, or of a text in base64; none for every other value."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        return b""
    text = value.strip()
    if text[:5].lower() != "data:":
        return _from_base64(text)
    head, comma, data = text[:LONGEST_HEAD].partition(",")
    if not comma:
        return b""
    data = text[len(head) + 1 :]
    if head.lower().endswith(";base64"):
        return _from_base64(
            unquote_to_bytes(data).decode("ascii", "replace") if "%" in data else data
        )
    return unquote_to_bytes(data)


def _from_base64(text: str) -> bytes:
    """Of either alphabet, with line breaks and without the signs at its end too."""
    letters = "".join(text.split()).translate(_URL_SAFE).rstrip("=")
    try:
        return base64.b64decode(letters + "=" * (-len(letters) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""
