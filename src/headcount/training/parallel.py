"""Training on several processes or devices: checks, and the averaging of gradients."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from headcount.errors import PruningError, TrainingError


def check_whole(model: nn.Module) -> None:
    """Refuse a model that is already wrapped for several devices.

    Raises:
        PruningError: the model is wrapped.

    Example:
        >>> check_whole(nn.Linear(2, 2))
    """
    if isinstance(model, DataParallel | DistributedDataParallel):
        raise PruningError(
            f"attach({type(model).__name__}): units would get the wrapper's names "
            "(module....), which the cut model does not have. Attach to the model itself, before "
            "it is wrapped or given to accelerate's prepare."
        )


def check_alone(call: str) -> None:
    """Refuse to decide from data in several processes, each of which sees only a part of it.

    Args:
        call: the function that was called.

    Raises:
        TrainingError: there are several processes.

    Example:
        >>> check_alone("decide")
    """
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        raise TrainingError(
            f"{call}: there are {dist.get_world_size()} processes, and each would decide from its "
            "own part of the data. Decide in a single process, save the decision "
            "(decision.save), and load it here (Decision.load)."
        )


def average_gradients(parameters: Sequence[nn.Parameter], device: torch.device) -> None:
    """Average gradients over all processes; a single process does nothing.

    Args:
        parameters: each with a gradient.
        device: where the processes exchange tensors.

    Example:
        >>> parameter = nn.Parameter(torch.ones(1))
        >>> parameter.grad = torch.ones(1)
        >>> average_gradients([parameter], torch.device("cpu"))
        >>> parameter.grad
        tensor([1.])
    """
    _average([cast(Tensor, parameter.grad) for parameter in parameters], device)


def average_buffers(states: nn.Module, device: torch.device) -> None:
    """Average the floating-point buffers of a module over all processes; nothing in a single one.

    Args:
        states: holds the buffers.
        device: where the processes exchange tensors.

    Example:
        >>> average_buffers(nn.BatchNorm1d(2), torch.device("cpu"))
    """
    _average([each for each in states.buffers() if each.dtype.is_floating_point], device)


def _average(tensors: Sequence[Tensor], device: torch.device) -> None:
    """Replace each tensor by its mean over all processes."""
    if not (dist.is_available() and dist.is_initialized()):
        return
    # States lie on the CPU, and some backends (NCCL) exchange tensors of the accelerator only.
    for tensor in tensors:
        shared = tensor.to(device, copy=True)
        dist.all_reduce(shared)
        tensor.copy_(shared / dist.get_world_size())
