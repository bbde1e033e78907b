"""Shares of a whole, exactly as they are meant."""

import math
from fractions import Fraction

SIMPLE = 1_000_000
"""Shares with a denominator up to this are told apart by floats, with much to spare."""


def exactly(share: float) -> Fraction:
    """The number that is meant by a float: a simple fraction, or the decimals it is written as.

    A float is the binary number nearest to what is meant, a little above or below it.

    Example:
        >>> exactly(0.58), exactly(5 / 12)
        (Fraction(29, 50), Fraction(5, 12))
        >>> 0.58 * 25, exactly(0.58) * 25
        (14.499999999999998, Fraction(29, 2))
    """
    simple = Fraction(share).limit_denominator(SIMPLE)
    return simple if float(simple) == share else Fraction(repr(float(share)))


def halves_up(number: Fraction | float) -> int:
    """The nearest whole number; of two, the greater.

    Example:
        >>> halves_up(exactly(0.58) * 25), halves_up(Fraction(-5, 2))
        (15, -2)
    """
    return math.floor(number + Fraction(1, 2))
