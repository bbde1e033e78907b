"""Gradients of the loss with respect to the gates, as evidence."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from headcount.errors import TrainingError
from headcount.evidence.collector import Collector, When

IGNORED = -100
"""The label that losses ignore."""


@final
class GateGrads(Collector):
    """The gradient of each example's loss with respect to each unit's gate, [B, N].

    One backward pass gives all of them, because every example has its own gates.

    Example:
        >>> GateGrads.field, GateGrads.when
        ('gate_grads', 'each batch')
    """

    field: ClassVar[str] = "gate_grads"
    when: ClassVar[When] = "each batch"

    @staticmethod
    def take(
        model: nn.Module,
        batch: Mapping[str, Any],
        gates: Tensor,
        *,
        held: Callable[[Tensor], AbstractContextManager[None]],
        call: str,
        place: str,
        loss: Callable[..., Tensor] | None = None,
    ) -> Tensor:
        """The gradients of one batch.

        Args:
            model: the model, gated; in evaluation mode.
            batch: keyword arguments of the model, with labels.
            gates: the gates at which the gradient is taken, [N].
            held: a context in which the model has the given gates.
            call: the call, for messages.
            place: the batch, for messages, such as ``batch 3``.
            loss: the loss of (outputs, labels), a mean over the batch; None for the model's own.

        Raises:
            TrainingError: the model gives no loss, or a number is not finite.
        """
        size = num_examples(batch, call)
        device = next(model.parameters()).device
        own = gates.detach().to(device).expand(size, -1).clone().requires_grad_()
        with held(own), torch.enable_grad():
            outputs = model(**(without_labels(batch) if loss is not None else batch))
            found = (
                getattr(outputs, "loss", None) if loss is None else loss(outputs, batch["labels"])
            )
            if found is None:
                raise TrainingError(
                    f"{call}: {type(model).__name__} gives no loss for a batch of "
                    f"{sorted(batch)}. Give batches with labels, and a model with the task's head; "
                    "or give loss, a function of (outputs, labels)."
                )
            check_finite(batch, found, call, f"the loss of {place}")
            # The loss is the mean over the batch, so a gradient with respect to one example's gates
            # is 1 / size of that example's own.
            (grads,) = torch.autograd.grad(found * size, own)
        check_finite(batch, grads, call, f"a gradient of {place}")
        return grads


def without_labels(batch: Mapping[str, Any]) -> dict[str, Any]:
    """A batch without its labels, for a model that is not shown them.

    Example:
        >>> without_labels({"input_ids": 1, "labels": 2})
        {'input_ids': 1}
    """
    return {name: value for name, value in batch.items() if name != "labels"}


def check_finite(batch: Mapping[str, Any], values: Tensor, call: str, what: str) -> None:
    """Refuse numbers that are not finite: all scores would be alike, and the first units stay.

    Raises:
        TrainingError: a number is not finite; the message says what to do.
    """
    if values.isfinite().all():
        return
    labels = batch.get("labels")
    if isinstance(labels, Tensor) and bool((labels == IGNORED).all()):
        do = f"All of its labels are {IGNORED}, which the loss ignores: leave the batch out"
    else:
        do = "Look at its inputs and labels, or give the model in float32 if it is in half"
    raise TrainingError(f"{call}: {what} is not a finite number. {do}.")


def num_examples(batch: Mapping[str, Any], call: str) -> int:
    """The number of examples: the first dimension of labels or tokens, else of any input.

    Labels and tokens are asked first, since some vision models have all patches of a batch in one
    dimension.

    Raises:
        TrainingError: no tensor of the batch has a first dimension.

    Example:
        >>> num_examples({"labels": torch.tensor([0, 1])}, "decide")
        2
    """
    tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
    sizes = {name: len(value) for name, value in tensors.items() if value.ndim}
    if not sizes:
        only = f"numbers for {sorted(tensors)}" if tensors else str(sorted(batch))
        raise TrainingError(
            f"{call}: a batch has no tensor with examples, only {only}. Give batches as "
            "the model takes them, with labels."
        )
    named = (sizes[name] for name in ("labels", "input_ids") if name in sizes)
    return next(named, next(iter(sizes.values())))
