"""Evenly spaced choices from a row."""


def evenly_spaced(num: int, num_keep: int) -> tuple[int, ...]:
    """K places in a row of L, evenly spaced from the first to the last.

    Place ``i`` is ``i (L - 1) / (K - 1)``, rounded to the nearest, halves up. Both ends are among
    them, and any two gaps differ by at most one. A single place is the first.

    Args:
        num: L, the length of the row.
        num_keep: K, at most L.

    Returns:
        K different places, ascending.

    Example:
        >>> evenly_spaced(12, 6), evenly_spaced(12, 1), evenly_spaced(12, 0)
        ((0, 2, 4, 7, 9, 11), (0,), ())
    """
    gaps = max(num_keep - 1, 1)
    # In integers: (2 a + b) // (2 b) is a / b rounded, halves up, without rounding errors.
    return tuple((2 * i * (num - 1) + gaps) // (2 * gaps) for i in range(num_keep))
