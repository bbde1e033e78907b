r"""The successive softmaxes of ``relaxed_topk`` in plain PyTorch, for any device.

Both functions work on a table of independent rows, [B, N] float64. ``history`` holds the softmaxes
p^1 ... p^K, which ``backward`` reads.
"""

import torch
from jaxtyping import Float
from torch import Tensor

# Gradients of the recurrence can grow by a factor 1/tau a step: past any double when tau is small
# and logits are tied. They stop here instead, so that no later product is infinite or nan.
ADJOINT_LIMIT = 1e100


def forward(
    logits: Float[Tensor, "batch n"],
    floor: Float[Tensor, "batch 1"],
    num_keep: int,
    inverse_temperature: float,
) -> tuple[Float[Tensor, "batch n"], Float[Tensor, "batch n"], Float[Tensor, "k batch n"]]:
    """The gates sum_k p^k, the logits alpha^(K+1) left after them, and the history p^1 ... p^K.

    p = softmax(alpha / tau), then alpha <- alpha + max(log(1 - p), floor), K times.
    """
    alpha, one = logits.clone(), torch.ones_like(logits)
    history = logits.new_empty(num_keep, *logits.shape)
    for p in history:
        # Subtracting first is exact for close logits; dividing first costs digits if tau is small.
        torch.softmax((alpha - alpha.amax(-1, keepdim=True)) * inverse_temperature, -1, out=p)
        alpha += torch.log(one - p).clamp_(min=floor)
    return history.sum(0), alpha, history


def backward(
    history: Float[Tensor, "k batch n"],
    grad_gates: Float[Tensor, "batch n"],
    grad_next: Float[Tensor, "batch n"],
    inverse_temperature: float,
) -> Float[Tensor, "batch n"]:
    """The gradient with respect to the logits, from those of the gates and of alpha^(K+1).

    With G the gradient of the gates and s that of alpha, starting from that of alpha^(K+1), for
    k = K ... 1: the gradient of p^k is h = G - s / (1 - p^k), where the last term is zero if
    p^k = 1 (the floor is a constant), and s <- s + p^k (h - p^k . h) / tau.
    """
    adjoint = grad_next
    # 1 / (1 - p), and zero where p = 1: there the floor cuts the gradient off.
    inverse_rests = (1 - history).reciprocal_().nan_to_num_(posinf=0.0)
    for p, inverse_rest in zip(history.flip(0), inverse_rests.flip(0), strict=True):
        slope = torch.addcmul(grad_gates, adjoint, inverse_rest, value=-1)
        excess = slope - torch.linalg.vecdot(p, slope).unsqueeze(-1)
        adjoint = torch.addcmul(adjoint, p, excess, value=inverse_temperature)
        adjoint.clamp_(-ADJOINT_LIMIT, ADJOINT_LIMIT)
    return adjoint
