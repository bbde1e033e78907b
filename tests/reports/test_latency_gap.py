"""Closing the gap between predicted and measured latency, on clocks that count models."""

import re

import pytest
import torch
import transformers

import headcount as hc
from cases import bert
from clocks import clock, linear_table
from headcount.reports import latency_gap, latency_table
from headcount.reports.latency_gap import LEADS, ROUNDS, WINDOW, meet, representative


@pytest.fixture
def model():
    return bert()


@pytest.fixture
def budget(model):
    return hc.Budget(latency=0.6, costs=linear_table(model))


@pytest.mark.parametrize("excess", [0.25, 0.15, -0.3])
def test_a_table_is_corrected_until_cut_models_are_as_fast_as_asked(
    monkeypatch, model, budget, excess
):
    monkeypatch.setattr(latency_gap, "fresh_latency_s", clock(excess))
    before = hc.Random(seed=7)
    wrong = latency_gap.timed(model, [hc.decide(model, before, budget)], budget, {}, 1)
    assert not wrong.within(0.6)
    met = hc.calibrate_latency(model, budget, {}, num_runs=2)
    assert 1 <= len(met.costs.corrections) <= ROUNDS
    predicted, measured = met.costs.corrections[0]
    assert predicted <= 0.6
    assert measured == pytest.approx(1 - (1 - excess) * (1 - predicted), abs=0.01)
    found = latency_gap.timed(model, representative(model)(met), met, {}, 1)
    assert 0.6 - WINDOW <= found.measured <= 0.6
    assert met.latency == 0.6
    assert hc.LatencyTable.from_json(met.costs.to_json()) == met.costs


def test_a_table_that_is_right_stays_as_it_is(monkeypatch, model, budget):
    calls = []
    monkeypatch.setattr(latency_gap, "fresh_latency_s", clock(0.0, calls))
    assert hc.calibrate_latency(model, budget, {}, num_runs=1) == budget
    assert calls == [["whole", *(str(i) for i in range(len(LEADS)))]]


def test_nothing_is_corrected_if_nothing_has_to_go(monkeypatch, model, budget):
    monkeypatch.setattr(latency_gap, "fresh_latency_s", clock(0.9))
    whole = hc.Budget(latency=1.0, costs=budget.costs)
    assert hc.calibrate_latency(model, whole, {}, num_runs=1) == whole


def test_a_model_that_no_cut_makes_so_fast_keeps_the_choice_that_came_nearest(
    monkeypatch, model, budget
):
    """A machine too busy to tell, or savings far smaller than measured site by site."""
    calls = []
    monkeypatch.setattr(latency_gap, "fresh_latency_s", clock(0.9, calls))
    assert hc.calibrate_latency(model, budget, {}, num_runs=1) == budget
    assert len(calls) == 1


def test_a_choice_is_made_again_by_the_same_scores(monkeypatch, model, budget):
    monkeypatch.setattr(latency_gap, "fresh_latency_s", clock(0.2))
    with hc.attach(model, hc.DSP(), budget, num_steps=1) as session:
        scores = session.scores()
        with session.lifted():
            met = meet(model, budget, {}, lambda b: session.decisions([b]), num_runs=1)
        decision = session.decisions([met])[0]
    assert torch.equal(torch.cat([torch.tensor(site.scores) for site in decision.sites]), scores)
    cost = decision.provenance["cost"]
    assert cost["reached"] <= cost["target"] == 600_000
    assert decision.num_kept < hc.decide(model, hc.Random(), budget).num_kept


def test_representative_choices_have_each_kind_in_the_lead(model, budget):
    first, both, last = representative(model)(budget)
    assert first.num("neuron") < both.num("neuron") < last.num("neuron")
    assert first.num("head") > both.num("head") > last.num("head")
    assert all(one.provenance["cost"]["reached"] <= 600_000 for one in (first, both, last))


@pytest.mark.parametrize("wrong", [hc.Budget(heads=3), hc.Budget(latency=0.5)])
def test_a_budget_without_a_table_is_refused(model, wrong):
    message = (
        "give a budget of latency with a table: Budget(latency=0.5, costs=latency_table(model))."
    )
    with pytest.raises(hc.BudgetError, match=re.escape(message)):
        hc.calibrate_latency(model, wrong)


@pytest.mark.parametrize(("tail", "multiple"), [(32, 32), (16, 16), (8, 8), (1, 1)], ids=str)
def test_the_largest_multiple_that_is_no_slower_is_found(monkeypatch, tail, multiple):
    """A processor that works on ``tail`` numbers at a time, or on one."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 9}
    model = transformers.BertModel(transformers.BertConfig(**sizes, intermediate_size=256))

    def fake(models, inputs, *, num_runs, warmup, told=None):
        def seconds(one) -> float:
            sites = hc.units(one, "neuron").sites
            return 0.1 + sum(-(-site.num_units // tail) for site in sites) * tail / 1000

        return {name: [seconds(one)] * num_runs for name, one in models.items()}

    monkeypatch.setattr(latency_table, "latency_s", fake)
    table = hc.latency_table(model, batch=1, length=4, kinds=("neuron",), shares=(0.3, 0.5))
    (curve,) = table.curves
    assert curve.multiple_of == multiple
    if multiple > 1:
        assert all(count % multiple == 0 for count in curve.counts)
        assert curve.at(multiple + 1) == curve.at(2 * multiple)
    else:
        assert curve.counts == (0, 1, 77, 129, 256)
    asked = hc.Budget(latency=0.8, costs=table, kinds=("neuron",))
    kept = hc.decide(model, hc.Random(), asked)
    assert 0 < kept.num_kept < 512
    assert all(len(site.kept) % multiple == 0 for site in kept.sites)


def test_few_units_are_never_rounded():
    table = hc.latency_table(bert(), batch=1, length=4, shares=(), num_runs=1)
    assert {curve.multiple_of for curve in table.curves} == {1}
