"""Natural language inference: does the premise entail the hypothesis?"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, final

from datasets import ClassLabel, Dataset

from headcount.errors import DataError
from headcount.tasks.bounds import shown
from headcount.tasks.files import place_of, read_table
from headcount.tasks.rows import MissingColumnError
from headcount.tasks.task import Task
from headcount.tasks.text_classification import TextClassification

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
class NLI(TextClassification):
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

    text: str = "premise"
    """The column of premises."""
    pair: str = "hypothesis"
    """The column of hypotheses."""
    label: str = "label"
    """The column of labels."""
    problem: Literal["single-label"] = "single-label"
    """One label for each pair."""

    def settled(self, sources: Sequence[str | Path], model: str, *, split: str) -> Self:
        """The task itself: nothing has to be found."""
        return self

    def read(self, sources: Sequence[str | Path], *, split: str) -> Dataset:
        """Read pairs of sentences with labels, in any file format that ``read_table`` knows."""
        try:
            return read_table(sources, self.columns, split=split)
        except MissingColumnError as error:
            raise DataError(
                f"{error} That is, if these are pairs for natural language inference; pairs of "
                "another task, such as paraphrases or questions with answers, are data for "
                "'text-classification'."
            ) from error

    def encode(
        self,
        table: Dataset,
        processor: Any,
        *,
        max_length: int,
        split: str,
        labels: Sequence[str] | None = None,
    ) -> Dataset:
        """Tokenise both sentences as one input. If it is too long, the longer one is cut first.

        Args:
            table: columns premise, hypothesis and label, all strings.
            processor: the model's tokenizer.
            max_length: longest input in tokens.
            split: the use of the data, named in messages.
            labels: labels in the model's order; None: those that occur, in canonical order.

        Returns:
            ``input_ids``, ``attention_mask``, ``token_type_ids`` if the tokenizer makes them, and
            ``labels``, a ``ClassLabel`` with the names.

        Raises:
            DataError: a label is unknown, or the model does not have it.
        """
        rows, spelt = _labelled(table, self.label, split=split)
        golds = [_SPELLINGS[label] for label in spelt]
        if labels is None:
            names = _label_set(golds, spelt, split=split)
        else:
            names = tuple(label.lower() for label in labels)
            _check_known(table, rows, spelt, names, split=split)
        table = table.select(rows) if len(rows) < len(table) else table
        numbers = [names.index(gold) for gold in golds]
        feature = ClassLabel(names=list(names))
        return self._tokenised(table, numbers, feature, processor, max_length, split)

    def in_order(self, labels: tuple[str, ...], order: Sequence[str]) -> tuple[str, ...]:
        """The labels in the order of the model, if it has the same ones."""
        return Task.in_order(self, labels, order)


def _labelled(table: Dataset, column: str, *, split: str) -> tuple[list[int], list[str]]:
    """The numbers of the rows with a gold label, and these labels as the file spells them."""
    spelt = list(table[column])
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
            "inference are data for 'text-classification'."
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
