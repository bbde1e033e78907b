"""Exact selection: the one function that turns scores into a keep."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headcount.errors import BudgetError

Bundle = tuple[int, int]
"""(units, groups) of a site: its units in order, in that many groups of equal size."""


def select(
    scores: Float[Tensor, " n"],
    num_keep: int,
    *,
    layer: Int[Tensor, " n"],
    floors: Sequence[int],
    ceilings: Sequence[int],
    bundles: Sequence[Bundle] = (),
    allowed: Bool[Tensor, " n"] | None = None,
) -> Bool[Tensor, " n"]:
    r"""Keep exactly ``num_keep`` units of the highest scores, within limits per layer.

    Of all keeps with exactly ``num_keep`` units and between ``floors[l]`` and ``ceilings[l]`` of
    them in each layer ``l``, this one has the greatest sum of scores. Ties go to the lowest index.
    The limits form a laminar matroid, on which taking the best first is optimal: first the
    ``floors[l]`` best of each layer, then the best of the rest as long as its layer has room.

    With ``bundles``, every group of a site keeps equally many units. Then the j best units of each
    group of a site come and go together, and how many each site keeps is found by dynamic
    programming over the total.

    Args:
        scores: importance of each unit, higher = keep; finite.
        num_keep: K, the number of units to keep.
        layer: the layer of each unit, 0 to L - 1.
        floors: least number of units to keep in each layer, [L].
        ceilings: greatest number of units to keep in each layer, [L].
        bundles: the sites' (units, groups), in the order of the units; empty for no bundles.
        allowed: units that may be kept; None for all.

    Returns:
        True where the unit stays; its sum is ``num_keep``.

    Raises:
        BudgetError: a score is not finite, or no keep meets the limits.

    Example:
        >>> select(torch.tensor([0.9, 0.8, 0.1, 0.2]), 2, layer=torch.tensor([0, 0, 1, 1]),
        ...        floors=[0, 1], ceilings=[2, 2])
        tensor([ True, False, False,  True])

    Source: Edmonds, "Matroids and the greedy algorithm", Mathematical Programming 1 (1971).
    """
    check_finite(scores)
    may = torch.ones(len(scores), dtype=torch.bool) if allowed is None else allowed
    if bundles:
        return _select_bundles(scores, num_keep, layer, floors, ceilings, bundles, may)
    sizes = torch.bincount(layer[may], minlength=len(floors)).tolist()
    room = [min(ceiling, size) for ceiling, size in zip(ceilings, sizes, strict=True)]
    _check(num_keep, floors, room)
    ranking = scores.detach().cpu().argsort(descending=True, stable=True)
    ranking = ranking[may[ranking]]
    home = layer[ranking]
    place = _place_in_layer(home)
    owed = place < torch.tensor(floors, dtype=torch.long)[home]
    rest = ~owed & (place < torch.tensor(room, dtype=torch.long)[home])
    chosen = owed | (rest & (rest.cumsum(0) <= num_keep - sum(floors)))
    keep = torch.zeros(len(scores), dtype=torch.bool)
    keep[ranking[chosen]] = True
    return keep


def check_finite(scores: Float[Tensor, " n"]) -> None:
    """Refuse scores by which nothing can be chosen.

    Raises:
        BudgetError: a score is not finite.
    """
    if not scores.isfinite().all():
        where = (~scores.isfinite()).nonzero().flatten().tolist()
        raise BudgetError(
            f"select: the scores of units {where[:8]} are not finite. Give a number for each "
            "unit; look for a loss or a gradient that is not finite."
        )


def _place_in_layer(home: Int[Tensor, " m"]) -> Int[Tensor, " m"]:
    """How many units before each one are of the same layer, [M]."""
    order = home.argsort(stable=True)
    first = home.bincount().cumsum(0) - home.bincount()
    place = torch.empty_like(home)
    place[order] = torch.arange(len(home)) - first[home[order]]
    return place


def totals(
    bundles: Sequence[Bundle],
    homes: Sequence[int] | None = None,
    floors: Sequence[int] = (),
    ceilings: Sequence[int] = (),
) -> list[int]:
    """The numbers of units that can be kept with equally many in each group of a site.

    Args:
        bundles: the sites' (units, groups).
        homes: the layer of each site, if there are limits for layers.
        floors: least number of units in each layer.
        ceilings: greatest number of units in each layer.

    Example:
        >>> totals([(8, 4), (8, 4)])
        [0, 4, 8, 12, 16]
        >>> totals([(8, 4), (8, 4)], homes=[0, 1], floors=[1, 0], ceilings=[8, 4])
        [4, 8, 12]
    """
    places = list(homes) if homes is not None else list(range(len(bundles)))
    inside: dict[int, set[int]] = {}
    for (units, groups), home in zip(bundles, places, strict=True):
        before = inside.get(home, {0})
        inside[home] = {a + b for a in before for b in range(0, units + 1, groups)}
    reached = {0}
    for home, counts in inside.items():
        low, high = (floors[home], ceilings[home]) if floors else (0, max(counts))
        fitting = {count for count in counts if low <= count <= high}
        reached = {a + b for a in reached for b in fitting}
    return sorted(reached)


def _check(num_keep: int, floors: Sequence[int], room: Sequence[int]) -> None:
    if not sum(floors) <= num_keep <= sum(room) or any(
        f > r for f, r in zip(floors, room, strict=True)
    ):
        raise BudgetError(
            f"select: {num_keep} units cannot be kept with {list(floors)} to {list(room)} of them "
            f"in the layers. Give {sum(floors)} to {sum(room)}."
        )


def _select_bundles(
    scores: Tensor,
    num_keep: int,
    layer: Tensor,
    floors: Sequence[int],
    ceilings: Sequence[int],
    bundles: Sequence[Bundle],
    may: Tensor,
) -> Tensor:
    values = scores.detach().cpu().double()
    options = _sites(values, bundles, may)
    starts = [0, *torch.tensor([units for units, _ in bundles]).cumsum(0).tolist()]
    homes = [int(layer[start]) if units else -1
             for start, (units, _) in zip(starts[:-1], bundles, strict=True)]  # fmt: skip
    counts = _counts(options, homes, num_keep, floors, ceilings)
    if counts is None:
        raise BudgetError(
            f"select: {num_keep} units cannot be kept with equally many in each group of a site. "
            f"Give one of {totals(bundles, homes, floors, ceilings)}."
        )
    keep = torch.zeros(len(scores), dtype=torch.bool)
    start = 0
    for (units, groups), count in zip(bundles, counts, strict=True):
        table = values[start : start + units].view(groups, -1)
        best = table.argsort(dim=1, descending=True, stable=True)[:, : count // groups]
        rows = torch.arange(groups)[:, None] * table.shape[1]
        keep[start + (rows + best).flatten()] = True
        start += units
    return keep


def _sites(values: Tensor, bundles: Sequence[Bundle], may: Tensor) -> list[dict[int, float]]:
    """For each site, how many units it may keep -> the greatest sum of their scores."""
    sites, start = [], 0
    for units, groups in bundles:
        table = values[start : start + units].view(groups, -1)
        ranked = table.sort(1, descending=True).values.sum(0).cumsum(0).tolist()
        usable = units if bool(may[start : start + units].all()) else 0
        sums = [0.0, *ranked]
        sites.append({count: sums[count // groups] for count in range(0, usable + 1, groups)})
        start += units
    return sites


def _counts(
    sites: Sequence[dict[int, float]],
    homes: Sequence[int],
    num_keep: int,
    floors: Sequence[int],
    ceilings: Sequence[int],
) -> list[int] | None:
    """How many units each site keeps, for the greatest sum; None if no choice adds up."""
    if num_keep < 0:
        return None
    inside: dict[int, dict[int, tuple[float, tuple[int, ...]]]] = {}
    for options, home in zip(sites, homes, strict=True):
        inside[home] = _both(inside.get(home, {0: (0.0, ())}), options)
    order = list(inside)
    limited = [
        {n: found for n, found in inside[home].items() if floors[home] <= n <= ceilings[home]}
        for home in order
    ]
    if any(low > 0 for home, low in enumerate(floors) if home not in inside):
        return None
    chosen = _layers([{n: value for n, (value, _) in each.items()} for each in limited], num_keep)
    if chosen is None:
        return None
    taken = {
        home: list(each[count][1]) for home, each, count in zip(order, limited, chosen, strict=True)
    }
    return [taken[home].pop(0) for home in homes]


def _both(
    before: dict[int, tuple[float, tuple[int, ...]]], options: dict[int, float]
) -> dict[int, tuple[float, tuple[int, ...]]]:
    """The best way to keep each total in the sites so far and one more."""
    best: dict[int, tuple[float, tuple[int, ...]]] = {}
    for total, (value, counts) in before.items():
        for count, more in sorted(options.items(), reverse=True):
            if total + count not in best or value + more > best[total + count][0]:
                best[total + count] = (value + more, (*counts, count))
    return best


def _layers(layers: Sequence[dict[int, float]], num_keep: int) -> list[int] | None:
    """How many units each layer keeps, for the greatest sum; None if no choice adds up."""
    best = np.full(num_keep + 1, -np.inf)
    best[0] = 0.0
    chosen = []
    for options in layers:
        after, choice = np.full(num_keep + 1, -np.inf), np.zeros(num_keep + 1, dtype=int)
        for count, value in sorted(options.items(), reverse=True):
            if count <= num_keep:
                sums = best[: num_keep + 1 - count] + value
                better = sums > after[count:]
                after[count:][better], choice[count:][better] = sums[better], count
        best = after
        chosen.append(choice)
    if not np.isfinite(best[num_keep]):
        return None
    counts, left = [], num_keep
    for choice in reversed(chosen):
        counts.append(int(choice[left]))
        left -= counts[-1]
    return counts[::-1]
