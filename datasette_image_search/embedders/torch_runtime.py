"""Where torch models run: device, precision, and batches in and out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .fingerprints import INT8
from .protocol import EmbedderError

PIXELS_AT_ONCE = {"cuda": 256 * 224**2}
"""The most pixels that are encoded together, by kind of device, if more than USUAL_PIXELS."""

USUAL_PIXELS = 32 * 224**2

TEXTS_AT_ONCE = 256

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""Parts of the messages of devices without an error class for it."""


@dataclass(frozen=True)
class Runtime:
    """A device such as "cpu" or "cuda", and the number type to use on it, `in_eight_bits` if layers for pictures have less."""

    device: str
    dtype: torch.dtype
    in_eight_bits: bool = False

    @property
    def precision(self) -> str:
        return INT8 if self.in_eight_bits else str(self.dtype).removeprefix("torch.")


def choose_runtime(device: str | None, precision: str | None = None) -> Runtime:
    """
    The named device and number type ("float32", "float16", "bfloat16", "int8"), or the best there is. Raises
    EmbedderError if it cannot be used.

    Half precision on CUDA; bfloat16 if the CPU has instructions for it (twice as fast there, several
    times slower elsewhere); float32 otherwise.
    """
    if precision == INT8:
        if device not in (None, "cpu"):
            raise EmbedderError(
                f"only processors make the vectors of --precision int8; leave --device {device} out"
            )
        return Runtime("cpu", torch.float32, in_eight_bits=True)
    if device is None:
        if torch.cuda.is_available():
            device = "cuda"
        elif torch.backends.mps.is_available():
            device = "mps"
        else:
            device = "cpu"
    dtype = getattr(torch, precision) if precision else None
    try:
        torch.zeros(1, device=device)
        runtime = Runtime(device, dtype or _fastest(device))
        numbers = torch.ones((2, 2), device=device, dtype=runtime.dtype)
        (numbers @ numbers).cpu()
    except (RuntimeError, AssertionError, TypeError) as error:
        with_precision = f" with {precision}" if precision else ""
        raise EmbedderError(
            f"torch cannot use the device {device!r}{with_precision} here; "
            f"leave --device {'and --precision ' if precision else ''}out or use --device cpu"
        ) from error
    return runtime


def _fastest(device: str) -> torch.dtype:
    if device.startswith("cuda"):
        return torch.float16
    if device == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return torch.bfloat16
    return torch.float32


class Tower:
    """The part of a model that makes vectors of one kind of thing, on its device."""

    def __init__(self, module: torch.nn.Module, runtime: Runtime) -> None:
        """`module` takes a batch and returns features, (n, dimensions), or these and more."""
        try:
            self.module = module.to(runtime.device, runtime.dtype).eval()
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            raise EmbedderError(
                f"the memory of {runtime.device} is too small for the model at {runtime.precision}; "
                "use --device cpu or a smaller --model"
            ) from error
        if sum(isinstance(part, torch.nn.Conv2d) for part in module.modules()) > 1:
            # Up to a third faster on a CPU; the one convolution of a ViT is not worth it.
            self.module.to(memory_format=torch.channels_last)
        self.logit_scale: float = getattr(module, "logit_scale", 100.0)
        self._runtime = runtime
        self._most: int | None = None  # Known to fit into the memory.

    def encode(self, inputs: np.ndarray | torch.Tensor) -> np.ndarray:
        """
        A batch of any size -> (n, dimensions) float32, unit norm.

        It encodes as many at once as their size allows. If the memory is too small, it tries half of
        them, and so on; it raises EmbedderError if there is no room even for one.
        """
        batch = torch.as_tensor(inputs)
        done: list[np.ndarray] = []
        start, size = 0, min(_at_once(batch, self._runtime), self._most or len(batch))
        while start < len(batch):
            features = self._try(batch[start : start + size])
            if features is not None:
                done.append(features)
                start += size
            elif size > 1:
                self._most = size = size // 2
            else:
                raise EmbedderError(
                    f"the memory of {self._runtime.device} is too small for a single image at "
                    f"{self._runtime.precision}; use --device cpu or a smaller --model"
                )
        return np.concatenate(done)

    def _try(self, batch: torch.Tensor) -> np.ndarray | None:
        """Returns None if the memory is too small."""
        try:
            return self._encode(batch)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
        # Not in the handler: the traceback would keep alive what was allocated.
        if self._runtime.device.startswith("cuda"):
            torch.cuda.empty_cache()
        elif self._runtime.device.startswith("mps"):
            torch.mps.empty_cache()
        return None

    def _encode(self, batch: torch.Tensor) -> np.ndarray:
        batch = batch.to(self._runtime.device)
        if batch.is_floating_point():
            batch = batch.to(self._runtime.dtype)
        with torch.inference_mode():
            features = self.module(batch)
            if isinstance(features, tuple):
                features = features[0]
            return torch.nn.functional.normalize(features.float(), dim=-1).cpu().numpy()


def _at_once(batch: torch.Tensor, runtime: Runtime) -> int:
    if batch.ndim != 4:
        return TEXTS_AT_ONCE
    if runtime.in_eight_bits:
        return 1  # Their scale would be that of all together.
    pixels = PIXELS_AT_ONCE.get(torch.device(runtime.device).type, USUAL_PIXELS)
    return max(pixels // (batch.shape[2] * batch.shape[3]), 1)


def _is_out_of_memory(error: RuntimeError) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(phrase in str(error).lower() for phrase in OUT_OF_MEMORY)
