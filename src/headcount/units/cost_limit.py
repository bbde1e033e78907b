"""The quota of a budget of parameters, multiply-accumulates or time."""

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
    """A limit on the cost of the kept units, for which several kinds of unit compete.

    The keep has the greatest value of all keeps whose cost is at most the limit, and no further
    unit fits. The value of a unit follows from its score s; s_min is the lowest score:

    - *ranks* (the usual case): its cost times the number of different scores below its own. So
      units are removed in the order of their scores, whatever their cost, until the limit is met.
      A unit in a sublayer or layer ranks no higher than that.
    - *sums* (``additive``): ``s - min(0, s_min)``. Scores are losses that add up. So an expensive
      unit has to be worth more than the cheap units that could stay in its place.

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
    """The cost of every keep."""
    limit: int
    """The greatest cost."""
    amount: int | float
    """The number in the budget: the limit, or a share of the whole cost."""
    floor: int = 0
    """In each layer, this many top-scoring units of each kind always stay, whatever they cost."""
    additive: bool = False
    """Whether scores add up; if not, they rank."""
    place: str = ""
    """The place that the budget names; empty if it names none."""
    _last: dict[tuple[bytes, bytes], Tensor] = field(default_factory=dict, repr=False)
    """(Scores, allowed) of the last ``keep`` -> the keep: the search may take seconds, and
    evaluation asks for the same keep at every pass."""

    def keep(
        self, scores: Float[Tensor, " n"], *, allowed: Bool[Tensor, " n"] | None = None
    ) -> Bool[Tensor, " n"]:
        """The keep with the greatest value within the limit.

        Among units of one cost, those with the highest scores stay, on ties those with the lowest
        index. How many units of each cost stay is found by ``headcount.maths.knapsack.choose``. Of
        sublayers and layers with equal cost and scores, the first stay.
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
        """A keep within the limit to which no unit can be added; fast enough for a training step.

        It is the best keep if units have at most two different costs, as heads and neurons of most
        models do. Otherwise it is near the best (``headcount.maths.knapsack.approach``). On a model
        of 100 million parameters that takes milliseconds instead of seconds.
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
        """The units that may be removed."""
        return self.costs.units

    @property
    def whole(self) -> int:
        """The cost of the model before anything is removed."""
        return self.costs.whole

    def expected(self, chances: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """The expected cost; see ``Costs.expected``."""
        return self.costs.expected(chances)

    def between(self, at: Callable[[int, int], int]) -> "CostLimit":
        """A quota with a limit between the whole cost and this one's."""
        limit = at(self.costs.whole, self.limit)
        return self if limit == self.limit else replace(self, limit=limit, _last={})

    @property
    def asked(self) -> str:
        """The budget as a call, for messages."""
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
        # The streams count T5's position-bias columns as if each layer had its own copy. If all
        # layers keep the same heads, they share one table, and the spare room is filled.
        spare = self.limit - self.costs.of(torch.from_numpy(keep))
        spare -= room - cost(streams, counts)
        more = settle(streams, fill(streams, counts, room + spare), places) if spare else counts
        fuller = _written(len(scores), orders, taken, more)
        return fuller if self.costs.of(torch.from_numpy(fuller)) <= self.limit else keep

    def _values(self, scores: np.ndarray) -> np.ndarray:
        """The value of each unit, 0 or more, [N]."""
        if self.additive:
            return scores - min(0.0, float(scores.min()))
        # A unit ranks no higher than the sublayer or layer around it. Outermost first, so that the
        # rank of a layer reaches the heads of its sublayers.
        ranks, slices = scores.copy(), self.costs.units.slices
        for site in self.costs.outermost_first:
            parent = self.costs.parents[site]
            if parent >= 0:
                ranks[slices[site]] = np.minimum(ranks[slices[site]], ranks[slices[parent]])
        # The value for each parameter (or MAC, or nanosecond) is then the rank.
        ranks = np.unique(ranks, return_inverse=True)[1].astype(np.float64)
        for steps, span in zip(self.costs.steps, slices, strict=True):
            ranks[span] *= int(steps[-1]) / (len(steps) - 1)
        return ranks

    def _forced(self, scores: np.ndarray, may: np.ndarray) -> np.ndarray:
        """True for the units that stay because of the floor, [N]."""
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
        """The sites in classes, inner ones first; units of one class are taken in one order.

        Sites are in one class if all their units have one cost and nothing around or inside them,
        such as the heads of all layers. Any other site is a class of its own.
        """
        classes: dict[object, list[int]] = {}
        for site in reversed(self.costs.outermost_first):
            fixed, price = fixed_and_each(self.costs.steps[site])
            alike = fixed == 0 and self.costs.parents[site] < 0 and self._kinds[site] > 1
            classes.setdefault(("cost", price) if alike else site, []).append(site)
        return [tuple(sorted(sites)) for sites in classes.values()]

    def _order(
        self, sites: tuple[int, ...], values: np.ndarray, forced: np.ndarray, may: np.ndarray
    ) -> np.ndarray:
        """The allowed units of a class in the order in which they are taken: forced ones first."""
        spans = [self.costs.units.slices[site] for site in sites]
        units = np.concatenate([np.arange(span.start, span.stop) for span in spans])
        units = units[may[units]]
        units = units[np.argsort(-values[units], kind="stable")]
        return units[np.argsort(~forced[units], kind="stable")] if self.floor else units

    def _streams(
        self, values: np.ndarray, orders: list[np.ndarray], taken: list[int]
    ) -> tuple[list[Stream], int]:
        """A stream for each class, of the units beyond the forced ones, and the room for these."""
        room, streams = self.limit - self.costs.base, []
        home = {site: index for index, sites in enumerate(self._classes) for site in sites}
        for order, first, sites in zip(orders, taken, self._classes, strict=True):
            site, *others = sites
            steps = self.costs.steps[site]
            if others:  # units of one cost, in several sites
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
    """The keep with the first ``taken + counts`` units of each order."""
    keep = np.zeros(size, dtype=bool)
    for order, first, count in zip(orders, taken, counts, strict=True):
        keep[order[: first + count]] = True
    return keep
