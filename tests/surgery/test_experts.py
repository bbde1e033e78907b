"""The neurons of the experts of a mixture."""

import pytest
import torch
import transformers
from transformers import CONFIG_MAPPING, PreTrainedModel

import headcount as hc
from exact import assert_exact, randomised
from headcount.architectures.weights import weight_norms
from headcount.errors import BudgetError, PruningError, SurgeryError
from headcount.zoo.decisions import decision_of
from headcount.zoo.inputs import dummy_inputs
from headcount.zoo.outputs import largest_difference
from headcount.zoo.shrink import shrunk
from headcount.zoo.tiny import auto_class_name

SETTINGS = {
    "mixtral": {"num_local_experts": 3, "intermediate_size": 6},
    "gpt_oss": {"num_local_experts": 3, "intermediate_size": 6},
    "qwen3_moe": {"num_experts": 3, "moe_intermediate_size": 6},
    "qwen2_moe": {"num_experts": 3, "moe_intermediate_size": 6},
    "olmoe": {"num_experts": 3, "intermediate_size": 6},
    "deepseek_v3": {"n_routed_experts": 4, "moe_intermediate_size": 6},
    "nemotron_h": {"n_routed_experts": 4, "moe_intermediate_size": 6},
    "aria_text": {"moe_num_experts": 3, "intermediate_size": 6},
    "switch_transformers": {"num_experts": 3, "d_ff": 6},
    "nllb-moe": {"num_experts": 3, "encoder_sparse_step": 1, "decoder_sparse_step": 1},
}
"""Model types with experts, and what makes these few and small."""
FAST = ("mixtral", "gpt_oss", "switch_transformers")
EACH = [
    pytest.param(kind, marks=[] if kind in FAST else pytest.mark.slow, id=kind) for kind in SETTINGS
]


def tiny(kind: str, implementation: str = "eager", **more: int) -> PreTrainedModel:
    config = shrunk(CONFIG_MAPPING[kind], {**SETTINGS[kind], **more})
    config._experts_implementation = implementation
    auto = getattr(transformers, auto_class_name(kind))
    return randomised(auto.from_config(config, dtype=torch.float32))


def routed(units: hc.UnitTable) -> list:
    return [site for site in units.sites if site.routed]


@pytest.mark.parametrize("kind", EACH)
def test_masked_equals_cut_and_what_is_saved_comes_back(kind, tmp_path):
    model = tiny(kind)
    assert routed(hc.units(model))
    small = assert_exact(model, dummy_inputs, "neuron").float()
    small.save_pretrained(tmp_path)
    again = type(small).from_pretrained(tmp_path, experts_implementation="eager")
    mine, theirs = small.state_dict(), again.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("implementation", ["grouped_mm", "batched_mm"])
@pytest.mark.parametrize("left", [3 * 8, 3 * 3])
def test_every_way_to_run_experts_heeds_the_gates(implementation, left, tmp_path):
    """Grouped products want rows of whole 16 bytes, so what has others is run another way."""
    model = tiny("mixtral", implementation, intermediate_size=16)
    budget = hc.Budget(neurons=left, scope="layer")
    decision = hc.decide(model, hc.Random(seed=0), budget)
    with torch.no_grad():
        with hc.masked(model, decision):
            expected = model(**dummy_inputs(model))
        small = hc.cut(model, decision)
        assert largest_difference(expected, small(**dummy_inputs(model))) < 1e-4
        assert largest_difference(expected, model(**dummy_inputs(model))) > 1e-3
        small.save_pretrained(tmp_path)
        again = type(small).from_pretrained(tmp_path)
        assert largest_difference(expected, again(**dummy_inputs(model))) < 1e-4
    assert ("headcount" in vars(small.config)) == (left == 9)


def test_each_expert_keeps_as_many_of_its_best_neurons():
    model = tiny("mixtral")
    units = hc.units(model, "neuron")
    assert [site.num_units for site in units.sites] == [18, 18]
    decision = hc.decide(model, hc.Magnitude(), hc.Budget(neurons=18))
    scores = weight_norms(model, units, roles=("up", "down"))
    small = hc.cut(model, decision)
    assert hc.units(small).num("neuron") == 18
    for site, span in zip(decision.sites, units.slices, strict=True):
        keep = torch.tensor(site.keep).view(3, 6)
        assert len(keep.sum(1).unique()) == 1
        for own, kept in zip(scores[span].view(3, 6), keep, strict=True):
            assert set(own.argsort(descending=True)[: kept.sum()].tolist()) == set(
                kept.nonzero().flatten().tolist()
            )
    counts = [site.num_units // 3 for site in hc.units(small, "neuron").sites]
    shapes = [tuple(layer.mlp.experts.gate_up_proj.shape) for layer in small.model.layers]
    assert shapes == [(3, 2 * count, 32) for count in counts]


def test_norms_and_costs_are_those_of_one_neuron_of_one_expert():
    model = tiny("mixtral")
    units = hc.units(model, "neuron")
    experts = model.model.layers[1].mlp.experts
    up, down = experts.gate_up_proj[2].double(), experts.down_proj[2].double()
    expected = (up[4].square().sum() + up[10].square().sum() + down[:, 4].square().sum()).sqrt()
    norms = weight_norms(model, units, roles=("up", "down"))
    torch.testing.assert_close(norms[units.slices[1]][2 * 6 + 4], expected.detach())
    assert units.sites[1].cost.params == 3 * 32


def test_experts_cannot_keep_different_numbers():
    model = tiny("mixtral")
    units = hc.units(model, "neuron")
    keeps = [torch.ones(site.num_units).bool() for site in units.sites]
    keeps[1][0] = False
    with pytest.raises(SurgeryError, match=r"would keep \[5, 6, 6\] neurons.*equally many"):
        hc.cut(model, decision_of(units, keeps))


def test_a_number_that_does_not_go_into_the_experts_is_refused_with_the_nearest():
    with pytest.raises(BudgetError, match=r"each of the 3 experts.*Give 15 or 18"):
        hc.decide(tiny("mixtral"), hc.Random(seed=0), hc.Budget(neurons=17))


def test_a_budget_of_parameters_leaves_experts_whole_or_says_why():
    model = tiny("mixtral")
    whole = sum(parameter.numel() for parameter in model.parameters())
    small = hc.cut(model, hc.decide(model, hc.Random(seed=0), hc.Budget(params=whole - 2000)))
    assert hc.units(small).num("neuron") == 36
    with pytest.raises(BudgetError, match="each expert has to keep equally many"):
        hc.decide(model, hc.Random(seed=0), hc.Budget(params=0.9, kinds=("neuron",)))


@pytest.mark.parametrize("kind", ["mixtral", "switch_transformers"])
def test_experts_have_no_gates_for_each_example(kind):
    model = tiny(kind)
    units = hc.units(model, "neuron")
    gates = hc.gates.attach.Gates(model, units)
    gates.value = torch.ones(2, len(units))
    with pytest.raises(PruningError, match="batches of one example each"):
        model(**dummy_inputs(model))
    gates.value = torch.ones(1, len(units), requires_grad=True)
    sum(x.square().sum() for x in model(**dummy_inputs(model)).values()
        if torch.is_tensor(x)).backward()  # fmt: skip
    assert gates.value.grad.abs().sum() > 0
    gates.remove()
    assert all("down_proj" not in vars(module) for module in model.modules())
