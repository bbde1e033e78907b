"""What every task is: how its data are read, which model head it needs, how it is measured."""

import abc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from datasets import Dataset
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase

from headcount.errors import DataError


class Task(abc.ABC):
    """Data, collator, model head and metric of one task.

    ``dataset`` reads and tokenises; ``labels`` are what the training data name and what the model
    is made with; the loss is the model's own. A new task is one file with a subclass, and a line
    in ``headcount.tasks.TASKS``.
    """

    __slots__ = ()

    name: ClassVar[str]
    """Short name, as on the command line."""
    columns: ClassVar[tuple[str, ...]]
    """Columns a table needs."""
    primary_metric: ClassVar[str]
    """The key of ``metrics`` that counts, higher = better."""

    @final
    def dataset(
        self,
        sources: Sequence[str | Path],
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int,
        split: str,
        labels: Sequence[str] | None = None,
    ) -> Dataset:
        """Read and tokenise.

        Args:
            sources: files, or data sets of the hub; see ``read``.
            tokenizer: that of the model.
            max_length: longest input, in tokens; longer ones are cut.
            split: ``train``, ``validation`` or ``test``: for hub data sets and for messages.
            labels: the labels in the model's order, ``labels(train)`` for evaluation data; None
                for training data, which determine them.

        Returns:
            What the model takes, with a column ``labels``.

        Raises:
            DataError: data the task cannot use, or a length the tokenizer does not allow.
        """
        _check_max_length(tokenizer, max_length)
        table = self.read(sources, split=split)
        return self.encode(table, tokenizer, max_length=max_length, split=split, labels=labels)

    @final
    def load(
        self,
        train: Sequence[str | Path],
        evaluation: Sequence[str | Path],
        *,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        order: Sequence[str] = (),
    ) -> tuple[tuple[str, ...], Dataset, Dataset]:
        """The labels of the training data, the training data and the evaluation data.

        The labels come in ``order`` where it names the same ones: that of a model which is a
        classifier already.
        """
        train_set = self.dataset(train, tokenizer, max_length=max_length, split="train")
        labels = self.labels(train_set)
        if set(order) == set(labels) and tuple(order) != labels:
            labels = tuple(order)
            train_set = self.dataset(
                train, tokenizer, max_length=max_length, split="train", labels=labels
            )
        eval_set = self.dataset(
            evaluation, tokenizer, max_length=max_length, split="validation", labels=labels
        )
        return labels, train_set, eval_set

    @abc.abstractmethod
    def read(self, sources: Sequence[str | Path], *, split: str) -> Dataset:
        """The rows of all sources, as text."""

    @abc.abstractmethod
    def encode(
        self,
        table: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int,
        split: str,
        labels: Sequence[str] | None = None,
    ) -> Dataset:
        """Rows as ``read`` gives them -> what the model takes; arguments as for ``dataset``."""

    @abc.abstractmethod
    def labels(self, dataset: Dataset) -> tuple[str, ...]:
        """The labels of an encoded data set, in the model's order; none for generation."""

    @abc.abstractmethod
    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[list[Any]], Any]:
        """What makes a batch of encoded rows."""

    @abc.abstractmethod
    def load_model(self, name_or_path: str | Path, labels: Sequence[str]) -> PreTrainedModel:
        """A pretrained model with the task's head."""

    @abc.abstractmethod
    def metrics(self, eval_prediction: EvalPrediction) -> dict[str, float]:
        """Measures of quality, for the Trainer's ``compute_metrics``."""

    def predicted(self, eval_prediction: EvalPrediction) -> np.ndarray | None:
        """The number of the label that each example is given, [E]; None where there are none."""
        del eval_prediction
        return None

    def correct(self, eval_prediction: EvalPrediction) -> np.ndarray | None:
        """Whether each example is right, [E], where the primary metric is the share of these.

        None where quality is no such share: then examples cannot be compared one by one.
        """
        del eval_prediction
        return None


def _check_max_length(tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
    lowest, highest = tokenizer.num_special_tokens_to_add(pair=True) + 2, tokenizer.model_max_length
    if max_length < lowest:
        raise DataError(
            f"dataset(max_length={max_length}): special tokens leave no room for text. Give "
            f"{lowest} or more."
        )
    if max_length > highest:
        raise DataError(
            f"dataset(max_length={max_length}): the model reads at most {highest} tokens. Give "
            f"{lowest} to {highest}."
        )
