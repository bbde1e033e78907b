"""Measure what the units of a model cost in time, on this machine."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from headcount.architectures.discover import units as find_units
from headcount.door.arguments import checks_arguments
from headcount.errors import PruningError
from headcount.reports.measure import Told, environment, example_batch, latency_s, summary
from headcount.surgery.cut import cut
from headcount.units.cost_budget import removable
from headcount.units.decision import Decision
from headcount.units.latency import Curve, LatencyTable
from headcount.units.site import Site
from headcount.units.table import UnitTable

WARMUP = 3
MANY = 128
"""Sites of more units than this are measured at odd numbers of them."""


@checks_arguments
def latency_table(
    model: PreTrainedModel,
    inputs: Mapping[str, Any] | None = None,
    *,
    batch: int = 8,
    length: int = 64,
    kinds: tuple[str, ...] | None = None,
    shares: Sequence[float] = (0.25, 0.5, 0.75),
    num_runs: int = 10,
    told: Told | None = None,
) -> LatencyTable:
    """Measure the latency of a model, and how it falls as units go.

    All sites of one shape are cut to the same number of units, really, and the smaller model takes
    turns with the whole one; what it saves, by the median of the ratios of neighbouring passes, is
    divided among the sites. So the many small savings are measured together, and what else the
    machine does falls on both. Where the cost of a site would fall with more units, by noise,
    neighbours are averaged; between the measured numbers it is interpolated linearly. Numbers of
    neurons are measured odd: most that a budget leads to are not the round ones that processors are
    fastest with.

    A choice by a table prefers what was measured too cheap, so what comes out is rather slower than
    predicted than faster, the more so the noisier the machine. ``prune`` reports both.

    Args:
        model: the model, on its device; unchanged afterwards.
        inputs: keyword arguments of the model; token ids by default.
        batch: sequences of a pass, where there are no ``inputs``.
        length: tokens of each, likewise.
        kinds: some of ``head``, ``kv_head``, ``neuron``; None for neurons, and heads or key-value
            heads.
        shares: shares of the units of a site at which to measure, below 1; none of its units and
            one are measured always, since the first brings with it what all need.
        num_runs: timed passes of each model; more where other work runs on the machine.
        told: called with the number of models that are timed, and of how many, beside the whole
            one.

    Returns:
        The table, for ``Budget(latency=..., costs=table)``.

    Raises:
        BudgetError: the model lacks a kind, or does not read so many tokens.
        PruningError: a share out of range, or a model that reads more than token ids.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2))
        >>> table = hc.latency_table(model, batch=1, length=4, shares=(), num_runs=1)
        >>> [(curve.kind, len(curve.modules), curve.counts) for curve in table.curves]
        [('neuron', 2, (0, 1, 3072)), ('head', 2, (0, 1, 12))]
    """
    if not all(0 <= share < 1 for share in shares):
        raise PruningError(
            f"latency_table(shares={tuple(shares)}): give shares of 0 or more and below 1."
        )
    given = inputs if inputs is not None else _tokens(model, batch, length)
    ids = next(value for value in given.values() if isinstance(value, torch.Tensor))
    whole = summary(latency_s({"": model}, given, num_runs=num_runs, warmup=WARMUP)[""]).median
    alike = _alike(removable(find_units(model), kinds, "latency_table()"))
    grids = [_counts(shares, sites[0].num_units) for sites in alike]
    done, total, curves = 0, sum(map(len, grids)), []
    for sites, counts in zip(alike, grids, strict=True):
        saved = []
        for count in counts:
            saved.append(whole * _saving(model, sites, count, given, num_runs) / len(sites))
            done += 1
            if told is not None:
                told(done, total)
        curves.append(_curve(sites, counts, saved))
    return LatencyTable(
        whole_ns=round(1e9 * whole),
        curves=tuple(curves),
        batch=ids.shape[0],
        length=ids.shape[1] if ids.ndim > 1 else 1,
        environment=environment(),
    )


def _tokens(model: PreTrainedModel, batch: int, length: int) -> dict[str, torch.Tensor]:
    """Token ids, if the model runs on these alone."""
    try:
        given = example_batch(model, batch, length)
        with torch.no_grad():
            model(**given)
    except (AttributeError, TypeError, ValueError) as error:
        if isinstance(error, PruningError):
            raise
        raise PruningError(
            f"latency_table({type(model).__name__}): the model does not run on token ids alone "
            f"({' '.join(str(error).split())[:120]}). Give inputs: a batch as it reads it, such as "
            "a processor makes."
        ) from error
    return given


def _counts(shares: Sequence[float], num_units: int) -> list[int]:
    """Numbers of units to measure: none, one, and shares; odd ones where there are many units."""
    counts = {int(share * num_units) for share in shares}
    odd = {count | 1 if count and num_units > MANY else count for count in counts}
    return sorted({0, 1, *odd} - {num_units})


def _alike(sites: Sequence[Site]) -> list[list[Site]]:
    """The sites by their shape, and by where they are: an encoder may read more than a decoder."""
    shapes: dict[object, list[Site]] = {}
    for site in sites:
        where = (site.tower, site.stack, site.where)
        shape = (site.kind, site.num_units, site.width, site.cost, site.rest, *where)
        shapes.setdefault(shape, []).append(site)
    return [*shapes.values()]


def _saving(
    model: PreTrainedModel, sites: list[Site], count: int, inputs: Mapping[str, Any], num_runs: int
) -> float:
    """The share of its latency that a model saves when sites are cut to their first units."""
    table = UnitTable(sites=tuple(sites))
    keep = torch.cat([torch.arange(site.num_units) < count for site in sites])
    decision = Decision.of(table, keep, keep.double(), {"method": {"name": "the first units"}})
    both: dict[str, nn.Module] = {"whole": model, "small": cut(model, decision)}
    samples = latency_s(both, inputs, num_runs=num_runs, warmup=WARMUP)
    pairs = zip(samples["small"], samples["whole"], strict=True)
    return 1 - summary([small / whole for small, whole in pairs]).median


def _curve(sites: list[Site], counts: list[int], saved_s: list[float]) -> Curve:
    """The cost of the counts and of all units."""
    costs = rising([saved_s[0] - saved for saved in (*saved_s, 0.0)])
    return Curve(
        kind=sites[0].kind,
        modules=tuple(site.module for site in sites),
        counts=(*counts, sites[0].num_units),
        costs_ns=tuple(round(1e9 * (cost - costs[0])) for cost in costs),
        unit_params=sites[0].cost.params,
    )


def rising(values: Sequence[float]) -> list[float]:
    """The nearest values that never fall: neighbours that do are averaged.

    Args:
        values: what was measured, in order.

    Example:
        >>> rising([0.0, 3.0, 1.0, 4.0])
        [0.0, 2.0, 2.0, 4.0]

    Source: isotonic regression by pooling adjacent violators: Ayer et al. 1955.
    """
    pools: list[list[float]] = []
    for value in values:
        pools.append([value])
        while len(pools) > 1 and mean(pools[-2]) > mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    return [mean(pool) for pool in pools for _ in pool]
