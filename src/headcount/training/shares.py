"""What a Trainer does to the loss of a batch, so that all parts of it come to the same step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from transformers import Trainer

Count = Tensor | int | None
"""How many labels the batches of a step have together, over all processes."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Division:
    """How the loss of one batch comes to its part of a step.

    Example:
        >>> Division(count=None, given=8, share=0.5, task_share=0.5).count
    """

    count: Count = None
    """What the Trainer is told; with None it takes the task's loss for a mean over the batch."""
    given: Count = None
    """What a ``compute_loss_func`` is told: it always hears of the count that there is."""
    share: float = 1.0
    """What the mean of anything over the batch has to be multiplied by."""
    task_share: float = 1.0
    """What the task's loss has to be multiplied by."""

    @contextmanager
    def told(self, trainer: Trainer) -> Iterator[None]:
        """A ``compute_loss_func`` that is told the count, even where the Trainer is not."""
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
    """Whether the task's loss heeds the count of the whole step, which the Trainer relies on.

    A step may be made of several batches, in this process and in others. The Trainer then hands
    the number of their labels to the model or to ``compute_loss_func``, and takes what comes back
    for a part of the step's loss: it does not divide it by the number of batches, and multiplies
    it by that of the processes, over which gradients are averaged. But many classifiers give the
    mean over their batch, whatever count they are told. Theirs would weigh as many times too much.

    Example:
        >>> Counting().heeds is None  # not asked yet
        True
    """

    def __init__(self) -> None:
        """Nothing is known of the loss yet."""
        self.heeds: bool | None = None

    def division(self, trainer: Any, count: Count, ask: Callable[[Any], Tensor]) -> Division:
        """What has to be done to the loss of a batch.

        Args:
            trainer: in a step of its training.
            count: what the Trainer counted.
            ask: the loss of this batch for a count.
        """
        parts = getattr(trainer, "current_gradient_accumulation_steps", 1)
        if parts == 1 and trainer.accelerator.num_processes == 1:
            return Division(count=count, given=count)
        func = trainer.compute_loss_func is not None
        counted = count is not None and (trainer.model_accepts_loss_kwargs or func)
        said = getattr(trainer, "loss_is_scaled_for_ga", None)  # newer versions alone ask
        is_part = said if said is not None else counted or func
        heeds = counted and (said is True or self._heeds(trainer, count, ask))
        share = 1 / parts if is_part else 1.0
        return Division(
            count=count if heeds else None,
            given=count,
            share=share,
            task_share=1.0 if heeds else share,
        )

    def _heeds(self, trainer: Any, count: Any, ask: Callable[[Any], Tensor]) -> bool:
        """Ask with the count and with twice as many, in all processes; half the loss is to come."""
        known = self.heeds
        if known is None:
            one, other = ask(count), ask(2 * count)
            differ = not torch.allclose(one, other, rtol=1e-3)
            says = bool(one.isfinite()) and bool(other.isfinite()) and bool(one != 0)
            seen = torch.tensor([says, says and differ], device=trainer.args.device)
            says, differ = trainer.accelerator.gather(seen[None].int()).amax(0).bool().tolist()
            if not says:  # a batch without labels, say
                return True
            self.heeds = known = bool(differ)
        return known
