"""Measure how much time the units of a model take on this machine."""

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
"""Passes of each model before the first timed one."""
MANY = 128
"""Sites with more units than this, such as neurons, may be cheaper at multiples."""
MULTIPLES = (32, 16, 8)
"""Multiples that are tried, the largest first: processors work on 4 to 32 numbers at a time."""


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
    """Measure the latency of a model, and how it falls when units are removed.

    All sites of one shape are cut to the same number of units, and the cut model is timed in turns
    with the whole one. Its saving is the median of the ratios of neighbouring passes; it is divided
    among the sites. So many small savings are measured together, and other work on the machine
    slows both models alike.

    If noise makes a site cheaper with more units, neighbouring counts are averaged. Between the
    measured counts, costs are interpolated linearly.

    Many processors take as long for 561 neurons as for 576. So models with a multiple of 32, 16 and
    8 neurons are timed beside models with a few less. The largest multiple that is no slower than
    these on average becomes ``Curve.multiple_of``: costs are then measured at multiples, and every
    number of neurons costs as much as the next one. Otherwise neurons are timed at odd counts.

    Selection favours units whose cost was underestimated, so the pruned model tends to be slower
    than predicted, the more so the noisier the machine. ``calibrate_latency`` corrects the table
    for one budget. ``prune`` does so, and reports both latencies.

    Args:
        model: the model, on its device; unchanged afterwards.
        inputs: keyword arguments of the model; token ids by default.
        batch: sequences in a pass, if there are no ``inputs``.
        length: tokens of each sequence, if there are no ``inputs``.
        kinds: some of ``head``, ``kv_head``, ``neuron``; None for neurons, and heads or key-value
            heads.
        shares: the shares of a site's units to measure, each below 1. Zero units, and the first one
            (or the first multiple), are always measured, since it also costs what all units share.
        num_runs: timed passes of each model. Give more if other work runs on the machine.
        told: called with (models timed, models in all), not counting the whole model.

    Returns:
        The table, for ``Budget(latency=..., costs=table)``.

    Raises:
        BudgetError: the model lacks a kind, or does not read so many tokens.
        PruningError: a share is out of range, or the model needs more than token ids.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=2))
        >>> table = hc.latency_table(model, batch=1, length=4, kinds=("head",), shares=(),
        ...     num_runs=1)
        >>> [(curve.kind, len(curve.modules), curve.counts) for curve in table.curves]
        [('head', 2, (0, 1, 12))]
    """
    if not all(0 <= share < 1 for share in shares):
        raise PruningError(
            f"latency_table(shares={tuple(shares)}): give shares of 0 or more and below 1."
        )
    given = inputs if inputs is not None else token_ids(model, batch, length)
    ids = next(value for value in given.values() if isinstance(value, torch.Tensor))
    whole = summary(latency_s({"": model}, given, num_runs=num_runs, warmup=WARMUP)[""]).median
    alike = _alike(removable(find_units(model), kinds, "latency_table()"))
    steps = [_multiple(model, sites, given, num_runs) for sites in alike]
    grids = [
        _counts(shares, sites[0].num_units, step) for sites, step in zip(alike, steps, strict=True)
    ]
    # Shares of one latency, not differences of several: if the machine slows down, both models of a
    # pair do, and their ratio stays.
    done, total, curves = 0, sum(map(len, grids)), []
    for sites, counts, step in zip(alike, grids, steps, strict=True):
        saved = []
        for count in counts:
            saved.append(whole * _saving(model, sites, count, given, num_runs) / len(sites))
            done += 1
            if told is not None:
                told(done, total)
        curves.append(_curve(sites, counts, saved, step))
    return LatencyTable(
        whole_ns=round(1e9 * whole),
        curves=tuple(curves),
        batch=ids.shape[0],
        length=ids.shape[1] if ids.ndim > 1 else 1,
        environment=environment(),
    )


def token_ids(model: PreTrainedModel, batch: int, length: int) -> dict[str, torch.Tensor]:
    """A batch of token ids; refused if the model does not run on these alone."""
    try:
        given = example_batch(model, batch, length)
        with torch.no_grad():
            model(**given)
    except (AttributeError, TypeError, ValueError) as error:
        if isinstance(error, PruningError):
            raise
        raise PruningError(
            f"latency_table({type(model).__name__}): the model does not run on token ids alone "
            f"({' '.join(str(error).split())[:120]}). Give inputs: a batch of its own inputs, for "
            "instance from its processor."
        ) from error
    return given


def _multiple(
    model: PreTrainedModel, sites: list[Site], inputs: Mapping[str, Any], num_runs: int
) -> int:
    """The largest multiple of units that takes no longer than the numbers below it; 1 if none."""
    if sites[0].num_units <= MANY:
        return 1
    count = sites[0].num_units // 2 // MULTIPLES[0] * MULTIPLES[0]
    # Odd numbers a quarter, a half and three quarters of the way down to the multiple before.
    below = {m: [count - m * quarter // 4 | 1 for quarter in (1, 2, 3)] for m in MULTIPLES}
    counts = {count, *(number for numbers in below.values() for number in numbers)}
    models = {str(number): _first(model, sites, number) for number in sorted(counts)}
    samples = latency_s(models, inputs, num_runs=num_runs, warmup=WARMUP)

    def ratio(number: int) -> float:
        pairs = zip(samples[str(count)], samples[str(number)], strict=True)
        return summary([full / fewer for full, fewer in pairs]).median

    fast = (m for m in MULTIPLES if mean(map(ratio, below[m])) <= 1)
    return next(fast, 1)


def _counts(shares: Sequence[float], num_units: int, multiple: int) -> list[int]:
    """The numbers of units to measure: zero, the first, and the shares.

    They are multiples; if these are not faster and there are many units, odd numbers.
    """
    counts = {int(share * num_units) for share in shares}
    if multiple > 1:
        counts = {-(-count // multiple) * multiple for count in counts}
    elif num_units > MANY:
        # count | 1 is the next odd number: budgets rarely give round sizes.
        counts = {count | 1 if count else count for count in counts}
    # All units are left out: that is the whole model.
    return sorted(count for count in {0, multiple, *counts} if count < num_units)


def _alike(sites: Sequence[Site]) -> list[list[Site]]:
    """The sites, grouped by shape and place.

    The place counts, since an encoder may read more tokens than a decoder.
    """
    shapes: dict[object, list[Site]] = {}
    for site in sites:
        where = (site.tower, site.stack, site.branch)
        shape = (site.kind, site.num_units, site.width, site.cost, site.rest, *where)
        shapes.setdefault(shape, []).append(site)
    return [*shapes.values()]


def _saving(
    model: PreTrainedModel, sites: list[Site], count: int, inputs: Mapping[str, Any], num_runs: int
) -> float:
    """The share of the model's latency that is saved by cutting sites to their first units."""
    both: dict[str, nn.Module] = {"whole": model, "small": _first(model, sites, count)}
    samples = latency_s(both, inputs, num_runs=num_runs, warmup=WARMUP)
    pairs = zip(samples["small"], samples["whole"], strict=True)
    return 1 - summary([small / whole for small, whole in pairs]).median


def _first(model: PreTrainedModel, sites: list[Site], count: int) -> nn.Module:
    """The model with the first units of these sites; which ones makes no difference to the time."""
    table = UnitTable(sites=tuple(sites))
    keep = torch.cat([torch.arange(site.num_units) < count for site in sites])
    decision = Decision.of(table, keep, keep.double(), {"method": {"name": "the first units"}})
    return cut(model, decision)


def _curve(sites: list[Site], counts: list[int], saved_s: list[float], multiple: int) -> Curve:
    """The curve of a site's cost: at the measured counts, and with all units."""
    costs = rising([saved_s[0] - saved for saved in (*saved_s, 0.0)])
    return Curve(
        kind=sites[0].kind,
        modules=tuple(site.module for site in sites),
        counts=(*counts, sites[0].num_units),
        costs_ns=tuple(round(1e9 * (cost - costs[0])) for cost in costs),
        unit_params=sites[0].cost.params,
        multiple_of=multiple,
    )


def rising(values: Sequence[float]) -> list[float]:
    """The nearest values that never fall: neighbours that fall are averaged.

    Args:
        values: the measured values, in order.

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
