"""Labels as data write them: which there are, in which order, and which a model does not know."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from headcount.errors import DataError
from headcount.tasks.bounds import shown
from headcount.tasks.heads import unnamed

MOST_LABELS = 1000
"""More labels than this are taken for a mistake."""


def names_of(
    golds: Iterable[str], *, call: str, column: str, least: int = 2, hint: str = "If this is"
) -> tuple[str, ...]:
    """The labels that occur: numbers by their size, words by the alphabet.

    Args:
        golds: the label of each example, or all labels of all examples.
        call: beginning of every message.
        column: where the labels stand.
        least: the least number of different labels.
        hint: what to do about too many labels, before "the wrong column".

    Raises:
        DataError: there are too few or too many, or two that differ in capitals alone.

    Example:
        >>> names_of(["10", "9", "10"], call="", column="stars")
        ('9', '10')
    """
    found = {*golds}
    if len(found) < least:
        raise DataError(
            f"{call}: the only label in column {column!r} is {shown(sorted(found))}. Give "
            "examples of two labels or more."
        )
    if len(found) > MOST_LABELS:
        raise DataError(
            f"{call}: column {column!r} has {len(found)} different labels; at most {MOST_LABELS} "
            f"are taken. {hint} the wrong column, name the right one as label."
        )
    lower = Counter(name.casefold() for name in found)
    twice = [name for name in sorted(found) if lower[name.casefold()] > 1]
    if twice:
        raise DataError(
            f"{call}: the labels {shown(twice)} differ in capitals alone. Write them alike."
        )
    return tuple(sorted(found, key=_by_size))


def check_known(
    each: Sequence[Sequence[str]], names: Sequence[str], *, call: str, place: Callable[[int], str]
) -> None:
    """Refuse a label that is none of the model's.

    Args:
        each: the labels of each example.
        names: the labels in the model's order.
        call: beginning of the message.
        place: number of an example -> where it stands.

    Raises:
        DataError: there is no such label; the message says where it stands.

    Example:
        >>> check_known([["bad"], ["Good"]], ("bad", "good"), call="", place=str)
    """
    known = numbers_of(names)
    for row, golds in enumerate(each):
        for gold in golds:
            if gold.casefold() not in known:
                raise DataError(
                    f"{call}: {place(row)} has the label {shown(gold)}, which the training data "
                    f"or the model do not have; they have {shown(list(names), 400)}. Give "
                    "training data with it, or leave these rows out."
                )


def numbers_of(names: Sequence[str]) -> dict[str, int]:
    """Label, without capitals -> its number. If all labels are words, their numbers do as well.

    Example:
        >>> numbers_of(("Bad", "good"))
        {'0': 0, '1': 1, 'bad': 0, 'good': 1}
    """
    own = {name.casefold(): number for number, name in enumerate(names)}
    # Where a label is a number itself, another number is no label: 0 among stars 1 to 5 is wrong.
    if any(is_number(name) for name in names):
        return own
    return {str(number): number for number in range(len(names))} | own


def are_numbers_of(labels: Sequence[str], order: Sequence[str]) -> bool:
    """Whether labels are the numbers 0, 1, ... of a classifier whose labels are named.

    Example:
        >>> are_numbers_of(("0", "1"), ("bad", "good")), are_numbers_of(("1", "2"), ("bad", "good"))
        (True, False)
    """
    named = len(labels) > 1 and not unnamed(order)
    return named and all(name.isdecimal() and int(name) < len(order) for name in labels)


def is_number(text: str) -> bool:
    """Whether a label is a number, such as ``4``, ``-1.5`` or ``1e3``.

    Example:
        >>> is_number("1e3"), is_number("one")
        (True, False)
    """
    return re.fullmatch(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", text) is not None


def _by_size(name: str) -> tuple[int, float, str]:
    return (0, float(name), "") if is_number(name) else (1, 0.0, name)
