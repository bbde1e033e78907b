"""What a budget means for one model: which units it is about, and how much of them stays."""

import abc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from headcount.errors import BudgetError
from headcount.maths.select import Bundle, select, totals
from headcount.units.kinds import KIND
from headcount.units.table import UnitTable


class Quota(abc.ABC):
    """A number of a budget, checked against one model.

    A quota owns the units it is about. ``CountQuota`` counts them; ``CostLimit``
    (``headcount.units.cost_limit``) counts their parameters, MACs or time. Methods ask only what
    stands here, so that they work for both.

    Example:
        >>> import headcount as hc, torch, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
        >>> (quota,) = hc.Budget(heads=3).quotas(hc.units(model))
        >>> len(quota.units), quota.whole, quota.target
        (12, 12, 3)
        >>> quota.keep(torch.arange(12.0)).nonzero().flatten().tolist()
        [9, 10, 11]
    """

    __slots__ = ()

    units: UnitTable
    """The units, N of them; all of one kind if they are counted."""
    place: str
    """The place that the budget gives for this number; empty if it gives none."""

    @abc.abstractmethod
    def keep(
        self, scores: Float[Tensor, " n"], *, allowed: Bool[Tensor, " n"] | None = None
    ) -> Bool[Tensor, " n"]:
        """The exact keep of the highest scores.

        Args:
            scores: importance of each unit, higher = keep, [N].
            allowed: units that may be kept, [N]; None for all.
        """

    def draw(self, scores: Float[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """A keep for one training pass: ``keep``, or near it where ``keep`` is slow.

        Args:
            scores: importance of each unit, higher = keep, [N].
        """
        return self.keep(scores)

    @property
    @abc.abstractmethod
    def target(self) -> int:
        """How much remains."""

    @property
    @abc.abstractmethod
    def whole(self) -> int:
        """How much there is before anything is removed."""

    @abc.abstractmethod
    def expected(self, chances: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """The mean of what remains if each unit stays by chance; compare with ``target``.

        Args:
            chances: probability that a unit stays, [N]; a gradient passes through.
        """

    @abc.abstractmethod
    def between(self, at: Callable[[int, int], int]) -> "Quota":
        """A quota on the way from everything to this one.

        Args:
            at: takes a number at the start and one at the end, and returns one in between.
        """

    def reached(self, keep: Bool[Tensor, " n"]) -> dict[str, Any]:
        """What a keep comes to, as plain values; empty where the number of units says it."""
        return {}

    @property
    @abc.abstractmethod
    def asked(self) -> str:
        """The call that asked for it, for messages: ``Budget(heads=3)``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CountQuota(Quota):
    """A number of units, with limits for each layer.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2))
        >>> (quota,) = hc.Budget(heads=12, min_per_layer=1).quotas(hc.units(model))
        >>> quota.num_keep, quota.floors, quota.ceilings
        (12, (1, 1), (12, 12))
    """

    units: UnitTable
    """The units, all of one kind."""
    place: str = ""
    """The place that the budget gives for this number; empty if it gives none."""
    num_keep: int
    """K, the number of units to keep."""
    floors: tuple[int, ...]
    """Least number of units to keep in each layer, [L]."""
    ceilings: tuple[int, ...]
    """Greatest number of units to keep in each layer, [L]."""
    bundles: tuple[Bundle, ...] = ()
    """Where query heads share key-value heads: the sites' (units, groups); every group of a site
    keeps equally many. Empty: any units may be kept."""
    homes: tuple[int, ...] = ()
    """The layer of each of the ``bundles``."""

    def keep(
        self, scores: Float[Tensor, " n"], *, allowed: Bool[Tensor, " n"] | None = None
    ) -> Bool[Tensor, " n"]:
        """The exact keep of the highest scores; see ``headcount.maths.select.select``."""
        return select(
            scores,
            self.num_keep,
            layer=self.units.layer_of_unit,
            floors=self.floors,
            ceilings=self.ceilings,
            bundles=self.bundles,
            allowed=allowed,
        )

    @property
    def target(self) -> int:
        """How much remains: K."""
        return self.num_keep

    @property
    def whole(self) -> int:
        """How much there is before anything is removed: N."""
        return len(self.units)

    def expected(self, chances: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """The mean number of units that stay."""
        return chances.sum()

    def between(self, at: Callable[[int, int], int]) -> "CountQuota":
        """A quota on the way from all units to this one."""
        if self.floors != self.ceilings:
            return self.at_least(at(sum(self.ceilings), self.num_keep))
        sizes = self.units.num_per_layer
        counts = tuple(at(size, floor) for size, floor in zip(sizes, self.floors, strict=True))
        if self.bundles:  # equal counts in every layer cannot fall evenly
            loose = replace(self, floors=(0,) * len(sizes), ceilings=tuple(sizes))
            return self if counts == self.floors else loose.at_least(sum(counts))
        return replace(self, num_keep=sum(counts), floors=counts, ceilings=counts)

    @property
    def asked(self) -> str:
        """The call that asked for it, for messages."""
        numbers = (f"{KIND[kind].plural}={self.num_keep}" for kind in self.units.kinds)
        return f"Budget({', '.join(numbers)})"

    def at_least(self, num_keep: int) -> "CountQuota":
        """This quota with the smallest total that can be met from ``num_keep`` up."""
        if not self.bundles:
            return replace(self, num_keep=num_keep)
        return replace(self, num_keep=min(n for n in self.totals() if n >= num_keep))

    def totals(self) -> list[int]:
        """The totals that can be met, where there are bundles."""
        return totals(self.bundles, self.homes, self.floors, self.ceilings)


def counted(quota: Quota, asker: str) -> CountQuota:
    """A quota as one that counts units.

    Args:
        quota: any.
        asker: what needs a count, for the message.

    Raises:
        BudgetError: it is a limit on a cost.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
        >>> (quota,) = hc.Budget(heads=3).quotas(hc.units(model))
        >>> counted(quota, "RelaxedTopK").num_keep
        3
    """
    if not isinstance(quota, CountQuota):
        raise BudgetError(
            f"{quota.asked}: {asker} needs a number of units, and this budget limits a cost. Give "
            "a number of units, or another method or estimator: DSP() takes any budget."
        )
    return quota
