from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from datasette_image_search.embedders.protocol import EmbedderError

from .late import Late

torch = Late("torch")
torch_runtime = Late("datasette_image_search.embedders.torch_runtime")

PICTURES = np.random.default_rng(0).normal(size=(37, 3, 8, 8)).astype(np.float32)


def model_of(fits: int = 1000, error: str = "OutOfMemoryError", message: str = "") -> Any:
    """
    Averages the pixels of each colour. A batch of more than `fits` does not fit into the memory, which is an `error` of torch or
    of Python.
    """

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.batches: list[int] = []

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            self.batches.append(len(batch))
            if len(batch) > fits:
                raise {"OutOfMemoryError": torch.OutOfMemoryError, "RuntimeError": RuntimeError}[
                    error
                ](message)
            return batch.mean(dim=tuple(range(2, batch.ndim)))

    return Model()


def tower_of(model: Any) -> torch_runtime.Tower:
    return torch_runtime.Tower(model, torch_runtime.Runtime("cpu", torch.float32))


@pytest.fixture
def expected() -> np.ndarray:
    means = PICTURES.mean(axis=(2, 3))
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def test_vectors_are_of_unit_length_and_float32(expected: np.ndarray):
    vectors = tower_of(model_of()).encode(PICTURES)
    assert vectors.dtype == np.float32
    assert vectors == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB."),
        ("RuntimeError", "MPS backend out of memory (MPS allocated: 8.99 GB)"),
        (
            "RuntimeError",
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.",
        ),
    ],
)
def test_a_batch_that_does_not_fit_is_halved_until_it_does(
    expected: np.ndarray, error: str, message: str
):
    model = model_of(5, error, message)
    vectors = tower_of(model).encode(PICTURES)
    assert vectors == pytest.approx(expected, abs=1e-6)
    assert model.batches == [37, 18, 9, *[4] * 9, 1]


def test_what_fits_is_remembered_for_the_next_batch():
    model = model_of(10)
    tower = tower_of(model)
    tower.encode(PICTURES)
    model.batches.clear()
    tower.encode(PICTURES)
    assert max(model.batches) <= 10


def test_not_even_room_for_one_is_one_sentence():
    with pytest.raises(EmbedderError, match="the memory of cpu is too small for a single image"):
        tower_of(model_of(0)).encode(PICTURES)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    model = model_of(0, "RuntimeError", "mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        tower_of(model).encode(PICTURES)
    assert len(model.batches) == 1


def test_a_run_out_of_memory_goes_on_with_smaller_batches(
    tmp_path, folder, monkeypatch: pytest.MonkeyPatch
):
    """The whole way: eight pictures in one batch, of which three fit."""
    from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images

    from .tiny_clip import make_tiny_clip

    encode = torch_runtime.Tower._encode
    sizes = []

    def encode_few(tower: torch_runtime.Tower, batch: torch.Tensor) -> np.ndarray:
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return encode(tower, batch)

    monkeypatch.setattr(torch_runtime.Tower, "_encode", encode_few)
    summary = embed_images(
        EmbedRequest(
            tmp_path / "photos.db", "images", [folder], "tiny-test/small", make_tiny_clip(tmp_path)
        )
    )
    assert (summary.embedded, summary.failures) == (8, ())
    assert max(sizes) > 3


def test_large_pictures_are_encoded_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("datasette_image_search.embedders.torch_runtime.USUAL_PIXELS", 10 * 8 * 8)
    model = model_of()
    tower_of(model).encode(PICTURES)
    assert model.batches == [10, 10, 10, 7]


def test_a_picture_that_is_larger_than_all_together_may_be_is_encoded_alone(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("datasette_image_search.embedders.torch_runtime.USUAL_PIXELS", 10)
    model = model_of()
    tower_of(model).encode(PICTURES[:2])
    assert model.batches == [1, 1]


# --- Devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_precision_that_is_asked_for_is_taken(precision: str):
    assert torch_runtime.choose_runtime("cpu", precision).precision == precision


def test_the_precision_is_that_of_the_model():
    module = torch.nn.Linear(3, 3)
    torch_runtime.Tower(module, torch_runtime.Runtime("cpu", torch.bfloat16))
    assert module.weight.dtype == torch.bfloat16


def test_a_device_with_a_precision_that_is_not_there_is_one_sentence():
    with pytest.raises(
        EmbedderError, match="'cuda:99' with float16 here; leave --device and --prec"
    ):
        torch_runtime.choose_runtime("cuda:99", "float16")
