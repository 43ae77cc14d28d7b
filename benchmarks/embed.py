"""
Measure how fast photos are embedded and what it costs. Each line has a comparison beside it.

    python benchmarks/embed.py                  # everything, about 15 minutes on 2 cores
    python benchmarks/embed.py decode model     # only these parts

Models have random weights, which take as long as trained ones. Photos of 12 megapixels are drawn, or made
from those in --photos. Ratios compare numbers of the same run, because machines differ and are noisy.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

ARCHITECTURE = "ViT-B-32"
BIG = (4000, 3000)


def line(what: str, value: str, wanted: str = "") -> None:
    print(f"{what:<64} {value:>16}   {wanted}", flush=True)


# --- Material ------------------------------------------------------------------------------------


def big_photos(folder: Path, number: int, sources: list[Path]) -> list[Path]:
    """JPEGs of 12 megapixels with the detail and the grain of photos."""
    folder.mkdir()
    paths = []
    for at in range(number):
        noise = np.random.default_rng(at)
        if sources:
            picture = Image.open(sources[at % len(sources)]).convert("RGB")
        else:
            blobs = noise.integers(0, 255, (30, 40, 3), dtype=np.uint8)
            picture = Image.fromarray(blobs).resize((400, 300)).filter(ImageFilter.SHARPEN)
        grain = noise.normal(0, 6, (BIG[1], BIG[0], 1)).astype(np.int16)
        pixels = np.asarray(picture.resize(BIG, Image.Resampling.BICUBIC)).astype(np.int16) + grain
        paths.append(folder / f"{at:04}.jpg")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=88)
    return paths


def small_photos(folder: Path, number: int) -> None:
    """Distinct tiny PNGs, a thousand to a folder."""
    for at in range(number):
        if at % 1000 == 0:
            (folder / f"{at // 1000:04}").mkdir(parents=True)
        colour = (at % 256, at // 256 % 256, at // 65536)
        Image.new("RGB", (16, 12), colour).save(folder / f"{at // 1000:04}" / f"{at:07}.png")


def random_weights(folder: Path) -> Path:
    import open_clip
    import torch
    from safetensors.torch import save_file

    # open_clip warns that random weights are random.
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    path = folder / "weights.safetensors"
    save_file(open_clip.create_model(ARCHITECTURE).state_dict(), path)
    return path


# --- One run in a process of its own ---------------------------------------------------------------


def run_apart(**request: object) -> dict:
    """embed_images in a new process: its seconds, start included, peak bytes, and when what was done."""
    command = [sys.executable, __file__, "--run", json.dumps(request, default=str)]
    started = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {"seconds": time.perf_counter() - started, **json.loads(done.stdout)}


def run_here(request: dict) -> None:
    from datasette_image_search.ingest.pipeline import embed_images
    from datasette_image_search.ingest.survey import EmbedRequest

    started = time.perf_counter()
    marks: list[tuple[int, float]] = []
    paths = [Path(path) for path in request.pop("paths")]
    weights = request.pop("weights", None)
    embed = EmbedRequest(
        Path(request.pop("database")),
        "images",
        paths,
        weights=Path(weights) if weights else None,
        **request,
    )
    with peak_memory() as peak:
        summary = embed_images(
            embed, lambda progress: marks.append((progress.done, time.perf_counter() - started))
        )
    print(
        json.dumps(
            {
                "embedded": summary.embedded,
                "unchanged": summary.unchanged,
                **peak,
                "marks": marks,
                "torch": "torch" in sys.modules,
            }
        )
    )


@contextmanager
def peak_memory() -> Iterator[dict[str, int]]:
    """
    Bytes at the most, while the block runs: all that was in memory, and of it what is private, which
    leaves out pages of files (libraries, weights) that the system can drop at any time. Linux only,
    as getrusage counts what a process inherited from who started it.
    """
    status, ended = Path("/proc/self/status"), threading.Event()
    peak = {"resident": 0, "private": 0}

    def watch() -> None:
        while status.exists() and not ended.wait(0.005):
            rows = dict(row.split(":", 1) for row in status.read_text().splitlines())
            for name, field in (("resident", "VmRSS"), ("private", "RssAnon")):
                peak[name] = max(peak[name], int(rows[field].split()[0]) * 1024)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def core_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


# --- Parts -----------------------------------------------------------------------------------------


def measure_decoding(work: Path, sources: list[Path]) -> None:
    """Bytes to hash, thumbnail and model input: from the draft, and from the full picture."""
    from datasette_image_search.decoding.decode import decode_file
    from datasette_image_search.decoding.opening import DecodeSettings
    from datasette_image_search.embedders.protocol import ModelRequest
    from datasette_image_search.embedders.registry import load_embedder

    embedder = load_embedder(ModelRequest(f"{ARCHITECTURE}/random", random_weights(work)))
    photos = big_photos(work / "decode", 12, sources)
    settings = DecodeSettings(embedder.preprocess, embedder.image_size)
    # A model that wants every pixel leaves nothing to spare.
    full = DecodeSettings(embedder.preprocess, max(BIG))
    drafts, wholes = [], []
    decode_file(photos[0], settings)
    draft_time = core_seconds(lambda: drafts.extend(decode_file(p, settings) for p in photos))
    full_time = core_seconds(lambda: wholes.extend(decode_file(p, full) for p in photos))
    vectors = [
        embedder.encode_images(np.stack([each.model_input for each in decoded]))
        for decoded in (drafts, wholes)
    ]
    cosine = float((vectors[0] * vectors[1]).sum(axis=1).min())
    line("decode, 12 megapixels, core-ms each", f"{draft_time / len(photos) * 1e3:.1f}")
    line("  the same with a full-size decode", f"{full_time / len(photos) * 1e3:.1f}")
    line("  times faster", f"{full_time / draft_time:.2f}", "at least 3")
    line("  least cosine of the vectors", f"{cosine:.4f}", "over 0.995")


def measure_model(work: Path) -> None:
    """bfloat16 against float32, where the processor has it."""
    from datasette_image_search.embedders.protocol import ModelRequest
    from datasette_image_search.embedders.registry import load_embedder
    from datasette_image_search.embedders.torch_runtime import choose_runtime

    model_id, weights = f"{ARCHITECTURE}/random", random_weights(work)
    pictures = np.random.default_rng(0).normal(size=(32, 3, 224, 224)).astype(np.float32)
    rates = {}
    vectors = {}
    for precision in ("float32", "bfloat16"):
        embedder = load_embedder(ModelRequest(model_id, weights, precision=precision))
        embedder.encode_images(pictures)
        started = time.perf_counter()
        for _ in range(4):
            vectors[precision] = embedder.encode_images(pictures)
        rates[precision] = 4 * len(pictures) / (time.perf_counter() - started)
    line(f"encode, {ARCHITECTURE}, float32, images/s", f"{rates['float32']:.1f}")
    line("  bfloat16", f"{rates['bfloat16']:.1f}")
    is_usual = choose_runtime(None).precision == "bfloat16"
    wanted = "at least 1.8" if is_usual else "not used: no instructions for it"
    line("  times faster", f"{rates['bfloat16'] / rates['float32']:.2f}", wanted)
    cosine = (vectors["float32"] * vectors["bfloat16"]).sum(axis=1).min()
    line("  least cosine of the vectors", f"{cosine:.4f}", "over 0.995")


def measure_end_to_end(work: Path, sources: list[Path]) -> None:
    """A whole run, against what decoding and encoding alone would leave possible."""
    from datasette_image_search.decoding.decode import decode_file
    from datasette_image_search.decoding.opening import DecodeSettings
    from datasette_image_search.embedders.protocol import ModelRequest
    from datasette_image_search.embedders.registry import load_embedder

    weights = random_weights(work)
    embedder = load_embedder(ModelRequest(f"{ARCHITECTURE}/random", weights))
    photos = big_photos(work / "end", 96, sources)
    settings = DecodeSettings(embedder.preprocess, embedder.image_size)
    decode_file(photos[0], settings)
    decoded: list = []
    decode = core_seconds(lambda: decoded.extend(decode_file(p, settings) for p in photos[:32]))
    batch = np.stack([each.model_input for each in decoded])
    embedder.encode_images(batch)
    encode = core_seconds(lambda: embedder.encode_images(batch))
    bound = 2 / ((decode + encode) / len(batch))
    run = run_apart(
        database=work / "end.db",
        paths=[work / "end"],
        model=f"{ARCHITECTURE}/random",
        weights=weights,
    )
    # Without the loading of the model, which a thousand photos would hide.
    (_, first), (done, last) = run["marks"][0], run["marks"][-1]
    rate = done / (last - first)
    line("bound: 2 / (decode + encode core-seconds), images/s", f"{bound:.1f}")
    line("  end to end", f"{rate:.1f}")
    line("  share of the bound", f"{rate / bound:.2f}", "at least 0.85")
    line("  peak of private memory, MB", f"{run['private'] / 1e6:.0f}", "under 1500")
    line("  with the pages of libraries and weights, MB", f"{run['resident'] / 1e6:.0f}")


def measure_many(work: Path, number: int) -> None:
    """A table of many small images: does it slow down, and what does a run without changes cost?"""
    folder, database = work / "many", work / "many.db"
    small_photos(folder, number)
    run = run_apart(database=database, paths=[folder], model="palette", batch_size=100)
    done, seconds = zip(*run["marks"], strict=True)
    warm, first, before_last, last = np.interp([1000, 2000, number - 1000, number], done, seconds)
    first, last = first - warm, last - before_last
    line(f"second 1,000 of {number:,} small images, palette, seconds", f"{first:.2f}")
    line("  the last 1,000", f"{last:.2f}")
    line("  times as long", f"{last / first:.2f}", "at most 1.2")
    again = run_apart(database=database, paths=[folder])
    line(
        f"nothing changed in {again['unchanged']:,} files, seconds",
        f"{again['seconds']:.2f}",
        "at most 3",
    )
    line("  peak memory, MB", f"{again['resident'] / 1e6:.0f}", "at most 300")
    line("  imports a model", "yes" if again["torch"] else "no", "no")


def measure_memory(work: Path) -> None:
    """Peak memory over ten times as many images."""
    peaks = {}
    for number in (2_000, 20_000):
        folder = work / f"memory{number}"
        small_photos(folder, number)
        run = run_apart(database=work / f"memory{number}.db", paths=[folder], model="palette")
        peaks[number] = run["resident"]
    line("peak memory over 2,000 images, palette, MB", f"{peaks[2_000] / 1e6:.0f}")
    line("  over 20,000", f"{peaks[20_000] / 1e6:.0f}")
    line("  times as much", f"{peaks[20_000] / peaks[2_000]:.2f}", "at most 1.1")


PARTS = ("decode", "model", "end-to-end", "many", "memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--photos", type=Path, help="folder of photos to make the big ones of")
    parser.add_argument("--number", type=int, default=100_000, help="of small images for `many`")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run_here(json.loads(options.run))
        return
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    sources = sorted(options.photos.rglob("*.jpg")) if options.photos else []
    print(f"{os.cpu_count()} processors, Python {sys.version.split()[0]}")
    for part in options.parts or PARTS:
        with tempfile.TemporaryDirectory() as work:
            if part == "decode":
                measure_decoding(Path(work), sources)
            elif part == "model":
                measure_model(Path(work))
            elif part == "end-to-end":
                measure_end_to_end(Path(work), sources)
            elif part == "many":
                measure_many(Path(work), options.number)
            else:
                measure_memory(Path(work))


if __name__ == "__main__":
    main()
