from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

import headcount as hc
from cases import batch, bert, llama
from headcount.methods.fixed import FixedMethod, FixedState


@dataclass(frozen=True, kw_only=True, slots=True)
class Sensitivity(FixedMethod):
    """The sum of absolute gate gradients: a method that looks at data."""

    evidence: ClassVar[frozenset[str]] = frozenset({"gate_grads"})

    @property
    def name(self):
        return "sensitivity"

    def init(self, units, quota, generator):
        return FixedState(torch.zeros(len(units), dtype=torch.float64), units, quota)

    def gates(self, state, step, generator):
        return torch.ones_like(state.get_buffer("scores"))

    def observe(self, state, evidence):
        state.get_buffer("scores").add_(evidence.gate_grads.abs().sum(0))


def labelled():
    return {**batch(), "labels": torch.tensor([0, 1, 2])}


def test_random_keeps_are_reproducible_and_differ_by_seed():
    keeps = [hc.decide(bert(), hc.Random(seed=seed), hc.Budget(heads=6)) for seed in (1, 1, 2)]
    assert keeps[0] == keeps[1]
    assert [site.keep for site in keeps[0].sites] != [site.keep for site in keeps[2].sites]


def test_every_unit_is_kept_by_some_random_draw():
    kept = torch.zeros(12, dtype=torch.bool)
    model = bert()
    for seed in range(30):
        decision = hc.decide(model, hc.Random(seed=seed), hc.Budget(heads=3))
        kept |= decision.keep(hc.units(model, "head"))
    assert kept.all()


def test_magnitude_keeps_the_heads_of_the_largest_weights():
    model = bert()
    with torch.no_grad():
        for layer, head in ((0, 3), (2, 1)):
            attention = model.bert.encoder.layer[layer].attention
            attention.self.value.weight[head * 6 : head * 6 + 6] *= 9
    decision = hc.decide(model, hc.Magnitude(), hc.Budget(heads=2))
    keep = decision.keep(hc.units(model, "head"))
    assert keep.nonzero().flatten().tolist() == [3, 9]


def test_magnitude_keeps_what_is_largest_of_every_kind():
    """A neuron of the second layer, the attention of the third, and the third for its sake."""
    model = llama()
    layers = model.model.layers
    with torch.no_grad():
        layers[1].mlp.up_proj.weight[5] *= 9
        layers[2].self_attn.o_proj.weight *= 9
    for budget, expected in (
        (hc.Budget(rows=1), ("model.layers.1.mlp", "row", 5)),
        (hc.Budget(modules={"self": 1}), ("model.layers.2.self_attn", "module", 0)),
        (hc.Budget(layers=1), ("model.layers.2", "layer", 0)),
    ):
        decision = hc.decide(model, hc.Magnitude(), budget)
        assert [(*site.key, i) for site in decision.sites for i in site.kept] == [expected]


def test_magnitude_keeps_the_group_of_the_largest_weights():
    model = llama()
    with torch.no_grad():
        model.model.layers[0].self_attn.v_proj.weight[4:8] *= 9
    decision = hc.decide(model, hc.Magnitude(), hc.Budget(groups=1))
    assert [site.kept for site in decision.sites] == [(1,), (), ()]


def test_a_method_that_looks_at_data_gets_the_gradient_of_each_example():
    model = bert().double()
    together = hc.decide(model, Sensitivity(), hc.Budget(heads=5), [labelled()])
    alone = [{k: v[i : i + 1] for k, v in labelled().items()} for i in range(3)]
    apart = hc.decide(model, Sensitivity(), hc.Budget(heads=5), alone)
    for one, other in zip(together.sites, apart.sites, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-10)
    assert min(score for site in together.sites for score in site.scores) > 0


def test_every_kind_gets_its_own_gradients():
    """The scores of a kind do not depend on which other kinds the budget is about."""
    model = bert().double()
    together = hc.decide(model, Sensitivity(), hc.Budget(heads=5, rows=9), [labelled()])
    alone = [
        hc.decide(model, Sensitivity(), budget, [labelled()])
        for budget in (hc.Budget(heads=5), hc.Budget(rows=9))
    ]
    apart = [site for decision in alone for site in decision.sites]
    assert [site.key for site in together.sites] == [site.key for site in apart]
    for one, other in zip(together.sites, apart, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-12)
        assert one.keep == other.keep


def test_a_head_with_a_zero_output_slice_has_no_gradient():
    model = bert()
    with torch.no_grad():
        model.bert.encoder.layer[1].attention.output.dense.weight[:, 6:12] = 0
    decision = hc.decide(model, Sensitivity(), hc.Budget(heads=5), [labelled()])
    assert decision.sites[1].scores[1] == 0


def test_a_method_that_looks_at_data_needs_batches():
    with pytest.raises(hc.TrainingError, match=r"looks at data. Give batches"):
        hc.decide(bert(), Sensitivity(), hc.Budget(heads=5))


def test_a_method_that_learns_is_refused():
    with pytest.raises(hc.TrainingError, match=r"learns its scores by training. Use Pruning"):
        hc.decide(bert(), hc.DSP(), hc.Budget(heads=5))


def test_deciding_leaves_the_model_alone():
    model = bert().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hc.decide(model, Sensitivity(), hc.Budget(heads=5), [labelled()])
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
