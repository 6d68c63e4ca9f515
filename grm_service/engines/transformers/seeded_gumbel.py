"""Batch-independent sampling: Gumbel noise that depends on a row's seed and position alone.

The argmax of logits plus Gumbel noise is a sample from their softmax (the Gumbel-max trick). The noise is a
hash of (seed, position, token), so it needs no random generator: it works inside any batch, on any device
and inside a CUDA graph, and gives the same sample everywhere.
"""

from __future__ import annotations

from typing import TypeVar

import torch

Bits = TypeVar("Bits", int, torch.Tensor)
_WORD = 0xFFFFFFFF


def noise_key(seed: int, position: int) -> int:
    """Return the key of one token's noise, a positive int32; `position` is the number of tokens before it."""
    mixed: int = _mix(_mix(seed & _WORD) ^ (position * 0x9E3779B1 & _WORD))
    return mixed >> 1 | 1


def gumbel_noise(keys: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """Return standard Gumbel noise (rows, vocab_size) in float32 from one key a row; zeros for the key 0."""
    tokens = torch.arange(vocab_size, device=keys.device, dtype=torch.int64) * 0x9E3779B1
    bits = _mix((keys.to(torch.int64)[:, None] * 0x85EBCA6B ^ tokens) & _WORD) >> 8
    # Adding a half avoids 0. The largest value rounds to 1 and gives -inf: that token just loses this draw.
    noise = -(-torch.log1p(-(bits.to(torch.float32) + 0.5) / 2**24)).log()
    return torch.where(keys[:, None] == 0, 0.0, noise)


def _mix(bits: Bits) -> Bits:
    """Apply MurmurHash3's 32-bit finalizer."""
    bits = (bits ^ bits >> 16) * 0x85EBCA6B & _WORD
    bits = (bits ^ bits >> 13) * 0xC2B2AE35 & _WORD
    return bits ^ bits >> 16
