"""The uncertainty of a difference: a paired bootstrap over seeds and examples."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.random import Generator

from headcount.errors import PruningError

_BLOCK = 4_000_000
"""Counts drawn at a time, which bounds memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A mean and the interval in which the true one may be.

    Example:
        >>> Interval(mean=0.5, low=0.25, high=0.75).high
        0.75
    """

    mean: float
    """Mean of the data."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""


def paired_difference(
    one: Float[np.ndarray, "seeds examples"],
    other: Float[np.ndarray, "_ _"],
    *,
    generator: Generator,
    num_resamples: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """The mean of ``one - other``, with a percentile interval of the bootstrap.

    Each resample draws seeds with replacement, and examples with replacement. All seeds were
    measured on the same examples, so a resample uses the same examples for every seed it draws:
    more seeds do not make up for few examples. With d = one - other, and counts v of the seeds and
    w of the examples, a resample's mean is

        sum over s and e of v_s w_e d_se / (S E)

    Examples with equal differences in every seed are drawn together. The number of them in a
    resample is multinomial, so it makes no difference which of them are drawn.

    The interval is somewhat too wide where differences are pure noise from example to example. It
    is too narrow with few seeds: resamples of two or three seeds have only a few different means.

    Args:
        one: measurements; rows are seeds, columns are examples. If examples are not known, one
            column with the result of each seed.
        other: the same for the other arm: the same seeds and examples, [seeds, examples].
        generator: the source of randomness; the same state gives the same interval.
        num_resamples: the number of resamples.
        level: the share of resamples whose mean lies within the interval.

    Returns:
        Mean and interval. With one seed only examples vary, with one column only seeds.

    Raises:
        PruningError: the shapes differ or are empty, or a setting is out of range.

    Example:
        >>> right, wrong = np.ones((2, 50)), np.zeros((2, 50))
        >>> paired_difference(right, wrong, generator=np.random.default_rng(0))
        Interval(mean=1.0, low=1.0, high=1.0)

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapters 8 and 13; draws
        of both factors of a crossed design as in Owen 2007, arXiv 0712.1111.
    """
    if one.shape != other.shape or not one.size:
        raise PruningError(
            f"paired_difference: the shapes are {one.shape} and {other.shape}. Give two tables of "
            "the same seeds and examples, one of each at least."
        )
    if num_resamples < 1 or not 0 < level < 1:
        raise PruningError(
            f"paired_difference(num_resamples={num_resamples}, level={level}): give one resample "
            "or more, and a level between 0 and 1."
        )
    difference = one - other
    # Most examples have one of few differences (-1, 0, 1 for correctness), so drawing by patterns
    # is much faster than drawing thousands of examples.
    patterns, counts = _patterns(difference)
    means = np.concatenate(
        [*_resampled(patterns, counts, generator=generator, num_resamples=num_resamples)]
    )
    outside = (1 - level) / 2
    low, high = np.quantile(means, [outside, 1 - outside])
    return Interval(mean=float(difference.mean()), low=float(low), high=float(high))


def _patterns(
    difference: Float[np.ndarray, "seeds examples"],
) -> tuple[Float[np.ndarray, "seeds patterns"], Int[np.ndarray, " patterns"]]:
    """The distinct columns, and how often each occurs.

    They are ordered by their first example, so that swapping the two arms mirrors the interval: the
    same draws then fall on ``-difference``.
    """
    columns, first, counts = np.unique(difference, axis=1, return_index=True, return_counts=True)
    order = np.argsort(first)
    return columns[:, order], counts[order]


def _resampled(
    patterns: Float[np.ndarray, "seeds patterns"],
    counts: Int[np.ndarray, " patterns"],
    *,
    generator: Generator,
    num_resamples: int,
) -> Iterator[Float[np.ndarray, " block"]]:
    """The means of all resamples, block by block."""
    num_seeds, num_examples = len(patterns), int(counts.sum())
    evenly = np.full(num_seeds, 1 / num_seeds)
    block = max(1, _BLOCK // len(counts))
    for start in range(0, num_resamples, block):
        size = min(block, num_resamples - start)
        drawn_seeds = generator.multinomial(num_seeds, evenly, size)
        drawn = generator.multinomial(num_examples, counts / num_examples, size)
        sums = np.einsum("rs,sp,rp->r", drawn_seeds, patterns, drawn, optimize=True)
        yield sums / (num_seeds * num_examples)
