"""Stand-ins for the clock, for tests of latency: they count units instead of timing."""

import headcount as hc

NEURONS, HEADS = 32, 4
SHARE = {"neuron": 0.1, "head": 0.1}
"""The share of the latency of each of three sites of a kind."""


def clock(excess, calls=None):
    """A stand-in for ``latency_s``: what a model saves is ``1 - excess`` of what its sites cost."""

    def seconds(model) -> float:
        left = hc.units(model)
        gone = {"neuron": 3 - left.num("neuron") / NEURONS, "head": 3 - left.num("head") / HEADS}
        return 1 - (1 - excess) * sum(SHARE[kind] * gone[kind] for kind in gone)

    def fake(models, inputs, *, num_runs, warmup, told=None):
        if calls is not None:
            calls.append([*models])
        return {name: [seconds(model)] * num_runs for name, model in models.items()}

    return fake


def linear_table(model) -> hc.LatencyTable:
    """A table by which the sites cost what they cost on the clock without excess."""
    whole, curves = 1_000_000, []
    for kind, number in (("neuron", NEURONS), ("head", HEADS)):
        modules = tuple(site.module for site in hc.units(model, kind).sites)
        costs = (0, int(whole * SHARE[kind]))
        curves.append(hc.Curve(kind=kind, modules=modules, counts=(0, number), costs_ns=costs))
    return hc.LatencyTable(whole_ns=whole, curves=tuple(curves), batch=1, length=4)
