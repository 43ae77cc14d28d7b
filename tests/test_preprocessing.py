"""A picture becomes the input of a torch model just as the transform of the model makes it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .late import Late

open_clip = Late("open_clip")
timm = Late("timm")
transforms = Late("torchvision.transforms")
preprocessing = Late("datasette_image_search.embedders.preprocessing")


ALL_SAMPLES = np.random.default_rng(0).permutation(np.arange(3 * 256 * 40) % 256)
"""In each channel of a picture."""


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(ALL_SAMPLES.astype(np.uint8).reshape(128, 80, 3))


def of_open_clip(**options: Any) -> transforms.Compose:
    config = open_clip.transform.PreprocessCfg(**options)
    return open_clip.transform.image_transform_v2(config, is_train=False)


def of_timm(**options: Any) -> transforms.Compose:
    return timm.data.create_transform((3, 48, 48), **options)


def reversed_scaling() -> transforms.Compose:
    t = transforms
    return t.Compose(
        [t.CenterCrop(32), t.ToTensor(), t.Normalize(0.5, 0.25), lambda tensor: 1 - tensor]
    )


def unscaled() -> transforms.Compose:
    return transforms.Compose([transforms.CenterCrop(32), transforms.PILToTensor()])


def not_composed() -> transforms.ToTensor:
    return transforms.ToTensor()


@pytest.mark.parametrize(
    "make_transform",
    [
        partial(of_open_clip, size=48),
        partial(of_open_clip, size=48, resize_mode="squash"),
        partial(of_open_clip, size=48, resize_mode="longest"),
        of_timm,
        partial(of_timm, mean=(0.1, 0.5, 0.9), crop_mode="border"),
        reversed_scaling,
        unscaled,
        not_composed,
    ],
)
def test_the_input_is_that_of_the_transform_bit_by_bit(
    make_transform: Callable[[], Any], picture: Image.Image
):
    expected = make_transform()(picture).numpy()
    made = preprocessing.TransformPreprocess(make_transform)(picture)
    assert (made.shape, made.dtype) == (expected.shape, expected.dtype)
    assert np.array_equal(made, expected)


def test_a_copy_in_another_process_makes_the_same(picture: Image.Image):
    of = open_clip.transform
    make_transform = partial(of.image_transform_v2, of.PreprocessCfg(), is_train=False)
    preprocess = preprocessing.TransformPreprocess(make_transform)
    before = preprocess(picture)
    assert np.array_equal(pickle.loads(pickle.dumps(preprocess))(picture), before)
