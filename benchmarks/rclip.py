"""
Compare how fast photos are indexed: embed-images beside rclip, with the same model of random weights.

    python -m venv /tmp/rclip && /tmp/rclip/bin/pip install rclip==3.3.0
    python benchmarks/rclip.py /tmp/rclip/bin/python                # 20 minutes
    python benchmarks/rclip.py /tmp/rclip/bin/python --number 40 --turns 1

Each side works in its own way, from when its model is loaded until all is written: rclip with ONNX in float32, without
thumbnails and metadata; embed-images with both, and the number format that is the fastest here. They take turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import open_clip
import torch
from embed import big_photos
from safetensors.torch import save_file

ARCHITECTURE, SIDE = "ViT-B-32-256", 256

RCLIP = """
import json, sys, time
import onnxruntime
from rclip import db, main, model, model_download
folder, onnx, database = sys.argv[1:]
model_download.load_visual_query_session = lambda: onnxruntime.InferenceSession(
    onnx, providers=["CPUExecutionProvider"])
loaded = model.Model()
loaded._session_visual
rclip = main.RClip(loaded, db.DB(database), 8, None)
wall, cpu = time.perf_counter(), time.process_time()
rclip.ensure_index(folder)
count = len(rclip._get_features(folder)[0])
print(json.dumps([count, time.perf_counter() - wall, time.process_time() - cpu]))
"""
"""Its own command, without the download of a model. 8 is the size of its batches."""


def export(folder: Path) -> tuple[Path, Path]:
    """The same random weights as safetensors, and the tower for pictures as ONNX."""
    torch.manual_seed(0)
    model = open_clip.create_model(ARCHITECTURE).eval()
    weights, onnx = folder / "weights.safetensors", folder / "visual.onnx"
    save_file(model.state_dict(), weights)
    torch.onnx.export(
        model.visual,
        (torch.zeros(2, 3, SIDE, SIDE),),
        str(onnx),
        input_names=["input"],
        output_names=["output"],
        dynamic_axes={"input": {0: "n"}, "output": {0: "n"}},
        dynamo=False,
    )
    return weights, onnx


def embed_here(folder: str, weights: str, database: str) -> None:
    from datasette_image_search.ingest.pipeline import embed_images
    from datasette_image_search.ingest.survey import EmbedRequest

    starts: list[tuple[float, float]] = []
    request = EmbedRequest(
        Path(database),
        "images",
        [Path(folder)],
        model=f"{ARCHITECTURE}/random",
        weights=Path(weights),
    )
    summary = embed_images(
        request, lambda _: starts.append((time.perf_counter(), time.process_time()))
    )
    wall, cpu = starts[0]
    print(json.dumps([summary.embedded, time.perf_counter() - wall, time.process_time() - cpu]))


def measured(*command: object) -> tuple[float, float]:
    """Images a second, and milliseconds of a processor for each."""
    done = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE)
    count, wall, cpu = json.loads(done.stdout.splitlines()[-1])
    return count / wall, cpu / count * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("python", type=Path, help="of an environment with rclip")
    parser.add_argument("--number", type=int, default=200, help="of photos of 12 megapixels")
    parser.add_argument("--photos", type=Path, help="folder of photos to make them of")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    sources = sorted(options.photos.rglob("*.jpg")) if options.photos else []
    rows = []
    with tempfile.TemporaryDirectory() as work:
        weights, onnx = export(Path(work))
        photos = Path(work, "photos")
        big_photos(photos, options.number, sources)
        for turn in range(options.turns):
            theirs = measured(options.python, "-c", RCLIP, photos, onnx, f"{work}/r{turn}.db")
            ours = measured(
                sys.executable, __file__, "--here", photos, weights, f"{work}/{turn}.db"
            )
            rows.append((*theirs, *ours, ours[0] / theirs[0], theirs[1] / ours[1]))
            print(
                "rclip {:.2f} images/s, {:.0f} ms of a processor; embed-images {:.2f}, {:.0f}; {:.2f} times the "
                "images/s, {:.2f} for the same processor time".format(*rows[-1]),
                flush=True,
            )
    print("medians:", *(f"{median(column):.2f}" for column in zip(*rows, strict=True)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        embed_here(*sys.argv[2:])
    else:
        main()
