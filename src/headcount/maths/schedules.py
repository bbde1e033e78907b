"""Schedules: numbers that depend on the training step."""

import math


def log_linear(step: int, *, start: float, end: float, num_steps: int) -> float:
    r"""A value whose logarithm changes linearly, and then stays.

    ``log v = log start + min(step / num_steps, 1) (log end - log start)``

    Args:
        step: steps done, 0 or more.
        start: value at step 0, positive.
        end: value from step ``num_steps`` on, positive.
        num_steps: steps from ``start`` to ``end``; 0 begins at ``end``.

    Returns:
        The value at ``step``.

    Example:
        >>> [log_linear(step, start=100.0, end=1.0, num_steps=2) for step in (0, 1, 2, 9)]
        [100.0, 10.0, 1.0, 1.0]

    Source: Li, Cotterell, Sachan 2021, arXiv 2108.04657 (annealing of the temperature).
    """
    # Exactly ``end`` from there on, without rounding; also avoids 0 / 0 for no steps.
    if step >= num_steps:
        return end
    return start * (end / start) ** (step / num_steps)


def rising(step: int, *, end: float, num_steps: int) -> float:
    r"""A value that rises linearly from zero, then stays: ``v = min(step / num_steps, 1) end``.

    Args:
        step: steps done, 0 or more.
        end: value from step ``num_steps`` on.
        num_steps: steps from zero to ``end``; 0 begins at ``end``.

    Returns:
        The value at ``step``.

    Example:
        >>> [rising(step, end=0.5, num_steps=2) for step in (0, 1, 2, 9)]
        [0.0, 0.25, 0.5, 0.5]

    Source: Xia, Zhong, Chen 2022, arXiv 2204.00408 (the target sparsity).
    """
    return end if step >= num_steps else end * step / num_steps


def falling_count(step: int, *, start: int, end: int, first: int, last: int, power: float) -> int:
    r"""A count that stays, then falls, ever more slowly if ``power`` exceeds 1, then stays.

    ``k = end + round((start - end) (1 - (step - first) / (last - first)) ** power)`` between
    ``first`` and ``last``, halves rounded up.

    Args:
        step: steps done, 0 or more.
        start: count up to step ``first``.
        end: count from step ``last`` on.
        first: step at which the fall begins.
        last: step at which the fall ends.
        power: 1 falls evenly; 3 is the cubic schedule.

    Returns:
        The count at ``step``, between ``start`` and ``end``.

    Example:
        >>> [falling_count(i, start=9, end=1, first=1, last=3, power=3.0) for i in (0, 1, 2, 3, 4)]
        [9, 9, 2, 1, 1]

    Source: Zhu and Gupta 2017, arXiv 1710.01878, equation 1 (power 3).
    """
    if step >= last:
        return end
    if step <= first:
        return start
    left = 1 - (step - first) / (last - first)
    # floor(x + 0.5) rounds halves up; Python's round would take them to the even number.
    return end + math.floor((start - end) * left**power + 0.5)
