from __future__ import annotations

from datasette_image_search.embedders import uncompiled  # noqa: F401

# isort: split
from pathlib import Path

import numpy as np
import open_clip
import pytest
from open_clip.tokenizer import HFTokenizer

from datasette_image_search.embedders.text_tokens import TextTokens
from datasette_image_search.embedders.tokenizer_export import NotExportable, exported_tokens

HARD = [
    *("", "  ", "a red car", "A RED CAR", "it's a dog's life, isn't it? WE'RE 2", "x" * 500),
    *(
        "word " * 200,
        "naïve café ÉCOLE",
        "東京 🗼",
        "👩‍👩‍👧 🇩🇪",
        "3.14 ²½ Ⅷ",
        "İstanbul 'ſ",  # noqa: RUF001
        "ﬁ ligature",
    ),
    *(
        "&lt;b&gt; &amp;amp;",
        "schÃ¶n â€œquotedâ€\x9d",
        "\x00\x1c\u200b zero",
        "a\u0301 \u0301",
        "under_score",
    ),
    *(
        "<start_of_text> a <end_of_text> b",
        "!?;:-- 'll 's",
        "שלום עולם",
        "नमस्ते",
        "ไทย",
        "\ue000\U0001f9ff",
    ),
    "tab\tand\nline\u2028and\xa0space",
]
"""Letters of all kinds, marks, what is mended, what is cut off, and what is no text."""


def test_tokens_are_those_of_clip():
    tokenizer = open_clip.get_tokenizer("ViT-B-32-256")
    assert np.array_equal(exported_tokens(tokenizer)(HARD), tokenizer(HARD).numpy())


@pytest.mark.parametrize("cleaning", ["canonicalize", "lower", "whitespace"])
def test_texts_are_cleaned_as_open_clip_does(cleaning: str):
    tokenizer = open_clip.SimpleTokenizer(context_length=9, clean=cleaning)
    assert np.array_equal(exported_tokens(tokenizer)(HARD), tokenizer(HARD).numpy())


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small tokenizer of the kind that SigLIP and CLIPA have."""
    from tokenizers import Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import Unigram
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    letters = sorted({letter for text in HARD for letter in text.lower() if letter.isalpha()})
    pieces += [(letter, -3.0) for letter in letters[:60]]
    pieces += [(word, -4.0) for word in ("▁a", "▁red", "▁car", "ord")]
    fast = Tokenizer(Unigram(pieces, unk_id=2))
    fast.normalizer = normalizers.NFKC()
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    fast.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder = tmp_path_factory.mktemp("sentencepiece")
    PreTrainedTokenizerFast(
        tokenizer_object=fast,
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("options", [{"clean": "canonicalize"}, {"strip_sep_token": True}])
def test_tokens_are_those_of_transformers(sentencepiece: Path, options: dict):
    tokenizer = HFTokenizer(str(sentencepiece), context_length=16, **options)
    tokens = exported_tokens(tokenizer)
    assert np.array_equal(tokens(HARD), tokenizer(HARD).numpy())
    assert np.array_equal(
        TextTokens(tokens.tokenizer, tokens.cleaning, tokens.zeroed)(HARD), tokens(HARD)
    )


def test_what_tokenizer_json_cannot_say_is_refused(sentencepiece: Path):
    for tokenizer, said in (
        (open_clip.SimpleTokenizer(reduction_mask="simple"), "leaves words out"),
        (HFTokenizer(str(sentencepiece), tokenizer_mode="clips"), "has the mode 'clips'"),
        (str.split, "not read by a tokenizer of open_clip"),
    ):
        with pytest.raises(NotExportable, match=said):
            exported_tokens(tokenizer)
