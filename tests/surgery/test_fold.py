"""A model with scales folded in computes what the masked one with scales computes."""

import copy

import pytest
import torch
from torch import Generator

import headcount as hc
from cases import bert, keep_decision, llama, with_cross_attention
from headcount.surgery.fold import output_weight
from headcount.zoo.decisions import random_decision
from headcount.zoo.inputs import dummy_inputs
from headcount.zoo.outputs import largest_difference
from headcount.zoo.tiny import tiny_model

PLAIN = ("bert", "distilbert", "gpt2", "albert", "t5", "bart")
GROUPED = ("llama", "falcon", "phi3")
KINDS = (("head",), ("neuron",), ("head", "neuron"), ())
CASES = [(model_type, kinds) for model_type in (*PLAIN, *GROUPED) for kinds in KINDS]
CASES += [(model_type, ("kv_head", "neuron")) for model_type in GROUPED]


def some_scales(units, decision, seed=0):
    """Any, for heads, groups and rows; ones for modules and layers; zeros for what goes."""
    generator = Generator().manual_seed(seed)
    scales = 0.5 + torch.rand(len(units), generator=generator, dtype=torch.float64)
    for site, span in zip(units.sites, units.slices, strict=True):
        if site.gated != "input":
            scales[span] = 1
    return scales * decision.keep(units)


@pytest.mark.parametrize("empty", [False, True], ids=["half", "an empty site"])
@pytest.mark.parametrize(
    ("model_type", "kinds"), CASES, ids=[f"{name}-{' '.join(k) or 'all'}" for name, k in CASES]
)
def test_masked_with_scales_equals_folded_and_cut(model_type, kinds, empty):
    model = tiny_model(model_type).double().eval()
    units = hc.units(model, *kinds)
    decision = random_decision(units, seed=4, empty=empty)
    scales, inputs = some_scales(units, decision), dummy_inputs(model)
    with torch.no_grad():
        with hc.masked(model, decision, scales):
            expected = model(**inputs)
        cut_first = hc.fold(hc.cut(model, decision), decision, scales)
        fold_first = hc.cut(hc.fold(model, decision, scales), decision)
        for small in (cut_first, fold_first):
            assert largest_difference(expected, small(**inputs)) < 1e-10


def test_a_dense_model_with_scales_folded_in_is_the_masked_one():
    """The slices of the units that go are zero."""
    model = llama().double()
    units = hc.units(model, "kv_head", "neuron")
    decision = random_decision(units, seed=4)
    scales, inputs = some_scales(units, decision), dummy_inputs(model)
    with torch.no_grad(), hc.masked(model, decision, scales):
        expected = model(**inputs).logits
    folded = hc.fold(model, decision, scales)
    torch.testing.assert_close(folded(**inputs).logits, expected, atol=1e-10, rtol=0)
    assert len(hc.units(folded)) == len(hc.units(model))


@pytest.mark.parametrize("make", [bert, llama, with_cross_attention])
def test_tuned_scales_fold_into_the_cut_model(make):
    model = make().double()
    ids = torch.randint(5, 40, (4, 7))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if make is with_cross_attention:
        inputs["decoder_input_ids"] = ids
    decision = random_decision(hc.units(model, "head", "neuron"), seed=1)
    scales = hc.rescale(model, decision, [inputs])
    with torch.no_grad(), hc.masked(model, decision, scales):
        expected = model(**inputs).logits
    small = hc.fold(hc.cut(model, decision), decision, scales)
    torch.testing.assert_close(small(**inputs).logits, expected, atol=1e-10, rtol=0)


def test_scales_of_one_change_no_bit():
    model = bert()
    decision = keep_decision(model, torch.arange(12) % 3 > 0)
    small = hc.cut(model, decision)
    folded = hc.fold(small, decision, decision.keep(hc.units(model, "head")).float())
    for name, value in small.state_dict().items():
        assert torch.equal(folded.state_dict()[name], value)


def test_the_model_stays_as_it_was_unless_in_place():
    model = bert()
    before = copy.deepcopy(model.state_dict())
    decision = keep_decision(model, torch.ones(12, dtype=torch.bool))
    scales = torch.full((12,), 2.0)
    folded = hc.fold(model, decision, scales)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert hc.fold(model, decision, scales, in_place=True) is model
    assert all(
        torch.equal(value, folded.state_dict()[name]) for name, value in model.state_dict().items()
    )


def test_the_bias_of_the_projection_stays():
    model = bert()
    decision = keep_decision(model, torch.ones(12, dtype=torch.bool))
    folded = hc.fold(model, decision, torch.full((12,), 2.0))
    changed = [
        name
        for name, value in folded.state_dict().items()
        if not torch.equal(value, model.state_dict()[name])
    ]
    assert changed == [f"bert.encoder.layer.{i}.attention.output.dense.weight" for i in range(3)]


def test_what_is_folded_can_be_trained():
    model = bert()
    decision = keep_decision(model, torch.arange(12) % 2 == 0)
    small = hc.fold(hc.cut(model, decision), decision, 2.0 * decision.keep(hc.units(model, "head")))
    small(input_ids=torch.tensor([[5, 6]])).logits.sum().backward()
    weight = small.bert.encoder.layer[0].attention.output.dense.weight
    assert weight.requires_grad
    assert weight.grad is not None


def test_a_view_of_the_output_weight():
    """Both ways that linear maps lie; it is the weight itself, not a copy."""
    for model_type, path in (
        ("bert", "bert.encoder.layer.0.output.dense"),
        ("gpt2", "transformer.h.0.mlp.c_proj"),
    ):
        model = tiny_model(model_type)
        site = next(s for s in hc.units(model, "neuron").sites if s.gate == path)
        weight = output_weight(model, site)
        assert weight.shape[0] == site.num_units
        own = model.get_submodule(path).weight
        assert weight.data_ptr() == own.data_ptr()


def test_the_wrong_number_of_scales_is_refused():
    model = bert()
    decision = keep_decision(model, torch.ones(12, dtype=torch.bool))
    with pytest.raises(hc.DecisionError, match=r"fold\(scales of length 5\).*about 12 units"):
        hc.fold(model, decision, torch.ones(5))


def test_another_model_is_refused():
    decision = keep_decision(bert(), torch.arange(12) % 2 == 0)
    other = hc.cut(bert(), keep_decision(bert(), torch.arange(12) % 4 == 0))
    message = r"has 4 units of kind 'head'.*keeps 2, the model has 1. Give the model"
    with pytest.raises(hc.DecisionError, match=message):
        hc.fold(other, decision, torch.ones(12))


def test_scales_of_modules_are_refused():
    model = bert()
    units = hc.units(model, "sublayer")
    decision = random_decision(units, seed=0)
    message = r"the scale of the sublayer 'bert.encoder.*' is \[1.5\].*give one or zero"
    with pytest.raises(hc.SurgeryError, match=message):
        hc.fold(model, decision, torch.full((6,), 1.5))


def test_scales_are_folded_into_layers_that_moved_up():
    model = tiny_model("bert")
    units = hc.units(model, "layer", "neuron")
    last = max(site.layer for site in units.sites)
    keep = torch.tensor([s.layer == last for s in units.sites for _ in range(s.num_units)])
    decision = hc.Decision.of(units, keep, keep.double(), {})
    rows = torch.tensor([s.kind == "neuron" for s in units.sites for _ in range(s.num_units)])
    scales = torch.where(rows & keep, 2.0, keep.double())
    small = hc.cut(model, decision)
    assert [site.layer for site in hc.units(small, "neuron").sites] == [0]
    path = "bert.encoder.layer.0.output.dense"
    before = small.get_submodule(path).weight.detach().clone()
    folded = hc.fold(small, decision, scales)
    assert torch.equal(folded.get_submodule(path).weight, 2 * before)
