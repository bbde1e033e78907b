"""Evenly spaced choices from a row."""


def evenly_spaced(num: int, num_keep: int) -> tuple[int, ...]:
    """Places in a row of ``num``, spread from the first to the last.

    Place ``i`` of K in a row of L is ``i (L - 1) / (K - 1)``, rounded, halves up. So both ends are
    in, and any two gaps differ by at most one. A single one is the first.

    Args:
        num: L, the length of the row.
        num_keep: K, how many; at most L.

    Returns:
        K different places, rising.

    Example:
        >>> evenly_spaced(12, 6), evenly_spaced(12, 1), evenly_spaced(12, 0)
        ((0, 2, 4, 7, 9, 11), (0,), ())
    """
    gaps = max(num_keep - 1, 1)
    return tuple((2 * i * (num - 1) + gaps) // (2 * gaps) for i in range(num_keep))
