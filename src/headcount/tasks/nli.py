"""Natural language inference: does the premise entail the hypothesis?"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from datasets import ClassLabel, Dataset
from datasets.fingerprint import generate_random_fingerprint
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    EvalPrediction,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from headcount.errors import DataError
from headcount.tasks.bounds import shown
from headcount.tasks.files import place_of, read_table
from headcount.tasks.rows import MissingColumnError
from headcount.tasks.task import Task

THREE_WAY = ("entailment", "neutral", "contradiction")
"""Labels of SNLI and MultiNLI, in the hub's order: 0, 1, 2."""
TWO_WAY = ("entailment", "not_entailment")
"""Labels of RTE, QNLI and SciTail."""

# Files write labels as words or as SNLI's numbers.
_NUMBERS = {str(number): name for number, name in enumerate(THREE_WAY)}
_SPELLINGS = dict(_NUMBERS)
_SPELLINGS |= {name: name for name in (*THREE_WAY, *TWO_WAY)}
_UNLABELLED = ("-", "-1")

_logger = logging.getLogger("headcount")


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class NLI(Task):
    """Natural language inference on columns ``premise``, ``hypothesis`` and ``label``.

    The labels are ``entailment``, ``neutral`` and ``contradiction``, or ``entailment`` and
    ``not_entailment``. The first three may be written as 0, 1 and 2 if all three occur. Rows
    without a gold label (``-`` or -1) are skipped, and their number is logged.

    Example:
        >>> task = NLI()
        >>> task.columns, task.primary_metric
        (('premise', 'hypothesis', 'label'), 'accuracy')
    """

    name: ClassVar[str] = "nli"
    columns: ClassVar[tuple[str, ...]] = ("premise", "hypothesis", "label")
    primary_metric: ClassVar[str] = "accuracy"

    def read(self, sources: Sequence[str | Path], *, split: str) -> Dataset:
        """Read pairs of sentences with labels, in any file format that ``read_table`` knows."""
        try:
            return read_table(sources, self.columns, split=split)
        except MissingColumnError as error:
            raise DataError(
                f"{error} That is, if these are pairs for natural language inference; pairs of "
                "another task, such as paraphrases or questions with answers, cannot be trained "
                f"as {self.name!r}."
            ) from error

    def encode(
        self,
        table: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int,
        split: str,
        labels: Sequence[str] | None = None,
    ) -> Dataset:
        """Tokenise both sentences as one input. If it is too long, the longer one is cut first.

        Args:
            table: columns premise, hypothesis and label, all strings.
            tokenizer: the model's tokenizer.
            max_length: longest input in tokens.
            split: the use of the data, named in messages.
            labels: labels in the model's order; None: those that occur, in canonical order.

        Returns:
            ``input_ids``, ``attention_mask``, ``token_type_ids`` if the tokenizer makes them, and
            ``labels``, a ``ClassLabel`` with the names.

        Raises:
            DataError: a label is unknown, or the model does not have it.
        """
        rows, spelt = _labelled(table, split=split)
        golds = [_SPELLINGS[label] for label in spelt]
        if labels is None:
            names = _label_set(golds, spelt, split=split)
        else:
            names = tuple(labels)
            _check_known(table, rows, spelt, names, split=split)
        table = table.select(rows) if len(rows) < len(table) else table

        def tokenise(rows: dict[str, list[Any]]) -> dict[str, Any]:
            encoding = tokenizer(
                rows["premise"], rows["hypothesis"], truncation=True, max_length=max_length
            )
            return dict(encoding)

        # Without an explicit fingerprint, datasets hashes the function and everything it refers
        # to. That takes long and swallows Ctrl-C.
        encoded = table.map(
            tokenise,
            batched=True,
            remove_columns=table.column_names,
            desc=f"tokenising {split}",
            new_fingerprint=generate_random_fingerprint(),
        )
        numbers = [names.index(gold) for gold in golds]
        return encoded.add_column(
            "labels", numbers, new_fingerprint=generate_random_fingerprint()
        ).cast_column("labels", ClassLabel(names=list(names)))

    def labels(self, dataset: Dataset) -> tuple[str, ...]:
        """The label names of an encoded data set, in the model's order."""
        feature = dataset.features.get("labels")
        if not isinstance(feature, ClassLabel):
            raise DataError(
                f"labels({dataset.column_names}): there is no column 'labels' with label names. "
                "Give a data set made by dataset() or encode()."
            )
        return tuple(feature.names)

    def load_model(self, name_or_path: str | Path, labels: Sequence[str]) -> PreTrainedModel:
        """A pretrained model with a classifier over the labels.

        Args:
            name_or_path: a folder, or a model of the hub, which is downloaded.
            labels: the labels in order, as ``labels(train)`` returns them.

        Raises:
            DataError: the model has a trained classifier for another number of labels.
        """
        config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False)
        _check_head(config, labels, name_or_path)
        return AutoModelForSequenceClassification.from_pretrained(
            name_or_path,
            trust_remote_code=False,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: number for number, label in enumerate(labels)},
        )

    def metrics(self, eval_prediction: EvalPrediction) -> dict[str, float]:
        """Accuracy: the share of rows whose greatest logit is the gold label's.

        Example:
            >>> logits, golds = np.array([[0.0, 1.0], [2.0, 1.0]]), np.array([1, 1])
            >>> NLI().metrics(EvalPrediction(predictions=logits, label_ids=golds))
            {'accuracy': 0.5}
        """
        return {"accuracy": float(np.mean(self.correct(eval_prediction)))}

    def correct(self, eval_prediction: EvalPrediction) -> np.ndarray:
        """Whether the greatest logit of each row is the gold label's.

        Example:
            >>> logits, golds = np.array([[0.0, 1.0], [2.0, 1.0]]), np.array([1, 1])
            >>> NLI().correct(EvalPrediction(predictions=logits, label_ids=golds)).tolist()
            [True, False]
        """
        return self.predicted(eval_prediction) == eval_prediction.label_ids

    def predicted(self, eval_prediction: EvalPrediction) -> np.ndarray:
        """The number of each row's greatest logit.

        Example:
            >>> logits = np.array([[0.0, 1.0], [2.0, 1.0]])
            >>> NLI().predicted(EvalPrediction(predictions=logits, label_ids=logits)).tolist()
            [1, 0]
        """
        outputs = eval_prediction.predictions
        # Models that also return hidden states return a tuple, logits first.
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        return np.argmax(logits, axis=-1)


def _labelled(table: Dataset, *, split: str) -> tuple[list[int], list[str]]:
    """The numbers of the rows with a gold label, and these labels as the file spells them."""
    spelt = list(table["label"])
    known = {*_SPELLINGS, *_UNLABELLED}
    wrong = [row for row, label in enumerate(spelt) if label not in known]
    if wrong:
        raise DataError(
            f"NLI(split={split!r}): {len({spelt[row] for row in wrong})} unknown labels: "
            f"{_counted(table, wrong, [spelt[row] for row in wrong])}. Allowed are "
            f"{', '.join(THREE_WAY)} (or 0, 1, 2), or {', '.join(TWO_WAY)}; '-' or -1 for none."
        )
    rows = [number for number, label in enumerate(spelt) if label not in _UNLABELLED]
    if not rows:
        raise DataError(
            f"NLI(split={split!r}): none of the {len(spelt)} rows has a gold label. Give labelled "
            "rows."
        )
    if len(rows) < len(spelt):
        num_dropped = len(spelt) - len(rows)
        _logger.warning("%s: left out %d of %d rows: no gold label", split, num_dropped, len(spelt))
    return rows, [spelt[row] for row in rows]


def _counted(table: Dataset, rows: Sequence[int], labels: Sequence[str]) -> str:
    """The most frequent labels in words: number of rows, and place of the first one."""
    # Built backwards, so that the first row of a label overwrites later ones.
    first = {label: row for row, label in zip(reversed(rows), reversed(labels), strict=True)}
    parts = []
    for label, count in Counter(labels).most_common(10):
        place = place_of(table, first[label])
        name = _SPELLINGS.get(label, label)
        meant = "" if name == label else f", that is {name}"
        at = f", the first at {place}" if place else ""
        parts.append(f"{shown(label)}{meant} ({count} rows{at})")
    return ", ".join(parts)


def _label_set(golds: Sequence[str], spelt: Sequence[str], *, split: str) -> tuple[str, ...]:
    """The labels that occur, in canonical order."""
    # Two numbers fit three-way inference as well as other tasks. Guessing would train on wrong
    # labels without a sign of it.
    found = set(golds)
    if _are_of_another_task(spelt):
        raise DataError(
            f"NLI(split={split!r}): the labels are {' and '.join(sorted(set(spelt)))} alone. "
            "Numbers are read as in SNLI, 0 entailment, 1 neutral, 2 contradiction, and there all "
            "three occur. Pairs with two numbers come from another task (such as RTE, QNLI, MRPC, "
            "QQP), in which they mean something else. Write the labels out: entailment and "
            "not_entailment, if that is what they mean; pairs of sentences for anything else than "
            "inference cannot be trained as 'nli'."
        )
    for allowed in (THREE_WAY, TWO_WAY):
        if found <= set(allowed) and len(found) > 1:
            return tuple(label for label in allowed if label in found)
    raise DataError(
        f"NLI(split={split!r}): the labels are {sorted(found)}. Give two or more of "
        f"{THREE_WAY}, or both of {TWO_WAY}."
    )


def _are_of_another_task(spelt: Sequence[str]) -> bool:
    """Whether the labels are two of the numbers 0, 1, 2.

    Three-way inference would have all three. Two numbers are usually a two-way task, in which 0 and
    1 mean something else.
    """
    found = set(spelt)
    return 1 < len(found) < len(THREE_WAY) and found < set(_NUMBERS)


def _in_order(spelt: Sequence[str]) -> list[str]:
    return [_SPELLINGS[label] for label in sorted(set(spelt))]


def _check_known(
    table: Dataset, rows: Sequence[int], spelt: Sequence[str], names: Sequence[str], *, split: str
) -> None:
    strange = [n for n, label in enumerate(spelt) if _SPELLINGS[label] not in names]
    if strange:
        listed = _counted(table, [rows[n] for n in strange], [spelt[n] for n in strange])
        raise DataError(
            f"NLI(split={split!r}): the training data do not have the labels {listed}; they have "
            f"{tuple(names)}. Give training data with them, or leave these rows out."
        )
    if _are_of_another_task(spelt):
        _logger.warning(
            "%s: the labels are %s alone, read as %s; if these are pairs of another task, what is "
            "measured means nothing",
            *(split, " and ".join(sorted(set(spelt))), " and ".join(_in_order(spelt))),
        )


def _check_head(config: PreTrainedConfig, labels: Sequence[str], source: str | Path) -> None:
    """Refuse a model with a trained classifier for another number of labels.

    Another order of the labels only gets a warning: training may correct it.
    """
    architectures = config.architectures or []
    if not any(name.endswith("ForSequenceClassification") for name in architectures):
        return
    numbered = sorted((int(number), name) for number, name in (config.id2label or {}).items())
    own = tuple(name.lower() for _, name in numbered)
    if len(own) != len(labels):
        raise DataError(
            f"load_model({str(source)!r}, {tuple(labels)}): the model classifies into {own}. Give "
            f"data with {len(own)} labels, or a model without classifier."
        )
    if set(own) == set(labels) and own != tuple(labels):
        _logger.warning(
            "%s: its classifier has the label order %s, the data have %s: train it, or give "
            "dataset(labels=) its order",
            *(source, own, tuple(labels)),
        )
