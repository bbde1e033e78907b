"""Exact selection: every keep with a fixed number of units is made from scores here."""

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headcount.errors import BudgetError
from headcount.maths.bundles import are_many, counts_of_many

Bundle = tuple[int, int]
"""(units, groups) of a site: its units form that many groups of equal size, group after group."""


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
    r"""Keep exactly ``num_keep`` units with the highest scores, within limits per layer.

    Of all keeps with ``num_keep`` units, and ``floors[l]`` to ``ceilings[l]`` of them in each layer
    ``l``, this one has the greatest sum of scores. Ties go to the lowest index: of two keeps with
    equal sums, the one that keeps the first unit in which they differ.
    The limits form a laminar matroid, on which taking the best first is optimal: first the
    ``floors[l]`` best of each layer, then the best of the rest as long as its layer has room.

    With ``bundles``, every group of a site keeps equally many units: if a site keeps j units per
    group, these are the j best of each. The number for each site is found by dynamic programming
    over the total, with exact sums.

    Args:
        scores: importance of each unit, higher = keep; finite.
        num_keep: K, the number of units to keep.
        layer: the layer of each unit, 0 to L - 1.
        floors: least number of units to keep in each layer, [L].
        ceilings: greatest number of units to keep in each layer, [L].
        bundles: the sites' (units, groups), in the order of the units; empty for no bundles.
        allowed: units that may be kept; None for all.

    Returns:
        True where the unit stays; ``num_keep`` entries are true.

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
    # A layer has no more room than it has units that may be kept.
    sizes = torch.bincount(layer[may], minlength=len(floors)).tolist()
    room = [min(ceiling, size) for ceiling, size in zip(ceilings, sizes, strict=True)]
    _check(num_keep, floors, room)
    # On the CPU and stable: ties go to the lowest index on every device.
    ranking = scores.detach().cpu().argsort(descending=True, stable=True)
    ranking = ranking[may[ranking]]
    home = layer[ranking]
    place = _place_in_layer(home)
    # ``owed``: within its layer's floor. ``rest``: above the floor, within the ceiling; of these
    # the first in the ranking fill the number up.
    owed = place < torch.tensor(floors, dtype=torch.long)[home]
    rest = ~owed & (place < torch.tensor(room, dtype=torch.long)[home])
    chosen = owed | (rest & (rest.cumsum(0) <= num_keep - sum(floors)))
    keep = torch.zeros(len(scores), dtype=torch.bool)
    keep[ranking[chosen]] = True
    return keep


def check_finite(scores: Float[Tensor, " n"]) -> None:
    """Refuse scores that are infinite or nan: they do not order the units.

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
    """For each unit, the number of units before it in the same layer, [M]."""
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
    """The totals of units that can be kept if every group of a site keeps equally many.

    Args:
        bundles: the sites' (units, groups).
        homes: the layer of each site; needed for limits per layer.
        floors: least number of units in each layer.
        ceilings: greatest number of units in each layer.

    Example:
        >>> totals([(8, 4), (8, 4)])
        [0, 4, 8, 12, 16]
        >>> totals([(8, 4), (8, 4)], homes=[0, 1], floors=[1, 0], ceilings=[8, 4])
        [4, 8, 12]
    """
    # Sets of totals are integers with one bit for each total: a shift adds a number to all.
    places = list(homes) if homes is not None else list(range(len(bundles)))
    reached, inside = 1, dict.fromkeys(places, 1)
    for (units, groups), home in zip(bundles, places, strict=True):
        inside[home] = _further(inside[home], units // groups, groups)
        reached = _further(reached, units // groups, groups)
    if not floors:
        return _bits(reached)
    # With limits: within each layer only the totals in its limits count, then sums over layers.
    reached = 1
    for home, counts in inside.items():
        fitting = counts & ((1 << ceilings[home] + 1) - 1) & ~((1 << floors[home]) - 1)
        reached = _sums(reached, fitting)
    return _bits(reached)


def _further(reached: int, num: int, step: int) -> int:
    """The totals, each with 0 to ``num`` steps added."""
    size = 1  # doubled each time, so that num steps take log(num) shifts
    while num:
        size = min(size, num)
        reached |= reached << size * step
        num, size = num - size, 2 * size
    return reached


def _sums(some: int, others: int) -> int:
    """The sums of one total from each of two sets."""
    fewer, more = sorted((some, others), key=int.bit_count)
    total = 0
    for count in _bits(fewer):
        total |= more << count
    return total


def _bits(number: int) -> list[int]:
    """The positions of the bits that are set, ascending: the totals in a set."""
    return [place for place, bit in enumerate(reversed(f"{number:b}")) if bit == "1"]


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
    """``select`` for units that come in bundles."""
    values = scores.detach().cpu().double()
    options = _sites(values, bundles, may)
    starts = [0, *torch.tensor([units for units, _ in bundles]).cumsum(0).tolist()]
    homes = [int(layer[start]) if units else -1
             for start, (units, _) in zip(starts[:-1], bundles, strict=True)]  # fmt: skip
    # Neurons of experts come to millions of totals. The quick way for these does not know every
    # case; then all totals are tried after all.
    counts = None
    if are_many(options, num_keep):
        counts = counts_of_many(options, homes, num_keep, floors, ceilings)
    counts = counts or _counts(options, homes, num_keep, floors, ceilings)
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


def _sites(values: Tensor, bundles: Sequence[Bundle], may: Tensor) -> list[dict[int, int]]:
    """For each site: number of units that it may keep -> their value, as an exact integer.

    The leading digits are the sum of the scores, without rounding. The digits behind them are the
    counts, one digit for each site, the first site first. So of two choices with equal sums, the
    one that keeps more in the first site where they differ has the greater value: ties go to the
    lowest index.
    """
    # Python's integers have no size limit. With floats, a sum of many scores could round a small
    # difference away, and the choice would not be the best.
    exact = _integers(values)
    digit = math.prod(units // groups + 1 for units, groups in bundles)
    sums_digit, sites, start = digit, [], 0
    for units, groups in bundles:
        size = units // groups
        digit //= size + 1
        groups_of = (exact[i : i + size] for i in range(start, start + units, max(size, 1)))
        # The j-th bundle of a site is the j-th best unit of each of its groups.
        best_first = (sorted(group, reverse=True) for group in groups_of)
        ranked = [sum(place) for place in zip(*best_first, strict=True)]
        # Only whole sites are ever disallowed: those inside a removed sublayer or layer.
        usable = size if bool(may[start : start + units].all()) else 0
        sums = accumulate(ranked[:usable], initial=0)
        sites.append({n * groups: total * sums_digit + n * digit for n, total in enumerate(sums)})
        start += units
    return sites


def _integers(values: Tensor) -> list[int]:
    """Numbers as integers, all multiplied by the same number, exactly.

    Example:
        >>> _integers(torch.tensor([0.5, -3.0]))
        [1, -6]
    """
    ratios = [value.as_integer_ratio() for value in values.tolist()]
    common = max((below for _, below in ratios), default=1)  # all are powers of two
    return [above * (common // below) for above, below in ratios]


def _counts(
    sites: Sequence[dict[int, int]],
    homes: Sequence[int],
    num_keep: int,
    floors: Sequence[int],
    ceilings: Sequence[int],
) -> list[int] | None:
    """The number of units that each site keeps, for the greatest value; None if none adds up.

    First within each layer, where its limits apply, then over all layers.
    """
    if any(low > 0 for home, low in enumerate(floors) if home not in homes):
        return None
    inside: dict[int, Choices] = {}
    for options, home in zip(sites, homes, strict=True):
        alone = {count: (worth, (count,)) for count, worth in options.items()}
        inside[home] = _both(inside.get(home, _NOTHING), alone, num_keep)
    together = _NOTHING
    for home, choices in inside.items():
        fit = {n: way for n, way in choices.items() if floors[home] <= n <= ceilings[home]}
        together = _both(together, fit, num_keep)
    if num_keep not in together:
        return None
    # The counts are in the order in which sites were joined: layer by layer.
    order = sorted(range(len(homes)), key=lambda site: list(inside).index(homes[site]))
    taken = dict(zip(order, together[num_keep][1], strict=True))
    return [taken[site] for site in range(len(homes))]


Choices = dict[int, tuple[int, tuple[int, ...]]]
"""Total of units -> the best choice with this total: its value, and its counts site by site."""
_NOTHING: Choices = {0: (0, ())}


def _both(some: Choices, others: Choices, most: int) -> Choices:
    """Join the choices of two sets of sites: the best one for each total up to ``most``."""
    best: Choices = {}
    for first, (worth, counts) in some.items():
        for second, (more, further) in others.items():
            total = first + second
            if total <= most and (total not in best or worth + more > best[total][0]):
                best[total] = (worth + more, (*counts, *further))
    return best
