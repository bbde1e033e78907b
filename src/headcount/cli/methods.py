"""The methods by their names on the command line."""

from headcount.errors import BudgetError
from headcount.methods.dsp import DSP
from headcount.methods.estimators import Annealing, RelaxedTopK
from headcount.methods.fisher import Fisher
from headcount.methods.magnitude import Magnitude
from headcount.methods.method import Method
from headcount.methods.random import Random

PAPER = RelaxedTopK(annealing=Annealing(start=1000.0, end=1e-8))
METHODS: dict[str, Method] = {
    "dsp": DSP(),
    "dsp-constant": DSP(shrinking=None),  # the paper's straight-through baseline
    "dsp-pipelined": DSP(training="pipelined"),
    "dsp-relaxed": DSP(estimator=RelaxedTopK()),
    "dsp-relaxed-constant": DSP(estimator=PAPER, shrinking=None),  # the paper's joint
    "dsp-relaxed-pipelined": DSP(estimator=RelaxedTopK(), training="pipelined"),
    "fisher": Fisher(),
    "fisher-diagonal": Fisher(order="diagonal"),
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
