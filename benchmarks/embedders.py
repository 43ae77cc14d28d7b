"""
Measure what models cost, and check that ours see the same as the libraries they come from. Each line has
a comparison beside it.

    python benchmarks/embedders.py --photos FOLDER                  # everything, about 10 minutes on 2 cores
    python benchmarks/embedders.py words layout                     # only these parts

Models have random weights, which take as long as trained ones but tell pictures apart badly. So the score
between different pictures is printed beside that of the same picture.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from embed import big_photos, line
from PIL import Image

THROUGH_COMMANDS = (
    "timm/vgg16",
    "timm/resnet50",
    "timm/vit_base_patch16_224",
    "ViT-B-32/random",
    "RN50/random",
    "coca_ViT-B-32/random",
)

CROPS, SQUASHES = "ViT-B-32/openai", "PE-Core-B-16/meta"

LAYOUTS = ("timm/resnet50", "timm/vgg16", "timm/efficientnet_b0", "timm/vit_base_patch16_224")


def random_weights(folder: Path, model_id: str) -> Path:
    """A file of weights for a model of timm or open_clip."""
    import open_clip
    import timm
    import torch
    from safetensors.torch import save_file

    logging.disable(logging.WARNING)  # open_clip warns that random weights are random.
    path = folder / f"{model_id.replace('/', '-')}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        if model_id.startswith("timm/"):
            model = timm.create_model(model_id.removeprefix("timm/"))
        else:
            model = open_clip.create_model(model_id.partition("/")[0])
        save_file(model.state_dict(), path)
    return path


# --- Parts -----------------------------------------------------------------------------------------


def measure_preprocessing(work: Path, sources: list[Path]) -> None:
    """The same picture through our decode, and through open_clip's transform on all of its pixels."""
    import open_clip

    from datasette_image_search.decoding.decode import decode_file
    from datasette_image_search.decoding.opening import DecodeSettings
    from datasette_image_search.embedders.protocol import ModelRequest
    from datasette_image_search.embedders.registry import load_embedder

    photos = big_photos(work / "photos", 16, sources)
    for model_id in (CROPS, SQUASHES):
        weights = random_weights(work, model_id)
        embedder = load_embedder(ModelRequest(model_id, weights, precision="float32"))
        architecture, _, tag = model_id.partition("/")
        published = open_clip.get_pretrained_cfg(architecture, tag)
        _, _, transform = open_clip.create_model_and_transforms(
            architecture,
            load_weights=False,
            image_mean=published["mean"],
            image_std=published["std"],
            image_interpolation=published["interpolation"],
            image_resize_mode=published["resize_mode"],
        )
        settings = DecodeSettings(embedder.preprocess, embedder.image_size)
        ours = np.stack([decode_file(photo, settings).model_input for photo in photos])
        theirs = np.stack([transform(Image.open(photo)).numpy() for photo in photos])
        vectors, expected = embedder.encode_images(ours), embedder.encode_images(theirs)
        same = (vectors * expected).sum(axis=1)
        others = (vectors @ expected.T)[~np.eye(len(photos), dtype=bool)]
        levels = np.abs(ours - theirs).mean() * np.mean(published["std"]) * 255
        line(
            f"{model_id} ({published['resize_mode']}), least cosine",
            f"{same.min():.4f}",
            "over 0.995",
        )
        line("  greatest cosine of different pictures", f"{others.max():.4f}")
        line("  mean difference of what the model gets, of 255", f"{levels:.2f}")


def measure_commands(work: Path, sources: list[Path]) -> None:
    """Models of all kinds, through the same commands."""
    folder = work / "photos"
    folder.mkdir()
    for source in sources[:100]:
        (folder / source.name).symlink_to(source.resolve())
    for model_id in THROUGH_COMMANDS:
        weights = random_weights(work, model_id)
        database = work / f"{model_id.replace('/', '-')}.db"
        embed = ("embed-images", database, "images", folder, "--model", model_id, "--silent")
        summary = sqlite_utils(*embed, "--follow-symlinks", "--weights", weights).strip()
        weights.unlink()
        found = json.loads(
            sqlite_utils("search-images", database, "images", "#42", "-k", "3", "--json")
        )
        itself = f"{found[0]['score']:.3f}, then {found[1]['score']:.3f}"
        dimensions = json.loads(
            sqlite_utils("query", database, "select dimensions from image_search_indexes")
        )[0]["dimensions"]
        print(f"{summary}; {dimensions} dimensions", flush=True)
        line("  scores of #42: itself, the next", itself, "1.000 first")
        if found[0]["id"] != 42:
            raise SystemExit(f"{model_id} does not find a picture by itself")


def sqlite_utils(*arguments: object) -> str:
    command = [sys.executable, "-m", "sqlite_utils", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def measure_words(work: Path) -> None:
    """The text tower alone, and a query."""
    weights = random_weights(work, CROPS)
    for precision in ("float32", "bfloat16"):
        words, whole = (
            run_apart(weights=str(weights), precision=precision, pictures=pictures)
            for pictures in (False, True)
        )
        base = words["imports"]
        line(f"{CROPS}, {precision}: imports alone, MB resident", f"{base / 1e6:.0f}")
        line("  both towers, MB on top", f"{(whole['resident'] - whole['imports']) / 1e6:.0f}")
        line("  words alone, MB on top", f"{(words['resident'] - base) / 1e6:.0f}")
        ratio = (words["resident"] - base) / (whole["resident"] - whole["imports"])
        line("  words alone of both", f"{ratio:.0%}", "at most 65 %")
        whole_process = words["resident"] / whole["resident"]
        line("  the same of the whole processes", f"{whole_process:.0%}")
        line("  a query that is new, median ms", f"{words['new']:.1f}", "at most 60")
        line("    the quickest", f"{words['quickest']:.1f}")
        line("  a query that was asked before, ms", f"{words['cached']:.4f}", "under 1")


def measure_letters() -> None:
    """The tokens of the worst single words: as long as a query may have, and as it could once."""
    import open_clip

    from datasette_image_search.search.query import MOST_LETTERS

    rng = np.random.default_rng(0)
    for name, first, last in (
        ("a to z", 97, 123),
        ("Han", 0x4E00, 0x9FFF),
        ("emoji", 0x1F300, 0x1F5FF),
    ):
        for letters in (MOST_LETTERS, 4 * MOST_LETTERS):
            word = "".join(map(chr, rng.integers(first, last, letters).tolist()))
            tokenizer = open_clip.SimpleTokenizer()
            started = time.thread_time()
            tokenizer([word])
            taken = (time.thread_time() - started) * 1000
            line(f"tokens of a word of {letters:,} letters, {name}, ms", f"{taken:.0f}")


def run_apart(**settings: object) -> dict:
    command = [sys.executable, __file__, "--run", json.dumps(settings)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def run_here(settings: dict) -> None:
    import open_clip  # noqa: F401

    from datasette_image_search.embedders.protocol import ModelRequest
    from datasette_image_search.embedders.registry import load_embedder
    from datasette_image_search.search.query import _text_vector

    imports = resident()
    embedder = load_embedder(
        ModelRequest(
            CROPS,
            Path(settings["weights"]),
            device="cpu",
            precision=settings["precision"],
            words_only=True,
        )
    )
    embedder.encode_texts(["a photo"])
    if settings["pictures"]:
        side = embedder.image_size
        embedder.encode_images(np.zeros((1, 3, side, side), dtype=np.float32))
    new = [
        milliseconds(lambda at=at: _text_vector(embedder, f"a photo of {at} red cars at a beach"))
        for at in range(40)
    ]
    cached = milliseconds(lambda: _text_vector(embedder, "a photo of 1 red cars at a beach"))
    print(
        json.dumps(
            {
                "imports": imports,
                "resident": resident(),
                "new": statistics.median(new),
                "quickest": min(new),
                "cached": cached,
            }
        )
    )


def milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


def resident() -> int:
    """Bytes."""
    rows = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines())
    return int(rows["VmRSS"].split()[0]) * 1024


def measure_layout() -> None:
    """Channels last, on one core: several would wait for each other where others are at work too."""
    import timm
    import torch

    torch.set_num_threads(1)
    for model_id in LAYOUTS:
        model = timm.create_model(model_id.removeprefix("timm/"), num_classes=0).eval()
        for dtype in (torch.bfloat16, torch.float32):
            model.to(dtype)
            batch = torch.randn(4, 3, 224, 224, dtype=dtype)
            times = {torch.contiguous_format: [], torch.channels_last: []}
            with torch.inference_mode():
                for _ in range(4):
                    for layout, measured in times.items():
                        model.to(memory_format=layout)
                        measured.append(milliseconds(partial(model, batch)) / len(batch))
            contiguous, last = (min(measured) for measured in times.values())
            line(
                f"{model_id}, {str(dtype).removeprefix('torch.')}, core-ms a picture",
                f"{contiguous:.0f}",
            )
            line("  channels last", f"{last:.0f}", f"{last / contiguous:.2f} of it")


PARTS = ("preprocessing", "commands", "words", "letters", "layout")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--photos", type=Path, help="folder of photos, for preprocessing, commands")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run_here(json.loads(options.run))
        return
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    parts = options.parts or PARTS
    sources = sorted(options.photos.rglob("*.jpg")) if options.photos else []
    if "commands" in parts and len(sources) < 42:
        parser.error("commands needs --photos, a folder with 42 JPEGs or more")
    print(f"{os.cpu_count()} processors, Python {sys.version.split()[0]}")
    for part in parts:
        with tempfile.TemporaryDirectory() as work:
            if part == "preprocessing":
                measure_preprocessing(Path(work), sources)
            elif part == "commands":
                measure_commands(Path(work), sources)
            elif part == "words":
                measure_words(Path(work))
            elif part == "letters":
                measure_letters()
            else:
                measure_layout()


if __name__ == "__main__":
    main()
