"""
Compare number formats and runtimes for ViT-B-32 on a processor: the time of a photo, and how like the vectors are.

    python benchmarks/precisions.py FOLDER                # five minutes
    python benchmarks/precisions.py FOLDER --avx2         # as if the processor had AVX2 and nothing newer

OpenVINO is measured if it is installed. --avx2 holds torch, oneDNN and FBGEMM; onnxruntime and OpenVINO cannot be
held, so they are left out there. All take turns with one thread, in processor time, which other work changes less.

The weights are random: those of trained models cannot be had here. So all photos have nearly the same vector, and the
cosine to that of float32 says little; that of what is left without the mean of all photos says more. Trained
transformers have a few components that are much larger than the others, with which 8 bits have most trouble. "Uneven"
are weights with such components, which compute the same in float32.
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import open_clip
import torch
from embed import line
from PIL import Image

from datasette_image_search.embedders.eight_bits import in_eight_bits

ARCHITECTURE = "ViT-B-32"
AT_ONCE = 16
"""Photos that are encoded together; the first so many calibrate."""

TURNS = 3
UNEVEN, LARGER = 8, 10.0
"""So many components of each layer are so many times larger."""

AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
IS_HELD = all(os.environ.get(name) == value for name, value in AVX2.items())

Way = Callable[[torch.Tensor], np.ndarray]
"""Photos, shape (n, 3, side, side) -> features, shape (n, dimensions)."""


# --- Models --------------------------------------------------------------------------------------


def random_tower() -> torch.nn.Module:
    torch.manual_seed(0)
    return open_clip.create_model(ARCHITECTURE).visual.eval()


@torch.no_grad()
def uneven(tower: torch.nn.Module) -> torch.nn.Module:
    """The same function, with some components that are larger between the layers."""
    tower = copy.deepcopy(tower)
    chosen = np.random.default_rng(0)
    for block in tower.transformer.resblocks:
        for norm, weight in (
            (block.ln_1, block.attn.in_proj_weight),
            (block.ln_2, block.mlp.c_fc.weight),
        ):
            some = torch.from_numpy(chosen.choice(len(norm.weight), UNEVEN, replace=False))
            norm.weight[some] *= LARGER
            norm.bias[some] *= LARGER
            weight[:, some] /= LARGER
    return tower


# --- Ways ----------------------------------------------------------------------------------------


def by_torch(tower: torch.nn.Module, dtype: torch.dtype = torch.float32) -> Way:
    def encode(photos: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            return tower(photos.to(dtype)).float().numpy()

    return encode


def compiled(tower: torch.nn.Module, dtype: torch.dtype) -> Way:
    return by_torch(torch.compile(copy.deepcopy(tower).to(dtype)), dtype)


def one_by_one(way: Way) -> Way:
    """So that no photo has another vector because of those beside it."""
    return lambda photos: np.concatenate([way(photo[None]) for photo in photos])


def exported(tower: torch.nn.Module, path: Path) -> Path:
    side = tower.image_size[0]
    torch.onnx.export(
        tower,
        (torch.zeros(2, 3, side, side),),
        str(path),
        input_names=["photos"],
        output_names=["features"],
        dynamic_axes={"photos": {0: "n"}, "features": {0: "n"}},
        dynamo=False,
    )
    return path


def by_onnxruntime(path: Path) -> Way:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda photos: session.run(None, {"photos": photos.numpy()})[0]


def rounded_dynamically(path: Path) -> Path:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    made = path.with_suffix(".dynamic.onnx")
    quantize_dynamic(path, made, weight_type=QuantType.QInt8, per_channel=True)
    return made


def rounded_by_photos(path: Path, photos: torch.Tensor) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Photos(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(photos[:AT_ONCE, None].numpy())

        def get_next(self) -> dict[str, np.ndarray] | None:
            photo = next(self.left, None)
            return None if photo is None else {"photos": photo}

    made = path.with_suffix(".static.onnx")
    quantize_static(
        path,
        made,
        Photos(),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["MatMul", "Gemm"],
        extra_options={"MatMulConstBOnly": True},
    )
    return made


def by_openvino(path: Path, precision: str) -> Way:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precision}
    model = openvino.Core().compile_model(str(path), "CPU", settings)
    return lambda photos: model(photos.numpy())[0]


def ways(tower: torch.nn.Module, photos: torch.Tensor, work: Path) -> Iterator[tuple[str, Way]]:
    yield "torch, float32", by_torch(tower)
    if not IS_HELD:
        half = copy.deepcopy(tower).to(torch.bfloat16)
        yield "torch, bfloat16", by_torch(half, torch.bfloat16)
        # Compiled code does not obey either.
        yield "torch.compile, float32", compiled(tower, torch.float32)
        yield "torch.compile, bfloat16", compiled(tower, torch.bfloat16)
    layers = torch.ao.quantization.quantize_dynamic(tower, {torch.nn.Linear}, torch.qint8)
    yield "torch, int8 as quantize_dynamic has it", by_torch(layers)
    eight = copy.deepcopy(tower)
    in_eight_bits(eight, ARCHITECTURE)
    yield "--precision int8, one by one", one_by_one(by_torch(eight))
    yield "the same, together", by_torch(eight)
    if IS_HELD:
        return
    path = exported(tower, work / "tower.onnx")
    yield "onnxruntime, float32", by_onnxruntime(path)
    dynamic = by_onnxruntime(rounded_dynamically(path))
    yield "onnxruntime, int8, dynamic", dynamic
    yield "the same, one by one", one_by_one(dynamic)
    static = rounded_by_photos(path, photos)
    yield "onnxruntime, int8, calibrated", by_onnxruntime(static)
    try:
        import openvino  # noqa: F401
    except ImportError:
        return
    yield "OpenVINO, float32", by_openvino(path, "f32")
    yield "OpenVINO, bfloat16", by_openvino(path, "bf16")
    yield "OpenVINO, int8, calibrated", by_openvino(static, "f32")
    yield "OpenVINO, int8, calibrated, the rest in bfloat16", by_openvino(static, "bf16")


# --- Measuring -----------------------------------------------------------------------------------


def likeness(features: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """The least cosine of features to the right ones, and of what is left of both without the mean of the right ones."""
    middle = unit(right).mean(axis=0)
    return tuple(
        float((unit(unit(features) - less) * unit(unit(right) - less)).sum(axis=1).min())
        for less in (0, middle)
    )


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def measure(photos: torch.Tensor, work: Path) -> None:
    for name, tower in (("random", random_tower()), ("uneven", uneven(random_tower()))):
        folder = work / name
        folder.mkdir()
        made = list(ways(tower, photos, folder))
        right = made[0][1](photos)
        times: list[list[float]] = [[] for _ in made]
        for turn in range(TURNS + 1 if name == "random" else 0):
            for (_, way), measured in zip(made, times, strict=True):
                started = time.process_time()
                way(photos[:AT_ONCE])
                if turn:
                    measured.append((time.process_time() - started) * 1000 / AT_ONCE)
        print(
            f"\n{name} weights: ms of a processor for a photo, times as fast as the first, cosines"
        )
        for (what, way), measured in zip(made, times, strict=True):
            cosines = "{:.4f}, less the mean {:.4f}".format(*likeness(way(photos), right))
            if not measured:
                line(what, "", cosines)
                continue
            faster = statistics.median(times[0]) / statistics.median(measured)
            line(what, f"{statistics.median(measured):.1f}", f"{faster:.2f} x  {cosines}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("photos", type=Path, help="folder of JPEGs")
    parser.add_argument("--number", type=int, default=24, help="of them for the cosines")
    parser.add_argument("--avx2", action="store_true")
    options = parser.parse_args()
    if options.avx2 and not IS_HELD:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **AVX2})
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    _, _, transform = open_clip.create_model_and_transforms(ARCHITECTURE)
    found = sorted(options.photos.rglob("*.jpg"))
    chosen = found[:: max(1, len(found) // options.number)][: options.number]
    photos = torch.stack([transform(Image.open(path).convert("RGB")) for path in chosen])
    print(
        f"{len(photos)} photos, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"
    )
    with tempfile.TemporaryDirectory() as work:
        measure(photos, Path(work))


if __name__ == "__main__":
    main()
