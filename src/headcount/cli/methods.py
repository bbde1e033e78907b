"""The methods by their names on the command line."""

from headcount.errors import BudgetError
from headcount.methods.dsp import DSP
from headcount.methods.estimators import StraightThrough
from headcount.methods.magnitude import Magnitude
from headcount.methods.method import Method
from headcount.methods.random import Random

METHODS: dict[str, Method] = {
    "dsp": DSP(),
    "dsp-pipelined": DSP(training="pipelined"),
    "straight-through": DSP(estimator=StraightThrough()),
    "straight-through-pipelined": DSP(estimator=StraightThrough(), training="pipelined"),
    "magnitude": Magnitude(),
    "random": Random(),
}


def method_of(name: str) -> Method:
    """The method of a name.

    Raises:
        BudgetError: there is no such method.

    Example:
        >>> method_of("random")
        Random(seed=None)
    """
    if name not in METHODS:
        raise BudgetError(f"--method {name!r}: give one of {', '.join(METHODS)}.")
    return METHODS[name]
