"""What tasks with labels share: encoding rows, and reading the names of labels back."""

import math
from collections.abc import Callable
from typing import Any

from datasets import ClassLabel, Dataset, Features
from datasets.fingerprint import generate_random_fingerprint

from headcount.errors import DataError
from headcount.tasks.bounds import shown
from headcount.tasks.files import row_name


def mapped(table: Dataset, function: Callable[[dict[str, list[Any]]], Any], split: str) -> Dataset:
    """Replace the columns of a table by those that a function makes of a batch of its rows.

    Args:
        table: the table.
        function: column -> cells of some rows, to column -> new cells of these rows.
        split: the use of the data, named in the progress bar.
    """
    # Without an explicit fingerprint, datasets hashes the function and everything it refers to.
    # That takes long and swallows Ctrl-C.
    return table.map(
        function,
        batched=True,
        remove_columns=table.column_names,
        desc=f"tokenising {split}",
        new_fingerprint=generate_random_fingerprint(),
    )


def number_at(
    table: Dataset, row: int, column: str, text: str, *, call: str, otherwise: str = ""
) -> float:
    """The number that a cell holds.

    Args:
        table: the table.
        row: number of the row, from 0.
        column: name of the column.
        text: the cell.
        call: beginning of the message.
        otherwise: what else may be done, for the end of the message.

    Raises:
        DataError: it is no finite number.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"{call}: {row_name(table, row)} has {shown(text)} as {column!r}. Give a finite "
            f"number{otherwise}."
        )
    return number


def with_feature(dataset: Dataset, feature: Any) -> Dataset:
    """The data set with another type for its column ``labels``."""
    return dataset.cast(Features({**dataset.features, "labels": feature}))


def label_names_of(dataset: Dataset) -> tuple[str, ...]:
    """The names of labels in an encoded data set, in the model's order.

    Raises:
        DataError: the column ``labels`` has no names.

    Example:
        >>> label_names_of(Dataset.from_dict({"labels": [1.5]}))
        Traceback (most recent call last):
            ...
        headcount.errors.DataError: labels(['labels']): there is no column 'labels' with label ...
    """
    feature = dataset.features.get("labels")
    feature = getattr(feature, "feature", feature)  # of a list, that of its members
    if not isinstance(feature, ClassLabel):
        raise DataError(
            f"labels({dataset.column_names}): there is no column 'labels' with label names. "
            "Give a data set made by dataset() or encode()."
        )
    return tuple(feature.names)
