"""A picture becomes the input of a torch model just as the transform of the model makes it."""

from datasette_image_search.embedders import uncompiled  # noqa: F401

# isort: split
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import timm
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Normalize, PILToTensor, ToTensor

from datasette_image_search.embedders.preprocessing import TransformPreprocess

ALL_SAMPLES = np.random.default_rng(0).permutation(np.arange(3 * 256 * 40) % 256)
"""In each channel of a picture."""


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(ALL_SAMPLES.astype(np.uint8).reshape(128, 80, 3))


def reversed_scaling() -> Compose:
    return Compose([CenterCrop(32), ToTensor(), Normalize(0.5, 0.25), lambda tensor: 1 - tensor])


def unscaled() -> Compose:
    return Compose([CenterCrop(32), PILToTensor()])


def not_composed() -> Callable[[Image.Image], torch.Tensor]:
    return ToTensor()


@pytest.mark.parametrize(
    "make_transform",
    [
        partial(image_transform_v2, PreprocessCfg(size=48), is_train=False),
        partial(image_transform_v2, PreprocessCfg(size=48, resize_mode="squash"), is_train=False),
        partial(image_transform_v2, PreprocessCfg(size=48, resize_mode="longest"), is_train=False),
        partial(timm.data.create_transform, (3, 48, 48)),
        partial(timm.data.create_transform, (3, 48, 48), mean=(0.1, 0.5, 0.9), crop_mode="border"),
        reversed_scaling,
        unscaled,
        not_composed,
    ],
)
def test_the_input_is_that_of_the_transform_bit_by_bit(
    make_transform: Callable[[], Any], picture: Image.Image
):
    expected = make_transform()(picture).numpy()
    made = TransformPreprocess(make_transform)(picture)
    assert (made.shape, made.dtype) == (expected.shape, expected.dtype)
    assert np.array_equal(made, expected)


def test_a_copy_in_another_process_makes_the_same(picture: Image.Image):
    preprocess = TransformPreprocess(partial(image_transform_v2, PreprocessCfg(), is_train=False))
    before = preprocess(picture)
    assert np.array_equal(pickle.loads(pickle.dumps(preprocess))(picture), before)
