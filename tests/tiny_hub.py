"""A model hub of a few files on a port of this machine, and a model that needs all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from .tiny_clip import CONFIG

COMMIT = "0123456789abcdef0123456789abcdef01234567"

MODEL = "hf-hub:tiny/clip"

WORDS = ["<s>", "<pad>", "</s>", "<unk>", "a", "red", "car", "blue", "two", "dogs"]


@dataclass
class Hub:
    """`asked` are the paths of the requests, and may be cleared."""

    url: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def serving(folder: Path) -> Iterator[Hub]:
    """Serve OWNER/NAME/FILE of a folder, as the hub does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer()

        def do_HEAD(self) -> None:
            self.answer()

        def answer(self) -> None:
            hub.asked.append(self.path)
            _, *parts = self.path.partition("?")[0].split("/")
            if parts[:2] == ["api", "models"]:
                files = sorted(folder.joinpath(*parts[2:4]).glob("*"))
                if "tree" in parts:
                    listed = [
                        {"type": "file", "path": file.name, "oid": "0", "size": file.stat().st_size}
                        for file in files
                    ]
                    return self.send(json.dumps(listed).encode())
                siblings = [{"rfilename": file.name} for file in files]
                name = "/".join(parts[2:4])
                if files:
                    info = {"id": name, "sha": COMMIT, "siblings": siblings}
                    return self.send(json.dumps(info).encode())
            elif "resolve" in parts and folder.joinpath(*parts[:2], parts[-1]).is_file():
                return self.send(folder.joinpath(*parts[:2], parts[-1]).read_bytes())
            return self.send(b"", 404)

        def send(self, content: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.send_header("etag", f'"{sha256(content).hexdigest()}"')
            self.send_header("x-repo-commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub = Hub(f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


def make_hub(folder: Path) -> Path:
    """
    Files for `serving`: MODEL, whose text tower is configured by a second repository and whose
    tokenizer is in a third, as those of the models for many languages are.
    """
    import open_clip
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    clip, tower, tokens = (folder / "tiny" / name for name in ("clip", "tower", "tokens"))
    for repository in (clip, tower, tokens):
        repository.mkdir(parents=True)
    roberta = {
        "model_type": "roberta",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": len(WORDS),
        "max_position_embeddings": 80,
        "pad_token_id": 1,
    }
    (tower / "config.json").write_text(json.dumps(roberta))
    tokenizer = Tokenizer(WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tokens / "tokenizer.json"))
    (tokens / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"})
    )
    text = {
        "hf_model_name": "tiny/tower",
        "hf_tokenizer_name": "tiny/tokens",
        "hf_pooler_type": "mean_pooler",
    }
    config = {"embed_dim": 32, "vision_cfg": CONFIG["vision_cfg"], "text_cfg": text}
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
    (clip / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
    )
    local = text | {"hf_model_name": str(tower), "hf_model_pretrained": False}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CustomTextCLIP(**config | {"text_cfg": local})
    save_file(model.state_dict(), clip / "open_clip_model.safetensors")
    return folder
