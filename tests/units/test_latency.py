"""Budgets of latency, on tables that nobody had to measure: timings are no tests."""

import json
import math
import re
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import headcount as hc
from cases import bert, llama
from headcount.units.latency import NUM_CELLS

UNITS = hc.units(bert())


def table_of(units, heads, rows, whole_ns, *, inner=(1, 8)):
    """A curve of three costs for all heads, and one for all neurons."""
    curves = []
    for kind, costs, middle in (("head", heads, inner[0]), ("neuron", rows, inner[1])):
        sites = units.only(kind).sites
        modules = tuple(site.module for site in sites)
        counts = (0, middle, sites[0].num_units)
        curves.append(hc.Curve(kind=kind, modules=modules, counts=counts, costs_ns=costs))
    return hc.LatencyTable(whole_ns=whole_ns, curves=tuple(curves), batch=8, length=64)


TABLE = table_of(UNITS, (0, 40_000, 100_000), (0, 50_000, 80_000), 1_000_000)
"""Three layers: half of the time is in the units, and half of it stays."""


@pytest.mark.parametrize("method", [hc.Random(seed=2), hc.Magnitude()], ids=repr)
@pytest.mark.parametrize("share", [0.5, 0.61, 0.87, 1.0])
def test_the_predicted_latency_is_within_the_budget_and_no_unit_more_would_fit(share, method):
    model, budget = bert(), hc.Budget(latency=share, costs=TABLE)
    decision = hc.decide(model, method, budget)
    cost = decision.provenance["cost"]
    assert (cost["kind"], cost["target"]) == ("latency", round(share * 1_000_000))
    assert cost["reached"] <= cost["target"]
    curves = {curve.kind: curve for curve in TABLE.curves}
    saved = sum(
        curves[site.kind].costs_ns[-1] - curves[site.kind].at(len(site.kept))
        for site in decision.sites
    )
    cell = 1_000_000 // NUM_CELLS
    exact = 1_000_000 - saved
    assert exact - 1e-6 <= cost["reached"] <= exact + cell * len(decision.sites)
    (quota,) = budget.quotas(UNITS)
    keep = decision.keep(quota.units)
    for unit in (~keep).nonzero().flatten().tolist():
        more = keep.clone()
        more[unit] = True
        assert quota.costs.of(more) > cost["target"]
    small = hc.cut(model, decision)
    assert hc.units(small).num("head") == decision.num("head")


@given(
    heads=st.lists(st.integers(0, 40), min_size=2, max_size=2),
    rows=st.lists(st.integers(0, 40), min_size=2, max_size=2),
    share=st.floats(0, 1),
    scores=st.lists(st.integers(0, 9), min_size=18, max_size=18),
)
def test_no_other_counts_within_the_time_are_worth_more(heads, rows, share, scores):
    """By brute force over what each site keeps: three sites of two heads, three of four neurons."""
    small = hc.UnitTable(
        sites=tuple(
            hc.Site(
                module=f"{layer}.{kind}", kind=kind, layer=layer, stack="encoder", branch="self",
                num_units=number, width=1, gate="", parts=(), config_key="",
                cost=hc.Cost(params=1, macs_per_token=1),
            )
            for layer in range(3) for kind, number in (("head", 2), ("neuron", 4))
        )
    )  # fmt: skip
    costs = [(0, *sorted(pair)) for pair in (heads, rows)]
    table = table_of(small, *costs, 600, inner=(1, 2))
    (quota,) = hc.Budget(latency=1.0, costs=table).quotas(small)
    base = quota.costs.base
    limit = base + math.floor(share * (600 - base))
    budget = hc.Budget(latency=limit / 600, costs=table)
    try:
        (quota,) = budget.quotas(small)
    except hc.BudgetError:  # the fraction is a rounding below the least
        return
    keep = quota.keep(torch.tensor(scores).double())
    ranks = [sorted(set(scores)).index(score) for score in scores]
    sums, prices = [], []
    for site, span in zip(small.sites, small.slices, strict=True):
        curve = next(c for c in table.curves if c.kind == site.kind)
        mean = curve.costs_ns[-1] / site.num_units
        best = sorted(ranks[span], reverse=True)
        sums.append([sum(best[:k]) * mean for k in range(len(best) + 1)])
        prices.append([math.ceil(curve.at(k)) for k in range(len(best) + 1)])
    best = max(
        sum(each[k] for each, k in zip(sums, counts, strict=True))
        for counts in product(*(range(len(each)) for each in sums))
        if base + sum(p[k] for p, k in zip(prices, counts, strict=True)) <= quota.target
    )
    counts = [int(keep[span].sum()) for span in small.slices]
    mine = sum(each[k] for each, k in zip(sums, counts, strict=True))
    assert mine == pytest.approx(best, abs=1e-9)


def test_the_expected_latency_is_read_off_the_curves():
    (quota,) = hc.Budget(latency=0.7, costs=TABLE).quotas(UNITS)
    ones = torch.ones(len(quota.units), requires_grad=True)
    assert quota.expected(ones).item() == pytest.approx(1_000_000)
    half = quota.expected(0.25 * ones)
    assert half.item() == pytest.approx(460_000 + 3 * (40_000 + 50_000), abs=6 * 244)
    half.backward()
    assert (ones.grad > 0).all()


def test_straight_through_trains_within_a_latency():
    model = bert()
    ids, labels = torch.randint(1, 30, (2, 6)), torch.tensor([0, 2])
    budget = hc.Budget(latency=0.7, costs=TABLE)
    with hc.attach(model.train(), hc.DSP(), budget, num_steps=3) as session:
        optimizer = torch.optim.AdamW([*session.parameters()], lr=0.5)
        for _ in range(3):
            model(input_ids=ids, labels=labels).loss.backward()
            optimizer.step()
            session.step()
        decision = session.decision()
    assert decision.provenance["cost"]["reached"] <= 700_000
    assert json.loads(json.dumps(session.fingerprint()))["budget"]["costs"] == TABLE.describe()


def test_a_table_is_saved_and_read_back(tmp_path):
    TABLE.save(tmp_path / "latency.json")
    assert hc.LatencyTable.load(tmp_path / "latency.json") == TABLE
    assert set(TABLE.describe()) == {"whole_ns", "batch", "length", "digest"}
    other = table_of(UNITS, (0, 40_001, 100_000), (0, 50_000, 80_000), 1_000_000)
    assert other.describe()["digest"] != TABLE.describe()["digest"]


def test_a_table_of_format_2_is_read():
    body = json.loads(TABLE.to_json()) | {"format": 2}
    del body["corrections"]
    for curve in body["curves"]:
        del curve["multiple_of"]
    assert hc.LatencyTable.from_json(json.dumps(body)) == TABLE


def test_a_corrected_table_predicts_what_was_measured():
    found = TABLE.corrected([(0.5, 0.6)]).corrected([(0.7, 0.5)], margin=0.05)
    assert found.corrections == ((0.5, 0.6), (0.7, 0.5))
    costs = [cost for curve in found.curves for cost in curve.costs_ns]
    assert costs == pytest.approx([0, 48_000, 120_000, 0, 60_000, 96_000], abs=2)
    assert hc.LatencyTable.from_json(found.to_json()) == found
    assert found.describe()["digest"] != TABLE.describe()["digest"]


def test_several_measurements_are_joined_by_least_squares():
    scale = (0.5 * 0.4 + 0.4 * 0.4) / (0.5**2 + 0.4**2)
    found = TABLE.corrected([(0.5, 0.6), (0.6, 0.6)])
    assert found.curves[0].costs_ns[-1] == int(100_000 * scale)


def test_corrected_curves_stay_within_the_whole():
    found = TABLE.corrected([(0.9, 0.1)])
    full = sum(len(curve.modules) * curve.costs_ns[-1] for curve in found.curves)
    assert 999_000 < full <= 1_000_000
    hc.Budget(latency=0.001, costs=found).quotas(UNITS)


@pytest.mark.parametrize("timed", [[], [(1.0, 0.5)], [(0.5, 1.0)], [(0.5, 0.96)], [(0.5, 1.7)]])
def test_measurements_without_a_saving_correct_nothing(timed):
    with pytest.raises(hc.PruningError, match=r"not faster than the whole one. Give shares"):
        TABLE.corrected(timed, margin=0.05)


def test_a_multiple_of_nothing_is_refused():
    with pytest.raises(hc.PruningError, match=r"Curve\(multiple_of=0\): give 1 or more"):
        hc.Curve(kind="head", modules=("a",), counts=(0, 4), costs_ns=(0, 5), multiple_of=0)


@given(count=st.integers(0, 32), multiple=st.integers(1, 9))
def test_any_number_costs_as_much_as_the_next_multiple(count, multiple):
    curve = hc.Curve(
        kind="neuron", modules=("a",), counts=(0, 32), costs_ns=(0, 64), multiple_of=multiple
    )
    assert curve.at(count) == 2 * min(32, math.ceil(count / multiple) * multiple)


def test_a_choice_fills_up_to_multiples_and_a_gradient_passes_through():
    curve = hc.Curve(
        kind="neuron",
        modules=tuple(site.module for site in UNITS.only("neuron").sites),
        counts=(0, 32),
        costs_ns=(0, 320_000),
        multiple_of=8,
    )
    table = hc.LatencyTable(whole_ns=1_000_000, curves=(curve,), batch=1, length=1)
    budget = hc.Budget(latency=0.5, costs=table, kinds=("neuron",))
    for seed in range(5):
        decision = hc.decide(bert(), hc.Random(seed=seed), budget)
        assert all(len(site.kept) % 8 == 0 for site in decision.sites)
        assert decision.num_kept == 40
    (quota,) = budget.quotas(UNITS)
    chances = torch.full((len(quota.units),), 0.55, requires_grad=True)
    mean = quota.expected(chances)
    mean.backward()
    assert mean.item() == pytest.approx(40_000 + 0.55 * 960_000, abs=5_000)
    assert (chances.grad > 9_000).all()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "curves": 3}'])
def test_what_is_no_table_is_refused(text):
    with pytest.raises(hc.CheckpointError, match=r"LatencyTable.from_json: not a table"):
        hc.LatencyTable.from_json(text)


def test_a_table_of_another_format_is_refused():
    text = TABLE.to_json().replace('"format": 3', '"format": 4')
    message = r"format 4; this version of headcount reads 3"
    with pytest.raises(hc.CheckpointError, match=message):
        hc.LatencyTable.from_json(text)


@pytest.mark.parametrize(
    ("counts", "costs"),
    [((0, 4), (0,)), ((1, 4), (0, 5)), ((0, 4), (1, 5)), ((0, 4, 4), (0, 1, 2)), ((0, 4), (0, -1))],
)
def test_a_curve_that_falls_or_does_not_begin_at_nothing_is_refused(counts, costs):
    with pytest.raises(hc.PruningError, match="give counts that rise from 0"):
        hc.Curve(kind="head", modules=("a",), counts=counts, costs_ns=costs)


def test_a_table_of_another_model_is_refused():
    message = (
        "Budget(latency=...): the table has no measurement of 4 key-value heads in "
        "model.layers.0.self_attn with 768 parameters each. Measure this model, with these kinds: "
        "latency_table(model, kinds=...)."
    )
    kinds = ("kv_head",)
    with pytest.raises(hc.PruningError, match=f"^{re.escape(message)}$"):
        hc.Budget(latency=0.7, costs=TABLE, kinds=kinds).quotas(hc.units(llama()))


def test_a_model_that_cannot_be_so_fast_is_refused_with_the_nearest():
    message = "nanoseconds (540000 of 1000000). Without them, 460000 are left: give at least 0.46"
    exact = table_of(UNITS, (0, 40_000, 100_000), (0, 50_000, 80_000), 1_000_000)
    with pytest.raises(hc.BudgetError) as refused:
        hc.Budget(latency=0.3, costs=exact).quotas(UNITS)
    found = float(re.search(r"give at least ([\d.]+),", str(refused.value)).group(1))
    assert found == pytest.approx(0.46, abs=0.002)
    assert message.split(" (", maxsplit=1)[0] in str(refused.value)
    hc.Budget(latency=found, costs=exact).quotas(UNITS)


def test_the_name_of_a_table_is_no_table():
    with pytest.raises(
        hc.ArgumentError, match=r"costs='latency\.json'\): a str is no LatencyTable"
    ):
        hc.Budget(latency=0.7, costs="latency.json")
