from __future__ import annotations

import pytest

from datasette_image_search.metadata.texts import LONGEST_TEXT, joined, keywords_of, text_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Zürich".encode(), "Zürich"),
        ("Zürich".encode("latin-1"), "Zürich"),
        ("“so”".encode("cp1252"), "“so”"),
        (b"\xef\xbb\xbfZug", "Zug"),
        (b"\x81\x8d", None),
        ("Zürich, 東京".encode()[:-1], "Zürich, 東"),
        ("Zürich, 東京".encode()[:-2] + b"\0\0", "Zürich, 東"),
        ("Café".encode("latin-1"), "Café"),
        ("東京".encode(), "東京"),
        (b"Canon\0\0\0 ", "Canon"),
        (b"two\nlines", "two\nlines"),
        (b"a\x07b", "ab"),
        (b"----", None),
        (b"Unknown", None),
        (b"   ", None),
        (b"", None),
        ("half \ud800 of it", "half ? of it"),
        ((1.0,), None),
        (None, None),
    ],
)
def test_texts_are_utf_8_or_else_latin_1(value: object, text: str | None):
    assert text_of(value) == text


def test_a_text_has_an_end():
    assert len(text_of("a" * 1_000_000) or "") == LONGEST_TEXT


def test_names_are_one_text():
    assert joined(["Ada", "Bob"]) == "Ada; Bob"
    assert joined([]) is None


def test_keywords_are_words_each_once():
    written = ["beach", " Sea side ", "beach", "", "----", "a" * 201, "sea\n side"]
    assert keywords_of(written) == ("beach", "Sea side", "sea side")
    assert len(keywords_of([str(number) for number in range(5_000)])) == 1_000
