"""Weights under which a single feature does not predict the label."""

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
    """Weights with sum 1 such that within each group all labels have the same total weight.

    Iterative proportional fitting: for one grouping after the other, the weights w of group g and
    label y are multiplied by

        (sum of w in g / number of labels in g) / sum of w in g and y

    A label that does not occur in a group gets no weight there. If the groupings contradict each
    other, the last one is met exactly and the others nearly.

    Args:
        weights: the weights to start from, positive.
        labels: label of each item, from 0.
        groupings: for each grouping the group of each item, from 0; one may be by hypothesis.
        num_rounds: the number of passes through all groupings.

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
    """The factor of each item's weight for one grouping."""
    num_labels = int(labels.max()) + 1
    # One number for each pair of group and label, so that one bincount sums them all.
    cells = groups * num_labels + labels
    mass = np.bincount(cells, weights, (groups.max() + 1) * num_labels).reshape(-1, num_labels)
    num_present = (mass > 0).sum(axis=1)
    target = mass.sum(axis=1) / np.maximum(num_present, 1)
    return target[groups] / mass[groups, labels]
