"""Differentiable subset pruning: importance logits learnt by gradient descent."""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal, cast, final

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from headcount.errors import BudgetError
from headcount.maths.schedules import falling_count
from headcount.methods.estimators import Estimator, StraightThrough
from headcount.methods.method import Method, Step
from headcount.units.quota import Quota
from headcount.units.table import UnitTable


class Logits(nn.Module):
    """One importance logit for each unit."""

    def __init__(self, logits: Float[Tensor, " n"], units: UnitTable, quota: Quota) -> None:
        """Make the logits a parameter, so that optimizers and checkpoints see them."""
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.layer, self.quota = units.layer_of_unit, quota
        self.sizes, self.whole = units.num_per_layer, quota.whole(units)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Shrinking:
    """The size of the subset falls from all units to K while the model trains.

    With the budget's K from the first step on, the logits are set apart by the gradients of a
    model that cannot yet use its heads: those of the last layer, nearest to the loss, win. Here
    the model first learns with all of them.

    Example:
        >>> quota = Quota(num_keep=2, floors=(0, 0), ceilings=(4, 4))
        >>> shrinking = Shrinking(hold=0.0, end=0.8, power=3.0)
        >>> sizes = [shrinking.quota(quota, (4, 4), Step(index=i, total=10)) for i in (0, 4, 8)]
        >>> [size.num_keep for size in sizes]
        [8, 3, 2]

    Source: the schedule of Zhu and Gupta 2017, arXiv 1710.01878, equation 1.
    """

    hold: float = 0.1
    """Share of the run in which all units stay on."""
    end: float = 0.8
    """Share of the run after which K are on."""
    power: float = 3.0
    """1 falls evenly; 3, the cubic schedule, falls fast at first."""

    def __post_init__(self) -> None:
        if not 0 <= self.hold < self.end <= 1:
            raise BudgetError(
                f"Shrinking(hold={self.hold!r}, end={self.end!r}): give shares of the run, 0 <= "
                "hold < end <= 1."
            )
        if not (math.isfinite(self.power) and self.power > 0):
            raise BudgetError(f"Shrinking(power={self.power!r}): give a positive number.")

    def quota(self, quota: Quota, sizes: tuple[int, ...], step: Step) -> Quota:
        """The quota at a step: between all units and ``quota``.

        Args:
            quota: that of the budget.
            sizes: units of each layer, [L].
            step: where training stands.
        """

        def at(start: int, end: int) -> int:
            first, last = round(self.hold * step.total), round(self.end * step.total)
            return falling_count(
                step.index, start=start, end=end, first=first, last=last, power=self.power
            )

        return quota.between(sizes, at)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class DSP(Method):
    """Differentiable subset pruning.

    Each unit n has a free parameter, its importance logit ``w_n``. Each training step multiplies
    the units by a subset drawn from the logits; the loss trains weights and logits alike;
    the size of the subset comes down to K; at the end the K units of the highest logits stay.

    Example:
        >>> DSP().name
        'dsp'
        >>> DSP(estimator=RelaxedTopK(), training="pipelined").name
        'dsp-relaxed-pipelined'

    Source: Li, Cotterell, Sachan, "Differentiable Subset Pruning of Transformer Heads", TACL 2021,
        arXiv 2108.04657.
    Differs: the straight-through estimator is the default, measured better (docs/methods/dsp.md);
        the size of the subset shrinks to K while the model trains (``shrinking=None`` has the
        paper's constant size); a shorter annealing (see ``Annealing``), whose cooldown is a share
        of the run, so that it always ends before training does; straight-through keeps exactly K
        units on ties and for K = N; limits per layer.
    """

    learns: ClassVar[bool] = True

    estimator: Estimator = field(default_factory=StraightThrough)
    """How logits become gates: ``StraightThrough``, or ``RelaxedTopK`` (the paper's)."""
    learning_rate: float = 0.5
    """Learning rate of the logits, in an optimizer group of their own without weight decay;
    the run's schedule (warm-up, decay) scales it like that of the weights."""
    max_grad_norm: float = 1.0
    """The gradient of the logits is clipped to this norm, apart from the weights' gradient."""
    shrinking: Shrinking | None = field(default_factory=Shrinking)
    """How the size of the subset comes down to K in joint training; None: it is K from the first
    step on, as in the paper. Always None when pipelined: the model can use its units already."""
    training: Literal["joint", "pipelined"] = "joint"
    """``joint`` trains weights and logits together; ``pipelined`` freezes the weights of a model
    that is fine-tuned already and trains the logits alone."""

    def __post_init__(self) -> None:
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
        """``dsp``, or ``dsp-relaxed``, with ``-pipelined`` or ``-constant`` behind.

        Pipelined: the weights rest. Constant: they do not, and the size of the subset is K from
        the first step on.
        """
        if self.training == "pipelined":
            return f"dsp{self.estimator.suffix}-pipelined"
        return f"dsp{self.estimator.suffix}{'' if self.shrinking else '-constant'}"

    @property
    def trains(self) -> Literal["weights", "logits", "weights and logits"]:
        """Both together, or the logits alone when pipelined."""
        return "weights and logits" if self.training == "joint" else "logits"

    @property
    def start(self) -> Literal["pretrained", "finetuned"]:
        """Pipelined training needs a model that is fine-tuned already."""
        return "pretrained" if self.training == "joint" else "finetuned"

    @property
    def optimizer_group(self) -> dict[str, float]:
        """The learning rate of the logits."""
        return {"lr": self.learning_rate}

    def notes(self, total: int) -> list[str]:
        """A word when the cooldown had to be scaled to the run."""
        return self.estimator.notes(total)

    def init(self, units: UnitTable, quota: Quota, generator: Generator) -> Logits:
        """Xavier-uniform logits over the [layers, heads] table."""
        num_layers, num_heads = len(units.layers), max(units.num_per_layer)
        bound = math.sqrt(6 / (num_layers + num_heads))
        uniform = torch.rand(len(units), generator=generator)
        return Logits((2 * uniform - 1) * bound, units, quota)

    def gates(self, state: nn.Module, step: Step, generator: Generator) -> Float[Tensor, " n"]:
        """A subset of the step's size, hard or relaxed, with the estimator's gradient."""
        held = cast(Logits, state)
        quota = self.quota(held, step)
        if quota.target == held.whole:  # nothing to choose, so nothing to learn
            return 0 * held.logits + 1
        return self.estimator.gates(
            held.logits, quota, layer=held.layer, step=step, generator=generator
        )

    def quota(self, state: Logits, step: Step) -> Quota:
        """What is on at a step: the budget's quota, or more while the subset shrinks."""
        if self.shrinking is None:
            return state.quota
        return self.shrinking.quota(state.quota, state.sizes, step)

    def scores(self, state: nn.Module) -> Float[Tensor, " n"]:
        """The logits."""
        return cast(Logits, state).logits.detach()

    def metrics(self, state: nn.Module, step: Step) -> dict[str, float]:
        """Temperature, and the entropy in nats of the first choice, softmax(w)."""
        log_p = torch.log_softmax(self.scores(state).double(), 0)
        entropy = -(log_p.exp() * log_p).sum().item()
        size = float(self.quota(cast(Logits, state), step).target)
        return {"size": size, "entropy": entropy, **self.estimator.metrics(step)}
