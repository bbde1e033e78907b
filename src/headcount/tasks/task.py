"""The interface of a task: reading its data, loading its task head, measuring predictions."""

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, final

import numpy as np
from datasets import Dataset
from torch import Tensor
from transformers import (
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    TrainingArguments,
)

from headcount.errors import DataError
from headcount.reports.measure import example_batch
from headcount.tasks.files import read_table
from headcount.tasks.predict import predict
from headcount.tasks.processors import check_length, load_tokenizer

LossFunction = Callable[..., Tensor]
"""A loss of ``(outputs, labels, num_items_in_batch=None)``, as the Trainer takes it."""


class Task(abc.ABC):
    """Data, collator, task head and metric of one task. See the page "Your own task".

    A subclass turns a table of text into the model's inputs (``encode``), lists the labels, loads a
    model with the task's head, and measures predictions. The rest has defaults for text: files are
    read by their columns, the processor is the model's tokenizer, and a batch is padded to its
    longest row. The loss is the model's own.

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
    teaches: ClassVar[Literal["examples", "tokens", "nothing"]] = "examples"
    """What a teacher's answers are compared for (``distil``): one label for each whole example,
    one for each token that has a label, or nothing, where the loss is of a teacher already."""
    is_trained: ClassVar[bool] = False
    """Whether each model of the task is trained already, as where nothing is learnt but to do as
    the dense model does. The dense run then measures the model as it is."""

    @property
    @abc.abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Columns that a table must have; a class attribute is enough."""

    @property
    @abc.abstractmethod
    def primary_metric(self) -> str:
        """Key of ``metrics`` for comparing models; a class attribute is enough."""

    @property
    def greater_is_better(self) -> bool:
        """Whether more of the primary metric is better; False for perplexity or an error rate."""
        return True

    def loss_function(self) -> LossFunction | None:
        """The loss, where it is not the model's own: ``(outputs, labels, num_items_in_batch)``.

        It is the Trainer's ``compute_loss_func``: ``labels`` is what a batch has under this name,
        and the model is not shown it. A mean over the batch, if it does not heed the number of
        items. By default None.
        """
        return None

    def settled(self, sources: Sequence[str | Path], model: str, *, split: str) -> Self:
        """The task with all settings filled in that it can find in its data or in the model.

        Called before anything else: for the training data, and then for the evaluation data, or
        for these alone where nothing is trained. By default the task itself.

        Args:
            sources: the data.
            model: hub id or folder of the model; it is the dense one if there are training data.
            split: ``train`` or ``validation``.

        Raises:
            DataError: a setting cannot be found; the message says how to give it.
        """
        return self

    def load_processor(self, model: str) -> Any:
        """What makes inputs out of data: by default the model's tokenizer.

        Raises:
            CheckpointError: there is no such model, or it has none.
        """
        return load_tokenizer(model)

    def check_model(self, model: str, max_length: int) -> None:
        """Refuse a model that cannot read the data, before these are read.

        By default a model without positions for ``max_length`` tokens.

        Raises:
            DataError: says why.
        """
        check_length(model, max_length)

    @final
    def dataset(
        self,
        sources: Sequence[str | Path],
        processor: Any,
        *,
        max_length: int,
        split: str,
        labels: Sequence[str] | None = None,
    ) -> Dataset:
        """Read and encode data.

        Args:
            sources: files, or data sets of the hub; see ``read``.
            processor: what ``load_processor`` returns, such as the model's tokenizer.
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
        self.check_processor(processor, max_length)
        table = self.read(sources, split=split)
        return self.encode(table, processor, max_length=max_length, split=split, labels=labels)

    @final
    def load(
        self,
        train: Sequence[str | Path],
        evaluation: Sequence[str | Path],
        *,
        processor: Any,
        max_length: int,
        order: Sequence[str] = (),
    ) -> tuple[tuple[str, ...], Dataset, Dataset]:
        """Labels, training data and evaluation data.

        ``order`` has the labels in the model's configuration. If they are those of the training
        data, the labels get this order, which a model that is already a classifier has.
        """
        # The training data determine the labels, so they are read once to learn them, and again if
        # their numbers have to follow another order.
        train_set = self.dataset(train, processor, max_length=max_length, split="train")
        found = self.labels(train_set)
        labels = self.in_order(found, order)
        if labels != found:
            train_set = self.dataset(
                train, processor, max_length=max_length, split="train", labels=labels
            )
        eval_set = self.dataset(
            evaluation, processor, max_length=max_length, split="validation", labels=labels
        )
        return labels, train_set, eval_set

    def in_order(self, labels: tuple[str, ...], order: Sequence[str]) -> tuple[str, ...]:
        """The labels of the training data, in the order of the model if it has the same ones.

        Args:
            labels: the labels of the training data.
            order: the labels in the model's configuration. Capitals make no difference.
        """
        known = {label.casefold(): label for label in labels}
        names = [name.casefold() for name in order]
        same = len(known) == len(labels) and sorted(names) == sorted(known)
        return tuple(known[name] for name in names) if same else labels

    def check_processor(self, processor: Any, max_length: int) -> None:
        """Refuse a longest input that the tokenizer does not allow.

        Raises:
            DataError: special tokens leave no room, or the model reads fewer tokens.
        """
        lowest = processor.num_special_tokens_to_add(pair=True) + 2
        highest = processor.model_max_length
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
        processor: Any,
        *,
        max_length: int,
        split: str,
        labels: Sequence[str] | None = None,
    ) -> Dataset:
        """The model's inputs for the rows that ``read`` returns; arguments as for ``dataset``."""

    @abc.abstractmethod
    def labels(self, dataset: Dataset) -> tuple[str, ...]:
        """The labels of an encoded data set in the model's order; empty for tasks without."""

    def with_labels(self, labels: tuple[str, ...]) -> Self:
        """The task once its labels are known; by default the task itself.

        Called after the data are read, before ``collator`` and ``metrics``.

        Args:
            labels: the labels in the model's order.
        """
        return self

    def collator(self, processor: Any) -> Callable[[list[Any]], Any]:
        """The function that makes a batch of encoded rows, by default padded to the longest.

        Raises:
            DataError: the tokenizer has no padding token.
        """
        if processor.pad_token is None:
            raise DataError(
                f"collator({type(processor).__name__}): the tokenizer has no padding token. Set "
                "one, for instance tokenizer.pad_token = tokenizer.eos_token."
            )
        return DataCollatorWithPadding(processor)

    @abc.abstractmethod
    def load_model(self, name_or_path: str | Path, labels: Sequence[str]) -> PreTrainedModel:
        """A pretrained model with the task head."""

    @abc.abstractmethod
    def metrics(self, eval_prediction: EvalPrediction) -> dict[str, float]:
        """Measures of quality, for the Trainer's ``compute_metrics``."""

    def predict(
        self,
        model: PreTrainedModel,
        dataset: Dataset,
        collator: Callable[[list[Any]], Any],
        args: TrainingArguments,
    ) -> EvalPrediction:
        """The model's answers to encoded data, in the order of the data.

        Args:
            model: the model; it is moved to the device of ``args``.
            dataset: the data, as ``dataset`` returns them.
            collator: makes a batch.
            args: batch size, precision and device.
        """
        return predict(
            model, dataset, collator, args, reduce=self.reduce, sizes=self.sizes(dataset)
        )

    def reduce(self, outputs: Any, labels: Any) -> Any:
        """What ``metrics`` needs of the outputs for a batch; by default the outputs themselves.

        A model with large outputs, such as logits over a vocabulary for every token, would fill the
        memory if all of them were kept.
        """
        return outputs

    def sizes(self, dataset: Dataset) -> Iterable[int]:
        """The size of each row: rows of like sizes share a batch, in training and in predictions.

        By default the number of tokens; 1 for all rows without tokens, such as images.
        """
        if "input_ids" not in dataset.column_names:
            return [1] * len(dataset)
        return (len(ids) for ids in dataset["input_ids"])

    def predicted(self, eval_prediction: EvalPrediction) -> np.ndarray | None:
        """The index of the predicted label of each example, [E]; None for tasks without labels."""
        return None

    def correct(self, eval_prediction: EvalPrediction) -> np.ndarray | None:
        """Whether each example is predicted correctly, [E].

        None if the primary metric is not the share of correct examples: then two models cannot be
        compared example by example.
        """
        return None

    def describe(self) -> Mapping[str, Any]:
        """The settings that differ from their defaults, as plain values; by default none.

        A resumed run, and a later call of a comparison, must have the same.
        """
        return {}

    def example(
        self, model: PreTrainedModel, processor: Any, *, batch: int, length: int
    ) -> dict[str, Tensor]:
        """Inputs with which latency and MACs are measured; by default token ids without padding.

        Args:
            model: the model.
            processor: what ``load_processor`` returns.
            batch: number of examples.
            length: tokens of an example, for inputs that have tokens.

        Raises:
            BudgetError: the model does not read such inputs.
        """
        return example_batch(model, batch, length)
