"""Chance that belongs to a row alone: noise from its seed and position, whatever else is in the batch. torch.

Adding Gumbel noise to logits and taking the best token is a draw from their softmax (the Gumbel-max trick),
and noise that is a hash of (seed, position, token) needs no generator, so it runs inside any batch, on any
device and inside a CUDA graph, and gives the same draw there.
"""

from __future__ import annotations

from typing import TypeVar

import torch

Bits = TypeVar("Bits", int, torch.Tensor)
_WORD = 0xFFFFFFFF


def key(seed: int, position: int) -> int:
    """Names the chance of one token, as a positive int32: `position` counts the tokens before it."""
    mixed: int = _mixed(_mixed(seed & _WORD) ^ (position * 0x9E3779B1 & _WORD))
    return mixed >> 1 | 1


def gumbel(keys: torch.Tensor, width: int) -> torch.Tensor:
    """Standard Gumbel noise (rows, width) in float32, of one key a row; no noise where the key is 0."""
    places = torch.arange(width, device=keys.device, dtype=torch.int64) * 0x9E3779B1
    bits = _mixed((keys.to(torch.int64)[:, None] * 0x85EBCA6B ^ places) & _WORD) >> 8
    # 24 bits, off 0 and 1: at worst a token gets no chance in this one draw.
    noise = -(-torch.log1p(-(bits.to(torch.float32) + 0.5) / 2**24)).log()
    return torch.where(keys[:, None] == 0, 0.0, noise)


def _mixed(bits: Bits) -> Bits:
    """MurmurHash3's finalizer, on 32 bits."""
    bits = (bits ^ bits >> 16) * 0x85EBCA6B & _WORD
    bits = (bits ^ bits >> 13) * 0xC2B2AE35 & _WORD
    return bits ^ bits >> 16
