"""Compare the outputs of two models."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

SKIPPED = ("past_key_values", "attentions", "cross_attentions", "encoder_attentions")
"""Outputs whose shape depends on the number of heads, so that masked and cut models differ."""


def tensors_of(output: Any, name: str = "output") -> Iterator[tuple[str, Tensor]]:
    """Every floating-point tensor of a model's output, with a name."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield name, output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            if key not in SKIPPED and not key.endswith("attentions"):
                yield from tensors_of(value, f"{name}.{key}")
    elif isinstance(output, tuple | list):
        for i, value in enumerate(output):
            yield from tensors_of(value, f"{name}[{i}]")


def largest_difference(one: Any, other: Any) -> float:
    """The largest absolute difference between two outputs; infinite if they differ in form."""
    mine, theirs = dict(tensors_of(one)), dict(tensors_of(other))
    if mine.keys() != theirs.keys() or not mine:
        return float("inf")
    # Other keys or shapes are a difference that no tolerance may pass.
    worst = 0.0
    for name, tensor in mine.items():
        if tensor.shape != theirs[name].shape:
            return float("inf")
        # Infinities of one sign and nan count as equal; their difference would be nan.
        same = (tensor == theirs[name]) | (tensor.isnan() & theirs[name].isnan())
        gap = torch.where(same, torch.zeros_like(tensor), tensor - theirs[name]).abs()
        worst = max(worst, float(gap.max()) if gap.numel() else 0.0)
    return worst


def equal_bits(one: Any, other: Any) -> bool:
    """Whether two outputs are equal bit for bit."""
    return largest_difference(one, other) == 0.0
