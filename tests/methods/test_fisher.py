"""Importance from squared gradients, and swaps that change neither counts nor costs."""

from dataclasses import dataclass

import pytest
import torch
from torch import Generator

import headcount as hc
from cases import bert, llama
from headcount.errors import PruningError
from headcount.evidence.evidence import Evidence
from headcount.maths.rearrange import removal_cost
from headcount.methods.method import Step
from headcount.zoo.inputs import dummy_inputs
from headcount.zoo.tiny import tiny_model
from reference.rearrangement import one_by_one

DIAGONAL = hc.Fisher(order="diagonal")
UNITS = hc.units(bert(), "head", "neuron")
GROUPED = hc.units(llama(), "head")


def labelled(seed=0, size=3):
    generator = Generator().manual_seed(seed)
    ids = torch.randint(5, 40, (size, 7), generator=generator)
    return {"input_ids": ids, "labels": torch.arange(size) % 3}


@dataclass(frozen=True)
class Mixed:
    """One quota of heads and rows: so many heads, and the best rows, as for a budget of MACs."""

    num_heads: int
    num_rows: int
    is_head: torch.Tensor
    units: hc.UnitTable

    def keep(self, scores, *, allowed=None):
        keep = torch.zeros(len(scores), dtype=torch.bool)
        for kind, count in ((self.is_head, self.num_heads), (~self.is_head, self.num_rows)):
            own = kind.nonzero().flatten()
            order = scores[own].argsort(descending=True, stable=True)
            keep[own[order[:count]]] = True
        return keep


def mixed(num_heads, num_rows, units=UNITS):
    is_head = torch.cat([torch.full((s.num_units,), s.kind == "head") for s in units.sites])
    return Mixed(num_heads, num_rows, is_head, units)


def state_of(method, quota, grads):
    """The state after some batches' gradients, [B, N] each."""
    state = method.init(quota, Generator())
    for each in grads:
        method.observe(state, Evidence(gate_grads=each))
    method.finish_round(state, Step(index=0, total=1))
    return state


def gradients(units=UNITS, num=6, size=4, seed=0):
    """Of a few batches; units of a layer are alike, so that they cancel or add up."""
    generator = Generator().manual_seed(seed)
    shared = torch.randn(num, size, 3, generator=generator, dtype=torch.float64)
    mixing = torch.randn(3, len(units), generator=generator, dtype=torch.float64)
    noise = torch.randn(num, size, len(units), generator=generator, dtype=torch.float64)
    return [*(shared @ mixing + 0.3 * noise)]


@pytest.mark.parametrize("average", ["batch", "example"])
def test_importance_is_the_sum_of_squared_gradients(average):
    grads = gradients()
    method = hc.Fisher(order="diagonal", average=average)
    scores = method.scores(state_of(method, mixed(5, 20), grads))
    rows = [g.mean(0) for g in grads] if average == "batch" else [row for g in grads for row in g]
    expected = sum(row.square() for row in rows)
    torch.testing.assert_close(scores, expected, atol=1e-12, rtol=1e-12)


def test_the_gradient_is_that_of_the_mean_loss_of_a_batch():
    """By gates that all examples share, one number each."""
    model = bert().double()
    batches = [labelled(seed) for seed in range(3)]
    decision = hc.decide(model, DIAGONAL, hc.Budget(heads=5, neurons=20), batches)
    expected = torch.zeros(108, dtype=torch.float64)
    for each in batches:
        with hc.attach(model, hc.Random(), hc.Budget(heads=5, neurons=20), num_steps=0) as session:
            gates = torch.ones(108, dtype=torch.float64, requires_grad=True)
            with session.held(gates):
                (grad,) = torch.autograd.grad(model(**each).loss, gates)
        expected += grad.square()
    found = [score for site in decision.sites for score in site.scores]
    assert found == pytest.approx(expected.tolist(), rel=1e-9)


@pytest.mark.parametrize(("heads", "rows"), [(5, 20), (1, 90), (11, 3), (0, 50), (12, 96)])
def test_the_scores_say_exactly_the_rearranged_keep(heads, rows):
    """Site by site it is the slow way's; each site keeps as many as by importance alone."""
    method, quota, grads = hc.Fisher(), mixed(heads, rows), gradients()
    state = state_of(method, quota, grads)
    keep = quota.keep(method.scores(state))
    diagonal = quota.keep(method.importance(state))
    table = torch.stack([g.mean(0) for g in grads])
    for span in UNITS.slices:
        assert keep[span].tolist() == one_by_one(table[:, span], diagonal[span])
        assert keep[span].sum() == diagonal[span].sum()
        before, after = (removal_cost(table[:, span], k[span]) for k in (diagonal, keep))
        assert after <= before + 1e-12
    assert keep.sum() == heads + rows


def test_rearranging_lowers_the_cost_of_what_is_removed():
    method, quota, grads = hc.Fisher(), mixed(5, 40), gradients()
    state = state_of(method, quota, grads)
    keep = quota.keep(method.scores(state))
    diagonal = quota.keep(method.importance(state))
    table = torch.stack([g.mean(0) for g in grads])
    before, after = (
        sum(removal_cost(table[:, span], k[span]) for span in UNITS.slices)
        for k in (diagonal, keep)
    )
    assert after < 0.5 * before


def test_one_observation_decides_for_several_budgets():
    """The quota is exchanged, and the scores follow."""
    method, grads = hc.Fisher(), gradients()
    state = state_of(method, mixed(5, 40), grads)
    for counts in ((5, 40), (2, 70), (9, 10)):
        state.quota = mixed(*counts)
        fresh = state_of(method, mixed(*counts), grads)
        assert torch.equal(method.scores(state), method.scores(fresh))
        keep = state.quota.keep(method.scores(state))
        assert (keep[: len(keep)] & state.quota.is_head).sum() == counts[0]


def test_limits_per_layer_hold():
    for limits in ({"scope": "layer"}, {"min_per_layer": 1}):
        heads = 2 if "scope" in limits else 5
        budget = hc.Budget(heads=heads, **limits)
        decision = hc.decide(bert(), hc.Fisher(), budget, [labelled(s) for s in range(4)])
        assert decision.num_kept == (6 if "scope" in limits else 5)
        assert min(decision.kept_per_layer) >= (2 if "scope" in limits else 1)


@pytest.mark.parametrize("heads", [4, 12, 20])
def test_shared_key_value_heads_keep_equally_many_query_heads(heads):
    """Swaps are made, but within a group only."""
    grads = gradients(GROUPED, seed=1)
    (quota,) = hc.Budget(heads=heads).quotas(GROUPED)
    state = state_of(hc.Fisher(), quota, grads)
    keeps = [
        quota.keep(scores) for scores in (hc.Fisher().importance(state), hc.Fisher().scores(state))
    ]
    counts = [keep.view(3, 4, 2).sum(-1) for keep in keeps]
    assert torch.equal(*counts)
    assert keeps[1].sum() == heads


def test_swaps_within_groups_happen():
    grads = gradients(GROUPED, seed=1)
    (quota,) = hc.Budget(heads=12).quotas(GROUPED)
    state = state_of(hc.Fisher(), quota, grads)
    keep = quota.keep(hc.Fisher().scores(state))
    by_importance = hc.Fisher().importance(state).view(3, 4, 2).argmax(-1)
    assert not torch.equal(keep.view(3, 4, 2).double().argmax(-1), by_importance)


@pytest.mark.parametrize("method", [hc.Fisher(), DIAGONAL, hc.Fisher(average="example")], ids=str)
def test_counts_of_every_kind_are_exact_in_the_cut_model(method):
    model = tiny_model("bart").eval()
    data = [dummy_inputs(model, seed=seed) for seed in (0, 1)]
    data = [{**inputs, "labels": inputs["decoder_input_ids"]} for inputs in data]
    decision = hc.decide(model, method, hc.Budget(heads=11, neurons=33), data)
    small = hc.units(hc.cut(model, decision))
    assert (small.num("head"), small.num("neuron")) == (11, 33)


def test_the_gates_are_open_until_all_was_seen():
    method, quota = hc.Fisher(), mixed(5, 20)
    state = method.init(quota, Generator())
    step = Step(index=0, total=1)
    assert method.gates(state, step, Generator()).tolist() == [1] * 108
    method.observe(state, Evidence(gate_grads=gradients()[0]))
    assert method.gates(state, step, Generator()).tolist() == [1] * 108
    method.finish_round(state, step)
    gates = method.gates(state, step, Generator())
    assert torch.equal(gates.bool(), quota.keep(method.scores(state)))


def test_before_any_gradient_all_scores_are_zero():
    state = hc.Fisher().init(mixed(5, 20), Generator())
    assert hc.Fisher().scores(state).tolist() == [0] * 108


def test_gradients_are_held_as_they_come():
    """In the buffers, so that a checkpoint has them; float64 of a float64 model."""
    single = state_of(hc.Fisher(), mixed(5, 20), [g.float() for g in gradients()])
    double = state_of(hc.Fisher(), mixed(5, 20), gradients())
    example = state_of(hc.Fisher(average="example"), mixed(5, 20), gradients())
    assert single.state_dict()["gradients"].dtype == torch.float32
    assert double.state_dict()["gradients"].dtype == torch.float64
    assert double.state_dict()["gradients"].shape == (6, 108)
    assert example.state_dict()["gradients"].shape == (24, 108)


def test_evidence_without_gradients_is_refused():
    state = hc.Fisher().init(mixed(5, 20), Generator())
    with pytest.raises(PruningError, match="no gate_grads"):
        hc.Fisher().observe(state, Evidence())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": "best"}, r"Fisher\(order='best'\): give 'rearranged' or 'diagonal'"),
        ({"average": "token"}, r"Fisher\(average='token'\): give 'batch' or 'example'"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(hc.BudgetError, match=message):
        hc.Fisher(**arguments)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({}, "fisher"),
        ({"order": "diagonal"}, "fisher-diagonal"),
        ({"average": "example"}, "fisher-example"),
        ({"order": "diagonal", "average": "example"}, "fisher-diagonal-example"),
    ],
)
def test_names(arguments, name):
    assert hc.Fisher(**arguments).name == name
    assert hc.Fisher(**arguments).rests
