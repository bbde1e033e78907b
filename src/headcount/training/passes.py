"""What a session asks of a pass backward: whether one runs, and gradients that stay finite."""

import logging
from collections.abc import Sequence
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

logger = logging.getLogger("headcount")

LARGEST_GRAD = 1e15
"""Gradients of logits beyond this are scaled to one before they are clipped."""


def in_backward() -> bool:
    """Whether autograd is at work in this thread, as when a checkpointed layer runs again."""
    return torch._C._current_graph_task_id() != -1


def clip(learnt: Sequence[nn.Parameter], device: torch.device, largest_norm: float) -> None:
    """Average gradients over the processes, if there are several, and clip them."""
    if dist.is_available() and dist.is_initialized():
        for parameter in learnt:
            shared = cast(Tensor, parameter.grad).to(device, copy=True)
            dist.all_reduce(shared)
            cast(Tensor, parameter.grad).copy_(shared / dist.get_world_size())
    for parameter in learnt:
        largest = cast(Tensor, parameter.grad).abs().max()
        if largest > LARGEST_GRAD:  # its square would overflow in the norm
            cast(Tensor, parameter.grad).div_(largest)
    nn.utils.clip_grad_norm_(learnt, largest_norm)


def warn_unlearnt(num_steps: int, method: str) -> None:
    """Say that a decision before the first step is one of the start."""
    logger.warning(
        "decision: after 0 of %d steps, %s decides by its random start. Call "
        "session.step() after each step of the optimizer.",
        num_steps,
        method,
    )
