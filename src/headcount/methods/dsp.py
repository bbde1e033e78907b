"""Differentiable subset pruning: importance logits learnt by gradient descent."""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal, cast, final

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from headcount.errors import BudgetError
from headcount.methods.estimators import Estimator, RelaxedTopK
from headcount.methods.method import Method, Step
from headcount.units.budget import Quota
from headcount.units.table import UnitTable


class Logits(nn.Module):
    """One importance logit for each unit."""

    def __init__(self, logits: Float[Tensor, " n"], units: UnitTable, quota: Quota) -> None:
        """Make the logits a parameter, so that optimizers and checkpoints see them."""
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.layer, self.quota = units.layer_of_unit, quota


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class DSP(Method):
    """Differentiable subset pruning.

    Each unit n has a free parameter, its importance logit ``w_n``. Each training step multiplies
    the units by a relaxed K-subset drawn from the logits; the loss trains weights and logits
    alike; at the end the K units of the highest logits stay.

    Example:
        >>> DSP().estimator.annealing.end
        1e-08
        >>> DSP(estimator=StraightThrough(), training="pipelined").trains
        'logits'

    Source: Li, Cotterell, Sachan, "Differentiable Subset Pruning of Transformer Heads", TACL 2021,
        arXiv 2108.04657.
    Differs: the straight-through variant keeps exactly K units on ties and for K = N; the cooldown
        is a share of the run, so that it always ends before training does; limits per layer.
    """

    learns: ClassVar[bool] = True

    estimator: Estimator = field(default_factory=RelaxedTopK)
    """How logits become gates: ``RelaxedTopK`` (the paper's) or ``StraightThrough``."""
    learning_rate: float = 0.5
    """Learning rate of the logits, in an optimizer group of their own without weight decay;
    the run's schedule (warm-up, decay) scales it like that of the weights."""
    max_grad_norm: float = 1.0
    """The gradient of the logits is clipped to this norm, apart from the weights' gradient."""
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

    @property
    def name(self) -> str:
        """``dsp`` or ``straight-through``, with ``-pipelined`` behind where the weights rest."""
        return self.estimator.name + ("" if self.training == "joint" else "-pipelined")

    @property
    def trains(self) -> Literal["weights", "logits", "weights and logits"]:
        """Both together, or the logits alone when pipelined."""
        return "weights and logits" if self.training == "joint" else "logits"

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
        """A relaxed K-subset (sums to K), or the hard one with a straight-through gradient."""
        held = cast(Logits, state)
        return self.estimator.gates(
            held.logits, held.quota, layer=held.layer, step=step, generator=generator
        )

    def scores(self, state: nn.Module) -> Float[Tensor, " n"]:
        """The logits."""
        return cast(Logits, state).logits.detach()

    def metrics(self, state: nn.Module, step: Step) -> dict[str, float]:
        """Temperature, and the entropy in nats of the first choice, softmax(w)."""
        log_p = torch.log_softmax(self.scores(state).double(), 0)
        entropy = -(log_p.exp() * log_p).sum().item()
        return {"entropy": entropy, **self.estimator.metrics(step)}
