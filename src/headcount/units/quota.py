"""A budget checked against one model: exact counts for a pool of units."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from jaxtyping import Bool, Float, Int
from torch import Tensor

from headcount.maths.select import Bundle, select, totals
from headcount.units.table import UnitTable


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
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
        """How much remains on the mean if each unit stays by chance; compare with ``target``.

        Args:
            chances: probability that a unit stays, [N]; a gradient passes through.
        """
        return chances.sum()

    def between(self, sizes: tuple[int, ...], at: Callable[[int, int], int]) -> "Quota":
        """A quota on the way from all units to this one.

        Args:
            sizes: units of each layer, [L].
            at: from a number at the start and one at the end to the one in between.
        """
        if self.floors != self.ceilings:
            return self.at_least(at(sum(self.ceilings), self.num_keep))
        counts = tuple(at(size, floor) for size, floor in zip(sizes, self.floors, strict=True))
        if self.bundles:  # equal counts in every layer cannot fall evenly
            loose = replace(self, floors=(0,) * len(sizes), ceilings=tuple(sizes))
            return self if counts == self.floors else loose.at_least(sum(counts))
        return Quota(num_keep=sum(counts), floors=counts, ceilings=counts)

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
    """The units, all of one kind."""
    quota: Quota
    """How many of them stay."""
    place: str = ""
    """Where they are, if the budget says so."""
