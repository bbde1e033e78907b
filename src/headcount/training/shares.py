"""How the terms of a batch's loss are scaled to its part of an optimizer step.

With gradient accumulation a step has several batches, and their gradients are summed. So a mean
over a batch must be divided by the number of batches. The Trainer divides it, unless it expects a
loss that is scaled to the whole step already. Then the terms that are added here have to be divided
here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from transformers import Trainer

Count = Tensor | int | None
"""The number of labels in all batches of a step, over all processes; None if unknown."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Division:
    """The factors for the loss of one batch, and the count that the loss is told.

    Example:
        >>> Division(count=None, given=8, share=0.5, task_share=0.5).count
    """

    count: Count = None
    """The count for the Trainer; None makes the task's loss a mean over the batch."""
    given: Count = None
    """The count for a ``compute_loss_func``: it always gets the count, as from the Trainer."""
    share: float = 1.0
    """Factor for every other term that is a mean over the batch (teacher, penalty)."""
    task_share: float = 1.0
    """Factor for the task's loss."""

    @contextmanager
    def told(self, trainer: Trainer) -> Iterator[None]:
        """Give ``given`` to the Trainer's ``compute_loss_func`` inside the block, not ``count``."""
        func = trainer.compute_loss_func
        if func is None or self.count is self.given:
            yield
            return
        trainer.compute_loss_func = lambda *args, **kwargs: func(
            *args, **{**kwargs, "num_items_in_batch": self.given}
        )
        try:
            yield
        finally:
            trainer.compute_loss_func = func


@final
class Counting:
    """Whether the task's loss heeds the count of the whole step, as the Trainer assumes.

    A step may have several batches, in this process and in others. The Trainer hands the number of
    their labels to the model or to ``compute_loss_func``. It assumes that the loss is then a sum
    divided by that count. So it does not divide the loss by the number of batches, and it
    multiplies it by the number of processes, because gradients are averaged over these. But many
    classifiers return the mean over their batch, whatever the count. Such a loss would be too large
    by both numbers, so it is found out here by asking.

    Example:
        >>> Counting().heeds is None  # not asked yet
        True
    """

    def __init__(self) -> None:
        """Start without knowing the loss."""
        self.heeds: bool | None = None

    def division(self, trainer: Any, count: Count, ask: Callable[[Any], Tensor]) -> Division:
        """The scaling of the loss of a batch.

        Args:
            trainer: a Trainer within a training step.
            count: what the Trainer counted.
            ask: computes the loss of this batch for a count.
        """
        parts = getattr(trainer, "current_gradient_accumulation_steps", 1)
        if parts == 1 and trainer.accelerator.num_processes == 1:
            return Division(count=count, given=count)
        # ``is_part``: the Trainer takes the loss for a part of the step's and does not divide it.
        func = trainer.compute_loss_func is not None
        counted = count is not None and (trainer.model_accepts_loss_kwargs or func)
        said = getattr(trainer, "loss_is_scaled_for_ga", None)  # only in newer transformers
        is_part = said if said is not None else counted or func
        heeds = counted and (said is True or self._heeds(trainer, count, ask))
        # If the Trainer does not divide, we do. A loss that heeds the count is scaled already.
        share = 1 / parts if is_part else 1.0
        return Division(
            count=count if heeds else None,
            given=count,
            share=share,
            task_share=1.0 if heeds else share,
        )

    def _heeds(self, trainer: Any, count: Any, ask: Callable[[Any], Tensor]) -> bool:
        """Compute the loss with the count and with twice the count: does it change?"""
        known = self.heeds
        if known is None:
            one, other = ask(count), ask(2 * count)
            differ = not torch.allclose(one, other, rtol=1e-3)
            says = bool(one.isfinite()) and bool(other.isfinite()) and bool(one != 0)
            # All processes must agree, since each of them scales its own part of the same step.
            seen = torch.tensor([says, says and differ], device=trainer.args.device)
            says, differ = trainer.accelerator.gather(seen[None].int()).amax(0).bool().tolist()
            if not says:  # a batch without labels, say: ask again at the next
                return True
            self.heeds = known = bool(differ)
        return known
