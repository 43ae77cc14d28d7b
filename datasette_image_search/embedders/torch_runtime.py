"""Where torch models run: device, precision, and a batch in and out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from .protocol import EmbedderError


@dataclass(frozen=True)
class Runtime:
    """A device such as "cpu" or "cuda", and the number type that is fastest there."""

    device: str
    dtype: torch.dtype

    @property
    def precision(self) -> str:
        return str(self.dtype).removeprefix("torch.")


def choose_runtime(device: str | None) -> Runtime:
    """
    The named device, or the best there is. Raises EmbedderError when it cannot be used.

    Half precision on CUDA; bfloat16 where the CPU has instructions for it (twice as fast there,
    several times slower elsewhere); float32 otherwise.
    """
    if device is None:
        if torch.cuda.is_available():
            device = "cuda"
        elif torch.backends.mps.is_available():
            device = "mps"
        else:
            device = "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise EmbedderError(
            f"torch cannot use the device {device!r} here; leave --device out or use --device cpu"
        ) from error
    if device.startswith("cuda"):
        return Runtime(device, torch.float16)
    if device == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return Runtime(device, torch.bfloat16)
    return Runtime(device, torch.float32)


def encode(
    forward: Callable[[torch.Tensor], torch.Tensor],
    inputs: np.ndarray | torch.Tensor,
    runtime: Runtime,
) -> np.ndarray:
    """Run a batch through a model -> (n, dimensions) float32, unit norm."""
    batch = torch.as_tensor(inputs).to(runtime.device)
    if batch.is_floating_point():
        batch = batch.to(runtime.dtype)
    try:
        with torch.inference_mode():
            features = torch.nn.functional.normalize(forward(batch).float(), dim=-1)
    except torch.OutOfMemoryError as error:
        raise EmbedderError(
            f"the memory of {runtime.device} is too small for a batch of {len(batch)}; "
            "use a smaller --batch-size"
        ) from error
    return features.cpu().numpy()


@dataclass(frozen=True)
class TransformPreprocess:
    """A torchvision transform whose result travels between stages as an array. Pickles without a model."""

    transform: Callable[[Image.Image], torch.Tensor]

    def __call__(self, picture: Image.Image) -> np.ndarray:
        return self.transform(picture).numpy()
