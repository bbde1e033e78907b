"""Schedules for the number of units that are on in training: from all units to K."""

import abc
import math
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Generator

from headcount.door.arguments import check_fields
from headcount.errors import BudgetError
from headcount.maths.schedules import falling_count
from headcount.methods.method import Step
from headcount.units.quota import Quota


class Sizes(abc.ABC):
    """A schedule for the number of units that are on at each step."""

    suffix: ClassVar[str]
    """Follows ``dsp`` in the method's name."""

    @abc.abstractmethod
    def quota(self, quota: Quota, step: Step) -> Quota:
        """The quota at a step.

        Args:
            quota: the budget's quota.
            step: the training step.
        """


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Shrinking(Sizes):
    """The size of the subset falls from all units to K while the model trains.

    If only K units were on from the first step, the logits would learn from the gradients of a
    model that cannot use its heads yet. The heads of the last layer, nearest to the loss, would
    win. So the model first learns with all heads.

    Example:
        >>> import headcount as hc, transformers
        >>> config = transformers.BertConfig(num_hidden_layers=2, num_attention_heads=4)
        >>> (quota,) = hc.Budget(heads=2).quotas(hc.units(transformers.BertModel(config)))
        >>> shrinking = Shrinking(hold=0.0, end=0.8, power=3.0)
        >>> [shrinking.quota(quota, Step(index=i, total=10)).target for i in (0, 4, 8)]
        [8, 3, 2]

    Source: the schedule of Zhu and Gupta 2017, arXiv 1710.01878, equation 1.
    """

    suffix: ClassVar[str] = ""

    hold: float = 0.1
    """Share of the run in which all units stay on."""
    end: float = 0.8
    """Share of the run after which K units are on."""
    power: float = 3.0
    """1 falls evenly; 3, the cubic schedule, falls fast at first."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 <= self.hold < self.end <= 1:
            raise BudgetError(
                f"Shrinking(hold={self.hold!r}, end={self.end!r}): give shares of the run, 0 <= "
                "hold < end <= 1."
            )
        if not (math.isfinite(self.power) and self.power > 0):
            raise BudgetError(f"Shrinking(power={self.power!r}): give a positive number.")

    def quota(self, quota: Quota, step: Step) -> Quota:
        """A quota between all units and ``quota``."""

        def at(start: int, end: int) -> int:
            first, last = round(self.hold * step.total), round(self.end * step.total)
            return falling_count(
                step.index, start=start, end=end, first=first, last=last, power=self.power
            )

        return quota.between(at)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling(Sizes):
    """The size of the subset is drawn at each step, between all units and K.

    One run then serves every budget from K up: see ``Session.decisions``. Sizes are drawn evenly on
    a logarithmic scale: 6 to 12 comes as often as 12 to 24. The draw depends only on the number of
    the step, so that a resumed run and all processes draw the same sizes.

    Example:
        >>> import headcount as hc, transformers
        >>> config = transformers.BertConfig(num_hidden_layers=2, num_attention_heads=4)
        >>> (quota,) = hc.Budget(heads=2).quotas(hc.units(transformers.BertModel(config)))
        >>> sampling = Sampling(hold=0.0)
        >>> [sampling.quota(quota, Step(index=i, total=5)).target for i in range(5)]
        [4, 6, 5, 2, 5]

    Source: one set of weights for many widths: Yu et al. 2019, arXiv 1812.08928; sizes drawn at
        random: Yu and Huang 2019, arXiv 1903.05134.
    Differs: one size in each step, no distillation between sizes.
    """

    suffix: ClassVar[str] = "-sampled"

    hold: float = 0.1
    """Share of the run in which all units stay on."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 <= self.hold < 1:
            raise BudgetError(f"Sampling(hold={self.hold!r}): give a share of the run in [0, 1).")

    def quota(self, quota: Quota, step: Step) -> Quota:
        """A quota between all units and ``quota``, drawn with the step's number as the seed."""
        luck = torch.rand((), generator=Generator().manual_seed(step.index)).item()
        share = 1.0 if step.index < round(self.hold * step.total) else luck

        def at(start: int, end: int) -> int:
            low, high = math.log(end + 1), math.log(start + 1)  # + 1, as 0 has no logarithm
            return round(math.exp(low + share * (high - low))) - 1

        return quota.between(at)
