"""Answers of a model to a data set, in the order of the data."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import (
    EvalPrediction,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)


def predict(
    model: PreTrainedModel,
    dataset: Dataset,
    collator: Callable[[list[Any]], Any],
    args: TrainingArguments,
    *,
    reduce: Callable[[Any, Any], Any],
    sizes: Iterable[int],
) -> EvalPrediction:
    """Answers and labels. Rows of like sizes share a batch, which then needs little padding.

    Args:
        model: the model; it is moved to the device of ``args``.
        dataset: encoded rows.
        collator: makes a batch.
        args: batch size, precision and device; the Trainer may write into its folder.
        reduce: makes of a batch's (outputs, labels) what is kept.
        sizes: the size of each row.
    """
    # Another strategy of sampling would reorder evaluation data as well.
    plain = copy.copy(args)
    plain.train_sampling_strategy = "random"
    trainer = Trainer(
        model=model, args=plain, data_collator=collator, preprocess_logits_for_metrics=reduce
    )
    trainer.remove_callback(PrinterCallback)
    order = np.argsort([*sizes], kind="stable")
    found = trainer.predict(dataset.select(order))  # pyright: ignore[reportArgumentType]
    back = np.argsort(order)
    return EvalPrediction(
        predictions=_reordered(found.predictions, back), label_ids=_reordered(found.label_ids, back)
    )


def _reordered(values: Any, index: np.ndarray) -> Any:
    """The examples of an array, or of each array in a tuple, in another order."""
    if isinstance(values, tuple):
        return tuple(_reordered(value, index) for value in values)
    return None if values is None else values[index]
