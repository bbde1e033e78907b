"""Weights under which single features do not tell the label."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int


def balance(
    weights: Float[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    groupings: Sequence[Int[np.ndarray, " n"]],
    *,
    num_rounds: int = 60,
) -> Float[np.ndarray, " n"]:
    """Weights of sum 1 such that, within each group, all labels weigh the same.

    Iterative proportional fitting: for one grouping after the other, the weights w of each group
    g and label y are multiplied by

        (sum of w in g / number of labels in g) / sum of w in g and y

    A label that does not occur in a group stays out of it. Where groupings cannot all be met, the
    last one is, and the others nearly.

    Args:
        weights: where to start from, positive.
        labels: label of each item, from 0.
        groupings: group of each item, from 0; for instance one grouping by hypothesis.
        num_rounds: how often to go through all groupings.

    Example:
        >>> balance(np.ones(3), np.array([0, 0, 1]), [np.zeros(3, int)])
        array([0.25, 0.25, 0.5 ])

    Source: Deming and Stephan, 1940, "On a Least Squares Adjustment of a Sampled Frequency Table".
    """
    for _ in range(num_rounds):
        for groups in groupings:
            weights = weights * _factors(weights, labels, groups)
    return weights / weights.sum()


def _factors(
    weights: Float[np.ndarray, " n"], labels: Int[np.ndarray, " n"], groups: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    num_labels = int(labels.max()) + 1
    cells = groups * num_labels + labels
    mass = np.bincount(cells, weights, (groups.max() + 1) * num_labels).reshape(-1, num_labels)
    num_present = (mass > 0).sum(axis=1)
    target = mass.sum(axis=1) / np.maximum(num_present, 1)
    return target[groups] / mass[groups, labels]
