"""Fractions given as floats, read as the exact numbers that are meant."""

import math
from fractions import Fraction

SIMPLE = 1_000_000
"""Fractions with denominators up to this differ by 1e-12 or more, which floats tell apart."""


def exactly(share: float) -> Fraction:
    """The number that a float stands for: a simple fraction, or the decimals it is printed as.

    A float is the binary number nearest to the number that is meant, so it is slightly off.

    Example:
        >>> exactly(0.58), exactly(5 / 12)
        (Fraction(29, 50), Fraction(5, 12))
        >>> 0.58 * 25, exactly(0.58) * 25
        (14.499999999999998, Fraction(29, 2))
    """
    simple = Fraction(share).limit_denominator(SIMPLE)
    return simple if float(simple) == share else Fraction(repr(float(share)))


def halves_up(number: Fraction | float) -> int:
    """The nearest whole number; halves are rounded up.

    Example:
        >>> halves_up(exactly(0.58) * 25), halves_up(Fraction(-5, 2))
        (15, -2)
    """
    return math.floor(number + Fraction(1, 2))
