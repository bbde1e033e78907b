"""Models and data that several processes or devices share."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from headcount.errors import PruningError, TrainingError


def check_whole(model: nn.Module) -> None:
    """Refuse a model that is wrapped for several devices already.

    Raises:
        PruningError: it is.

    Example:
        >>> check_whole(nn.Linear(2, 2))
    """
    if isinstance(model, DataParallel | DistributedDataParallel):
        raise PruningError(
            f"attach({type(model).__name__}): the names of its units would be those of the wrapper "
            "(module....). Attach to the model itself, before it is wrapped or given to "
            "accelerate's prepare."
        )


def check_alone(call: str) -> None:
    """Refuse to look at data in one of several processes, which has a part of it only.

    Args:
        call: the function that was called.

    Raises:
        TrainingError: there are several processes.

    Example:
        >>> check_alone("decide")
    """
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        raise TrainingError(
            f"{call}: there are {dist.get_world_size()} processes, and each would decide by the "
            "data that it has itself. Decide in a run of one process, save the decision "
            "(decision.save), and load it here (Decision.load)."
        )


def average_gradients(parameters: Sequence[nn.Parameter], device: torch.device) -> None:
    """Average gradients over all processes; nothing in a single one.

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
    if not (dist.is_available() and dist.is_initialized()):
        return
    for parameter in parameters:
        grad = cast(Tensor, parameter.grad)
        shared = grad.to(device, copy=True)
        dist.all_reduce(shared)
        grad.copy_(shared / dist.get_world_size())
