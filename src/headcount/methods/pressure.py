"""The terms of the loss that close hard concrete gates: a price on P(open)."""

import abc
import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headcount.door.arguments import check_fields
from headcount.errors import BudgetError
from headcount.maths.lagrangian import lagrangian
from headcount.maths.schedules import rising
from headcount.methods.method import Step
from headcount.units.quota import Quota


class Pressure(abc.ABC):
    """A term of the loss that closes gates."""

    suffix: ClassVar[str]
    """Follows ``hard-concrete`` in the method's name."""

    def init(self) -> nn.Module:
        """A module with the pressure's own parameters; by default none."""
        return nn.Module()

    @abc.abstractmethod
    def penalty(
        self,
        chances: Float[Tensor, " n"],
        quota: Quota,
        *,
        learnt: nn.Module,
        step: Step,
    ) -> Float[Tensor, ""]:
        """A scalar to add to the loss.

        Args:
            chances: P(open) of each gate, [N], with a gradient.
            quota: the units, and how much of them must remain.
            learnt: the module that ``init`` returned.
            step: the training step; ``step.total`` counts only the steps until the gates settle.
        """

    def metrics(self, quota: Quota, *, learnt: nn.Module, step: Step) -> dict[str, float]:
        """Numbers for the log."""
        return {}


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class L0Penalty(Pressure):
    """The same price for every open gate: ``weight`` times the sum of P(open).

    The weight decides how many gates close. To end near K, try several weights.

    Example:
        >>> import headcount as hc, transformers
        >>> config = transformers.BertConfig(num_hidden_layers=1, num_attention_heads=2)
        >>> (quota,) = hc.Budget(heads=1).quotas(hc.units(transformers.BertModel(config)))
        >>> price, step = L0Penalty(weight=0.5), Step(index=0, total=1)
        >>> price.penalty(torch.tensor([0.9, 0.1]), quota, learnt=price.init(), step=step)
        tensor(0.5000)

    Source: Louizos, Welling, Kingma 2018, arXiv 1712.01312; for heads, Voita et al. 2019, arXiv
        1905.09418.
    """

    suffix: ClassVar[str] = "-penalty"

    weight: float = 0.0015
    """Price of an open gate, lambda. The default is the value of Li, Cotterell, Sachan 2021 (arXiv
    2108.04657) for BERT-base on MNLI."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise BudgetError(f"L0Penalty(weight={self.weight!r}): give a positive number.")

    def penalty(
        self,
        chances: Float[Tensor, " n"],
        quota: Quota,
        *,
        learnt: nn.Module,
        step: Step,
    ) -> Float[Tensor, ""]:
        """``weight * sum P(open)``."""
        return self.weight * chances.sum()


class Multipliers(nn.Module):
    """The two multipliers of a Lagrangian."""

    def __init__(self, quadratic: float) -> None:
        """Make both parameters, so that the optimizer updates them; the linear one starts at 0."""
        super().__init__()
        self.linear = nn.Parameter(torch.zeros(()))
        self.quadratic = nn.Parameter(torch.tensor(quadratic))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Lagrangian(Pressure):
    """A learnt price, so that the expected number of open gates becomes that of the budget.

    ``s`` is the expected sparsity, the share of closed gates, and ``t`` is its target. The loss
    gets the term ``lambda1 (s - t) + lambda2 (s - t)^2``. The multipliers ascend, so the price
    rises until the target is met. The target rises linearly from zero to the budget's sparsity.

    Example:
        >>> import headcount as hc, transformers
        >>> config = transformers.BertConfig(num_hidden_layers=1, num_attention_heads=4)
        >>> (quota,) = hc.Budget(heads=1).quotas(hc.units(transformers.BertModel(config)))
        >>> steps = (Step(index=index, total=8) for index in (0, 2, 4, 8))
        >>> [Lagrangian(warmup=0.5).target(quota, step=step) for step in steps]
        [0.0, 0.375, 0.75, 0.75]

    Source: Xia, Zhong, Chen 2022, arXiv 2204.00408 (CoFi); Xia et al. 2023, arXiv 2310.06694
        (Sheared LLaMA).
    Differs: in a budget of numbers, each number has its own constraint on the number of its units.
        The probabilities of nested units are multiplied only for a budget of a cost.
    """

    suffix: ClassVar[str] = ""

    warmup: float = 0.5
    """The share of the steps before the gates settle in which the target rises; 0: the target has
    its final value from the first step."""
    stiffness: float = 30.0
    """Initial value of lambda2: the larger, the closer the sparsity is to its target early on."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 <= self.warmup <= 1:
            raise BudgetError(
                f"Lagrangian(warmup={self.warmup!r}): give a share of the run, 0 to 1."
            )
        if not (math.isfinite(self.stiffness) and self.stiffness >= 0):
            raise BudgetError(f"Lagrangian(stiffness={self.stiffness!r}): give 0 or more.")

    def init(self) -> nn.Module:
        """The multipliers."""
        return Multipliers(self.stiffness)

    def target(self, quota: Quota, *, step: Step) -> float:
        """The target sparsity t at a step."""
        end = 1 - quota.target / quota.whole
        return rising(step.index, end=end, num_steps=round(self.warmup * step.total))

    def penalty(
        self,
        chances: Float[Tensor, " n"],
        quota: Quota,
        *,
        learnt: nn.Module,
        step: Step,
    ) -> Float[Tensor, ""]:
        """``lambda1 (s - t) + lambda2 (s - t)^2``."""
        held = _multipliers(learnt)
        sparsity = 1 - quota.expected(chances) / quota.whole
        excess = sparsity - self.target(quota, step=step)
        return lagrangian(excess, held.linear, held.quadratic)

    def metrics(self, quota: Quota, *, learnt: nn.Module, step: Step) -> dict[str, float]:
        """The target as a number of units or a cost, and the multipliers."""
        held = _multipliers(learnt)
        return {
            "target": quota.whole * (1 - self.target(quota, step=step)),
            "lambda1": held.linear.item(),
            "lambda2": held.quadratic.item(),
        }


def _multipliers(learnt: nn.Module) -> Multipliers:
    """The module that ``Lagrangian.init`` returned, with its type."""
    assert isinstance(learnt, Multipliers)
    return learnt
