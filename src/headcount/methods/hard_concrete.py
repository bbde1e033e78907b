"""Hard concrete gates: random gates for which the probability to be open is learnt."""

import math
from dataclasses import dataclass, field
from typing import final

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from headcount.door.arguments import check_fields
from headcount.errors import BudgetError
from headcount.evidence.evidence import Evidence
from headcount.maths.hard_concrete import (
    hard_concrete,
    log_alpha_of,
    noiseless_gate,
    open_chance,
    open_uniform,
)
from headcount.methods.method import Method, State, Step, Trains
from headcount.methods.pressure import Lagrangian, Pressure
from headcount.units.quota import Quota

START_STD = 0.01
"""Standard deviation of log alpha at the start. It breaks ties, which select gives to the first
layers."""


class Leanings(State):
    """One log alpha for each unit, and the pressure's own parameters."""

    def __init__(self, log_alpha: Float[Tensor, " n"], learnt: nn.Module, quota: Quota) -> None:
        """Make log alpha a parameter, so that optimizers and checkpoints see it."""
        super().__init__(quota)
        self.log_alpha = nn.Parameter(log_alpha)
        self.pressure = learnt


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class HardConcrete(Method[Leanings]):
    """Random gates, and a differentiable count of the open ones.

    Each unit n has a free parameter ``log alpha_n``. Each training step draws the gates
    independently. Many are exactly 0 or exactly 1; those in between have a gradient. A pressure on
    P(open) closes gates. It is a Lagrangian, for which the expected number of open gates is that of
    the budget, or a fixed price. At the end the K units with the highest log alpha stay, which are
    those with the highest P(open).

    Example:
        >>> HardConcrete().name
        'hard-concrete'
        >>> HardConcrete(pressure=L0Penalty(weight=0.01)).name
        'hard-concrete-penalty'

    Source: Voita et al. 2019, arXiv 1905.09418; Louizos, Welling, Kingma 2018, arXiv 1712.01312;
        the Lagrangian: Xia, Zhong, Chen 2022, arXiv 2204.00408.
    Differs: the decision is the exact best K by P(open), not the gates that are open at the end. In
        the last part of the run the gates are that decision, so that the weights train with the
        gates that are tested (``settle=0``: random gates to the end, as in the papers). Evaluation
        uses the exact keep. Noise is in float64.
    """

    pressure: Pressure = field(default_factory=Lagrangian)
    """The term of the loss that closes gates: ``Lagrangian``, or ``L0Penalty`` (Voita et al.)."""
    temperature: float = 0.33
    """T: the lower, the more gates are exactly 0 or 1, and the fewer have a gradient."""
    openness: float = 0.9
    """P(open) of every gate at the start."""
    learning_rate: float = 0.1
    """Learning rate of log alpha and of the pressure's multipliers, which have their own parameter
    group without weight decay. The run's schedule scales it like that of the weights."""
    settle: float = 0.2
    """Share of the run at its end in which log alpha does not change and the gates are the exact
    keep."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("temperature", "learning_rate"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise BudgetError(f"HardConcrete({name}={value!r}): give a positive number.")
        if not 0 < self.openness < 1:
            raise BudgetError(
                f"HardConcrete(openness={self.openness!r}): give a probability between 0 and 1, "
                "such as 0.9."
            )
        if not 0 <= self.settle < 1:
            raise BudgetError(
                f"HardConcrete(settle={self.settle!r}): give a share of the run, 0 <= settle < 1."
            )

    @property
    def name(self) -> str:
        """``hard-concrete``, or ``hard-concrete-penalty``."""
        return f"hard-concrete{self.pressure.suffix}"

    @property
    def trains(self) -> Trains:
        """Weights and log alpha together."""
        return "weights and logits"

    @property
    def optimizer_group(self) -> dict[str, float]:
        """The learning rate of log alpha."""
        return {"lr": self.learning_rate}

    def init(self, quota: Quota, generator: Generator) -> Leanings:
        """All gates with the same P(open), apart from a little noise."""
        noise = torch.randn(len(quota.units), generator=generator)
        start = log_alpha_of(self.openness, self.temperature)
        return Leanings(start + START_STD * noise, self.pressure.init(), quota)

    def gates(self, state: Leanings, step: Step, generator: Generator) -> Float[Tensor, " n"]:
        """Independent random gates; once they are settled, the exact keep."""
        if self._settled(step):
            return state.quota.keep(self.scores(state)).double()
        uniform = open_uniform(state.log_alpha.shape, generator)
        return hard_concrete(state.log_alpha.double(), uniform, self.temperature)

    def penalty(self, state: Leanings, step: Step, evidence: Evidence) -> Float[Tensor, ""]:
        """The pressure on P(open); zero once the gates are settled, so log alpha stays as it is."""
        if self._settled(step):
            return torch.zeros(())
        loss = self.pressure.penalty(
            open_chance(state.log_alpha.double(), self.temperature),
            state.quota,
            learnt=state.pressure,
            step=self._learning(step),
        )
        # The training loop adds it to the model's loss, which must not become float64.
        return loss.to(state.log_alpha.dtype)

    def scores(self, state: Leanings) -> Float[Tensor, " n"]:
        """Log alpha."""
        return state.log_alpha.detach()

    def metrics(self, state: Leanings, step: Step) -> dict[str, float]:
        """The expected number (or cost), the share of decided gates, and the pressure's numbers.

        A gate is decided if it is exactly 0 or exactly 1 without noise.
        """
        log_alpha = self.scores(state).double()
        gates = noiseless_gate(log_alpha)
        numbers = self.pressure.metrics(
            state.quota,
            learnt=state.pressure,
            step=self._learning(step),
        )
        return {
            "expected": state.quota.expected(open_chance(log_alpha, self.temperature)).item(),
            "decided": ((gates == 0) | (gates == 1)).double().mean().item(),
            **numbers,
        }

    def _learning(self, step: Step) -> Step:
        """The step within the part of the run in which log alpha is learnt."""
        return Step(index=step.index, total=round((1 - self.settle) * step.total))

    def _settled(self, step: Step) -> bool:
        learning = self._learning(step)
        return learning.index >= learning.total
