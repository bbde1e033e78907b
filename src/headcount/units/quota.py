"""Quotas: for each number of a budget, the units of one model and how much of them stays."""

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
    """A number of a budget, with the units of one model that it applies to.

    ``CountQuota`` counts units. ``CostLimit`` (``headcount.units.cost_limit``) counts their
    parameters, MACs or time. Methods use only the members of this class, so they work with both.

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
    """The N units, all of one kind in a ``CountQuota``."""
    place: str
    """The place that the budget names for this number; empty if it names none."""

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
        """What remains: a number of units, or the greatest cost."""

    @property
    @abc.abstractmethod
    def whole(self) -> int:
        """The number of units, or their cost, before anything is removed."""

    @abc.abstractmethod
    def expected(self, chances: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """The expected number or cost of the units that stay; compare with ``target``.

        Args:
            chances: probability that each unit stays, [N]; a gradient passes through.
        """

    @abc.abstractmethod
    def between(self, at: Callable[[int, int], int]) -> "Quota":
        """A quota between the whole and this one, for a schedule.

        Args:
            at: takes the number for the whole and the number of this quota, and returns one in
                between.
        """

    def reached(self, keep: Bool[Tensor, " n"]) -> dict[str, Any]:
        """For a cost: what was asked and what the keep costs, as plain values; else empty."""
        return {}

    @property
    @abc.abstractmethod
    def asked(self) -> str:
        """The budget as a call, for messages: ``Budget(heads=3)``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CountQuota(Quota):
    """A number of units, with limits per layer.

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
    """The place that the budget names for this number; empty if it names none."""
    num_keep: int
    """K, the number of units to keep."""
    floors: tuple[int, ...]
    """Least number of units to keep in each layer, [L]."""
    ceilings: tuple[int, ...]
    """Greatest number of units to keep in each layer, [L]."""
    bundles: tuple[Bundle, ...] = ()
    """If query heads share key-value heads: (units, groups) of each site, where each group keeps
    the same number of units. Empty: any units may be kept."""
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
        """K, the number of units to keep."""
        return self.num_keep

    @property
    def whole(self) -> int:
        """N, the number of units."""
        return len(self.units)

    def expected(self, chances: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """The expected number of units that stay."""
        return chances.sum()

    def between(self, at: Callable[[int, int], int]) -> "CountQuota":
        """A quota between all units and this one."""
        if self.floors != self.ceilings:
            return self.at_least(at(sum(self.ceilings), self.num_keep))
        sizes = self.units.num_per_layer
        counts = tuple(at(size, floor) for size, floor in zip(sizes, self.floors, strict=True))
        # A layer's heads must be a multiple of its key-value heads, so the layers' numbers cannot
        # fall evenly. Until the end, only the total does, and layers are free.
        if self.bundles:
            loose = replace(self, floors=(0,) * len(sizes), ceilings=tuple(sizes))
            return self if counts == self.floors else loose.at_least(sum(counts))
        return replace(self, num_keep=sum(counts), floors=counts, ceilings=counts)

    @property
    def asked(self) -> str:
        """The budget as a call, for messages."""
        numbers = (f"{KIND[kind].plural}={self.num_keep}" for kind in self.units.kinds)
        return f"Budget({', '.join(numbers)})"

    def at_least(self, num_keep: int) -> "CountQuota":
        """This quota with the smallest total from ``num_keep`` up that can be met."""
        if not self.bundles:
            return replace(self, num_keep=num_keep)
        return replace(self, num_keep=min(n for n in self.totals() if n >= num_keep))

    def totals(self) -> list[int]:
        """The totals that can be met; only for a quota with bundles."""
        return totals(self.bundles, self.homes, self.floors, self.ceilings)

    def layer_that_cannot(self) -> int:
        """The index of the first layer that cannot keep its count; only with bundles."""
        for layer, floor in enumerate(self.floors):
            own = [b for b, home in zip(self.bundles, self.homes, strict=True) if home == layer]
            if floor not in totals(own):
                return layer
        return 0


def bundles_of(units: UnitTable) -> tuple[Bundle, ...]:
    """(units, groups) of each site, if some query heads share key-value heads or there are experts.

    A group is the query heads of a key-value head, or the neurons of an expert.

    Example:
        >>> bundles_of(UnitTable(sites=()))
        ()
    """
    bundles = tuple((site.num_units, site.num_groups) for site in units.sites)
    return bundles if any(groups > 1 for _, groups in bundles) else ()


def counted(quota: Quota, asker: str) -> CountQuota:
    """The quota, after a check that it counts units.

    Args:
        quota: any quota.
        asker: what needs a number of units, for the message.

    Raises:
        BudgetError: the quota is a limit on a cost.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
        >>> (quota,) = hc.Budget(heads=3).quotas(hc.units(model))
        >>> counted(quota, "RelaxedTopK").num_keep
        3
    """
    if not isinstance(quota, CountQuota):
        raise needs_number(quota.asked, asker)
    return quota


def needs_number(asked: str, asker: str) -> BudgetError:
    """The error for a budget of a cost where a number of units is needed.

    Args:
        asked: the budget as a call.
        asker: what needs a number of units.

    Example:
        >>> str(needs_number("Budget(macs=0.5)", "RelaxedTopK"))[:51]
        'Budget(macs=0.5): RelaxedTopK needs a number of uni'
    """
    return BudgetError(
        f"{asked}: {asker} needs a number of units, and this budget limits a cost. Give "
        "a number of units, or another method or estimator: DSP() takes any budget."
    )
