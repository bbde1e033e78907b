"""The methods, by name on the command line."""

from headcount.errors import BudgetError
from headcount.methods.dsp import DSP
from headcount.methods.estimators import Annealing, RelaxedTopK, StraightThrough
from headcount.methods.fisher import Fisher
from headcount.methods.gradient import GradientImportance
from headcount.methods.hard_concrete import HardConcrete
from headcount.methods.layer_drop import LayerDrop
from headcount.methods.magnitude import Magnitude
from headcount.methods.method import Method
from headcount.methods.pressure import L0Penalty
from headcount.methods.random import Random
from headcount.methods.sizes import Sampling

PAPER = RelaxedTopK(annealing=Annealing(start=1000.0, end=1e-8))
METHODS: dict[str, Method] = {
    "dsp": DSP(),
    "dsp-pipelined": DSP(training="pipelined"),
    "dsp-relaxed": DSP(estimator=RelaxedTopK()),
    "dsp-relaxed-constant": DSP(estimator=PAPER, shrinking=None),  # the paper's joint
    "dsp-relaxed-pipelined": DSP(estimator=RelaxedTopK(), training="pipelined"),
    "dsp-sampled": DSP(shrinking=Sampling()),  # one run for many budgets
    "dsp-ste": DSP(estimator=StraightThrough()),
    "dsp-ste-constant": DSP(estimator=StraightThrough(), shrinking=None),  # the paper's baseline
    "fisher": Fisher(),
    "fisher-diagonal": Fisher(order="diagonal"),
    "gradient": GradientImportance(),
    "hard-concrete": HardConcrete(),
    "hard-concrete-penalty": HardConcrete(pressure=L0Penalty()),  # the pressure of Voita et al.
    "layer-drop": LayerDrop(),
    "magnitude": Magnitude(),
    "random": Random(),
}


def method_of(name: str) -> Method:
    """The method with a name on the command line.

    Raises:
        BudgetError: there is no such method.

    Example:
        >>> method_of("random")
        Random(seed=None)
    """
    if name not in METHODS:
        raise BudgetError(f"--method {name!r}: give one of {', '.join(METHODS)}.")
    return METHODS[name]
