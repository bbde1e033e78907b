"""How many units must remain, exactly."""

import math
from dataclasses import dataclass
from typing import Literal

from headcount.errors import BudgetError
from headcount.units.table import UnitTable


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
    """A budget checked against one model: counts only.

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What must remain, exactly.

    Example:
        >>> Budget(heads=12)                      # 12 heads in all
        Budget(heads=12, scope='global', min_per_layer=0)
        >>> Budget(heads=0.25).heads              # a quarter of the heads
        0.25
        >>> Budget(heads=3, scope="layer").scope  # 3 heads in every layer
        'layer'

    Raises:
        BudgetError: a value that cannot be a budget, whatever the model.
    """

    heads: int | float
    """Attention heads to keep: a count (int), or a fraction of the model's heads (float in
    [0, 1], rounded to the nearest count, halves up)."""
    scope: Literal["global", "layer"] = "global"
    """``global``: the number is for the whole model; ``layer``: for every layer alike."""
    min_per_layer: int = 0
    """At least so many heads stay in every layer."""

    def __post_init__(self) -> None:
        call = f"Budget(heads={self.heads!r})"
        if isinstance(self.heads, bool) or not isinstance(self.heads, int | float):
            raise BudgetError(
                f"{call}: {type(self.heads).__name__} is not a number. Give a count such as 12, "
                "or a fraction such as 0.25."
            )
        if isinstance(self.heads, float) and not 0 <= self.heads <= 1:
            raise BudgetError(
                f"{call}: a fraction lies between 0.0 and 1.0. Give a whole number for a count."
            )
        if self.heads < 0:
            raise BudgetError(f"{call}: a count cannot be negative. Give 0 or more.")
        if self.scope not in ("global", "layer"):
            raise BudgetError(f"Budget(scope={self.scope!r}): give 'global' or 'layer'.")
        if not isinstance(self.min_per_layer, int) or self.min_per_layer < 0:
            raise BudgetError(
                f"Budget(min_per_layer={self.min_per_layer!r}): give a whole number, 0 or more."
            )

    def resolve(self, units: UnitTable) -> Quota:
        """The counts this budget means for one model.

        Args:
            units: the units of the model.

        Returns:
            Exact counts: in all, and between which limits in each layer.

        Raises:
            BudgetError: no keep of this model meets the budget; the message has the nearest
                values that can be met.
        """
        sizes = units.num_per_layer
        if self.scope == "layer":
            counts = tuple(self._count(size, "a layer of the model has") for size in sizes)
            floors = ceilings = counts
            num_keep = sum(counts)
            low = min(counts, default=0)
        else:
            num_keep = self._count(sum(sizes), "the model has")
            floors, ceilings = (self.min_per_layer,) * len(sizes), sizes
            low = min(sizes, default=0)
        if self.min_per_layer > low:
            raise BudgetError(
                f"Budget(heads={self.heads!r}, min_per_layer={self.min_per_layer}): some layer can "
                f"only keep {low} heads. Give min_per_layer 0 to {low}."
            )
        if num_keep < sum(floors):
            raise BudgetError(
                f"Budget(heads={self.heads!r}, min_per_layer={self.min_per_layer}): "
                f"{len(sizes)} layers need {sum(floors)} heads. "
                f"Give heads {sum(floors)} to {sum(sizes)}, or a smaller min_per_layer."
            )
        return Quota(num_keep=num_keep, floors=floors, ceilings=ceilings)

    def _count(self, total: int, owner: str) -> int:
        if isinstance(self.heads, float):
            return math.floor(self.heads * total + 0.5)
        if self.heads > total:
            raise BudgetError(
                f"Budget(heads={self.heads}): {owner} {total} heads. Give 0 to {total}."
            )
        return self.heads
