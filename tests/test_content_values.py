"""What can hold a picture in a column of a person's own table."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasette_image_search.store.content_values import content_of

PICTURE = bytes(range(256)) + b"\xfb\xff\xbf?"
"""With + and / in base64."""

BASE64 = base64.b64encode(PICTURE).decode()


@pytest.mark.parametrize(
    "value",
    [
        PICTURE,
        BASE64,
        base64.urlsafe_b64encode(PICTURE).decode(),
        BASE64.rstrip("="),
        base64.encodebytes(PICTURE).decode(),
        f"  {BASE64}\r\n",
        f"data:image/png;base64,{BASE64}",
        f"DATA:;BASE64,{BASE64}",
        f"data:image/svg+xml;charset=utf-8;base64,{BASE64}",
        "data:image/png;base64," + BASE64.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
        "data:image/png," + "".join(f"%{byte:02x}" for byte in PICTURE),
    ],
    ids=[
        "BLOB", "base64", "URL-safe", "no padding", "lines", "blanks", "data URI", "capitals", "parameters",
        "quoted base64", "quoted",
    ],
)  # fmt: skip
def test_the_bytes_of_a_value(value: bytes | str):
    assert content_of(value) == PICTURE


@pytest.mark.parametrize(
    "value", [None, 5, 2.5, "", b"", "photos/red.jpg", "a", "ä", "data:", "data:,", "data:image/png;base64", "=", "\0"]
)  # fmt: skip
def test_what_holds_no_bytes(value: object):
    assert content_of(value) == b""


@given(st.one_of(st.text(), st.text().map("data:{}".format), st.binary()))
def test_no_value_is_an_error(value: str | bytes):
    assert isinstance(content_of(value), bytes)


@given(st.binary(min_size=1))
def test_every_picture_comes_back(content: bytes):
    assert content_of(base64.b64encode(content).decode()) == content
