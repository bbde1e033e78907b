"""A budget of parameters, multiply-accumulates or time, checked against one model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from headcount.maths.knapsack import Stream, approach, choose, cost, fill, settle
from headcount.maths.select import check_finite
from headcount.units.costs import Costs, fixed_and_each
from headcount.units.kinds import KINDS
from headcount.units.quota import Quota
from headcount.units.table import UnitTable

Solver = Callable[[Sequence[Stream], int], list[int]]


@final
@dataclass(frozen=True, eq=False, kw_only=True)
class CostLimit(Quota):
    """A limit on what the kept units cost; several kinds of unit compete for it.

    The keep is the one of the greatest value whose cost is not above the limit, and no unit more
    would fit. What a unit is worth follows from its score s, of which the lowest is s_min:

    - *ranks* (the usual case): its cost times the number of different scores below its own. So
      units go in the order of their scores, whatever their size and however far apart these are,
      as far as the limit can be met that way; and what lies in a sublayer or layer has no higher
      rank than that.
    - *sums* (``additive``): ``s - min(0, s_min)``. Scores are losses that add up, so that an
      expensive unit has to be worth more than the cheap ones that could stay in its place.

    Example:
        >>> import headcount as hc, torch, transformers
        >>> from headcount.units.costs import macs_of
        >>> table = hc.units(transformers.BertModel(transformers.BertConfig(num_hidden_layers=1)))
        >>> costs = macs_of(table.only("head", "neuron"), length=128)
        >>> quota = CostLimit(costs=costs, limit=costs.whole // 2, amount=0.5)
        >>> keep = quota.keep(torch.arange(12.0 + 3072))
        >>> costs.of(keep) <= quota.target < costs.of(keep) + 196_608
        True
    """

    costs: Costs
    """What any keep costs."""
    limit: int
    """The greatest cost."""
    amount: int | float
    """What the budget says: the limit, or a share of the whole."""
    floor: int = 0
    """Of each kind, the best so many units of each layer stay, whatever they cost."""
    additive: bool = False
    """Whether scores add up; else they rank."""
    place: str = ""
    """The place that the budget names; empty if it names none."""
    _last: dict[tuple[bytes, bytes], Tensor] = field(default_factory=dict, repr=False)

    def keep(
        self, scores: Float[Tensor, " n"], *, allowed: Bool[Tensor, " n"] | None = None
    ) -> Bool[Tensor, " n"]:
        """The keep of the greatest value within the limit.

        Units of one cost are taken in the order of their scores, ties by the lowest index; how
        many of each, ``headcount.maths.knapsack.choose`` finds. Of sublayers and layers that are
        alike in cost and scores, the first stay.
        """
        check_finite(scores)
        known = scores.detach().cpu().double().numpy()
        may = np.ones(len(known), dtype=bool) if allowed is None else allowed.cpu().numpy()
        key = known.tobytes(), may.tobytes()
        if key not in self._last:
            keep = torch.from_numpy(self._keep(choose, known, may))
            self._last.clear()
            self._last[key] = keep
        return self._last[key].clone()

    def draw(self, scores: Float[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """A keep within the limit to which no unit could be added.

        It is the best where units have two costs, as all heads and all neurons of most models do.
        Else it is near the best (``headcount.maths.knapsack.approach``), which takes milliseconds,
        not seconds, on a model of 100 million parameters.
        """
        check_finite(scores)
        known = scores.detach().cpu().double().numpy()
        everything = np.ones(len(known), dtype=bool)
        return torch.from_numpy(self._keep(approach, known, everything))

    @property
    def target(self) -> int:
        """The greatest cost."""
        return self.limit

    @property
    def units(self) -> UnitTable:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The units that may go."""
        return self.costs.units

    @property
    def whole(self) -> int:
        """What the model costs before anything is removed."""
        return self.costs.whole

    def expected(self, chances: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """The mean cost; see ``Costs.expected``."""
        return self.costs.expected(chances)

    def between(self, at: Callable[[int, int], int]) -> "CostLimit":
        """A quota whose limit is on the way from the whole cost to this one's."""
        limit = at(self.costs.whole, self.limit)
        return self if limit == self.limit else replace(self, limit=limit, _last={})

    @property
    def asked(self) -> str:
        """The call that asked for it, for messages."""
        return f"Budget({self.costs.currency}={self.amount!r})"

    def reached(self, keep: Bool[Tensor, " n"]) -> dict[str, Any]:
        """What was asked and what the keep costs."""
        cost = {
            "kind": self.costs.currency,
            "asked": self.amount,
            "target": self.limit,
            "reached": self.costs.of(keep),
            "whole": self.costs.whole,
        }
        return {"cost": cost}

    def _keep(self, solver: Solver, scores: np.ndarray, may: np.ndarray) -> np.ndarray:
        if self.limit >= self.costs.whole and may.all():
            return np.ones(len(scores), dtype=bool)
        values = self._values(scores)
        forced = self._forced(scores, may)
        orders = [self._order(sites, values, forced, may) for sites in self._classes]
        taken = [int(forced[order].sum()) for order in orders]
        streams, room = self._streams(values, orders, taken)
        places = [min(sites) for sites in self._classes]
        counts = settle(streams, solver(streams, room), places)
        keep = _written(len(scores), orders, taken, counts)
        # Tables that no layer needs a copy of, because all keep the same, leave room for more.
        spare = self.limit - self.costs.of(torch.from_numpy(keep))
        spare -= room - cost(streams, counts)
        more = settle(streams, fill(streams, counts, room + spare), places) if spare else counts
        fuller = _written(len(scores), orders, taken, more)
        return fuller if self.costs.of(torch.from_numpy(fuller)) <= self.limit else keep

    def _values(self, scores: np.ndarray) -> np.ndarray:
        """What each unit is worth, 0 or more, [N]."""
        if self.additive:
            return scores - min(0.0, float(scores.min()))
        ranks, slices = scores.copy(), self.costs.units.slices
        for site in self.costs.outermost_first:
            parent = self.costs.parents[site]
            if parent >= 0:
                ranks[slices[site]] = np.minimum(ranks[slices[site]], ranks[slices[parent]])
        ranks = np.unique(ranks, return_inverse=True)[1].astype(np.float64)
        for steps, span in zip(self.costs.steps, slices, strict=True):
            ranks[span] *= int(steps[-1]) / (len(steps) - 1)
        return ranks

    def _forced(self, scores: np.ndarray, may: np.ndarray) -> np.ndarray:
        """The units that stay because of the floor, [N]."""
        forced = np.zeros(len(scores), dtype=bool)
        if self.floor:
            layer = self.units.layer_of_unit.numpy()
            kinds = np.repeat(self._kinds, [site.num_units for site in self.costs.units.sites])
            for place in {*zip(kinds.tolist(), layer.tolist(), strict=True)}:
                inside = np.flatnonzero((kinds == place[0]) & (layer == place[1]) & may)
                ranked = inside[np.argsort(-scores[inside], kind="stable")]
                forced[ranked[: self.floor]] = True
        return forced

    @cached_property
    def _kinds(self) -> list[int]:
        return [KINDS.index(site.kind) for site in self.costs.units.sites]

    @cached_property
    def _classes(self) -> list[tuple[int, ...]]:
        """Sites whose units may stand in for each other, and the others; inner ones first."""
        classes: dict[object, list[int]] = {}
        for site in reversed(self.costs.outermost_first):
            fixed, price = fixed_and_each(self.costs.steps[site])
            alike = fixed == 0 and self.costs.parents[site] < 0 and self._kinds[site] > 1
            classes.setdefault(("cost", price) if alike else site, []).append(site)
        return [tuple(sorted(sites)) for sites in classes.values()]

    def _order(
        self, sites: tuple[int, ...], values: np.ndarray, forced: np.ndarray, may: np.ndarray
    ) -> np.ndarray:
        """The units of some sites in the order in which they are taken."""
        spans = [self.costs.units.slices[site] for site in sites]
        units = np.concatenate([np.arange(span.start, span.stop) for span in spans])
        units = units[may[units]]
        units = units[np.argsort(-values[units], kind="stable")]
        return units[np.argsort(~forced[units], kind="stable")] if self.floor else units

    def _streams(
        self, values: np.ndarray, orders: list[np.ndarray], taken: list[int]
    ) -> tuple[list[Stream], int]:
        """What there is to take beyond the forced units, and how much it may cost."""
        room, streams = self.limit - self.costs.base, []
        home = {site: index for index, sites in enumerate(self._classes) for site in sites}
        for order, first, sites in zip(orders, taken, self._classes, strict=True):
            site, *others = sites
            steps = self.costs.steps[site]
            if others:  # all alike
                steps = np.arange(len(order) + 1) * int(steps[1])
            steps = steps[first : len(order) + 1]
            worth = np.concatenate(([0.0], values[order].cumsum()))[first:]
            parent = home.get(self.costs.parents[site], -1)
            streams.append(Stream(worth - worth[0], steps - steps[0], parent))
            room -= int(steps[0])
        return streams, room


def _written(
    size: int, orders: list[np.ndarray], taken: list[int], counts: list[int]
) -> np.ndarray:
    """The keep that takes so many units of each order."""
    keep = np.zeros(size, dtype=bool)
    for order, first, count in zip(orders, taken, counts, strict=True):
        keep[order[: first + count]] = True
    return keep
