"""Budgets of a cost: the best keep not above it, by brute force on small tables."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import headcount as hc
from headcount.units.cost import Cost
from headcount.units.cost_limit import CostLimit
from headcount.units.costs import macs_of, params_of
from headcount.units.site import Site
from reference.knapsack import cost_by_removal, every_keep, is_nested


def site(module, kind, layer, num_units, params, rest=0, pair=0):
    """A site of a toy model; MACs for each token are twice its parameters."""
    return Site(
        module=module,
        kind=kind,
        layer=layer,
        stack="encoder",
        branch="layer" if kind == "layer" else "ffn" if kind == "neuron" else "self",
        num_units=num_units,
        width=1,
        gate=module,
        parts=(),
        config_key="",
        cost=Cost(params=params, macs_per_token=2 * params, macs_per_token_pair=pair),
        rest=Cost(params=rest, macs_per_token=2 * rest),
    )


def flat(*prices, rest=0):
    """Two layers with a site for each price."""
    sites = tuple(
        site(
            f"{layer}.{name}",
            "neuron" if name % 2 else "head",
            layer,
            2,
            price,
            rest * (1 - name % 2),
        )
        for layer in range(2)
        for name, price in enumerate(prices)
    )
    return hc.UnitTable(sites=sites, num_params=1000)


def nested(*, rows=2, layers=False, rest=0):
    """Two layers of a module of heads and one of rows; a module has a bias, a layer norms."""
    sites = []
    for layer in range(2):
        heads, neurons = 2 * 7 + rest, 3 * rows
        sites += [
            site(f"{layer}.a", "head", layer, 2, 7, rest),
            site(f"{layer}.a", "sublayer", layer, 1, heads + 3),
            site(f"{layer}.f", "neuron", layer, rows, 3),
            site(f"{layer}.f", "sublayer", layer, 1, neurons + 1),
        ]
        if layers:
            sites.append(site(f"{layer}", "layer", layer, 1, heads + 3 + neurons + 1 + 4))
    return hc.UnitTable(sites=tuple(sites), num_params=200)


TABLES = {
    "one class": flat(5),
    "two classes": flat(7, 3),
    "three classes": flat(7, 3, 4),
    "shared tensors": flat(7, 3, rest=5),
    "modules": nested(),
    "modules that share": nested(rest=2),
    "layers": nested(rows=1, layers=True),
}


def values_of(table, costs, scores, additive):
    """What each unit is worth, said again."""
    if additive:
        return [score - min(0.0, *scores) for score in scores]
    ranks = list(scores)
    for kind in ("layer", "sublayer"):
        for outer, around in zip(table.sites, table.slices, strict=True):
            for inner, span in zip(table.sites, table.slices, strict=True):
                below = inner.module == outer.module or inner.module.startswith(f"{outer.module}.")
                if outer.kind == kind and below and inner.kind not in ("layer", kind):
                    low = ranks[around.start]
                    ranks[span] = [min(rank, low) for rank in ranks[span]]
    means = [int(steps[-1]) / (len(steps) - 1) for steps in costs.steps]
    price = [m for s, m in zip(table.sites, means, strict=True) for _ in range(s.num_units)]
    lower = [len({other for other in ranks if other < rank}) for rank in ranks]
    return [number * mean for number, mean in zip(lower, price, strict=True)]


def fits_more(costs, keep, limit):
    """Whether any unit could still be added."""
    for unit in (~keep).nonzero().flatten().tolist():
        more = keep.clone()
        more[unit] = True
        if torch.equal(costs.inside(more), more) and costs.of(more) <= limit:
            return True
    return False


@cache
def all_keeps(name, currency):
    """Every keep of a table and its cost, counted by what is removed."""
    table = TABLES[name]
    whole = table.num_params if currency == "params" else macs_of(table, length=3).whole

    def cost(keep):
        return cost_by_removal(
            table, keep, whole=whole,
            amount=lambda c: c.params if currency == "params" else c.macs(3),
        )  # fmt: skip

    return every_keep(table, cost)


@settings(max_examples=300)
@given(
    name=st.sampled_from(sorted(TABLES)),
    currency=st.sampled_from(["params", "macs"]),
    additive=st.booleans(),
    share=st.floats(0, 1),
    scores=st.lists(st.integers(-4, 9), min_size=12, max_size=12),
)
def test_no_other_keep_within_the_limit_is_worth_more(name, currency, additive, share, scores):
    table = TABLES[name]
    costs = params_of(table) if currency == "params" else macs_of(table, length=3)
    limit = costs.base + int(share * (costs.whole - costs.base))
    scores = [float(score) for score in scores[: len(table)]]
    quota = CostLimit(costs=costs, limit=limit, amount=share, additive=additive)
    keep = quota.keep(torch.tensor(scores))

    assert is_nested(table, keep.tolist())
    assert costs.of(keep) <= limit
    assert not fits_more(costs, keep, limit)
    values = values_of(table, costs, scores, additive)
    mine = sum(v for v, kept in zip(values, keep.tolist(), strict=True) if kept)
    keeps, prices = all_keeps(name, currency)
    assert mine == pytest.approx((keeps @ np.array(values))[prices <= limit].max(), abs=1e-9)
    assert costs.of(keep) == prices[(keeps == keep.numpy()).all(1)].item()


@given(
    name=st.sampled_from(sorted(TABLES)),
    share=st.floats(0, 1),
    scores=st.lists(st.integers(-4, 9), min_size=12, max_size=12),
)
def test_a_draw_is_within_the_limit_full_and_the_keep_where_units_have_two_costs(
    name, share, scores
):
    table = TABLES[name]
    costs = params_of(table)
    limit = costs.base + int(share * (costs.whole - costs.base))
    quota = CostLimit(costs=costs, limit=limit, amount=share)
    known = torch.tensor(scores[: len(table)]).double()
    draw = quota.draw(known)
    assert is_nested(table, draw.tolist())
    assert costs.of(draw) <= limit
    assert not fits_more(costs, draw, limit)
    if name in ("one class", "two classes"):
        assert torch.equal(draw, quota.keep(known))


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_limit_of_exactly_what_a_keep_costs_allows_it(name):
    table = TABLES[name]
    costs = params_of(table)
    scores = torch.randn(len(table), generator=torch.Generator().manual_seed(1))
    quota = CostLimit(costs=costs, limit=(costs.base + costs.whole) // 2, amount=0.5)
    keep = quota.keep(scores)
    exact = CostLimit(costs=costs, limit=costs.of(keep), amount=0.5)
    assert torch.equal(exact.keep(scores), keep)


def test_ties_go_to_the_lowest_index_and_whole_and_nothing_are_met():
    table = flat(7, 3)
    costs = params_of(table)
    equal = torch.ones(len(table))
    half = CostLimit(costs=costs, limit=costs.base + 20, amount=1).keep(equal)
    assert half.tolist() == [True, True, True, True, False, False, False, False]
    whole = CostLimit(costs=costs, limit=costs.whole, amount=1.0).keep(-equal)
    assert whole.all()
    assert not CostLimit(costs=costs, limit=costs.base, amount=1).keep(equal).any()


def test_ranks_go_by_score_and_sums_by_score_for_its_cost():
    """An expensive unit of the highest score: it stays first, or only if it outweighs the rest."""
    sites = (site("0.a", "head", 0, 1, 12), site("0.f", "neuron", 0, 4, 3))
    costs = params_of(hc.UnitTable(sites=sites, num_params=24))
    scores = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])
    keeps = {
        additive: CostLimit(costs=costs, limit=12, amount=0.5, additive=additive)
        .keep(scores)
        .tolist()
        for additive in (False, True)
    }
    assert keeps[False] == [True, False, False, False, False]
    assert keeps[True] == [False, True, True, True, True]


def test_what_lies_in_a_module_has_no_higher_rank_than_the_module():
    table = nested()
    scores = torch.tensor([9.0, 8.0, 0.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.5, 1.2, 1.0])
    costs = params_of(table)
    quota = CostLimit(costs=costs, limit=costs.whole - 17, amount=0.9)
    keep = quota.keep(scores)
    assert keep.tolist() == [False] * 3 + [True] * 9


@given(st.lists(st.integers(0, 9), min_size=12, max_size=12), st.integers(0, 1), st.integers(0, 60))
def test_the_best_units_of_each_kind_in_each_layer_stay(scores, floor, more):
    table = flat(7, 3, 4)
    costs = params_of(table)
    quota = CostLimit(costs=costs, limit=costs.base + 2 * 10 + more, amount=1, floor=floor)
    keep = quota.keep(torch.tensor(scores).double())
    assert costs.of(keep) <= quota.limit
    for kind in ("head", "neuron") if floor else ():
        for layer in range(2):
            inside = [
                unit
                for s, span in zip(table.sites, table.slices, strict=True)
                for unit in range(span.start, span.stop)
                if s.kind == kind and s.layer == layer
            ]
            assert keep[max(inside, key=scores.__getitem__)]  # of equal ones the first
    assert not fits_more(costs, keep, quota.limit)


def test_the_floor_goes_by_score_and_not_by_cost():
    """A layer of a dear and a cheap attention: the better head stays, not the larger."""
    sites = site("0.self", "head", 0, 1, 7), site("0.cross", "head", 0, 1, 4)
    table = hc.UnitTable(sites=sites, num_params=100)
    quota = CostLimit(costs=params_of(table), limit=89 + 7, amount=1, floor=1)
    keep = quota.keep(torch.tensor([5.0, 6.0]))
    assert keep.tolist() == [False, True]


@given(
    name=st.sampled_from(sorted(TABLES)),
    share=st.floats(0, 1),
    scores=st.lists(st.integers(-4, 9), min_size=12, max_size=12),
    change=st.sampled_from(["cube", "exp", "one far below"]),
)
def test_only_the_order_of_scores_that_rank_matters(name, share, scores, change):
    table = TABLES[name]
    costs = params_of(table)
    limit = costs.base + int(share * (costs.whole - costs.base))
    given = torch.tensor(scores[: len(table)]).double()
    changed = {"cube": given**3, "exp": given.exp(), "one far below": given.clone()}[change]
    if change == "one far below":
        changed[given == given.min()] = -1e8
    keeps = [CostLimit(costs=costs, limit=limit, amount=share).keep(s) for s in (given, changed)]
    assert torch.equal(*keeps)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_the_expected_cost_is_the_mean_over_draws_and_has_a_gradient(name):
    table = TABLES[name]
    costs = params_of(table)
    quota = CostLimit(costs=costs, limit=costs.whole, amount=1.0)
    generator = torch.Generator().manual_seed(0)
    chances = torch.rand(len(table), generator=generator, dtype=torch.float64).requires_grad_()
    expected = quota.expected(chances)
    draws = torch.rand(4000, len(table), generator=generator) < chances.detach()
    mean = np.mean([costs.of(draw) for draw in draws])
    assert expected.item() == pytest.approx(mean, abs=0.01 * (costs.whole - costs.base))
    expected.backward()
    assert (chances.grad > 0).all()
    for keep in draws[:20]:
        assert quota.expected(keep.double()).item() == pytest.approx(costs.of(keep))


def test_the_way_to_the_limit_begins_at_the_whole_cost():
    table = flat(7, 3)
    costs = params_of(table)
    quota = CostLimit(costs=costs, limit=980, amount=0.98)
    assert quota.whole == costs.whole == 1000
    halfway = quota.between(lambda start, end: (start + end) // 2)
    assert (halfway.target, halfway.costs) == (990, costs)
    assert quota.between(lambda start, end: end) is quota


def test_a_keep_is_not_handed_out_to_be_changed():
    table = flat(7, 3)
    quota = CostLimit(costs=params_of(table), limit=985, amount=985)
    scores = torch.arange(8.0)
    first = quota.keep(scores)
    first[:] = True
    again = quota.keep(scores)
    assert quota.costs.of(again) <= 985
    assert not torch.equal(quota.keep(-scores), again)


def test_units_that_are_not_allowed_are_not_kept():
    table = flat(7, 3)
    quota = CostLimit(costs=params_of(table), limit=990, amount=990)
    allowed = torch.arange(8) >= 3
    keep = quota.keep(torch.ones(8), allowed=allowed)
    assert not keep[:3].any()
    assert keep[3:].any()


def test_scores_that_are_not_finite_are_refused():
    table = flat(7, 3)
    quota = CostLimit(costs=params_of(table), limit=990, amount=990)
    with pytest.raises(hc.BudgetError, match=r"the scores of units .* are not finite"):
        quota.keep(torch.full((8,), float("nan")))
