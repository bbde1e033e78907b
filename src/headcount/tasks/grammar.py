"""A corpus of natural language inference made by a small grammar, with derived labels.

An example is ``All famous poodles are soaked. -> Some poodles are dry.`` Sentences have
quantifiers, hypernyms, modifiers and scales with opposites. Premise and hypothesis differ in
quantifier, and in at most one of noun, modifier and predicate. The label follows from the logic of
the claims (``syllogism``); no template contains it.

Pairs are drawn with weights (``balance``) such that neither the hypothesis alone nor the overlap of
the two predicts the label, as far as logic allows. The two quantifiers together predict about
three labels in four. To use them a model must attend from one sentence to the other, which a small
model learns in a few minutes. The nouns of test pairs, except the most general ones, do not occur
in training pairs.
"""

import csv
import io
import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from datasets import Dataset

from headcount.door.atomic import write_text
from headcount.errors import DataError
from headcount.tasks.balance import balance
from headcount.tasks.lexicon import (
    MODIFIERS,
    SCALES,
    TEST_FAMILIES,
    TRAIN_FAMILIES,
    Family,
    Scale,
)
from headcount.tasks.syllogism import Claim, Form, Label, claims, label

MAX_PAIRS = 100_000
"""Most pairs of one split. More exist, but drawing the rare ones would take long."""

_LABELS: tuple[Label, ...] = ("entailment", "neutral", "contradiction")
_SINGULAR: dict[Form, str] = {
    "every": "Every",
    "some": "At least one",
    "no": "No",
    "not every": "Not every",
}
_PLURAL: dict[Form, str] = {"every": "All", "some": "Some", "no": "No", "not every": "Not all"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pattern:
    """A pair of claims, its label, and its weight when pairs are drawn."""

    premise: Claim
    hypothesis: Claim
    label: Label
    weight: float


def generate(num_train: int, num_test: int, seed: int) -> tuple[Dataset, Dataset]:
    """Training and test pairs, balanced over the labels, without duplicates.

    Args:
        num_train: number of training pairs.
        num_test: number of test pairs.
        seed: the same seed gives the same training pairs whatever ``num_test`` is, and the same
            test pairs whatever ``num_train`` is.

    Returns:
        Two tables with columns premise, hypothesis and label.

    Raises:
        DataError: a number is not between 1 and ``MAX_PAIRS``.

    Example:
        >>> train, test = generate(num_train=600, num_test=90, seed=0)
        >>> train.column_names, len(train), len(test)
        (['premise', 'hypothesis', 'label'], 600, 90)
    """
    for name, number in (("num_train", num_train), ("num_test", num_test)):
        if not 1 <= number <= MAX_PAIRS:
            raise DataError(f"generate({name}={number}): give 1 to {MAX_PAIRS} pairs.")
    # A generator for each split, so that the size of one does not change the other.
    return (
        _draw(num_train, TRAIN_FAMILIES, random.Random(f"train {seed}")),
        _draw(num_test, TEST_FAMILIES, random.Random(f"test {seed}")),
    )


def write_corpus(folder: str | Path, num_train: int, num_test: int, seed: int) -> tuple[Path, Path]:
    """Generate pairs and write them as ``train.tsv`` and ``test.tsv``.

    Args:
        folder: the folder to write to; created if it does not exist.
        num_train: number of training pairs.
        num_test: number of test pairs.
        seed: see ``generate``.

    Returns:
        The two paths.

    Example:
        >>> import tempfile
        >>> train, test = write_corpus(tempfile.mkdtemp(), num_train=9, num_test=3, seed=0)
        >>> train.name, len(train.read_text().splitlines())
        ('train.tsv', 10)
    """
    folder = Path(folder)
    train, test = generate(num_train, num_test, seed)
    folder.mkdir(parents=True, exist_ok=True)
    return _write(train, folder / "train.tsv"), _write(test, folder / "test.tsv")


@lru_cache(maxsize=1)
def patterns() -> tuple[Pattern, ...]:
    """All pairs of claims that may be drawn, with weights whose sum is 1.

    The differences (noun, modifier, predicate, none) start with equal weights. Then the labels are
    balanced within each hypothesis, within each difference, and over all pairs.
    """
    everything = tuple(claims())
    pairs = [(p, h) for p in everything for h in everything if _is_pair(p, h)]
    labels: list[Label] = [label(premise, hypothesis) for premise, hypothesis in pairs]
    by_difference = _groups(pairs, _difference)
    # The last grouping is met exactly: overall, all labels are equally frequent.
    groupings = [
        _groups(pairs, lambda premise, hypothesis: hypothesis),
        by_difference,
        _groups(pairs, lambda premise, hypothesis: None),
    ]
    weights = balance(
        1 / np.bincount(by_difference)[by_difference],
        np.array([_LABELS.index(name) for name in labels]),
        groupings,
    )
    return tuple(
        Pattern(premise=premise, hypothesis=hypothesis, label=name, weight=float(weight))
        for (premise, hypothesis), name, weight in zip(pairs, labels, weights, strict=True)
    )


def _is_pair(premise: Claim, hypothesis: Claim) -> bool:
    """Whether two claims differ, and in at most one place besides the form.

    At least one noun must be below the top of its family: training and test share the tops, so that
    a pair of tops could be in both.
    """
    same_top = premise.noun == hypothesis.noun == "top"
    return premise != hypothesis and not same_top and len(_differences(premise, hypothesis)) <= 1


def _differences(premise: Claim, hypothesis: Claim) -> list[str]:
    places = {
        "noun": premise.noun != hypothesis.noun,
        "modifier": premise.modified != hypothesis.modified,
        "predicate": premise.predicate != hypothesis.predicate,
    }
    return [place for place, differs in places.items() if differs]


def _difference(premise: Claim, hypothesis: Claim) -> Hashable:
    return tuple(_differences(premise, hypothesis))


def _groups(
    pairs: Sequence[tuple[Claim, Claim]], key: Callable[[Claim, Claim], Hashable]
) -> np.ndarray:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key(*pair), len(numbers)) for pair in pairs])


def _draw(num_pairs: int, families: Sequence[Family], rng: random.Random) -> Dataset:
    by_label = {name: [p for p in patterns() if p.label == name] for name in _LABELS}
    weights = {name: [p.weight for p in by_label[name]] for name in _LABELS}
    # A dictionary, so that no pair comes twice. The labels take turns, so that each is as frequent.
    pairs: dict[tuple[str, str], Label] = {}
    while len(pairs) < num_pairs:
        name = _LABELS[len(pairs) % len(_LABELS)]
        (pattern,) = rng.choices(by_label[name], weights[name])
        pairs.setdefault(_say(pattern, rng.choice(families), rng), name)
    rows = [
        {"premise": premise, "hypothesis": hypothesis, "label": name}
        for (premise, hypothesis), name in pairs.items()
    ]
    rng.shuffle(rows)
    return Dataset.from_list(rows)


def _say(pattern: Pattern, family: Family, rng: random.Random) -> tuple[str, str]:
    scale, modifier = rng.choice(SCALES), rng.choice(MODIFIERS)
    say = rng.choice((_say_singular, _say_plural))
    premise = say(pattern.premise, family, scale, modifier)
    return premise, say(pattern.hypothesis, family, scale, modifier)


def _say_singular(claim: Claim, family: Family, scale: Scale, modifier: str) -> str:
    noun, predicate = family[claim.noun].singular, scale[claim.predicate].singular
    phrase = f"{modifier} {noun}" if claim.modified else noun
    return f"{_SINGULAR[claim.form]} {phrase} {predicate}."


def _say_plural(claim: Claim, family: Family, scale: Scale, modifier: str) -> str:
    noun, predicate = family[claim.noun].plural, scale[claim.predicate].plural
    phrase = f"{modifier} {noun}" if claim.modified else noun
    return f"{_PLURAL[claim.form]} {phrase} {predicate}."


def _write(table: Dataset, path: Path) -> Path:
    text = io.StringIO(newline="")
    writer = csv.writer(text, "excel-tab", lineterminator="\n", quoting=csv.QUOTE_NONE)
    writer.writerow(table.column_names)
    writer.writerows(zip(*(table[name] for name in table.column_names), strict=True))
    write_text(path, text.getvalue())
    return path
