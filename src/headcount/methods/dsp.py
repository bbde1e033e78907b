"""Differentiable subset pruning: importance logits learnt by gradient descent."""

import math
from dataclasses import dataclass, field
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from headcount.door.arguments import check_fields
from headcount.errors import BudgetError
from headcount.methods.estimators import CentredStraightThrough, Estimator
from headcount.methods.method import Method, State, Step, Trains
from headcount.methods.sizes import Shrinking, Sizes
from headcount.units.budget import Budget
from headcount.units.quota import Quota


class Logits(State):
    """One importance logit for each unit."""

    def __init__(self, logits: Float[Tensor, " n"], quota: Quota) -> None:
        """Make the logits a parameter, so that optimizers and checkpoints see them."""
        super().__init__(quota)
        self.logits = nn.Parameter(logits)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class DSP(Method[Logits]):
    """Differentiable subset pruning.

    Each unit n has a free parameter, its importance logit ``w_n``. In each training step only a
    subset of the units is on, which follows from the logits. The loss trains both weights and
    logits. The size of the subset shrinks to K. At the end the K units with the highest logits
    stay.

    Example:
        >>> DSP().name
        'dsp'
        >>> DSP(estimator=RelaxedTopK(), training="pipelined").name
        'dsp-relaxed-pipelined'

    Source: Li, Cotterell, Sachan, "Differentiable Subset Pruning of Transformer Heads", TACL 2021,
        arXiv 2108.04657.
    Differs: the straight-through estimator is the default, as it was better in measurements
        (docs/methods/dsp.md); the size of the subset shrinks to K while the model trains
        (``shrinking=None`` has the paper's constant size); the annealing is shorter (see
        ``Annealing``), with a cooldown of nine tenths of the run by default; straight-through keeps
        exactly K units on ties and for K = N; there are limits per layer.
    """

    estimator: Estimator = field(default_factory=CentredStraightThrough)
    """How logits become gates: ``CentredStraightThrough``, or ``RelaxedTopK`` (the paper's)."""
    learning_rate: float = 0.5
    """Learning rate of the logits, which have their own parameter group without weight decay. The
    run's schedule (warm-up, decay) scales it like that of the weights."""
    max_grad_norm: float = 1.0
    """The gradient of the logits is clipped to this norm, separately from that of the weights."""
    shrinking: Sizes | None = field(default_factory=Shrinking)
    """How the size of the subset shrinks to K in joint training. None: it is K from the first
    step, as in the paper. Pipelined training always has None: its model can use its units
    already."""
    training: Literal["joint", "pipelined"] = "joint"
    """``joint`` trains weights and logits together. ``pipelined`` freezes the weights of a model
    that is fine-tuned already, and trains only the logits."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("learning_rate", "max_grad_norm"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise BudgetError(f"DSP({name}={value!r}): give a positive number.")
        if self.training not in ("joint", "pipelined"):
            raise BudgetError(f"DSP(training={self.training!r}): give 'joint' or 'pipelined'.")
        if self.training == "pipelined":
            object.__setattr__(self, "shrinking", None)

    @property
    def name(self) -> str:
        """``dsp``, or ``dsp-relaxed``, followed by ``-pipelined``, ``-constant`` or ``-sampled``.

        Pipelined: only the logits are trained. Constant: joint training in which the size of the
        subset is K from the first step. Sampled: joint training in which the size is drawn at each
        step.
        """
        if self.training == "pipelined":
            return f"dsp{self.estimator.suffix}-pipelined"
        return (
            f"dsp{self.estimator.suffix}{self.shrinking.suffix if self.shrinking else '-constant'}"
        )

    @property
    def trains(self) -> Trains:
        """Both together, or the logits alone when pipelined."""
        return "weights and logits" if self.training == "joint" else "logits"

    @property
    def optimizer_group(self) -> dict[str, float]:
        """The learning rate of the logits."""
        return {"lr": self.learning_rate}

    def notes(self, total: int) -> list[str]:
        """The estimator's messages, such as that the cooldown was shortened to fit the run."""
        return self.estimator.notes(total)

    def check(self, budget: Budget) -> None:
        """Refuse what the estimator cannot meet: ``RelaxedTopK`` a cost."""
        self.estimator.check(budget)

    def init(self, quota: Quota, generator: Generator) -> Logits:
        """Xavier-uniform logits, as for a matrix of layers by heads."""
        units = quota.units
        num_layers, num_heads = len(units.layers), max(units.num_per_layer)
        bound = math.sqrt(6 / (num_layers + num_heads))
        uniform = torch.rand(len(units), generator=generator)
        return Logits((2 * uniform - 1) * bound, quota)

    def gates(self, state: Logits, step: Step, generator: Generator) -> Float[Tensor, " n"]:
        """A subset with the size of this step, hard or relaxed, with the estimator's gradient."""
        quota = self.quota(state, step)
        # All units are on, so there is nothing to learn. The product keeps the logits in the graph,
        # with a gradient of zero.
        if quota.target == quota.whole:
            return 0 * state.logits + 1
        return self.estimator.gates(state.logits, quota, step=step, generator=generator)

    def quota(self, state: Logits, step: Step) -> Quota:
        """The quota at a step: the budget's, or a larger one while the subset shrinks."""
        if self.shrinking is None:
            return state.quota
        return self.shrinking.quota(state.quota, step)

    def scores(self, state: Logits) -> Float[Tensor, " n"]:
        """The logits."""
        return state.logits.detach()

    def metrics(self, state: Logits, step: Step) -> dict[str, float]:
        """Size of the subset, entropy of softmax(w) in nats, and the estimator's numbers."""
        log_p = torch.log_softmax(self.scores(state).double(), 0)
        entropy = -(log_p.exp() * log_p).sum().item()
        size = float(self.quota(state, step).target)
        return {"size": size, "entropy": entropy, **self.estimator.metrics(step)}
