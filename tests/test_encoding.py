from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasette_image_search.decoding.opening import Unreadable
from datasette_image_search.embedders.palette import PaletteEmbedder
from datasette_image_search.ingest.encoding import (
    EncodingSettings,
    batch_of_failures,
    encode_in_batches,
)
from datasette_image_search.ingest.own_images import OwnImage
from datasette_image_search.ingest.report import FailedImage
from datasette_image_search.ingest.scopes import find_scopes
from datasette_image_search.ingest.walk import FoundFile, Walk
from datasette_image_search.store.tables import Failure

SETTINGS = EncodingSettings(batch_size=3, workers=2, thumbnail_size=64, max_pixels=None)


@pytest.fixture
def files(folder: Path) -> list[FoundFile]:
    return list(Walk(find_scopes([folder])).files())


def test_files_become_what_is_written_of_them_in_their_order(
    files: list[FoundFile], folder: Path, palette: PaletteEmbedder
):
    (folder / "green.jpg").write_bytes(b"bad")

    batches = list(encode_in_batches(files, palette, SETTINGS, {str(folder): 7}))

    assert [batch.count for batch in batches] == [3, 3, 2]
    images = [image for batch in batches for image in batch.images]
    assert [image.content.path for image in images] == [
        file.path for file in files if file.name != "green.jpg"
    ]
    assert {image.content.root_id for image in images} == {7}
    assert np.shape([image.vector for image in images]) == (7, palette.dimensions)
    assert all(image.thumbnail.startswith(b"RIFF") for image in images)
    ((failure,),) = [batch.failures for batch in batches if batch.failures]
    ((told,),) = [batch.told for batch in batches if batch.told]
    assert (failure.root_id, failure.path, failure.embedded) == (7, "green.jpg", False)
    assert (told.path, told.reason) == ("green.jpg", failure.reason)


def test_what_is_not_wanted_any_more_is_not_encoded(
    files: list[FoundFile], folder: Path, palette: PaletteEmbedder
):
    wanted = [True]
    batches = encode_in_batches(
        files, palette, SETTINGS, {str(folder): 7}, is_wanted=lambda: wanted[0]
    )
    assert next(batches).count == 3
    wanted.clear()
    wanted.append(False)
    assert list(batches) == []


def test_what_was_lost_on_its_way_is_tried_again_by_the_next_run():
    """No file has the time "", so that it counts as changed."""
    images = (FoundFile("/photos", "a.jpg", 10, "2020"), OwnImage(4, 20, "2021", "b.jpg"))

    batch = batch_of_failures(images, Unreadable("it was lost"), {"/photos": 7})

    assert (batch.count, batch.images, batch.alone) == (2, [], ())
    assert batch.failures == [
        Failure(7, "a.jpg", 10, "", "it was lost"),
        Failure(0, images[1].path, 20, "", "it was lost"),
    ]
    assert batch.told == [
        FailedImage("a.jpg", "it was lost"),
        FailedImage(images[1].path, "it was lost", "b.jpg"),
    ]
