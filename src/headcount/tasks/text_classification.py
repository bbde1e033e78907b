"""Classification of one or two texts: one label, several labels, or a number."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from datasets import ClassLabel, Dataset, List, Value
from datasets.fingerprint import generate_random_fingerprint
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    EvalPrediction,
    PreTrainedModel,
)

from headcount.checkpoints.loading import loading
from headcount.door.arguments import check_fields
from headcount.errors import DataError
from headcount.tasks.columns import LABELS, PAIRS, TEXTS, find_column, first_rows
from headcount.tasks.encoding import label_names_of, mapped, number_at, with_feature
from headcount.tasks.files import read_table, row_name
from headcount.tasks.heads import first_output, is_classifier, load_classifier
from headcount.tasks.label_names import (
    are_numbers_of,
    check_known,
    is_number,
    names_of,
    numbers_of,
)
from headcount.tasks.measures import correlations, label_measures, set_measures
from headcount.tasks.settings import FOUND, described
from headcount.tasks.task import Task

Problem = Literal["single-label", "multi-label", "regression"]
"""What a text gets: exactly one label, any number of labels, or a number."""

METRICS: dict[Problem, tuple[str, ...]] = {
    "single-label": ("accuracy", "f1", "matthews"),
    "multi-label": ("f1", "f1_macro", "exact"),
    "regression": ("spearman", "pearson"),
}
"""Problem -> its measures, the default first."""

_TYPES: dict[Problem, str] = {
    "single-label": "single_label_classification",
    "multi-label": "multi_label_classification",
    "regression": "regression",
}
"""Problem -> the name for it in configurations."""

HEAD = "ForSequenceClassification"
"""The end of the name of a class with the head of this task."""

logger = logging.getLogger("headcount")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextClassification(Task):
    """Labels or a number for one or two texts: sentiment, topics, paraphrase, similarity.

    What is left empty is found: columns by their usual names, and the problem from the model, if it
    is a classifier already, or from the labels. Lists are several labels, numbers with a decimal
    point are numbers, and everything else is one label for each text.

    Example:
        >>> TextClassification(text="review", label="stars", problem="regression").primary_metric
        'spearman'
    """

    name: ClassVar[str] = "text-classification"

    text: str = ""
    """The column of texts."""
    pair: str = ""
    """The column of second texts, such as hypotheses; the model reads both as one input."""
    label: str = ""
    """The column of labels or numbers."""
    problem: Problem | Literal[""] = ""
    """``single-label``, ``multi-label`` or ``regression``."""
    metric: str = ""
    """The measure by which models are compared. One label: ``accuracy``, ``f1`` (macro) or
    ``matthews``. Several: ``f1`` (micro), ``f1_macro`` or ``exact``. Numbers: ``spearman`` or
    ``pearson``. Empty takes the first."""
    names: tuple[str, ...] = field(default=(), metadata={FOUND: True})
    """The labels in the model's order; filled in when the data are read."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.problem and self.metric and self.metric not in METRICS[self.problem]:
            raise DataError(
                f"{type(self).__name__}(problem={self.problem!r}, metric={self.metric!r}): give "
                f"one of {', '.join(METRICS[self.problem])}."
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return tuple(name for name in (self.text, self.pair, self.label) if name)

    @property
    def primary_metric(self) -> str:
        """The measure by which models are compared, higher = better."""
        return self.metric or METRICS[self.problem or "single-label"][0]

    def describe(self) -> Mapping[str, Any]:
        """The settings that differ from their defaults."""
        return described(self)

    def settled(self, sources: Sequence[str | Path], model: str, *, split: str) -> Self:
        """The task with its columns and its problem found."""
        if self.text and self.label and self.problem:
            return self
        rows = first_rows(sources[0], split=split)
        names, call = list(rows[0]), f"{self.name}: {str(sources[0])!r}"
        text = find_column(names, self.text, TEXTS, call=call, what="text", needed=True)
        others = [name for name in names if name != text]
        label = find_column(others, self.label, LABELS, call=call, what="label", needed=True)
        rest = [name for name in others if name != label]
        pair = find_column(rest, self.pair, PAIRS, call=call, what="pair", needed=False)
        found = self.problem or _problem_of_model(model) or _problem_of(row[label] for row in rows)
        logger.info(
            "%s: %s, label %r (%s)",
            *(self.name, f"text {text!r}" + f" with {pair!r}" * bool(pair), label, found),
        )
        return replace(self, text=text, pair=pair, label=label, problem=found)

    def read(self, sources: Sequence[str | Path], *, split: str) -> Dataset:
        """Read texts and labels, in any file format that ``read_table`` knows."""
        lists = (self.label,) if self.problem == "multi-label" else ()
        return read_table(sources, self.columns, split=split, lists=lists)

    def encode(
        self,
        table: Dataset,
        processor: Any,
        *,
        max_length: int,
        split: str,
        labels: Sequence[str] | None = None,
    ) -> Dataset:
        """Tokenise the texts. If two are too long together, the longer one is cut first.

        Args:
            table: the columns of the task; strings, and lists of strings for several labels.
            processor: the model's tokenizer.
            max_length: longest input in tokens.
            split: the use of the data, named in messages.
            labels: labels in the model's order; None: those that occur, in order.

        Returns:
            The tokenizer's columns, and ``labels``: the number of the label, a list of numbers of
            labels, or the number to predict.

        Raises:
            DataError: a label is unknown, or no number.
        """
        golds = list(table[self.label])
        if self.problem == "regression":
            numbers: list[Any] = [self._number(table, row, gold) for row, gold in enumerate(golds)]
            return self._tokenised(table, numbers, Value("float32"), processor, max_length, split)
        several = self.problem == "multi-label"
        names = tuple(labels) if labels is not None else self._names(golds, split)
        known = numbers_of(names)
        each = golds if several else [[gold] for gold in golds]
        call = f"{self.name}(split={split!r})"
        check_known(each, names, call=call, place=partial(row_name, table))
        if not several:
            marks: list[Any] = [known[gold.casefold()] for gold in golds]
            feature: Any = ClassLabel(names=list(names))
            return self._tokenised(table, marks, feature, processor, max_length, split)
        marks = [sorted({known[gold.casefold()] for gold in own}) for own in golds]
        feature = List(ClassLabel(names=list(names)))
        return self._tokenised(table, marks, feature, processor, max_length, split)

    def _tokenised(
        self,
        table: Dataset,
        labels: list[Any],
        feature: Any,
        processor: Any,
        longest: int,
        split: str,
    ) -> Dataset:
        """The texts of a table as tokens, with a column ``labels``."""
        names = [name for name in (self.text, self.pair) if name]

        def tokenise(rows: dict[str, list[Any]]) -> dict[str, Any]:
            texts = (rows[name] for name in names)
            return dict(processor(*texts, truncation=True, max_length=longest))

        encoded = mapped(table, tokenise, split).add_column(
            "labels", labels, new_fingerprint=generate_random_fingerprint()
        )
        return with_feature(encoded, feature)

    def _number(self, table: Dataset, row: int, gold: str) -> float:
        otherwise = ", or problem='single-label' for labels"
        return number_at(table, row, self.label, gold, call=self.name, otherwise=otherwise)

    def _names(self, golds: Sequence[Any], split: str) -> tuple[str, ...]:
        """The labels that occur: numbers by their size, words by the alphabet."""
        return names_of(
            (name for own in golds for name in (own if isinstance(own, list) else [own])),
            call=f"{self.name}(split={split!r})",
            column=self.label,
            least=2 - (self.problem == "multi-label"),
            hint="If they are numbers, give problem='regression'; if this is",
        )

    def labels(self, dataset: Dataset) -> tuple[str, ...]:
        """The label names of an encoded data set, in the model's order; none for numbers."""
        return () if self.problem == "regression" else label_names_of(dataset)

    def in_order(self, labels: tuple[str, ...], order: Sequence[str]) -> tuple[str, ...]:
        """The labels in the order of the model; its names for labels that are written as numbers.

        A classifier whose labels are named reads the numbers 0, 1, ... as numbers of its labels.
        """
        return tuple(order) if are_numbers_of(labels, order) else Task.in_order(self, labels, order)

    def with_labels(self, labels: tuple[str, ...]) -> Self:
        """The task with its labels."""
        return replace(self, names=labels)

    def collator(self, processor: Any) -> Callable[[list[Any]], Any]:
        """Pads to the longest row; several labels become a 0 or 1 for each label, as floats."""
        padded = Task.collator(self, processor)
        if self.problem != "multi-label":
            return padded
        return partial(_with_marks, padded, len(self.names))

    def load_model(self, name_or_path: str | Path, labels: Sequence[str]) -> PreTrainedModel:
        """A pretrained model with a classifier over the labels, or with one output for a number.

        Args:
            name_or_path: a folder, or a model of the hub, which is downloaded.
            labels: the labels in order, as ``labels(train)`` returns them.

        Raises:
            DataError: the model has a trained classifier for another number of labels.
        """
        return load_classifier(
            AutoModelForSequenceClassification,
            name_or_path,
            labels or ("LABEL_0",),
            HEAD,
            problem_type=_TYPES[self.problem or "single-label"],
        )

    def metrics(self, eval_prediction: EvalPrediction) -> dict[str, float]:
        """The measures of the problem; see ``metric``.

        Example:
            >>> logits, golds = np.array([[0.0, 1.0], [2.0, 1.0]]), np.array([1, 1])
            >>> task = TextClassification(problem="single-label")
            >>> task.metrics(EvalPrediction(predictions=logits, label_ids=golds))["accuracy"]
            0.5
        """
        answers = np.asarray(first_output(eval_prediction.predictions))
        golds = np.asarray(eval_prediction.label_ids)
        if self.problem == "regression":
            return correlations(answers.reshape(-1), golds.reshape(-1))
        if self.problem == "multi-label":
            return set_measures(answers > 0, golds > 0.5)
        return label_measures(answers.argmax(-1), golds)

    def predicted(self, eval_prediction: EvalPrediction) -> np.ndarray | None:
        """The number of each row's greatest logit; None unless each text has one label."""
        if self.problem in ("multi-label", "regression"):
            return None
        return np.argmax(np.asarray(first_output(eval_prediction.predictions)), axis=-1)

    def correct(self, eval_prediction: EvalPrediction) -> np.ndarray | None:
        """Whether each text is right; None if the primary metric is no share of right texts."""
        if self.primary_metric == "accuracy":
            return self.predicted(eval_prediction) == eval_prediction.label_ids
        if self.primary_metric == "exact":
            answers = np.asarray(first_output(eval_prediction.predictions))
            return ((answers > 0) == (np.asarray(eval_prediction.label_ids) > 0.5)).all(-1)
        return None


def _with_marks(padded: Callable[[list[Any]], Any], num_labels: int, rows: list[Any]) -> Any:
    # Floats, because the loss is a binary cross-entropy of them.
    marks = torch.zeros(len(rows), num_labels)
    for number, row in enumerate(rows):
        marks[number, row["labels"]] = 1.0
    rest = [{name: value for name, value in row.items() if name != "labels"} for row in rows]
    batch = padded(rest)
    batch["labels"] = marks
    return batch


def _problem_of_model(model: str) -> Problem | Literal[""]:
    """The problem that a classifier was trained on; empty for a model without a classifier."""
    with loading(model):
        config = AutoConfig.from_pretrained(model, trust_remote_code=False)
    if not is_classifier(config, HEAD):
        return ""
    for problem, kind in _TYPES.items():
        if config.problem_type == kind:
            return problem
    return "regression" if config.num_labels == 1 else ""


def _problem_of(values: Iterable[Any]) -> Problem:
    """The problem that some labels, as they are stored, belong to."""
    labels = [value for value in values if value is not None]
    if any(isinstance(value, list) for value in labels):
        return "multi-label"
    texts = [str(value) for value in labels]
    numbers = all(map(is_number, texts))
    return "regression" if numbers and any("." in text for text in texts) else "single-label"
