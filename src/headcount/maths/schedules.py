"""Schedules: a number as a function of the step."""


def log_linear(step: int, *, start: float, end: float, num_steps: int) -> float:
    r"""A value whose logarithm falls (or rises) linearly, then stays.

    ``log v = log start + min(step / num_steps, 1) (log end - log start)``

    Args:
        step: steps done, 0 or more.
        start: value at step 0, positive.
        end: value from step ``num_steps`` on, positive.
        num_steps: steps the way takes; 0 starts at ``end``.

    Returns:
        The value at ``step``.

    Example:
        >>> [log_linear(step, start=100.0, end=1.0, num_steps=2) for step in (0, 1, 2, 9)]
        [100.0, 10.0, 1.0, 1.0]

    Source: Li, Cotterell, Sachan 2021, arXiv 2108.04657 (annealing of the temperature).
    """
    if step >= num_steps:
        return end
    return start * (end / start) ** (step / num_steps)
