"""What closes gates: a price on the chances that they are open."""

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
    """A part of the loss that makes gates close."""

    suffix: ClassVar[str]
    """Stands behind ``hard-concrete`` in the method's name."""

    def init(self) -> nn.Module:
        """What it learns itself, as parameters; nothing unless it says otherwise."""
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
            quota: what must remain.
            learnt: what ``init`` made.
            step: where training stands; a run ends when the gates settle.
        """

    def metrics(self, quota: Quota, *, learnt: nn.Module, step: Step) -> dict[str, float]:
        """Numbers worth a line in the log."""
        return {}


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class L0Penalty(Pressure):
    """Every open gate costs the same: ``weight`` times the sum of P(open).

    How many gates close follows from the weight, and is found out by trying.

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
    """Price of an open gate, lambda; the default is what Li, Cotterell, Sachan 2021 (arXiv
    2108.04657) give for BERT-base on MNLI."""

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
        """Make both parameters, which climb; the linear one starts at zero."""
        super().__init__()
        self.linear = nn.Parameter(torch.zeros(()))
        self.quadratic = nn.Parameter(torch.tensor(quadratic))


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Lagrangian(Pressure):
    """A price that is learnt, so that as much is open on the mean as the budget says.

    With the expected sparsity ``s``, the share that is closed on the mean, and its target ``t``,
    the loss gets ``lambda1 (s - t) + lambda2 (s - t)^2``. The multipliers ascend, so the price
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
    Differs: of a budget of numbers each has its own constraint, in what it counts. The chances of
        nested units are multiplied for a budget of a cost alone.
    """

    suffix: ClassVar[str] = ""

    warmup: float = 0.5
    """Share of the steps until the gates settle, in which the target rises; 0: it stands from the
    first step on."""
    stiffness: float = 30.0
    """Where lambda2 starts: how hard the sparsity is held to its target from the first step on."""

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
        """The sparsity that is asked for at a step, t."""
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
        """The target in what the quota counts, and the multipliers."""
        held = _multipliers(learnt)
        return {
            "target": quota.whole * (1 - self.target(quota, step=step)),
            "lambda1": held.linear.item(),
            "lambda2": held.quadratic.item(),
        }


def _multipliers(learnt: nn.Module) -> Multipliers:
    """What ``Lagrangian.init`` made."""
    assert isinstance(learnt, Multipliers)
    return learnt
