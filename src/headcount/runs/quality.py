"""Measure a model's quality on the evaluation data, as a whole and for each example."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from headcount.runs.data import TaskData
from headcount.runs.recipe import Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """The result of an evaluation.

    Example:
        >>> Quality(value=0.5, correct="10").correct
        '10'
    """

    value: float
    """The task's primary metric."""
    correct: str | None
    """For each example ``1`` if it is right, else ``0``, in the order of the data; None if the
    metric is not the share of right examples."""
    only_class: str | None = None
    """The label predicted for every example, if it is the same for all."""


def quality(model: PreTrainedModel, task_data: TaskData, recipe: Recipe, scratch: Path) -> Quality:
    """Measure a model on the evaluation data.

    Args:
        model: the model; it is moved to the device that the recipe trains on.
        task_data: the data.
        recipe: batch size and device.
        scratch: a folder for the Trainer's own files.
    """
    task = task_data.task
    args = recipe.for_measuring().arguments(scratch)
    prediction = task.predict(model, task_data.eval, task_data.collator, args)
    correct = task.correct(prediction)
    return Quality(
        value=float(task.metrics(prediction)[task.primary_metric]),
        correct=None if correct is None else "".join("01"[int(right)] for right in correct),
        only_class=_only_class(task.predicted(prediction), model),
    )


def _only_class(predicted: np.ndarray | None, model: PreTrainedModel) -> str | None:
    """The label of all examples if there is only one: such a model cannot tell them apart."""
    if predicted is None or len(predicted) < 2 or len(np.unique(predicted)) > 1:
        return None
    number = str(int(predicted[0]))
    names = {str(key): name for key, name in (model.config.id2label or {}).items()}
    return str(names.get(number, number))
