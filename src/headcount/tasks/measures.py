"""Measures of quality that several tasks share."""

from functools import partial
from typing import Any

import numpy as np
from scipy import stats
from seqeval import metrics as entities
from seqeval.scheme import IOB2, IOBES
from sklearn import metrics

# A label that is never predicted has an F1 of 0, without a warning.
_f1: Any = partial(metrics.f1_score, zero_division=0)  # pyright: ignore[reportArgumentType]


def label_measures(predicted: np.ndarray, golds: np.ndarray) -> dict[str, float]:
    """Accuracy, macro F1 and Matthews' correlation of one label for each example.

    Args:
        predicted: numbers of labels, [E].
        golds: the right ones, [E].

    Example:
        >>> label_measures(np.array([0, 1, 1]), np.array([0, 1, 0]))["matthews"]
        0.5
    """
    return {
        "accuracy": float(np.mean(predicted == golds)),
        "f1": float(_f1(golds, predicted, average="macro")),
        "matthews": float(metrics.matthews_corrcoef(golds, predicted)),
    }


def set_measures(predicted: np.ndarray, golds: np.ndarray) -> dict[str, float]:
    """Micro and macro F1 of several labels for each example, and the share of exact sets.

    Args:
        predicted: whether each label is given, [E, C].
        golds: whether it is right, [E, C].

    Example:
        >>> set_measures(np.array([[True, False]]), np.array([[True, True]]))["exact"]
        0.0
    """
    return {
        "f1": float(_f1(golds, predicted, average="micro")),
        "f1_macro": float(_f1(golds, predicted, average="macro")),
        "exact": float(np.mean((predicted == golds).all(-1))),
    }


def correlations(predicted: np.ndarray, golds: np.ndarray) -> dict[str, float]:
    """Spearman's and Pearson's correlation of numbers; 0 if all numbers of one side are equal.

    Args:
        predicted: the numbers, [E].
        golds: the right ones, [E].

    Example:
        >>> correlations(np.array([1.0, 2.0, 9.0]), np.array([1.0, 2.0, 3.0]))["spearman"]
        1.0
    """
    # A constant has no correlation with anything; as a measure, it tells nothing about the golds.
    if np.ptp(predicted) == 0 or np.ptp(golds) == 0:
        return {"spearman": 0.0, "pearson": 0.0}
    both: tuple[Any, Any] = (stats.spearmanr(predicted, golds), stats.pearsonr(predicted, golds))
    spearman, pearson = both
    return {
        "spearman": float(spearman[0]),
        "pearson": float(pearson[0]),
    }


def entity_measures(predicted: list[list[str]], golds: list[list[str]]) -> dict[str, float]:
    """F1, precision and recall of whole entities: right if both limits and the kind are.

    Args:
        predicted: tags such as B-PER, I-PER and O, for each token of each sentence.
        golds: the right ones.

    Example:
        >>> entity_measures([["B-PER", "O"]], [["B-PER", "I-PER"]])["entity_f1"]
        0.0
    """
    given: dict[str, Any] = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
    prefixes = {tag[:1] for tags in golds for tag in tags}
    if prefixes & {"E", "S"}:
        given["scheme"] = IOBES
    # It may return lists, one number for each kind of entity, but not with these settings.
    measures: dict[str, Any] = {
        "entity_f1": entities.f1_score,
        "entity_precision": entities.precision_score,
        "entity_recall": entities.recall_score,
    }
    return {name: float(of(golds, predicted, **given)) for name, of in measures.items()}
