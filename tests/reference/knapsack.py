"""The best choice within a cost, the slow ways: every choice tried, and HiGHS."""

from itertools import product

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from headcount.units.nesting import holds


def every_choice(streams, room):
    """The greatest value of counts whose cost fits, by trying all of them."""
    best = 0.0
    for counts in product(*(range(len(stream.costs)) for stream in streams)):
        chosen = [*zip(streams, counts, strict=True)]
        orphan = any(k and s.parent >= 0 and not counts[s.parent] for s, k in chosen)
        if not orphan and sum(int(s.costs[k]) for s, k in chosen) <= room:
            best = max(best, sum(float(s.values[k]) for s, k in chosen))
    return best


def highs(streams, room):
    """The greatest value, by a solver of mixed-integer programs: one variable for each count."""
    columns = [(i, k) for i, s in enumerate(streams) for k in range(1, len(s.costs))]
    values = np.array([streams[i].values[k] for i, k in columns])
    costs = np.array([float(streams[i].costs[k]) for i, k in columns])
    rows = [costs / max(room, 1)]
    limits = [1.0]
    for index, stream in enumerate(streams):
        row = np.array([float(i == index) for i, _ in columns])
        if stream.parent >= 0:
            row -= np.array([float(i == stream.parent) for i, _ in columns])
        rows.append(row)
        limits.append(0.0 if stream.parent >= 0 else 1.0)
    found = milp(
        -values / values.max(),
        integrality=np.ones(len(columns)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(np.array(rows), -np.inf, limits),
        options={"mip_rel_gap": 0.0},
    )
    return -found.fun * values.max()


def cost_by_removal(table, keep, *, whole, amount):
    """What is left of ``whole`` when what is not kept is taken away, the outermost first."""
    gone, left = [], whole
    for kind in ("layer", "sublayer", "kv_head", "head", "neuron"):
        for site, span in zip(table.sites, table.slices, strict=True):
            if site.kind == kind and not any(holds(m, k, site.module) for m, k in gone):
                removed = site.num_units - sum(keep[span])
                left -= removed * amount(site.cost)
                left -= amount(site.rest) if removed == site.num_units else 0
                if removed and kind in ("layer", "sublayer"):
                    gone.append((site.module, kind))
    return left


def is_nested(table, keep):
    """Whether nothing is kept inside of what is removed."""
    gone = [
        (site.module, site.kind)
        for site, span in zip(table.sites, table.slices, strict=True)
        if site.kind in ("layer", "sublayer") and not any(keep[span])
    ]
    return not any(
        any(keep[span])
        for site, span in zip(table.sites, table.slices, strict=True)
        for module, kind in gone
        if (site.module, site.kind) != (module, kind) and holds(module, kind, site.module)
        and (kind, site.kind) != ("sublayer", "layer")
    )  # fmt: skip


def every_keep(table, cost):
    """All keeps of a table with nothing inside of what is removed, and what each costs."""
    keeps = [k for k in product((False, True), repeat=len(table)) if is_nested(table, k)]
    return np.array(keeps), np.array([cost(keep) for keep in keeps])
