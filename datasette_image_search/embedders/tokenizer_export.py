"""The tokenizers of open_clip -> tokens that need no open_clip."""

from __future__ import annotations

# Before what imports timm.
from . import uncompiled  # noqa: F401

# isort: split
from typing import Any

from open_clip import SimpleTokenizer
from open_clip.tokenizer import HFTokenizer, get_clean_fn
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.processors import TemplateProcessing

from .text_tokens import CLEANINGS, TextTokens

END_OF_WORD = "</w>"


class NotExportable(Exception):
    """A tokenizer that does more than tokenizer.json can say; the message is what."""


def exported_tokens(tokenizer: Any) -> TextTokens:
    """The same tokens for each text. Raises NotExportable."""
    if isinstance(tokenizer, SimpleTokenizer):
        return TextTokens(_of_clip(tokenizer).to_str(), _cleaning(tokenizer))
    if isinstance(tokenizer, HFTokenizer):
        return _of_transformers(tokenizer)
    raise NotExportable("its words are not read by a tokenizer of open_clip")


def _cleaning(tokenizer: SimpleTokenizer | HFTokenizer) -> str:
    return next(name for name in CLEANINGS if get_clean_fn(name) is tokenizer.clean_fn)


def _of_clip(tokenizer: SimpleTokenizer) -> Tokenizer:
    if tokenizer.reduction_fn is not None:
        raise NotExportable("its tokenizer leaves words out of long texts")
    start, end = (
        (tokenizer.decoder[number], number)
        for number in (tokenizer.sot_token_id, tokenizer.eot_token_id)
    )
    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
    exported = Tokenizer(
        BPE(vocab=tokenizer.encoder, merges=merges, end_of_word_suffix=END_OF_WORD)
    )
    words = Split(Regex(f"(?i:{tokenizer.pat.pattern})"), "removed", invert=True)
    exported.pre_tokenizer = Sequence(
        [words, ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)]
    )
    exported.post_processor = TemplateProcessing(
        single=f"{start[0]} $A {end[0]}", special_tokens=[start, end]
    )
    exported.add_special_tokens([tokenizer.decoder[each] for each in tokenizer.all_special_ids])
    exported.enable_truncation(tokenizer.context_length)
    exported.enable_padding(
        length=tokenizer.context_length, pad_id=0, pad_token=tokenizer.decoder[0]
    )
    return exported


def _of_transformers(tokenizer: HFTokenizer) -> TextTokens:
    if tokenizer.tokenizer_mode:
        raise NotExportable(f"its tokenizer has the mode {tokenizer.tokenizer_mode!r}")
    # It sets the length of its fast tokenizer when it reads a text.
    tokenizer([""])
    fast = getattr(tokenizer.tokenizer, "backend_tokenizer", None)
    if not isinstance(fast, Tokenizer):
        raise NotExportable("its tokenizer has no tokenizer.json")
    zeroed = tokenizer.tokenizer.sep_token_id if tokenizer.strip_sep_token else None
    return TextTokens(fast.to_str(), _cleaning(tokenizer), zeroed)
