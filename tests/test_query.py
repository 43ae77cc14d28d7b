"""Text -> terms by the grammar of design.md; terms -> one vector by plain arithmetic."""

from __future__ import annotations

import base64
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasette.app import Datasette
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from datasette_image_search.embedders.protocol import EmbedderError
from datasette_image_search.errors import ImageSearchError
from datasette_image_search.search.query import (
    Kind,
    QueryError,
    Term,
    format_query,
    image_term,
    parse_query,
    prepare_words,
    query_vector,
    vector_to_term,
    written_id,
)
from datasette_image_search.store import Key, find_index
from datasette_image_search.store.stored_vectors import vector_to_blob
from datasette_image_search.store.tables import EmbeddedImage
from datasette_image_search.store.vectors import image_vector
from datasette_image_search.store.writes import ensure_roots, write_batch
from datasette_image_search.web.configuration import configured_weights

from .random_tables import add_images, make_index, make_own_table, make_record, random_vectors


def words(text: str, weight: float = 1.0) -> Term:
    return Term(Kind.WORDS, text, weight)


def image(id: str, weight: float = 1.0) -> Term:
    return Term(Kind.IMAGE, id, weight)


def written(text: str, weight: float = 1.0) -> Term:
    return Term(Kind.TEXT, text, weight)


# --- Text -> terms -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("a red sports car", [words("a red sports car")]),
        ("#42", [image("42")]),
        ("#42 + at night - people", [image("42"), words("at night"), words("people", -1)]),
        ("2:golden retriever + 0.5:#42", [words("golden retriever", 2), image("42", 0.5)]),
        ('"black + white"', [words("black + white")]),
        ("vec:AAAA", [Term(Kind.VECTOR, "AAAA")]),
        ("  spaces   around  ", [words("spaces   around")]),
        ("- people", [words("people", -1)]),
        ("red -blue", [words("red"), words("blue", -1)]),
        ("red \N{MINUS SIGN}blue", [words("red"), words("blue", -1)]),
        ("\N{MINUS SIGN} red", [words("red", -1)]),
        ("red \N{FULLWIDTH HYPHEN-MINUS} blue", [words("red"), words("blue", -1)]),
        ("red\N{FULLWIDTH PLUS SIGN}blue", [words("red"), words("blue")]),
        ("1999 \N{EN DASH} 2004", [words("1999 \N{EN DASH} 2004")]),
        ("-blue", [words("blue", -1)]),
        ("red+blue", [words("red"), words("blue")]),
        ("2:red +#7 -.5:at night", [words("red", 2), image("7"), words("at night", -0.5)]),
        ('red -"dark - blue"+"x"', [words("red"), words("dark - blue", -1), words("x")]),
        ("a black-and-white t-shirt", [words("a black-and-white t-shirt")]),
        ("5-6 dogs -- or C++", [words("5-6 dogs -- or C++")]),
        ("+ people", [words("people")]),
        ("- 2:people + #7", [words("people", -2), image("7")]),
        ("a\n+\tb", [words("a"), words("b")]),
        ("black-and-white", [words("black-and-white")]),
        ('"a+b"', [words("a+b")]),
        ("C++ book", [words("C++ book")]),
        ("16:9", [words("9", 16)]),
        ('"16:9"', [words("16:9")]),
        ("1.5: x", [words("x", 1.5)]),
        (".5:x", [words("x", 0.5)]),
        ("2:", [words("2:")]),
        ("at 10 to: 2", [words("at 10 to: 2")]),
        ('2:"16:9" - "#7"', [words("16:9", 2), words("#7", -1)]),
        ('"vec:AAAA"', [words("vec:AAAA")]),
        ('a sign that says "no"', [words('a sign that says "no"')]),
        ('6" pipe', [words('6" pipe')]),
        ('"a" - "b - c" + d', [words("a"), words("b - c", -1), words("d")]),
        ("#-5", [image("-5")]),
        ("text:wifi", [written("wifi")]),
        ("red -2:text:no entry", [words("red"), written("no entry", -2)]),
        ('text:"a + b" + text:"c"', [written("a + b"), written("c")]),
        ('"text:wifi"', [words("text:wifi")]),
        ("some text:wifi", [words("some text:wifi")]),
        ("#IMG_1.jpg", [image("IMG_1.jpg")]),
    ],
)
def test_the_grammar(query: str, terms: list[Term]) -> None:
    assert list(parse_query(query)) == terms


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("", "the query is empty"),
        (" \n ", "the query is empty"),
        ("red + \ud800", "is not valid text: half of a character"),
        ("-", "a term is missing in '-'"),
        ("red +", r"a term is missing in 'red \+'"),
        ("red - ", "a term is missing in 'red - '"),
        ("red + - blue", r"a term is missing in 'red \+ - blue'"),
        ("red +  + blue", r"a term is missing in 'red \+  \+ blue'"),
        ("- - blue", "a term is missing in '- - blue'"),
        ("2: - blue", "a term is missing in '2: - blue'"),
        ('""', "nothing between the quotes in"),
        ('red + " "', "nothing between the quotes in"),
        ('"red', "the quote before 'red' is never closed"),
        ('text:"red', "the quote before 'red' is never closed"),
        ("red + text:", "there is nothing after text: in"),
        ('text:""', "nothing between the quotes in"),
        ('#7 - "red + blue', "the quote before 'red' is never closed"),
        ("0:red", "the weight '0' must be above 0"),
        ("1000000:red", "the weight '1000000' must be above 0 and below a million"),
        ("9" * 400 + ":red", "the weight '999"),
        ("1" + "0" * 308 + ":red", "the weight '1000.*must be above 0 and below a million"),
        ("0." + "0" * 400 + "1:red", "the weight '0.000.* must be above 0"),
        (" + ".join(["red"] * 33), "the query has more than 32 terms; remove some"),
        (" + ".join(["red"] * 2000), "the query has more than 32 terms; remove some"),
        ("a" * 1001, "the query has 1,001 letters; at most 1,000 are allowed"),
        ("ab " * 400, "the query has 1,199 letters"),
        (" - ".join(["a" * 600] * 2), "the query has 1,200 letters"),
        ("#1 + " + "漢" * 16_000, "the query has 16,000 letters"),
        ("- " * 8000, "a term is missing in '- - -"),
        ('"' + "a" * 16_000, "the quote before 'aaa.* is never closed"),
    ],
)
def test_what_is_no_query_is_refused_with_a_sentence(query: str, sentence: str) -> None:
    with pytest.raises(QueryError, match=sentence) as refused:
        parse_query(query)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "query",
    ["a" * 1000, "ab " * 333, "vec:" + "A" * 16_000, "#" + "a" * 16_000, "#1 + " + "漢" * 1000],
)
def test_what_no_model_reads_may_be_longer_than_words(query: str) -> None:
    assert parse_query(query)


weights = st.decimals("0.001", "999", places=3).map(float)
signs = st.sampled_from([1, -1])
spaces = st.sampled_from([" ", "  ", "\t", "\n"])
plain_words = st.from_regex(r"[a-zé][a-z0-9'/.:+-]*(?: [a-z0-9']+){0,3}", fullmatch=True).filter(
    lambda text: not text.startswith(("vec:", "text:")) and not re.search(r"\+\w", text)
)
any_text = st.text(st.characters(exclude_categories=["Cs"])) | st.text(alphabet='a1.#:"+- \n')
quoted_words = any_text.filter(lambda text: text.strip() != "")
written_terms = st.one_of(
    plain_words.map(lambda text: (text, words(text))),
    quoted_words.map(lambda text: ('"' + text.replace('"', '""') + '"', words(text))),
    quoted_words.map(lambda text: ('text:"' + text.replace('"', '""') + '"', written(text))),
    any_text.map(lambda id: (image_term(id), image(id))),
    st.from_regex(r"[\w./]+", fullmatch=True).map(lambda id: (f"#{id}", image(id))),
    st.binary(min_size=2, max_size=16)
    .map(lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("="))
    .map(lambda text: (f"vec:{text}", Term(Kind.VECTOR, text))),
)


@settings(max_examples=150)
@given(
    st.lists(st.tuples(signs, st.none() | weights, written_terms), min_size=1, max_size=32), spaces
)
def test_what_is_written_by_the_grammar_is_read_as_it_was_meant(parts: list, space: str) -> None:
    query = ""
    expected = []
    for sign, weight, (text, term) in parts:
        query += f"{space}{'-' if sign < 0 else '+'}{space}" if query or sign < 0 else ""
        query += text if weight is None else f"{weight:.3f}:{text}"
        expected.append(Term(term.kind, term.text, sign * (1.0 if weight is None else weight)))
    assert list(parse_query(query)) == expected
    assert list(parse_query(format_query(expected))) == expected


@pytest.mark.parametrize(
    "query",
    [
        "#42 + at night - people",
        "- 2:people + #7",
        '"black + white" - 0.5:#"a - b.jpg"',
        '"1:" - "0:" + 2:"3:"',
        "vec:AAAA + 1000.25:red",
        'text:wifi + 2:text:"no - entry"',
    ],
)
def test_terms_are_written_as_a_person_would(query: str) -> None:
    assert format_query(parse_query(query)) == query


@settings(max_examples=300)
@given(any_text)
@example("")
@example(" k")
@example("k ")
@example('"')
@example('a" + #"b')
@example("a - b")
def test_any_text_is_an_id_that_can_be_searched_by(id: str) -> None:
    assert parse_query(image_term(id)) == (image(id),)
    assert parse_query(f"red - {image_term(id)} + blue")[1] == replace(image(id), weight=-1)
    assert written_id(id) == image_term(id)[1:]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ('" red "', " red "),
        ('"5"" disk"', '5" disk'),
        ('"5" disk"', '5" disk'),
        ('"a"b"', 'a"b'),
        ('"a - ""b"" - c"', 'a - "b" - c'),
    ],
)
def test_quotes_keep_what_is_in_them(query: str, text: str) -> None:
    assert parse_query(query) == (words(text),)
    assert parse_query("#" + query) == (image(text),)


@pytest.mark.parametrize(
    ("id", "written"),
    [(42, "42"), ("a.jpg", "a.jpg"), (" k", '" k"'), ("", '""'), ('a"', 'a"'), ('"a"', '"""a"""')],
)
def test_an_id_is_written_in_quotes_where_it_needs_some(id: Key, written: str) -> None:
    assert written_id(id) == written


@settings(max_examples=200)
@given(st.text() | st.text(alphabet='a1.#:"+- \n', max_size=25))
@example('"')
@example("1:#")
@example("\x00")
def test_any_text_is_read_or_refused_with_one_sentence(text: str) -> None:
    try:
        terms = parse_query(text)
    except QueryError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
    else:
        assert terms
        for term in terms:
            assert term.text.strip() or term.kind is not Kind.WORDS
            assert 0 < abs(term.weight) < 1e6


# --- Terms -> vector -----------------------------------------------------------------------------

VECTORS = random_vectors(6)
"""Of the images 1 to 6."""


@pytest.fixture(scope="module")
def conn() -> Iterator[sqlite3.Connection]:
    """Images 1 to 6 with VECTORS, and 7 with none."""
    db = Database(memory=True, execute_plugins=False)
    add_images(db, VECTORS)
    db["images"].insert({"id": 7, "root_id": 1, "path": "no vector.jpg"})
    yield db.conn
    db.close()


def ask(conn: sqlite3.Connection, query: str | bytes) -> np.ndarray:
    return query_vector(conn, find_index(conn), query).vector


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def test_an_image_is_its_vector(conn: sqlite3.Connection) -> None:
    vector = ask(conn, "#3")
    assert vector.dtype == np.float32
    assert vector.shape == (8,)
    assert np.allclose(vector, VECTORS[2], atol=1e-6)


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(signs, st.decimals("0.001", "999999", places=3), st.integers(1, 6)),
        min_size=1,
        max_size=32,
    )
)
def test_a_sum_is_what_arithmetic_says(
    conn: sqlite3.Connection, parts: list[tuple[int, float, int]]
) -> None:
    total = sum(sign * float(weight) * VECTORS[id - 1] for sign, weight, id in parts)
    assume(np.linalg.norm(total) > 0.01 * max(float(weight) for _, weight, _ in parts))
    query = " ".join(f"{'+' if sign > 0 else '-'} {weight}:#{id}" for sign, weight, id in parts)
    vector = ask(conn, query)
    assert abs(np.linalg.norm(vector) - 1) < 1e-5
    assert np.allclose(vector, unit(total), atol=1e-4)


@pytest.mark.parametrize(
    "weight", ["999999", "0.000001", "0." + "0" * 21 + "1", "0." + "0" * 319 + "1"]
)
def test_the_weight_of_a_single_term_is_of_no_account(
    conn: sqlite3.Connection, weight: str
) -> None:
    assert np.allclose(ask(conn, f"{weight}:#3"), VECTORS[2], atol=1e-5)


@pytest.mark.parametrize("query", ["#1 - #1", "2:#1 - #1 - #1", "#1 - 1.0001:#1"])
def test_terms_that_cancel_each_other_out_are_refused(conn: sqlite3.Connection, query: str) -> None:
    with pytest.raises(QueryError, match=f"the terms of '{query}' cancel each other out"):
        ask(conn, query)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("#99", "there is no image #99 with a vector in 'images'"),
        ("#7", "there is no image #7 with a vector in 'images'"),
        ("#1 + #-99", "there is no image #-99 with a vector"),
        ("#abc", "'#abc' is not an image of 'images', whose ids are whole numbers.*\"#abc\""),
        ("#", "'#' is not an image of 'images'"),
        ("#1 2", "'#1 2' is not an image of 'images'"),
        ("#" + "9" * 30, "is not an image of 'images'"),
    ],
)
def test_an_image_that_is_not_there_is_named(
    conn: sqlite3.Connection, query: str, sentence: str
) -> None:
    with pytest.raises(QueryError, match=sentence):
        ask(conn, query)


def test_an_image_of_a_table_with_text_keys_is_named_by_its_key() -> None:
    db = Database(memory=True, execute_plugins=False)
    table = make_own_table(db, "mine", "name", str)
    _, index = make_index(db, "mine")
    root_id = ensure_roots(db, ["/pictures"])["/pictures"]
    for key, vector in zip(["a b.jpg", "42", "ü"], VECTORS, strict=False):
        db["mine"].insert({"name": key})
        one = EmbeddedImage(key, make_record(root_id), vector, None)
        write_batch(db, table, index, [one])
    assert np.allclose(ask(db.conn, "#a b.jpg - #42"), unit(VECTORS[0] - VECTORS[1]), atol=1e-5)
    assert np.allclose(ask(db.conn, "#ü"), VECTORS[2], atol=1e-5)
    with pytest.raises(QueryError, match="there is no image #43 with a vector in 'mine'"):
        ask(db.conn, "#43")


# --- Literal vectors -----------------------------------------------------------------------------


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(1, 600))
def test_a_vector_survives_being_written_as_a_term(seed: int, dimensions: int) -> None:
    vector = random_vectors(1, dimensions, seed)[0]
    text = vector_to_term(vector)
    (term,) = parse_query(text)
    assert text.replace("-", "").replace("_", "").replace(":", "").isalnum()
    assert term.kind is Kind.VECTOR
    raw = base64.urlsafe_b64decode(term.text + "=" * (-len(term.text) % 4))
    assert np.allclose(np.frombuffer(raw, "<f2"), vector, atol=1e-3)


def test_a_literal_vector_is_a_term_like_any_other(conn: sqlite3.Connection) -> None:
    term = vector_to_term(VECTORS[0])
    assert np.allclose(ask(conn, term), VECTORS[0], atol=2e-3)
    assert np.allclose(ask(conn, f"{term} - 2:#2"), unit(VECTORS[0] - 2 * VECTORS[1]), atol=2e-3)


def test_a_literal_vector_need_not_be_of_unit_length(conn: sqlite3.Connection) -> None:
    assert np.allclose(ask(conn, vector_to_term(100 * VECTORS[0])), VECTORS[0], atol=2e-3)


def vec(values: list[float]) -> str:
    return vector_to_term(np.array(values, dtype=np.float32))


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        (
            vec([1] * 7),
            "vec: has 7 dimensions, and the vectors of 'images', by palette, have 8; take",
        ),
        (vec([1]), "vec: has 1 dimension, and"),
        ("vec:", "vec: has 0 dimensions"),
        (vec([0] * 8), "vec: has no direction"),
        (vec([float("nan")] + [1] * 7), "vec: has no direction"),
        (vec([float("inf")] + [1] * 7), "vec: has no direction"),
        ("vec:AAA", "float16 in base64url|has 1 dimension,"),
        ("vec:A", "must be float16 in base64url"),
        ("vec:not base64!", "must be float16 in base64url"),
        ("vec:ü", "must be float16 in base64url"),
        (f"#1 + {vec([1] * 7)}", "vec: has 7 dimensions"),
    ],
)
def test_what_is_no_vector_is_refused_with_a_sentence(
    conn: sqlite3.Connection, query: str, sentence: str
) -> None:
    with pytest.raises(QueryError, match=sentence):
        ask(conn, query)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 300.0, 1e-30, 1e38])
def test_bytes_are_a_vector_of_any_length(conn: sqlite3.Connection, scale: float) -> None:
    blob = vector_to_blob(np.float32(scale) * VECTORS[0])
    assert np.allclose(ask(conn, blob), VECTORS[0], atol=1e-5)


@pytest.mark.parametrize(
    ("blob", "sentence"),
    [
        (b"", "the vector has 0 dimensions"),
        (b"abc", "not a multiple of 4 bytes"),
        (bytes(28), "the vector has 7 dimensions, and the vectors of 'images', .* have 8"),
        (bytes(32), "the vector has no direction"),
        (b"\xff" * 32, "the vector has no direction"),
    ],
)
def test_bytes_that_are_no_vector_are_refused_with_a_sentence(
    conn: sqlite3.Connection, blob: bytes, sentence: str
) -> None:
    with pytest.raises(QueryError, match=sentence):
        ask(conn, blob)


@settings(max_examples=100)
@given(
    st.binary(max_size=40)
    | st.binary(min_size=32, max_size=32)
    | st.text(max_size=40).map(lambda text: f"vec:{text}")
    | st.binary(min_size=16, max_size=16).map(
        lambda raw: "vec:" + base64.urlsafe_b64encode(raw).decode()
    )
    | st.text(max_size=10).map(lambda text: f"#{text}")
)
def test_whatever_is_asked_gives_a_unit_vector_or_a_sentence(
    conn: sqlite3.Connection, query: str | bytes
) -> None:
    try:
        vector = ask(conn, query)
    except ImageSearchError as error:
        assert str(error)  # noqa: PT017
    else:
        assert abs(np.linalg.norm(vector) - 1) < 1e-3


# --- Words, which need the embedder --------------------------------------------------------------


def test_words_are_the_embedders_vector(db: Database, palette) -> None:
    expected = palette.encode_texts(["red"])[0]
    assert np.allclose(ask(db.conn, "red"), expected, atol=1e-5)
    assert np.allclose(ask(db.conn, '2:"red"'), expected, atol=1e-5)


def test_words_that_were_prepared_are_not_encoded_again(db: Database, palette, monkeypatch) -> None:
    index = find_index(db.conn)
    prepare_words(index, "reddish teal - #1 + very dark olive")
    encoded = []
    monkeypatch.setattr(type(palette), "encode_texts", lambda self, texts: encoded.append(texts))
    ask(db.conn, "very dark olive - 2:reddish teal")
    assert encoded == []
    with pytest.raises(QueryError):
        prepare_words(index, "red +")
    prepare_words(index, "")


def test_words_and_images_add_up(db: Database, palette) -> None:
    red, blue = palette.encode_texts(["red", "blue"])
    one = image_vector(db.conn, find_index(db.conn), 1)
    expected = unit(2 * red - blue + 0.5 * one)
    assert np.allclose(ask(db.conn, "2:red - blue + 0.5:#1"), expected, atol=1e-5)


def test_words_may_cancel_each_other_out(db: Database) -> None:
    with pytest.raises(QueryError, match="the terms of 'red - red' cancel each other out"):
        ask(db.conn, "red - red")


def test_a_word_that_was_not_understood_is_told_beside_the_vector(db: Database) -> None:
    found = query_vector(db.conn, find_index(db.conn), "red sportscar - red sportscar + blue")
    assert len(found.warnings) == 1
    assert "sportscar" in found.warnings[0]
    assert query_vector(db.conn, find_index(db.conn), "red").warnings == ()


def test_words_that_the_embedder_cannot_read_are_named(db: Database) -> None:
    with pytest.raises(EmbedderError, match="sportscar"):
        ask(db.conn, "red + sportscar")


def test_words_are_never_compared_with_the_vectors_of_another_model(db: Database) -> None:
    db.execute("update image_search_indexes set fingerprint = 'other'")
    with pytest.raises(EmbedderError, match="'images' are of palette with fingerprint other"):
        ask(db.conn, "red")
    assert ask(db.conn, "#1").any()


def test_images_are_searched_for_without_the_model(db: Database, tmp_path: Path) -> None:
    db.execute("update image_search_indexes set model = 'nobody/has-this-model'")
    assert ask(db.conn, "#1 - #2").any()


def test_an_endless_query_is_refused() -> None:
    with pytest.raises(QueryError, match="20,000 characters; shorten it to 16,384"):
        parse_query("a" * 20_000)


@pytest.mark.parametrize("key", [7, "IMG 1 - copy.jpg", 'say "cheese"', "a + b", "plain.jpg"])
def test_the_term_of_an_image_is_read_as_that_image(key: int | str) -> None:
    assert parse_query(image_term(key)) == (Term(Kind.IMAGE, str(key)),)


@pytest.mark.datasette
def test_a_server_does_not_open_the_weights_that_a_database_names(db: Database) -> None:
    """Who made the database must not choose which files are opened."""
    db["image_search_indexes"].update(1, {"model": "tiny/x", "weights": "/etc/passwd"})
    datasette = Datasette(memory=True)
    with pytest.raises(EmbedderError, match="name that file in Datasette's configuration"):
        query_vector(db.conn, find_index(db.conn), "red", configured_weights(datasette))


def test_a_model_whose_package_is_gone_is_told_from_a_typing_error(db: Database) -> None:
    db["image_search_indexes"].update(1, {"model": "average-colour"})
    with pytest.raises(EmbedderError, match="'images' has vectors of average-colour, "):
        query_vector(db.conn, find_index(db.conn), "red")


def test_a_query_of_endless_terms_is_refused() -> None:
    assert len(parse_query(" + ".join(["#1"] * 32))) == 32
    with pytest.raises(QueryError, match="more than 32 terms"):
        parse_query(" + ".join(["#1"] * 33))
