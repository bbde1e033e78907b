"""Random decisions about every kind of unit, for checks."""

from collections.abc import Iterable

import torch
from torch import Generator, Tensor

from headcount.units.decision import Decision
from headcount.units.kinds import KINDS, WHOLE
from headcount.units.nesting import holds
from headcount.units.site import Site
from headcount.units.table import UnitTable

NAME = {"method": {"name": "given"}}


def decision_of(units: UnitTable, keeps: Iterable[Tensor]) -> Decision:
    """A decision from keeps, one bool vector for each site of the table."""
    keep = torch.cat([*keeps]) if units.sites else torch.zeros(0, dtype=torch.bool)
    return Decision.of(units, keep, keep.double(), NAME)


def random_decision(units: UnitTable, *, seed: int, empty: bool = False) -> Decision:
    """A random decision that keeps about half of the units, unevenly over the sites.

    Args:
        units: sites of one or several kinds.
        seed: the seed of the choice.
        empty: whether the first site of each kind keeps nothing.

    Returns:
        A decision that can be cut: every key-value head keeps equally many query heads, and what is
        inside a removed sublayer or layer is removed.
    """
    generator = Generator().manual_seed(seed)
    first = {site.kind: site.key for site in reversed(units.sites)}
    keeps = {}
    for site in units.sites:
        nothing = empty and first[site.kind] == site.key
        keeps[site.key] = torch.zeros(site.num_units).bool() if nothing else _half(site, generator)
    return nested(units, keeps)


def nested(units: UnitTable, keeps: dict[tuple[str, str], Tensor]) -> Decision:
    """A decision from keeps, in which units inside a removed unit are removed as well.

    A key-value head without query heads is removed too.
    """
    removed = [s for s in units.sites if s.kind in WHOLE and not keeps[s.key].any()]
    for site in units.sites:
        outer = KINDS[: KINDS.index(site.kind)]
        if any(s.kind in outer and holds(s.module, s.kind, site.module) for s in removed):
            keeps[site.key] = torch.zeros(site.num_units, dtype=torch.bool)
        group = keeps.get((site.module, "kv_head"))
        if site.kind == "head" and group is not None and (site.module, "kv_head") in keeps:
            heads = keeps[site.key].unflatten(0, (len(group), -1))
            keeps[site.key] = (heads & group[:, None]).flatten()
            alive = keeps[site.key].unflatten(0, (len(group), -1)).any(1)
            keeps[site.module, "kv_head"] = group & alive
    return decision_of(units, [keeps[site.key] for site in units.sites])


def _half(site: Site, generator: Generator) -> Tensor:
    if site.kind in WHOLE:
        return torch.rand(1, generator=generator) < 0.5
    # Each group keeps equally many. At least one, if it has several: empty sites are asked for.
    share = site.num_units // site.num_groups
    low = 1 if share > 1 else 0
    count = int(torch.randint(low, max(share, 2), (1,), generator=generator))
    rows = [torch.randperm(share, generator=generator) < count for _ in range(site.num_groups)]
    return torch.cat(rows)
