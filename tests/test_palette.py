"""The built-in embedder: what its vectors promise, and which words it reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from datasette_image_search.embedders.palette import PaletteEmbedder, fingerprint
from datasette_image_search.embedders.palette_colours import oklab_of
from datasette_image_search.embedders.palette_vocabulary import (
    FAMILIES,
    FILLERS,
    NAMES,
    PLACES,
    TONES,
)
from datasette_image_search.embedders.protocol import TextNotUnderstood

PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "photos"

SHADES = {
    "orange": ("#ff8c00", "#f97316", "#e8731a"),
    "red": ("#e01020", "#c81e1e", "#ff2a2a"),
    "blue": ("#1e40d0", "#2f6fdc", "#0a2a90"),
    "green": ("#1f8f3a", "#2fb344", "#3d7a2a"),
    "yellow": ("#ffe000", "#f7d825", "#fff04a"),
    "purple": ("#7a1fa2", "#8e44ad", "#5b2a86"),
    "pink": ("#ff8fc0", "#f76fae", "#ffb6d0"),
    "brown": ("#6b4423", "#7b4a1e", "#5c3a21"),
    "black": ("#000000", "#0d0d0d", "#161616"),
    "white": ("#ffffff", "#f7f7f7", "#fafafa"),
    "grey": ("#808080", "#707070", "#929292"),
}

palette = PaletteEmbedder()


def look(*pictures: Image.Image) -> np.ndarray:
    """Pictures -> their vectors."""
    return palette.encode_images(np.stack([palette.preprocess(each) for each in pictures]))


def plain(colour: str, size: tuple[int, int] = (300, 200)) -> Image.Image:
    return Image.new("RGB", size, colour)


def halves(first: str, second: str, beside: bool = False) -> Image.Image:
    """One colour above another, or left of it."""
    picture = plain(first)
    box = (150, 0, 300, 200) if beside else (0, 100, 300, 200)
    picture.paste(second, box)
    return picture


def confetti(colour: str, random: np.random.Generator) -> Image.Image:
    """A picture mostly of one colour: its ground, or the big thing in it; small things in others."""
    others = [name for name in SHADES if name != colour]
    ground = colour if random.random() < 0.5 else str(random.choice(others))
    picture = plain(str(random.choice(SHADES[ground])))
    pen = ImageDraw.Draw(picture)
    if ground != colour:
        left, top = int(random.integers(0, 40)), int(random.integers(0, 20))
        pen.rectangle((left, top, left + 255, top + 175), str(random.choice(SHADES[colour])))
    for _ in range(3):
        x, y = int(random.integers(20, 240)), int(random.integers(20, 150))
        other = str(random.choice(SHADES[str(random.choice(others))]))
        pen.ellipse((x, y, x + 40, y + 35), other)
    return picture


def noise(seed: int = 0, size: tuple[int, int] = (120, 90)) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def scores(text: str, *pictures: Image.Image) -> np.ndarray:
    """How well each picture answers a text, -1..1."""
    return look(*pictures) @ palette.encode_texts([text])[0]


def refusal(text: str) -> str:
    with pytest.raises(TextNotUnderstood) as caught:
        palette.encode_texts([text])
    return str(caught.value)


# Vectors


def test_vectors_are_float32_of_unit_length():
    for vectors in (look(noise(), plain("teal")), palette.encode_texts(["red", "dark left"])):
        assert vectors.dtype == np.float32
        assert vectors.shape == (2, palette.dimensions)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    "picture",
    [
        plain("black"),
        plain("white"),
        plain("#808080"),
        plain("red", (1, 1)),
        plain("blue", (1, 4000)),
        noise(size=(5000, 2)),
        noise(size=(97, 96)),
    ],
    ids=lambda picture: "x".join(map(str, picture.size)),
)
def test_extreme_pictures_have_a_vector(picture):
    inputs = palette.preprocess(picture)
    assert (inputs.shape, inputs.dtype) == ((96, 96, 3), np.uint8)
    vector = palette.encode_images(inputs[None])[0]
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_no_pictures_make_no_vectors():
    none = np.empty((0, 96, 96, 3), np.uint8)
    assert palette.encode_images(none).shape == (0, palette.dimensions)
    assert palette.encode_texts([]).shape == (0, palette.dimensions)


def test_same_picture_same_vector_to_the_bit():
    again = PaletteEmbedder()
    inputs = np.stack([palette.preprocess(noise(seed)) for seed in range(3)])
    assert palette.encode_images(inputs).tobytes() == again.encode_images(inputs).tobytes()
    texts = ["red left of blue", "warm"]
    assert palette.encode_texts(texts).tobytes() == again.encode_texts(texts).tobytes()


def test_a_batch_gives_what_single_pictures_give():
    pictures = [noise(seed) for seed in range(20)] + [plain("navy"), halves("red", "blue")]
    one_by_one = np.concatenate([look(picture) for picture in pictures])
    np.testing.assert_allclose(look(*pictures), one_by_one, atol=1e-6)


def test_colours_have_their_names_whoever_asked_pillow_for_them_before():
    # Pillow remembers what it has parsed in the list of its names.
    script = """
from PIL import ImageColor
for name in list(ImageColor.colormap):
    ImageColor.getrgb(name)
from datasette_image_search.embedders.palette_vocabulary import NAMES
print(*NAMES["tomato"][0])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [float(number) for number in done.stdout.split()] == pytest.approx(oklab_of("#ff6347"))


def test_fingerprint_changes_with_what_shapes_the_vector_of_a_picture(monkeypatch):
    assert palette.fingerprint == fingerprint()
    assert palette.fingerprint.startswith("palette-1-")
    monkeypatch.setattr("datasette_image_search.embedders.palette.SHARE_POWER", 0.5)
    assert fingerprint() != palette.fingerprint


def test_fingerprint_stays_when_only_words_change(monkeypatch):
    monkeypatch.setattr("datasette_image_search.embedders.palette.CONTRAST", 0.1)
    monkeypatch.setitem(FAMILIES, "quince", "#e0d060")
    assert fingerprint() == palette.fingerprint


def test_shape_counts_not_only_colour():
    def cross(colour, ground, thick):
        picture = plain(ground, (200, 200))
        pen = ImageDraw.Draw(picture)
        pen.line((30, 30, 170, 170), colour, thick)
        pen.line((30, 170, 170, 30), colour, thick)
        return picture

    def bars(colour, ground):
        picture = plain(ground, (200, 200))
        for x in range(30, 190, 40):
            ImageDraw.Draw(picture).line((x, 20, x, 180), colour, 16)
        return picture

    asked, alike, other = look(
        cross("#402010", "#e0e0d0", 16), cross("#205030", "#d0d8e8", 22), bars("#402010", "#e0e0d0")
    )
    assert asked @ alike > asked @ other


def test_oklab_is_that_of_its_author():
    # https://bottosson.github.io/posts/oklab/: white has L 1 and no colour.
    np.testing.assert_allclose(oklab_of("#ffffff"), [1, 0, 0], atol=1e-4)
    np.testing.assert_allclose(oklab_of("#ff0000"), [0.62796, 0.22486, 0.12585], atol=1e-4)


# Colours


def test_colours_rank_pictures_of_that_colour_first():
    random = np.random.default_rng(5)
    labels = np.array([name for name in SHADES for _ in range(10)])
    vectors = look(*[confetti(str(label), random) for label in labels])
    found = {}
    for name in SHADES:
        best = np.argsort(-(vectors @ palette.encode_texts([name])[0]))[:10]
        found[name] = (labels[best] == name).mean()
    assert np.mean(list(found.values())) >= 0.95, found
    assert min(found.values()) >= 0.9, found


def test_a_perfect_match_scores_high_and_an_unrelated_picture_does_not():
    pure, crimson, green, night = scores("red", *map(plain, ("red", "#e01020", "green", "#050510")))
    assert min(pure, crimson) > 0.5
    assert max(green, night) < 0.2


@pytest.mark.parametrize(
    ("text", "right", "wrong"),
    [
        ("dark green", "#0b3d0b", "#98fb98"),
        ("light green", "#98fb98", "#0b3d0b"),
        ("dark grey", "#484848", "#b8b8b8"),
        ("light gray", "#d0d0d0", "#606060"),
        ("pale pink", "#ffdde4", "#d0106a"),
        ("vivid blue", "#0010ff", "#708090"),
        ("dull blue", "#708090", "#0010ff"),
        ("warm grey", "#8a7a6a", "#6a7a8a"),
        ("cold grey", "#6a7a8a", "#8a7a6a"),
        ("bright red", "#ff3028", "#601010"),
        ("deep red", "#700c10", "#ff8070"),
        ("reddish", "#c81e1e", "#1e3cc8"),
        ("sky blue", "#87ceeb", "#101060"),
        ("hot pink", "#ff69b4", "#ffd700"),
    ],
)
def test_modifiers(text, right, wrong):
    good, bad = scores(text, plain(right), plain(wrong))
    assert good > bad + 0.05


@pytest.mark.parametrize(
    "texts",
    [
        ("dark olive green", "darkolivegreen", "Dark-Olive-Green", "the DARK olive green colour"),
        ("sky blue", "skyblue", "SkyBlue"),
        ("dark green", "darkgreen"),
        ("grey", "gray", "grayish"),
        ("black and white", "black & white", "black-and-white", "greyscale", "gray scale", "B&W"),
        ("red", "a photo of red", "red image", "very red."),
        ("blue above green", "green below blue", "green under the blue"),
        ("red left of blue", "red to the left of blue", "blue right of red", "left red right blue"),
        ("green bottom", "green at the bottom", "bottom green", "green below"),
        ("blue top left", "blue in the upper left corner"),
    ],
    ids=lambda texts: texts[0],
)
def test_ways_to_say_the_same(texts):
    vectors = palette.encode_texts(texts)
    np.testing.assert_allclose(vectors, np.repeat(vectors[:1], len(texts), axis=0), atol=1e-6)
    assert [palette.text_warning(text) for text in texts] == [None] * len(texts)


def test_several_colours_are_a_mixture():
    both, red, blue, green = scores(
        "red and blue", halves("red", "blue"), plain("red"), plain("blue"), plain("green")
    )
    assert both > max(red, blue)
    assert min(red, blue) > green


# Light


@pytest.mark.parametrize(
    ("text", "right", "wrong"),
    [
        ("dark", "#101418", "#e8e4e0"),
        ("bright", "#e8e4e0", "#101418"),
        ("warm", "#d08040", "#4080d0"),
        ("cold", "#4080d0", "#d08040"),
        ("pale", "#f0e8e0", "#603010"),
        ("colourful", "#ff2000", "#808080"),
        ("muted", "#80807a", "#ff2000"),
    ],
)
def test_words_for_light(text, right, wrong):
    good, bad = scores(text, plain(right), plain(wrong))
    assert good > bad + 0.1


def test_black_and_white_finds_pictures_without_colour():
    coloured = [halves(*pair) for pair in (("navy", "tan"), ("#203010", "#e0f0ff"))]
    grey = [picture.convert("L").convert("RGB") for picture in coloured]
    found = scores("black and white", *grey, *coloured)
    assert found[:2].min() > found[2:].max()


# Positions


@pytest.mark.parametrize(
    ("text", "right", "wrong"),
    [
        ("blue above green", halves("#3070d0", "#308030"), halves("#308030", "#3070d0")),
        ("blue above green", halves("#3070d0", "#308030"), plain("#308030")),
        ("green above blue", halves("#308030", "#3070d0"), halves("#3070d0", "#308030")),
        ("red left of blue", halves("red", "blue", True), halves("blue", "red", True)),
        ("red right", halves("grey", "red", True), halves("red", "grey", True)),
        ("green bottom", halves("white", "green"), halves("green", "white")),
        ("bright left", halves("#e0e0e0", "#303030", True), halves("#303030", "#e0e0e0", True)),
        ("dark below", halves("#e0e0e0", "#303030"), halves("#303030", "#e0e0e0")),
    ],
)
def test_positions(text, right, wrong):
    good, bad = scores(text, right, wrong)
    assert good > bad + 0.1


def test_centre_and_background():
    ringed = plain("white")
    ImageDraw.Draw(ringed).ellipse((75, 50, 225, 150), "red")
    turned = plain("red")
    ImageDraw.Draw(turned).ellipse((75, 50, 225, 150), "white")
    for text in ("red centre", "white background", "red surrounded by white"):
        good, bad = scores(text, ringed, turned)
        assert good > bad, text


# Words it does not know


def test_unknown_words_are_named():
    assert refusal("sports car") == (
        "palette does not know 'sports car'; it understands colours, light and positions, such as "
        "'dark blue' or 'bright left'. For meaning, embed with --model things (no download) or a CLIP model."
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("red sports car", "'sports car'"),
        ("teal sunset", "'sunset'"),
        ("a sports car and a red Tree", "'sports car' and 'Tree'"),
        ("dog, red cat; tree", "'dog', 'cat' and 'tree'"),
        ("dog on red dog", "'dog'"),
        ("cat's blue eyes", "'cat's' and 'eyes'"),
    ],
)
def test_what_is_known_is_searched_and_the_rest_named(text, named):
    assert palette.text_warning(text) == (
        f"palette does not know {named}; it understands colours, light and positions, such as "
        "'dark blue' or 'bright left'. For meaning, embed with --model things (no download) or a CLIP model."
    )
    assert np.isfinite(palette.encode_texts([text])).all()


def test_unknown_words_do_not_change_what_is_found():
    known, partly = palette.encode_texts(["teal", "teal sunset"])
    np.testing.assert_array_equal(known, partly)


def test_understood_texts_have_no_warning():
    for text in ("red", "blue above green", "a very dark photo of the colour teal"):
        assert palette.text_warning(text) is None


@pytest.mark.parametrize("text", ["", "   ", "?!", "a photo of the", "\U0001f697"])
def test_texts_without_words_are_refused_with_a_sentence(text):
    assert refusal(text).startswith("palette finds no colour, light or position in ")


def test_a_place_alone_is_refused_with_a_sentence():
    assert refusal("on the left").startswith("'on the left' says where but not what")


WORDS = st.sampled_from(
    sorted({*NAMES, *TONES, *PLACES, *FILLERS, "dark", "pale", "tree", "car", "of", "and"})
)


@settings(max_examples=150)
@given(st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=9).map(" ".join)))
def test_any_text_has_a_vector_or_is_refused(text):
    try:
        vector = palette.encode_texts([text])[0]
    except TextNotUnderstood:
        assert refusal(text).endswith(".")
    else:
        assert np.isfinite(vector).all()
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_a_very_long_text_is_read():
    assert np.isfinite(palette.encode_texts(["dark " * 5000])).all()


# Photos


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the test photos are not beside this checkout")
def test_photos_of_a_kind_are_found_by_one_of_them():
    paths = sorted(PHOTOS.rglob("*.jpg"))
    labels = np.array([path.parent.name for path in paths])
    inputs = []
    for path in paths:
        with Image.open(path) as picture:
            inputs.append(palette.preprocess(picture.convert("RGB")))
    vectors = palette.encode_images(np.stack(inputs))
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -np.inf)
    nearest = np.argsort(-alike, axis=1, kind="stable")[:, :5]
    assert (labels[nearest] == labels[:, None]).mean() >= 0.64
