"""The cost of any keep of a table's units, in one currency."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headcount.errors import BudgetError
from headcount.units.cost import Cost
from headcount.units.kinds import KIND, KINDS, WHOLE
from headcount.units.nesting import parents
from headcount.units.table import UnitTable

Steps = Int[np.ndarray, " n_plus_1"]
"""The cost of a site with 0, 1, ... n of its units."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Costs:
    """The cost of any keep of a table's units, as an integer in one currency.

    A unit inside a removed sublayer or layer costs nothing. So that nothing counts twice, the cost
    of a sublayer or layer is only what its units do not cost: the output projection's bias, norms.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
        >>> costs = macs_of(hc.units(model, "head", "neuron"), length=128)
        >>> costs.whole == 12 * 27_262_976 + 3072 * 196_608
        True
    """

    units: UnitTable
    """The units that may be removed."""
    currency: str
    """``params``, ``macs``, or ``latency`` in nanoseconds."""
    base: int
    """The cost that is left when all units are gone."""
    steps: tuple[Steps, ...]
    """For each site, its cost with 0, 1, ... of its units."""
    copied: tuple[int, ...]
    """For each site, the part of a unit's cost that is saved while all layers of the stack keep the
    same units: they then share one table of position biases (T5)."""

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """For each site, the index of the innermost site around it; -1 for none."""
        return parents(self.units)

    @cached_property
    def whole(self) -> int:
        """The cost of the model before anything is removed."""
        return self.of(torch.ones(len(self.units), dtype=torch.bool))

    def of(self, keep: Bool[Tensor, " n"]) -> int:
        """The exact cost of a keep."""
        inside = self.inside(keep)
        counts = [int(inside[span].sum()) for span in self.units.slices]
        total = self.base + sum(
            int(steps[count]) for steps, count in zip(self.steps, counts, strict=True)
        )
        return total - self._shared(inside, counts)

    def inside(self, keep: Bool[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """A keep without the units inside removed sublayers and layers."""
        inside = keep.clone()
        # Outermost first: a removed layer clears its sublayers, and these then clear their units.
        for site in self.outermost_first:
            parent = self.parents[site]
            if parent >= 0 and not inside[self.units.slices[parent]].any():
                inside[self.units.slices[site]] = False
        return inside

    @cached_property
    def outermost_first(self) -> tuple[int, ...]:
        """Indices of the sites, each after the site around it."""
        # Heads and neurons lie in sublayers and layers, never in each other: one depth for all.
        depth = [min(KINDS.index(site.kind), len(WHOLE)) for site in self.units.sites]
        return tuple(sorted(range(len(depth)), key=depth.__getitem__))

    def _shared(self, keep: Tensor, counts: Sequence[int]) -> int:
        """The cost saved in stacks whose layers all keep the same units, and so share one table."""
        saved = 0
        for members in self._stacks:
            spans = [self.units.slices[site] for site in members]
            if all(torch.equal(keep[span], keep[spans[0]]) for span in spans):
                saved += sum(self.copied[site] * counts[site] for site in members)
        return saved

    @cached_property
    def _stacks(self) -> list[list[int]]:
        """For each stack with a shared table, the indices of its sites."""
        stacks: dict[tuple[str, str, str, str], list[int]] = {}
        for index, site in enumerate(self.units.sites):
            stacks.setdefault((site.tower, site.stack, site.branch, site.kind), []).append(index)
        return [members for members in stacks.values() if any(self.copied[i] for i in members)]

    def expected(self, chances: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """The mean cost if each unit stays with a given probability, independently of the others.

        A unit counts if it stays and everything around it stays: the product of the chances. A
        measured curve is read at the mean number of units. Shared tables count as copied.
        """
        total = chances.new_tensor(float(self.base))
        through: dict[int, Tensor] = {-1: chances.new_ones(())}
        for site in self.outermost_first:
            own = chances[self.units.slices[site]]
            around = through[self.parents[site]]
            total = total + around * _mean(self.steps[site], own)
            through[site] = around * own[0] if self.units.sites[site].kind in WHOLE else around
        return total


def _mean(steps: Steps, chances: Tensor) -> Tensor:
    """The mean cost of a site whose units stay with these chances."""
    first, each = fixed_and_each(steps)
    # The fixed part is paid unless all units go.
    if first is not None:
        return first * (1 - (1 - chances).prod()) + each * chances.sum()
    # A measured curve: linear between the last counts of equal cost, so that a gradient passes
    # through the number even where the next unit is free.
    number = chances.sum()
    ends = [0, *(np.flatnonzero(np.diff(steps)[1:]) + 1).tolist(), len(steps) - 1]
    last = min(bisect_right(ends, float(number.detach())), len(ends) - 1)
    below, above = ends[last - 1], ends[last]
    slope = int(steps[above] - steps[below]) / max(1, above - below)
    return int(steps[below]) + slope * (number - below)


def fixed_and_each(steps: Steps) -> tuple[int | None, int]:
    """(extra cost of the first unit, cost of each unit); (None, 0) for any other curve.

    Example:
        >>> fixed_and_each(np.array([0, 7, 12, 17])), fixed_and_each(np.array([0, 1, 9, 9]))
        ((2, 5), (None, 0))
    """
    rises = np.diff(steps)
    each = int(rises[-1])
    return (int(rises[0]) - each, each) if (rises[1:] == each).all() else (None, 0)


def params_of(units: UnitTable) -> Costs:
    """Costs in parameters, of the whole model.

    Raises:
        BudgetError: layers share weights, so that removing a unit in one of them frees nothing.
    """
    if units.num_params is None:
        raise BudgetError(
            "Budget(params=...): the model's layers share weights, so removing a unit from one of "
            "them frees no parameters. Give macs, or a number of units."
        )
    none = (0,) * len(units.sites)
    own = _own(units, lambda cost: cost.params, none)
    copied = _own_copies(units)
    return Costs(
        units=units,
        currency="params",
        base=units.num_params - sum(own.values()),
        steps=_linear(units, own, copied, lambda cost: cost.params, none),
        copied=copied,
    )


def macs_of(units: UnitTable, length: int) -> Costs:
    """Costs in MACs on one sequence, of the units only: the rest of the model does not count.

    Attention without heads, or removed as a sublayer, may still run one head of zeros. These MACs
    go only with its layer.

    Args:
        units: the units.
        length: tokens of the sequence, of queries as well as keys.

    Raises:
        BudgetError: the cost of a unit depends on more than the length.
    """
    unknown = next((site for site in units.sites if site.uncounted), None)
    if unknown is not None:
        raise BudgetError(
            f"Budget(macs=...): the MACs of {KIND[unknown.kind].nouns} in {unknown.module} are not "
            f"known exactly: {unknown.uncounted}. Give a number of units, params or a latency."
        )
    none = (0,) * len(units.sites)
    left = [site.left * length**2 for site in units.sites]
    own = _own(units, lambda cost: cost.macs(length), left)
    steps = _linear(units, own, none, lambda cost: cost.macs(length), left)
    # What outermost sites leave is never freed. What inner ones leave goes with the site around.
    outermost = (left[i] for i, parent in enumerate(parents(units)) if parent < 0)
    return Costs(units=units, currency="macs", base=sum(outermost), steps=steps, copied=none)


def latency_of(units: UnitTable, curves: Mapping[tuple[str, str], Steps], whole: int) -> Costs:
    """Costs in nanoseconds, as measured.

    Args:
        units: the units.
        curves: for each site, its cost with 0, 1, ... of its units.
        whole: the latency of the whole model.
    """
    steps = tuple(curves[site.key] for site in units.sites)
    base = whole - sum(int(curve[-1]) for curve in steps)
    none = (0,) * len(units.sites)
    return Costs(units=units, currency="latency", base=base, steps=steps, copied=none)


def _own(units: UnitTable, amount: Callable[[Cost], int], left: Sequence[int]) -> dict[int, int]:
    """The cost of each whole site, without the sites inside it and without what it leaves."""
    full = [site.num_units * amount(site.cost) + amount(site.rest) for site in units.sites]
    return _without_inner(units, [one - other for one, other in zip(full, left, strict=True)])


def _own_copies(units: UnitTable) -> tuple[int, ...]:
    own = _without_inner(units, [site.num_units * site.copied for site in units.sites])
    return tuple(own[i] // site.num_units for i, site in enumerate(units.sites))


def _without_inner(units: UnitTable, full: Sequence[int]) -> dict[int, int]:
    """Subtract from each site the full cost of the sites directly inside it."""
    own = dict(enumerate(full))
    for index, parent in enumerate(parents(units)):
        if parent >= 0:  # sites further out subtract the parent's full cost, with this in it
            own[parent] -= full[index]
    return own


def _linear(
    units: UnitTable,
    own: Mapping[int, int],
    copied: Sequence[int],
    amount: Callable[[Cost], int],
    left: Sequence[int],
) -> tuple[Steps, ...]:
    """The cost curve of each site: nothing without units, then ``rest`` once and ``each`` per unit.

    ``rest`` is less by what the site leaves (one head of zeros), which is counted elsewhere.
    """
    steps = []
    for index, site in enumerate(units.sites):
        rest = 0 if site.kind in WHOLE else amount(site.rest) - left[index]
        each = (own[index] - rest) // site.num_units + copied[index]
        rising = np.arange(site.num_units + 1, dtype=np.int64) * each
        rising[1:] += rest
        steps.append(rising)
    return tuple(steps)
