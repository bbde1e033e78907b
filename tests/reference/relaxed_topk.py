"""The slow twin of ``headcount.maths.relaxed_topk``: the specification's loop, left to autograd."""

import torch
from torch import Tensor

TINY = torch.finfo(torch.float64).tiny


def successive_softmax(logits: Tensor, num_keep: int, temperature: float) -> tuple[Tensor, Tensor]:
    """Gates and what is left of the logits, [..., N] float64 each."""
    alpha = logits.double()
    gates = 0 * alpha
    for _ in range(num_keep):
        p = torch.softmax(alpha / temperature, -1)
        gates = gates + p
        alpha = alpha + torch.log((1 - p).clamp(min=TINY))
    return gates, alpha


def trajectory(logits: Tensor, num_keep: int, temperature: float) -> Tensor:
    """The logits before each of the K softmaxes, [K, N], for logits [N]."""
    states = [logits.double()]
    for _ in range(num_keep - 1):
        states.append(successive_softmax(states[-1], 1, temperature)[1])
    return torch.stack(states)
