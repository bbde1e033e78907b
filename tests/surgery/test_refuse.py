"""What surgery refuses, and what it says."""

import copy
import warnings

import pytest
import torch
from torch import nn

import headcount as hc
from cases import bert
from headcount.zoo.decisions import decision_of, random_decision
from headcount.zoo.tiny import tiny_model

QUERY = "bert.encoder.layer.1.attention.self.query"


def halves(model, *kinds: str) -> hc.Decision:
    return random_decision(hc.units(model, *kinds), seed=0)


def given(model, kinds: tuple[str, ...], gone) -> hc.Decision:
    """Everything stays but the units for which ``gone(site, unit)`` holds."""
    units = hc.units(model, *kinds)
    keeps = [
        torch.tensor([not gone(site, unit) for unit in range(site.num_units)])
        for site in units.sites
    ]
    return decision_of(units, keeps)


@pytest.mark.compat
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
def test_packed_weights(dtype):
    model = bert()
    decision = halves(model, "head")
    weight = model.get_submodule(QUERY).weight
    packed = torch.zeros_like(weight, dtype=dtype)
    model.get_submodule(QUERY).weight = nn.Parameter(packed, requires_grad=False)
    with pytest.raises(hc.SurgeryError, match=rf"{QUERY}.weight is quantised.*Load the model unq"):
        hc.cut(model, decision)


def test_packed_weights_of_which_the_width_is_another():
    """Four bits a weight, two weights a byte, as bitsandbytes lays them out."""
    model = bert()
    decision = halves(model, "head")
    packed = torch.zeros(288, 1, dtype=torch.uint8)
    model.get_submodule(QUERY).weight = nn.Parameter(packed, requires_grad=False)
    with pytest.raises((hc.SurgeryError, hc.ArchitectureError), match="quantised"):
        hc.cut(model, decision)


def test_layers_that_torch_quantised():
    model = bert()
    decision = halves(model, "head")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    with pytest.raises((hc.SurgeryError, hc.ArchitectureError), match=r"[Qq]uantis|[Dd]ynamic"):
        hc.cut(model, decision)


@pytest.mark.compat
def test_offloaded_weights():
    model = bert()
    decision = halves(model, "head")
    model.get_submodule(QUERY).to("meta")
    with pytest.raises(hc.SurgeryError, match=r"some weights are offloaded\. Load the whole"):
        hc.cut(model, decision)


@pytest.mark.compat
def test_query_heads_in_unequal_numbers_for_each_key_value_head():
    model = tiny_model("llama")
    decision = given(model, ("head",), lambda site, unit: site.layer == 1 and unit == 2)
    with pytest.raises(
        hc.SurgeryError,
        match=r"layers\.1\.self_attn would keep \[2, 1\] query heads for its 2 key-value heads",
    ):
        hc.cut(model, decision)


def test_a_group_that_is_kept_without_any_of_its_heads():
    model = tiny_model("llama")
    decision = given(model, ("head",), lambda site, unit: unit < 2)
    with pytest.raises(hc.SurgeryError, match=r"would keep \[0, 2\] query heads"):
        hc.cut(model, decision)


@pytest.mark.compat
@pytest.mark.parametrize("kinds", [("head",), ("neuron",), ("sublayer",), ()], ids=str)
def test_a_decision_about_another_model(kinds):
    decision = halves(tiny_model("gpt2"), *kinds)
    with pytest.raises(hc.DecisionError, match="the decision is about another model"):
        hc.cut(bert(), decision)
    with (
        pytest.raises(hc.DecisionError, match="Decide again on this model"),
        hc.masked(bert(), decision),
    ):
        pass


def test_a_decision_about_a_wider_model_of_the_same_kind():
    model = bert()
    decision = halves(model, "head")
    small = hc.cut(model, decision)
    with pytest.raises(hc.DecisionError, match="it has 4 units of kind 'head' in"):
        hc.cut(small, decision)


@pytest.mark.compat
@pytest.mark.parametrize("kind", ["sublayer", "layer"])
def test_units_kept_inside_of_what_is_removed(kind):
    model = bert()

    def gone(site, unit):
        del unit
        return site.kind == kind and site.layer == 1

    decision = given(model, ("head", "neuron", kind), gone)
    with pytest.raises(hc.SurgeryError, match="but keeps units of kind 'neuron' inside them"):
        hc.cut(model, decision)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_refused_model_is_as_it_was(in_place):
    model = tiny_model("llama")
    before = copy.deepcopy(model.state_dict())
    decision = given(model, ("head",), lambda site, unit: site.layer == 1 and unit == 2)
    with pytest.raises(hc.SurgeryError):
        hc.cut(model, decision, in_place=in_place)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not hasattr(model.config, "headcount")


@pytest.mark.parametrize("in_place", [True, False])
def test_a_model_refused_after_the_recount_is_as_it_was(in_place):
    model = bert()
    before = copy.deepcopy(model.state_dict())
    decision = given(model, ("head", "sublayer"), lambda site, unit: site.kind == "sublayer")
    with pytest.raises(hc.SurgeryError):
        hc.cut(model, decision, in_place=in_place)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_model_without_attention():
    with pytest.raises(hc.ArchitectureError, match="the model has no attention heads"):
        hc.units(tiny_model("resnet"))


def test_different_units_of_layers_that_share_their_weights():
    model = tiny_model("zamba")
    torn = given(model, ("neuron",), lambda site, unit: (unit + (site.layer > 1)) % 2 == 0)
    assert len({site.keep for site in torn.sites if site.kind == "neuron"}) > 1
    with pytest.raises(hc.SurgeryError, match=r"are one tensor, of which the decision keeps diff"):
        hc.cut(model, torn)
    alike = given(model, ("neuron",), lambda site, unit: unit % 2 == 0)
    small = hc.cut(model, alike)
    ids = torch.arange(3, 9)[None]
    with torch.no_grad(), hc.masked(model, alike):
        expected = model(ids).logits
        assert torch.allclose(small.eval()(ids).logits, expected, atol=1e-5)


def test_a_budget_is_no_decision():
    model = bert()
    with pytest.raises(hc.ArgumentError, match=r"cut\(decision=Budget\): a Budget is no Decision"):
        hc.cut(model, hc.Budget(heads=5))
    with (
        pytest.raises(hc.ArgumentError, match=r"masked\(decision=Budget\)"),
        hc.masked(model, hc.Budget(heads=5)),
    ):
        pass


def tied(model, *names):
    """Two layers of BERT with one tensor under each of the names."""
    one, other, _ = model.bert.encoder.layer
    for name in names:
        path, _, leaf = name.rpartition(".")
        setattr(other.get_submodule(path), leaf, one.get_parameter(name))
    return model


PROJECTIONS = [f"attention.{p}.weight" for p in ("self.query", "self.value", "output.dense")]


@pytest.mark.parametrize("in_place", [True, False])
def test_tensors_of_two_layers_stay_one(in_place):
    model = tied(bert().double(), *PROJECTIONS, "output.dense.weight")
    decision = given(model, ("head", "neuron"), lambda site, unit: unit == 2)
    ids = torch.arange(3, 9)[None]
    with torch.no_grad(), hc.masked(model, decision):
        expected = model(ids).logits
    before = model.num_parameters()
    small = hc.cut(model, decision, in_place=in_place)
    one, other, _ = small.bert.encoder.layer
    for name in (*PROJECTIONS, "output.dense.weight"):
        assert one.get_parameter(name) is other.get_parameter(name)
    assert small.num_parameters() < before
    torch.testing.assert_close(small(ids).logits, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_tensor_that_is_whole_elsewhere_is_not_cut(in_place):
    """A query projection of which a module outside of all layers has the weight, too."""
    model = bert()
    model.extra = nn.Linear(24, 24)
    model.extra.weight = model.get_submodule(QUERY).weight
    decision = given(model, ("head",), lambda site, unit: unit == 2)
    with pytest.raises(hc.SurgeryError, match=rf"{QUERY}.weight and extra.weight are one tensor"):
        hc.cut(model, decision, in_place=in_place)
    assert model.get_submodule(QUERY).weight.shape == (24, 24)


def test_a_tensor_that_is_gone_elsewhere_is_cut():
    model = tied(bert().double(), *PROJECTIONS)
    decision = given(model, ("layer",), lambda site, unit: site.layer == 0)
    small = hc.cut(model, decision, in_place=True)
    assert hc.units(small).num("head") == 8
