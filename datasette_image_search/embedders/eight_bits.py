"""
The transformers of open_clip that see pictures, with linear layers of 8-bit numbers: on a processor without bfloat16 they
take little more than half of the time.

Weights have a scale for each row. What comes into a layer has one for each picture, which is encoded alone: so its vector
is the same whatever is beside it. A few components of trained models are much larger than all others, and would leave
few steps to these. Where it changes nothing else, they are made smaller and their weights larger, as SmoothQuant (Xiao et
al., 2023) does; that takes no photos to measure.
"""

from __future__ import annotations

# Before what imports timm.
from . import uncompiled  # noqa: F401

# isort: split
import warnings
from collections.abc import Iterator

import open_clip.transformer
import torch

from .protocol import EmbedderError

OF_A_NORM = 4.0
"""Normalised components are mostly within so much."""

LEAST = 1e-6

MOST = 127
"""The largest of 7 bits."""


def in_eight_bits(tower: torch.nn.Module, architecture: str) -> None:
    """
    Replace the linear layers of its blocks. `architecture` is its name in a sentence. Raises EmbedderError for another kind
    of tower.
    """
    blocks = list(_blocks(tower))
    if not blocks:
        raise EmbedderError(
            f"--precision int8 is for the transformers of open_clip, such as ViT-B-32, and not for {architecture}; "
            "leave --precision out"
        )
    with torch.no_grad():
        for block in blocks:
            _even_out(block)
            block.attn = _Attention(block.attn)
            for name in ("c_fc", "c_proj"):
                layer = getattr(block.mlp, name)
                setattr(block.mlp, name, _linear(layer.weight, layer.bias))


def _blocks(tower: torch.nn.Module) -> Iterator[open_clip.transformer.ResidualAttentionBlock]:
    """Those of a tower if all are of the kind that is known here."""
    if not isinstance(tower, open_clip.transformer.VisionTransformer):
        return
    blocks = list(tower.transformer.resblocks)
    if tower.transformer.batch_first and all(
        type(block) is open_clip.transformer.ResidualAttentionBlock
        and type(block.attn) is torch.nn.MultiheadAttention
        for block in blocks
    ):
        yield from blocks


def _even_out(block: open_clip.transformer.ResidualAttentionBlock) -> None:
    attention = block.attn
    for norm, weight in (
        (block.ln_1, attention.in_proj_weight),
        (block.ln_2, block.mlp.c_fc.weight),
    ):
        scales = _between(OF_A_NORM * norm.weight.abs() + norm.bias.abs(), weight)
        norm.weight /= scales
        norm.bias /= scales
        weight *= scales
    after = attention.out_proj.weight
    values = slice(-len(after), None)
    scales = _between(attention.in_proj_weight[values].norm(dim=1), after)
    attention.in_proj_weight[values] /= scales[:, None]
    attention.in_proj_bias[values] /= scales
    after *= scales


def _between(sizes: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The factors, shape (n,), by which components of such sizes are divided, and the columns of their weight multiplied."""
    return (sizes.clamp_min(LEAST) / weight.abs().amax(dim=0).clamp_min(LEAST)).sqrt()


def _linear(weight: torch.Tensor, bias: torch.Tensor) -> torch.nn.Module:
    scales = weight.abs().amax(dim=1).clamp_min(LEAST) / 127
    return (_ByFbgemm if has_fbgemm() else _InFloat32)(weight, scales, bias)


def has_fbgemm() -> bool:
    """Whether torch multiplies 8-bit numbers as here: not on ARM, and a later torch may not (its issue 184982)."""
    return "fbgemm" in torch.backends.quantized.supported_engines and hasattr(
        torch, "quantize_per_channel"
    )


class _ByFbgemm(torch.nn.Module):
    """A linear layer whose weights have a scale for each row."""

    def __init__(self, weight: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__()
        before = torch.backends.quantized.engine
        # Where a processor has more instructions, torch would take another engine, and make other vectors.
        torch.backends.quantized.engine = "fbgemm"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                zeros = torch.zeros(len(weight), dtype=torch.int64)
                rounded = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
                self._packed = torch.ops.quantized.linear_prepack(rounded, bias)
        finally:
            torch.backends.quantized.engine = before

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        # 7 bits of what comes in: older processors add two products up in 16 bits.
        return torch.ops.quantized.linear_dynamic(values, self._packed, True)


class _InFloat32(torch.nn.Module):
    """The same of whole numbers in float32: it takes as long as without, but makes the vectors that a table has."""

    def __init__(self, weight: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__()
        self._codes = (weight / scales[:, None]).round().T.contiguous()
        self._scales, self._bias = scales, bias.detach()

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        low, high = values.min().clamp_max(0), values.max().clamp_min(0)
        step = ((high - low) / MOST).clamp_min(torch.finfo(torch.float32).tiny)
        zero = (-low / step).round()
        codes = (values / step + zero).round().clamp(0, MOST) - zero
        return codes @ self._codes * (step * self._scales) + self._bias


class _Attention(torch.nn.Module):
    """As torch.nn.MultiheadAttention, of a batch with itself."""

    def __init__(self, attention: torch.nn.MultiheadAttention) -> None:
        super().__init__()
        self._heads = attention.num_heads
        self._before = _linear(attention.in_proj_weight, attention.in_proj_bias)
        self._after = _linear(attention.out_proj.weight, attention.out_proj.bias)

    def forward(self, values: torch.Tensor, *_: object, **__: object) -> tuple[torch.Tensor, None]:
        n, length, width = values.shape
        parts = self._before(values).view(n, length, 3, self._heads, width // self._heads)
        mixed = torch.nn.functional.scaled_dot_product_attention(*parts.permute(2, 0, 3, 1, 4))
        return self._after(mixed.transpose(1, 2).reshape(n, length, width)), None
