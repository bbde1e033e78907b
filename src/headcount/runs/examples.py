"""The training examples that a method decides from."""

import random
from typing import TYPE_CHECKING

import torch
from accelerate.utils import send_to_device
from torch import Tensor

from headcount.runs.data import TaskData

if TYPE_CHECKING:  # it imports this file
    from headcount.runs.run import RunSpec


def example_batches(
    spec: "RunSpec", task_data: TaskData, device: torch.device
) -> list[dict[str, Tensor]]:
    """Batches of training examples for a method: drawn by the run's seed, in their order."""
    total = len(task_data.train)
    num = min(spec.num_examples or total, total)
    rows = sorted(random.Random(spec.recipe.seed).sample(range(total), num))
    size = spec.recipe.batch_size
    picked = task_data.train.select(rows)
    batches = (
        task_data.collator([picked[row] for row in range(first, min(first + size, num))])
        for first in range(0, num, size)
    )
    # Labels may be a dictionary of tensors.
    return [dict(send_to_device(dict(batch), device)) for batch in batches]
