"""Films: found by a colour that only one of their scenes has, with the right second; and what is read of bad ones."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasette_image_search import Images
from datasette_image_search.decoding import films
from datasette_image_search.decoding.decode import (
    DecodedImage,
    DecodedScene,
    decode_bytes,
    decode_picture,
)
from datasette_image_search.decoding.opening import DecodeError, DecodeSettings, TooLarge
from datasette_image_search.decoding.scenes import MOST_SCENES, Frame, chosen_frames
from datasette_image_search.store.tables import MOST_VECTORS

from .commands import change, command, query
from .drawn_films import COLOURS, NO_KEY_FRAMES, draw_film, draw_sound, turn

SETTINGS = DecodeSettings(np.asarray, 32)

APPLE = "com.apple.quicktime."

TAGS = {
    f"{APPLE}creationdate": "2021-07-14T18:03:11+0200",
    "creation_time": "2021-07-14T16:03:11.000000Z",
    f"{APPLE}location.ISO6709": "+48.8577+002.2950+035.5/",
    f"{APPLE}make": "Apple",
    f"{APPLE}model": "iPhone 12",
}


@dataclass(frozen=True)
class Drawn:
    """A film: the colour that only one scene has, when that scene is, and what its row has."""

    draw: Callable[[Path], Path]
    colour: str
    seconds: tuple[float, float]
    row: tuple[str, int, int, float]


def _cut(path: Path) -> Path:
    """Three quarters of a film that has its list of frames at its begin."""
    draw_film(path, [("red", 2), ("white", 4)], "mpeg4", size=(96, 64), options={"g": "5"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path


def _turned(path: Path) -> Path:
    return turn(draw_film(path, [("white", 1), ("blue", 2)]), 1)


FILMS = {
    "three.mp4": Drawn(
        lambda path: draw_film(path, [("red", 2), ("green", 2), ("blue", 2)]),
        "green",
        (2, 4),
        ("MP4", 96, 64, 6.0),
    ),
    "no key frames.mp4": Drawn(
        lambda path: draw_film(
            path, [("red", 2), ("yellow", 2), ("white", 3)], options=NO_KEY_FRAMES
        ),
        "yellow",
        (2, 4),
        ("MP4", 96, 64, 7.0),
    ),
    "turned.mov": Drawn(_turned, "blue", (1, 3), ("MOV", 64, 96, 3.0)),
    "of a telephone.MOV": Drawn(
        lambda path: draw_film(
            path, [("white", 2), ("red", 2)], "libx265", options={"x265-params": "log-level=0"}, tags=TAGS
        ),
        "red",
        (2, 4),
        ("MOV", 96, 64, 4.0),
    ),
    "old.avi": Drawn(
        lambda path: draw_film(path, [("black", 1), ("green", 2)], "mpeg4"),
        "green",
        (1, 3),
        ("AVI", 96, 64, 3.0),
    ),
    "a.mkv": Drawn(
        lambda path: draw_film(path, [("white", 1), ("blue", 2)]),
        "blue",
        (1, 3),
        ("MKV", 96, 64, 3.0),
    ),
    "b.webm": Drawn(
        lambda path: draw_film(path, [("white", 1), ("red", 2)], "libvpx"),
        "red",
        (1, 3),
        ("WEBM", 96, 64, 3.0),
    ),
    "of a camera.mts": Drawn(
        lambda path: draw_film(path, [("white", 1), ("yellow", 2)], options=NO_KEY_FRAMES),
        "yellow",
        (1, 3),
        ("MTS", 96, 64, 3.0),
    ),
    "small.3gp": Drawn(
        lambda path: draw_film(path, [("black", 1), ("red", 2)], "mpeg4", size=(176, 144)),
        "red",
        (1, 3),
        ("3GP", 176, 144, 3.0),
    ),
    "cut.avi": Drawn(_cut, "red", (0, 2), ("AVI", 96, 64, 4.0)),
}  # fmt: skip


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all of FILMS, and some that are none."""
    folder = tmp_path_factory.mktemp("films")
    for name, film in FILMS.items():
        film.draw(folder / name)
    draw_sound(folder / "a song.m4v")
    (folder / "empty.mp4").touch()
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    whole = (folder / "three.mp4").read_bytes()
    (folder / "half.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "torn.avi").write_bytes((folder / "old.avi").read_bytes()[:300])
    return folder


@pytest.fixture(scope="session")
def database(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("of films") / "photos.db"
    done = command("embed-images", path, "images", drawn, "--model", "palette")
    assert done.exit_code == 0, done.output
    return path


def decoded(path: Path, settings: DecodeSettings = SETTINGS) -> DecodedImage:
    return decode_bytes(path.read_bytes(), path.name, settings)


def colour_of(scene: DecodedScene) -> str:
    """The nearest of the colours that are drawn."""
    mean = scene.model_input.reshape(-1, 3).mean(axis=0)
    return min(COLOURS, key=lambda name: float(np.abs(mean - COLOURS[name]).sum()))


@pytest.mark.parametrize("name", FILMS)
def test_a_film_is_found_by_the_colour_of_a_scene_with_its_second(
    database: Path, name: str
) -> None:
    film = FILMS[name]
    with Images(database) as images:
        (found,) = images.find([film.colour], 1, where="path = :name", params={"name": name})
    (hit,) = found.hits
    first, last = film.seconds
    assert hit.at is not None
    assert first <= hit.at < last
    assert hit.score > 0.4
    sql = "select format, width, height, duration from images where path = ?"
    assert query(database, sql, [name]) == [film.row]


def test_a_film_is_one_hit_however_many_scenes_it_has(database: Path) -> None:
    with Images(database) as images:
        found = images.search("red", 100)
    assert len({hit.id for hit in found}) == len(found) == len(FILMS)
    assert all(hit.at is not None for hit in found)


def test_the_tags_of_the_container_are_columns(database: Path) -> None:
    sql = (
        "select taken_at, taken_at_offset, camera_make, camera_model, latitude, longitude, altitude "
        "from images where path = 'of a telephone.MOV'"
    )
    assert query(database, sql) == [
        ("2021-07-14T18:03:11", "+02:00", "Apple", "iPhone 12", 48.8577, 2.295, 35.5)
    ]


def test_bad_films_are_failures_and_a_damaged_one_a_warning(database: Path) -> None:
    """And none of them is tried again."""
    failures = query(database, "select path, embedded, reason from _images_failures order by path")
    bad = "the film is damaged, encrypted, or of a kind that is not supported"
    assert failures == [
        ("a song.m4v", 0, "the film has no pictures, only sound"),
        ("cut.avi", 1, "the film is damaged: a part of it cannot be read"),
        ("empty.mp4", 0, "the file is empty"),
        ("half.mp4", 0, bad),
        ("noise.mp4", 0, "the file is not a film or picture of a known format, or is damaged"),
        ("torn.avi", 0, bad),
    ]


def test_a_second_run_does_nothing(database: Path, drawn: Path) -> None:
    before = query(database, "select id, times from _images_vectors order by id")
    done = command("embed-images", database, "images", drawn)
    assert f"0 embedded, {len(FILMS)} unchanged, 5 failed" in done.output
    assert query(database, "select id, times from _images_vectors order by id") == before


def test_search_images_says_the_second(database: Path) -> None:
    line = (
        "search-images",
        database,
        "images",
        "yellow",
        "-k",
        "1",
        "--where",
        "path like 'no k%'",
    )
    assert command(*line).output.splitlines()[-1].split()[-1] in ("0:02", "0:03")
    assert command(*line, "--csv").output.splitlines()[0] == "score,relevance,id,path,at,matched"


def test_thumbnails_are_those_of_the_scenes_and_leave_with_the_film(
    drawn: Path, tmp_path: Path
) -> None:
    path = tmp_path / "photos.db"
    for name in ("three.mp4", "copy.mp4"):
        (tmp_path / name).write_bytes((drawn / "three.mp4").read_bytes())
        run = ("embed-images", path, "images", tmp_path / name, "--model", "palette")
        assert command(*run).exit_code == 0
    counts = "select image_id, count(*) from _images_scenes group by image_id"
    assert query(path, counts) == [(1, 3), (2, 3)]
    change(path, "update images set id = 7 where id = 1", "delete from images where id = 2")
    assert query(path, counts) == [(7, 3)]


def test_a_film_is_known_by_its_bytes(drawn: Path) -> None:
    data = (drawn / "three.mp4").read_bytes()
    found = decode_bytes(data, "a.jpg", SETTINGS)
    assert (found.format, len(found.scenes)) == ("MP4", 3)
    with pytest.raises(DecodeError, match="not a film or picture of a known format"):
        decode_bytes(b"no film", "a.mp4", SETTINGS)


def test_the_first_scene_is_the_longest(tmp_path: Path) -> None:
    film = draw_film(tmp_path / "a.mp4", [("red", 1), ("green", 3), ("blue", 1)])
    scenes = decoded(film).scenes
    assert [1 <= scenes[0].at < 4, scenes[1].at < 1, scenes[2].at >= 4] == [True] * 3
    red, green, blue = decode_picture(film.read_bytes(), "", SETTINGS).getpixel((9, 9))
    assert green > max(red, blue)


def test_a_film_has_as_many_scenes_as_an_image_may_have_vectors(tmp_path: Path) -> None:
    colours = ["red", "green", "blue", "white", "black"] * 9
    film = draw_film(tmp_path / "a.mp4", [(colour, 0.5) for colour in colours], options={"g": "5"})
    assert len(decoded(film).scenes) == MOST_SCENES == MOST_VECTORS


def test_the_largest_changes_begin_scenes_if_there_are_too_many() -> None:
    def frame(at: float, grey: int) -> Frame:
        return Frame(at, Image.new("RGB", (8, 8), (grey, grey, grey)))

    small = [frame(at, 40 * (at % 2)) for at in range(60)]
    chosen = chosen_frames([*small, frame(60, 255), *(frame(at, 0) for at in range(61, 99))])
    assert len(chosen) == MOST_SCENES
    assert (chosen[0].at, chosen[-1].at) == (79, 60)


@pytest.mark.parametrize(("name", "between"), [("a.mp4", 250), ("a.mkv", 10_000)])
def test_a_film_whose_key_frames_are_far_apart_is_read_to_its_end(
    tmp_path: Path, name: str, between: int
) -> None:
    """In Matroska, only key frames can be gone to, and there may be one for the whole film."""
    distance = {"g": f"{between}", "keyint_min": f"{between}", "sc_threshold": "0"}
    options = {**distance, "preset": "ultrafast"}
    scenes = [("red", 100), ("white", 70), ("green", 10)]
    film = decoded(draw_film(tmp_path / name, scenes, size=(32, 32), options=options))
    assert film.scenes[-1].at >= 170
    assert colour_of(film.scenes[-1]) == "green"
    assert film.warning is None


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_a_film_is_read_up_to_a_limit_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What was read until then counts."""
    film = draw_film(
        tmp_path / name, [("red", 15), ("green", 5)], size=(32, 32), options=NO_KEY_FRAMES
    )
    assert (len(decoded(film).scenes), decoded(film).warning) == (2, None)
    monkeypatch.setattr(films, "MOST_DECODED", 80)
    monkeypatch.setattr(films, "FULL_HD", 32 * 32)
    few = decoded(film)
    assert len(few.scenes) == 1
    assert few.warning is not None
    assert re.fullmatch(r"only the first [2-8] seconds of the film were read", few.warning)


def test_a_small_film_may_have_more_frames_than_a_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read in the same time."""
    scenes = [("red", 15), ("green", 5)]
    film = draw_film(tmp_path / "a.mp4", scenes, size=(32, 32), options=NO_KEY_FRAMES)
    monkeypatch.setattr(films, "MOST_DECODED", 50)
    monkeypatch.setattr(films, "FULL_HD", 4 * 32 * 32)
    assert (len(decoded(film).scenes), decoded(film).warning) == (2, None)


def test_a_limit_is_shared_by_all_parts_of_a_film(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second after each key frame has another colour, and the last part is read as the first is."""
    options = {"g": "150", "keyint_min": "150", "sc_threshold": "0", "preset": "ultrafast"}
    colours = [("red", 0.8), ("white", 14.2), ("green", 0.8), ("white", 14.2)]
    film = draw_film(tmp_path / "a.mp4", colours, size=(32, 32), options=options)
    monkeypatch.setattr(films, "MOST_DECODED", 120)
    monkeypatch.setattr(films, "FULL_HD", 32 * 32)
    found = decoded(film)
    assert [colour_of(scene) for scene in sorted(found.scenes, key=lambda scene: scene.at)] == [
        "red",
        "white",
        "green",
        "white",
    ]
    assert found.warning == "the film was read only in parts, as its key frames are far apart"


def test_of_a_film_that_was_not_read_in_time_nothing_counts(
    drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(films, "MOST_SECONDS", 0)
    with pytest.raises(DecodeError, match="the film is damaged"):
        decoded(drawn / "no key frames.mp4")


def test_a_film_may_have_less_time_if_a_person_waits(drawn: Path) -> None:
    settings = DecodeSettings(np.asarray, 32, film_seconds=0)
    with pytest.raises(DecodeError, match="the film is damaged"):
        decoded(drawn / "no key frames.mp4", settings)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mts"])
def test_sound_may_go_on_after_the_pictures(tmp_path: Path, name: str) -> None:
    film = decoded(draw_film(tmp_path / name, [("red", 2), ("green", 2)], sound=20))
    assert film.warning is None
    assert len(film.scenes) == 2


def test_a_film_of_too_many_pixels_is_refused(drawn: Path) -> None:
    settings = DecodeSettings(np.asarray, 32, max_pixels=1000)
    with pytest.raises(TooLarge, match="more than the limit"):
        decoded(drawn / "three.mp4", settings)


def test_a_playlist_opens_no_other_file(drawn: Path) -> None:
    """FFmpeg would take such a text for one."""
    other = (drawn / "three.mp4").as_uri()
    for text in (f"#EXTM3U\n#EXTINF:6,\n{other}\n", f"ffconcat version 1.0\nfile {other}\n"):
        with pytest.raises(DecodeError, match="not a film or picture of a known format"):
            decode_bytes(text.encode(), "a.mp4", SETTINGS)
        with pytest.raises(DecodeError, match="the film is damaged"):
            films.read_film(io.BytesIO(text.encode()), films.FilmKind("MP4", "mov"), SETTINGS)
