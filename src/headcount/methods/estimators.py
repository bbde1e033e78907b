"""How importance logits become gates with a gradient: the estimators of subset pruning."""

import abc
import math
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from headcount.door.arguments import check_fields
from headcount.errors import BudgetError
from headcount.maths.gumbel import gumbel_noise
from headcount.maths.relaxed_topk import relaxed_top_k, successive_softmax
from headcount.maths.schedules import log_linear
from headcount.methods.method import Step
from headcount.units.budget import Budget
from headcount.units.quota import CountQuota, Quota, counted, needs_number

HARD = 0.1
"""The highest temperature at which gates count as hard: few logits differ by less than this."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Annealing:
    """A temperature whose logarithm falls linearly, and then stays.

    Example:
        >>> Annealing(start=10.0, end=0.01, cooldown=0.9).temperature(Step(index=0, total=100))
        10.0

    Source: Li, Cotterell, Sachan 2021, arXiv 2108.04657.
    Differs: the paper anneals further, from 1000 to 1e-8 over 25,000 of about 36,800 steps on MNLI
        (``Annealing(start=1000.0, end=1e-8)``). Logits learn while the temperature is near the
        gaps between them; from 10 to 0.01 this lasts as long as the subset shrinks. The cooldown
        may be a share of the run.
    """

    start: float = 10.0
    """Temperature at the first step."""
    end: float = 0.01
    """Temperature after the cooldown."""
    cooldown: int | float = 0.9
    """Length of the cooldown: a number of steps (int) or a share of the run (float in (0, 1])."""

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("start", "end"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise BudgetError(f"Annealing({name}={value!r}): give a positive number.")
        share = isinstance(self.cooldown, float)
        if self.cooldown <= 0 or (share and self.cooldown > 1):
            raise BudgetError(
                f"Annealing(cooldown={self.cooldown!r}): give a positive number of steps (int), or "
                "a share of the run (float) above 0 and at most 1."
            )

    def num_steps(self, total: int) -> int:
        """The number of steps of the cooldown in a run of ``total`` steps.

        A cooldown longer than the run is shortened to 90% of it. Otherwise the model would be
        trained with soft gates to the end, and would lose accuracy when tested with hard ones.
        """
        if isinstance(self.cooldown, float):
            return round(self.cooldown * total)
        return self.cooldown if self.cooldown <= total else round(0.9 * total)

    def temperature(self, step: Step) -> float:
        """The temperature at a step."""
        num_steps = self.num_steps(step.total)
        return log_linear(step.index, start=self.start, end=self.end, num_steps=num_steps)


class Estimator(abc.ABC):
    """How logits become gates that have a gradient; a part of ``DSP``.

    Example:
        >>> import headcount as hc
        >>> class Loud(hc.Estimator):
        ...     suffix = "-loud"
        ...     def gates(self, logits, quota, *, step, generator):
        ...         noisy = logits + torch.randn(logits.shape, generator=generator)
        ...         return straight_through(quota.draw(noisy), logits)
        >>> hc.DSP(estimator=Loud()).name
        'dsp-loud'
    """

    suffix: ClassVar[str]
    """Follows ``dsp`` in the method's name."""

    def check(self, budget: Budget) -> None:  # noqa: B027 - most estimators meet any budget
        """Refuse a budget that this estimator cannot meet; by default none. See ``Method.check``.

        Raises:
            BudgetError: the gates cannot meet the budget.
        """

    @abc.abstractmethod
    def gates(
        self,
        logits: Float[Tensor, " n"],
        quota: Quota,
        *,
        step: Step,
        generator: Generator,
    ) -> Float[Tensor, " n"]:
        """Gates for one forward pass, [N]. They sum to K, or are within the quota's cost."""

    def metrics(self, step: Step) -> dict[str, float]:
        """Numbers for the log."""
        return {}

    def notes(self, total: int) -> list[str]:
        """Messages for the user before a run of ``total`` steps."""
        return []


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class RelaxedTopK(Estimator):
    """The paper's estimator: Gumbel noise, then K successive softmaxes at a falling temperature.

    Limits per layer are relaxed likewise. First each layer's floor is drawn within the layer. Then
    the rest is drawn over all units, starting from the logits that the first draws left.

    Example:
        >>> import headcount as hc, transformers
        >>> config = transformers.BertConfig(
        ...     num_hidden_layers=1, num_attention_heads=3, hidden_size=6)
        >>> (quota,) = hc.Budget(heads=1).quotas(hc.units(transformers.BertModel(config)))
        >>> cold = Step(index=1, total=1)
        >>> RelaxedTopK().gates(torch.tensor([0.0, 99.0, 0.0]), quota,
        ...                     step=cold, generator=torch.Generator().manual_seed(0))
        tensor([0., 1., 0.], dtype=torch.float64)

    Source: Li, Cotterell, Sachan 2021, arXiv 2108.04657; Xie and Ermon 2019, arXiv 1901.10517.
    Differs: query heads that share key-value heads are relaxed as if each could be removed alone;
        in the decision each key-value head keeps the same number.
    """

    suffix: ClassVar[str] = "-relaxed"

    annealing: Annealing = field(default_factory=Annealing)
    """The temperature at each step."""

    def check(self, budget: Budget) -> None:
        """Refuse a cost: only a number of units can be relaxed."""
        if budget.cost is not None:
            raise needs_number(str(budget), "RelaxedTopK")

    def gates(
        self,
        logits: Float[Tensor, " n"],
        quota: Quota,
        *,
        step: Step,
        generator: Generator,
    ) -> Float[Tensor, " n"]:
        """A relaxed K-subset of the perturbed logits r = w + Gumbel noise."""
        noise = gumbel_noise(logits.shape, generator)
        return relaxed_keep(
            logits.double() + noise,
            counted(quota, "RelaxedTopK"),
            temperature=self.annealing.temperature(step),
        )

    def metrics(self, step: Step) -> dict[str, float]:
        """The temperature."""
        return {"temperature": self.annealing.temperature(step)}

    def notes(self, total: int) -> list[str]:
        """Messages if the cooldown is longer than the run, or leaves the gates soft to its end."""
        asked, end, found = self.annealing.cooldown, self.annealing.end, []
        num_steps = self.annealing.num_steps(total)
        if isinstance(asked, int) and asked > total:
            found.append(
                f"The cooldown of {asked} steps is longer than the run of {total} steps. It is "
                f"scaled to {num_steps} steps, so that training ends with hard gates."
            )
        if end > HARD or asked == (total if isinstance(asked, int) else 1):
            found.append(
                f"The gates are soft to the end of the run: the temperature falls to {end:g} "
                f"in {num_steps} of {total} steps, but the model is tested with hard gates. Give "
                f"an end of {HARD} or less, and a cooldown that ends before the run does."
            )
        return found


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class StraightThrough(Estimator):
    """Hard gates forward, for the K highest logits without noise; the identity backward.

    Example:
        >>> import headcount as hc, transformers
        >>> config = transformers.BertConfig(
        ...     num_hidden_layers=1, num_attention_heads=3, hidden_size=6)
        >>> (quota,) = hc.Budget(heads=1).quotas(hc.units(transformers.BertModel(config)))
        >>> StraightThrough().gates(torch.tensor([0.1, 0.3, 0.2]), quota,
        ...     step=Step(index=0, total=9), generator=Generator())
        tensor([0., 1., 0.])

    Source: Li, Cotterell, Sachan 2021, arXiv 2108.04657; Bengio et al. 2013, arXiv 1308.3432.
    Differs: exactly K ones on ties and for K = N.
    """

    suffix: ClassVar[str] = "-ste"

    def gates(
        self,
        logits: Float[Tensor, " n"],
        quota: Quota,
        *,
        step: Step,
        generator: Generator,
    ) -> Float[Tensor, " n"]:
        """The hard K-subset of the logits."""
        return straight_through(quota.draw(logits), logits)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class CentredStraightThrough(Estimator):
    """Straight-through with the mean over the units subtracted from the gradient.

    Forward: the K units with the highest logits are on. Backward: the gradient is projected on the
    plane where the gates sum to K. Since the number of units is fixed, only differences between
    units matter. The mean would push all logits in the same direction. Adam scales all steps to one
    size, so the logit of a unit that helps a little would rise as fast as that of an essential one.

    Example:
        >>> import headcount as hc, transformers
        >>> config = transformers.BertConfig(
        ...     num_hidden_layers=1, num_attention_heads=3, hidden_size=6)
        >>> (quota,) = hc.Budget(heads=1).quotas(hc.units(transformers.BertModel(config)))
        >>> logits = torch.tensor([0.1, 0.3, 0.2], requires_grad=True)
        >>> gates = CentredStraightThrough().gates(logits, quota,
        ...     step=Step(index=0, total=9), generator=Generator())
        >>> (gates * torch.tensor([1.0, 2.0, 6.0])).sum().backward()
        >>> logits.grad
        tensor([-2., -1.,  3.])

    Source: Bengio et al. 2013, arXiv 1308.3432, for straight-through.
    Differs: the mean is subtracted from the gradient.
    """

    suffix: ClassVar[str] = ""

    def gates(
        self,
        logits: Float[Tensor, " n"],
        quota: Quota,
        *,
        step: Step,
        generator: Generator,
    ) -> Float[Tensor, " n"]:
        """The hard K-subset of the logits."""
        return straight_through(quota.draw(logits), logits - logits.mean())


def straight_through(keep: Bool[Tensor, " n"], logits: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The keep as gates; their gradient is passed on to the logits unchanged.

    Example:
        >>> straight_through(torch.tensor([True, False]), torch.tensor([0.5, 0.2]))
        tensor([1., 0.])
    """
    return keep.to(logits.dtype) + (logits - logits.detach())


def relaxed_keep(
    perturbed: Float[Tensor, " n"],
    quota: CountQuota,
    *,
    temperature: float,
) -> Float[Tensor, " n"]:
    """The relaxation of ``select``: gates that sum to K, and equal its keep at temperature 0.

    Args:
        perturbed: logits plus noise.
        quota: K, floors and ceilings. Each ceiling is either its layer's size or its floor.
        temperature: tau > 0.

    Returns:
        Gates in float64, [N].
    """
    if not any(quota.floors):
        return relaxed_top_k(perturbed, quota.num_keep, temperature)
    layer = quota.units.layer_of_unit
    members = [(layer == index).nonzero().flatten() for index in range(len(quota.floors))]
    gates, rest = torch.zeros_like(perturbed), perturbed
    open_to_choice = torch.ones(len(perturbed), dtype=torch.bool)
    for units, floor in zip(members, quota.floors, strict=True):
        # A layer that stays whole has gates of one without a gradient, as nothing is chosen there.
        if floor == len(units):
            gates, open_to_choice[units] = gates.index_fill(0, units, 1.0), False
            continue
        own, left = successive_softmax(perturbed[units], floor, temperature)
        gates, rest = gates.index_add(0, units, own), rest.index_copy(0, units, left)
    free, others = quota.num_keep - sum(quota.floors), open_to_choice.nonzero().flatten()
    return gates.index_add(0, others, relaxed_top_k(rest[others], free, temperature))
