"""A budget checked against one model: exact counts for a pool of units."""

import abc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor

from headcount.maths.select import Bundle, select, totals
from headcount.units.table import UnitTable


class AnyQuota(abc.ABC):
    """How much of a pool stays: what methods may ask of a quota, whatever it counts.

    ``Quota`` counts units; ``headcount.units.cost_quota.CostQuota`` parameters, MACs or time.
    """

    __slots__ = ()

    @abc.abstractmethod
    def keep(
        self,
        scores: Float[Tensor, " n"],
        *,
        layer: Int[Tensor, " n"],
        allowed: Bool[Tensor, " n"] | None = None,
    ) -> Bool[Tensor, " n"]:
        """The exact keep of the highest scores.

        Args:
            scores: importance of each unit, higher = keep, [N].
            layer: the layer of each unit.
            allowed: units that may be kept; None for all.
        """

    def draw(self, scores: Float[Tensor, " n"], *, layer: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """A keep for one pass in training: ``keep``, or near it where that takes long.

        Args:
            scores: importance of each unit, higher = keep, [N].
            layer: the layer of each unit.
        """
        return self.keep(scores, layer=layer)

    @property
    @abc.abstractmethod
    def target(self) -> int:
        """How much remains."""

    @abc.abstractmethod
    def whole(self, units: UnitTable) -> int:
        """How much there is before anything is removed."""

    @abc.abstractmethod
    def expected(self, chances: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """How much remains on the mean if each unit stays by chance; compare with ``target``.

        Args:
            chances: probability that a unit stays, [N]; a gradient passes through.
        """

    @abc.abstractmethod
    def between(self, sizes: tuple[int, ...], at: Callable[[int, int], int]) -> "AnyQuota":
        """A quota on the way from everything to this one.

        Args:
            sizes: units of each layer, [L].
            at: from a number at the start and one at the end to the one in between.
        """

    @abc.abstractmethod
    def counts(self, asker: str) -> "Quota":
        """This quota, if it counts units.

        Args:
            asker: what needs a count, for the message.

        Raises:
            BudgetError: it counts something else.
        """

    @abc.abstractmethod
    def reached(self, keep: Bool[Tensor, " n"]) -> dict[str, Any]:
        """What a keep comes to, as plain values; empty where the keep says it itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota(AnyQuota):
    """A budget checked against one pool of units: counts only.

    Example:
        >>> Quota(num_keep=12, floors=(0, 0), ceilings=(12, 12)).num_keep
        12
    """

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
        self,
        scores: Float[Tensor, " n"],
        *,
        layer: Int[Tensor, " n"],
        allowed: Bool[Tensor, " n"] | None = None,
    ) -> Bool[Tensor, " n"]:
        """The exact keep of the highest scores; see ``headcount.maths.select.select``."""
        return select(
            scores,
            self.num_keep,
            layer=layer,
            floors=self.floors,
            ceilings=self.ceilings,
            bundles=self.bundles,
            allowed=allowed,
        )

    @property
    def target(self) -> int:
        """How much remains: K."""
        return self.num_keep

    def whole(self, units: UnitTable) -> int:
        """How much there is before anything is removed: N."""
        return len(units)

    def expected(self, chances: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """The mean number of units that stay."""
        return chances.sum()

    def between(self, sizes: tuple[int, ...], at: Callable[[int, int], int]) -> "Quota":
        """A quota on the way from all units to this one."""
        if self.floors != self.ceilings:
            return self.at_least(at(sum(self.ceilings), self.num_keep))
        counts = tuple(at(size, floor) for size, floor in zip(sizes, self.floors, strict=True))
        if self.bundles:  # equal counts in every layer cannot fall evenly
            loose = replace(self, floors=(0,) * len(sizes), ceilings=tuple(sizes))
            return self if counts == self.floors else loose.at_least(sum(counts))
        return Quota(num_keep=sum(counts), floors=counts, ceilings=counts)

    def counts(self, asker: str) -> "Quota":
        """Itself."""
        del asker
        return self

    def reached(self, keep: Bool[Tensor, " n"]) -> dict[str, Any]:
        """Nothing to say: the number of units kept is K."""
        del keep
        return {}

    def at_least(self, num_keep: int) -> "Quota":
        """This quota with the smallest total that can be met from ``num_keep`` up."""
        if not self.bundles:
            return replace(self, num_keep=num_keep)
        return replace(self, num_keep=min(n for n in self.totals() if n >= num_keep))

    def totals(self) -> list[int]:
        """The totals that can be met, where there are bundles."""
        return totals(self.bundles, self.homes, self.floors, self.ceilings)


@dataclass(frozen=True, slots=True)
class Pool:
    """The units that one number of a budget is about, and what the number means for them."""

    units: UnitTable
    """The units, all of one kind if they are counted."""
    quota: AnyQuota
    """How much of them stays."""
    place: str = ""
    """Where they are, if the budget says so."""
