"""Choose among very many bundles, such as the neurons of experts, without trying every total.

A site takes its best units first, so each further bundle of a site is worth no more than the one
before. Taking the best bundles of all sites first is therefore optimal if all have one size.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any

Options = dict[int, Any]
"""Units that a site may keep, from 0 in steps of the bundle's size -> their value together."""

MANY = 2_000_000
"""More additions than this are too slow; ``select`` then does not go through every total."""


def are_many(sites: Sequence[Options], num_keep: int) -> bool:
    """Whether going through every total would take too long.

    Example:
        >>> are_many([{0: 0.0, 2: 1.0}], 2)
        False
    """
    return num_keep * sum(map(len, sites)) > MANY * min(
        (_step(site) or 1 for site in sites), default=1
    )


def counts_of_many(
    sites: Sequence[Options],
    homes: Sequence[int],
    num_keep: int,
    floors: Sequence[int],
    ceilings: Sequence[int],
) -> list[int] | None:
    """The number of units that each site keeps, for the greatest value, without trying every total.

    Args:
        sites: what each site may keep.
        homes: the layer of each site.
        num_keep: units to keep in all.
        floors: least number of units in each layer.
        ceilings: greatest number of units in each layer.

    Returns:
        The counts. None if no choice adds up to ``num_keep``, or if this method does not apply:
        layers have limits that are not fixed numbers, or bundles have more than two sizes.

    Example:
        >>> counts_of_many([{0: 0, 2: 5, 4: 6}, {0: 0, 2: 3, 4: 5}], [0, 1], 4, [0, 0], [4, 4])
        [2, 2]
    """
    inside: dict[int, list[int]] = {}
    for site, home in enumerate(homes):
        inside.setdefault(home, []).append(site)
    # Two cases can be solved part by part: every layer has a fixed number, so layers are
    # independent; or no layer has a limit that matters, so all sites form one part.
    if all(floors[home] == ceilings[home] for home in inside):
        shares = [(members, floors[home]) for home, members in inside.items()]
        fits = sum(floors[home] for home in inside) == num_keep
    else:
        shares = [(list(range(len(sites))), num_keep)]
        fits = all(
            not floors[home] and ceilings[home] >= sum(max(sites[i]) for i in members)
            for home, members in inside.items()
        )
    counts = [0] * len(sites)
    for members, total in shares if fits else ():
        chosen = _best([sites[i] for i in members], total)
        if chosen is None:
            return None
        for site, count in zip(members, chosen, strict=True):
            counts[site] = count
    return counts if fits else None


def _best(sites: Sequence[Options], total: int) -> list[int] | None:
    """The best counts for a total, for bundles of at most two sizes; None if there are none."""
    steps = sorted({_step(site) for site in sites} - {0})
    if len(steps) > 2 or (not steps and total):
        return None
    orders = [_order(sites, step) for step in (*steps, 0, 0)[:2]]
    (first, small), (second, large) = zip(orders, (*steps, 0, 0)[:2], strict=True)
    # Within one size the best come first. So only the number of large bundles is tried; the rest
    # of the total fixes the number of small ones.
    sums = [list(accumulate((worth for worth, _ in order), initial=0)) for order in (first, second)]
    ways = []
    for taken in range(len(second) + 1):
        rest = total - taken * large
        if rest < 0 or (rest % small if small else rest) or (small and rest // small > len(first)):
            continue
        alone = rest // small if small else 0
        ways.append((sums[0][alone] + sums[1][taken], alone, taken))
    if not ways:
        return None
    _, alone, taken = max(ways)
    counts = [0] * len(sites)
    for (_, site), step in [
        *((b, small) for b in first[:alone]),
        *((b, large) for b in second[:taken]),
    ]:
        counts[site] += step
    return counts


def _order(sites: Sequence[Options], step: int) -> list[tuple[Any, int]]:
    """The bundles of one size, the best first, as (value that it adds, its site)."""
    gains = [
        (after - before, site)
        for site, options in enumerate(sites)
        if step and _step(options) == step
        for before, after in pairwise(options.values())
    ]
    return sorted(gains, key=lambda gain: -gain[0])


def _step(options: Iterable[int]) -> int:
    """The number of units in one bundle; 0 if the site can keep nothing."""
    return next((count for count in options if count), 0)
