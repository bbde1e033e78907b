"""The interface of a task: reading its data, loading its task head, measuring predictions."""

import abc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from datasets import Dataset
from transformers import (
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from headcount.errors import DataError
from headcount.tasks.files import read_table


class Task(abc.ABC):
    """Data, collator, task head and metric of one task. See the page "Your own task".

    A subclass turns a table of text into the model's inputs (``encode``), lists the labels, loads a
    model with the task's head, and measures predictions. The rest has defaults: files are read by
    their columns, and a batch is padded to its longest row. The loss is the model's own.

    ``prune`` and ``evaluate`` take an instance in place of a task's name. To give a task a name on
    the command line, add it to ``headcount.tasks.TASKS``.

    Example:
        >>> from headcount.tasks import TASKS
        >>> TASKS["nli"].columns
        ('premise', 'hypothesis', 'label')
    """

    __slots__ = ()

    name: ClassVar[str]
    """Short name, as on the command line."""
    columns: ClassVar[tuple[str, ...]]
    """Columns that a table must have."""
    primary_metric: ClassVar[str]
    """Key of ``metrics`` for comparing models, higher = better."""

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
        """Read and tokenise data.

        Args:
            sources: files, or data sets of the hub; see ``read``.
            tokenizer: the model's tokenizer.
            max_length: longest input in tokens; longer ones are truncated.
            split: ``train``, ``validation`` or ``test``. It selects the split of hub data sets and
                is named in messages.
            labels: the labels in the model's order. For evaluation data ``labels(train)``; for
                training data None: they determine the labels.

        Returns:
            The columns that the model takes, and a column ``labels``.

        Raises:
            DataError: the task cannot use the data, or the tokenizer does not allow the length.
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
        """Labels, training data and evaluation data.

        If ``order`` has the same labels as the training data, the labels get this order. Give it
        for a model that is already a classifier: its outputs have this order.
        """
        # The training data determine the labels, so they are read once to learn them, and again if
        # their numbers have to follow another order.
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

    def read(self, sources: Sequence[str | Path], *, split: str) -> Dataset:
        """Read the ``columns`` of all sources as text. A subclass may read otherwise.

        Args:
            sources: files (tsv, csv, jsonl, parquet; gzip too), or data sets of the hub.
            split: ``train``, ``validation`` or ``test``.

        Raises:
            DataError: a source cannot be read, or lacks a column.
        """
        return read_table(sources, self.columns, split=split)

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
        """Tokenise the rows that ``read`` returns; arguments as for ``dataset``."""

    @abc.abstractmethod
    def labels(self, dataset: Dataset) -> tuple[str, ...]:
        """The labels of an encoded data set in the model's order; empty for generation."""

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[list[Any]], Any]:
        """The function that makes a batch of encoded rows, by default padded to the longest.

        Raises:
            DataError: the tokenizer has no padding token.
        """
        if tokenizer.pad_token is None:
            raise DataError(
                f"collator({type(tokenizer).__name__}): the tokenizer has no padding token. Set "
                "one, for instance tokenizer.pad_token = tokenizer.eos_token."
            )
        return DataCollatorWithPadding(tokenizer)

    @abc.abstractmethod
    def load_model(self, name_or_path: str | Path, labels: Sequence[str]) -> PreTrainedModel:
        """A pretrained model with the task head."""

    @abc.abstractmethod
    def metrics(self, eval_prediction: EvalPrediction) -> dict[str, float]:
        """Measures of quality, for the Trainer's ``compute_metrics``."""

    def predicted(self, eval_prediction: EvalPrediction) -> np.ndarray | None:
        """The index of the predicted label of each example, [E]; None for tasks without labels."""
        return None

    def correct(self, eval_prediction: EvalPrediction) -> np.ndarray | None:
        """Whether each example is predicted correctly, [E].

        None if the primary metric is not the share of correct examples: then two models cannot be
        compared example by example.
        """
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
