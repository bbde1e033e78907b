"""Replaying a model layer by layer gives what whole passes give; sums are found by trying."""

from functools import partial

import pytest
import torch
from torch import nn

import headcount as hc
from headcount.architectures.locations import layer_path
from headcount.gates.attach import Gates
from headcount.post_training.replay import Replay, finishing_order
from headcount.post_training.residual import Sum, find_sum
from headcount.zoo.inputs import dummy_inputs
from headcount.zoo.tiny import tiny_model

TYPES = (
    *("bert", "distilbert", "albert", "deberta-v2", "modernbert", "gpt2", "gpt_neox", "falcon"),
    *("llama", "gemma2", "t5", "bart", "whisper", "vit", "swin", "yolos", "clip", "wav2vec2"),
)


def prepared(model_type):
    """A tiny model, two batches, its projections and its layers."""
    model = tiny_model(model_type).double().eval()
    batches = [to_double(dummy_inputs(model, seed=seed)) for seed in range(2)]
    sites = hc.units(model).sites
    gates = list(dict.fromkeys(site.gate for site in sites if site.gated == "input"))
    return model, batches, gates, [site.module for site in sites if site.kind == "layer"]


def to_double(inputs):
    return {name: x.double() if x.is_floating_point() else x for name, x in inputs.items()}


def whole_pass(model, batch, names):
    """Arguments and output of the modules, from a forward pass without any tricks."""
    seen = {name: [] for name in names}

    def note(name, module, args, output):
        seen[name].append((args[0].clone(), output.clone()))

    hooks = [model.get_submodule(n).register_forward_hook(partial(note, n)) for n in names]
    with torch.no_grad():
        model(**batch)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("steady", [False, True], ids=["changing", "steady"])
@pytest.mark.parametrize("model_type", TYPES)
def test_a_replay_sees_what_a_whole_pass_sees(model_type, steady):
    model, batches, gates, layers = prepared(model_type)
    order = finishing_order(model, batches[0], [*gates, *layers])
    replay = Replay(model, batches, order, layers, steady=steady)
    expected = [whole_pass(model, batch, gates) for batch in batches]
    for name in dict.fromkeys(name for name in order if name in gates):
        for index in (0, 1):
            calls = replay.calls(index, name)[name]
            assert len(calls) == len(expected[index][name])
            for (args, output), (x, y) in zip(calls, expected[index][name], strict=True):
                assert torch.equal(args[0], x)
                assert torch.equal(output, y)
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "bart", "albert"])
def test_a_change_behind_the_last_asked_module_is_seen(model_type):
    """Gates are set as scales are: at one module after another."""
    model, batches, gates, layers = prepared(model_type)
    units = hc.units(model, "head", "neuron")
    order = finishing_order(model, batches[0], [*gates, *layers])
    replay, held = Replay(model, batches, order, layers), Gates(model, units)
    value = torch.ones(len(units), dtype=torch.float64)
    for name in dict.fromkeys(name for name in order if name in gates):
        held.value = value
        (expected,) = (call[0][0] for call in [whole_pass(model, batches[0], [name])[name]])
        assert torch.equal(replay.calls(0, name)[name][0][0][0], expected)
        for site, span in zip(units.sites, units.slices, strict=True):
            if site.gate == name:
                value[span] = 0.5
    held.remove()


def test_layers_that_are_done_are_not_computed_again():
    model, batches, gates, layers = prepared("bert")
    order = finishing_order(model, batches[0], [*gates, *layers])
    replay = Replay(model, batches[:1], order, layers)
    last = order[-2]
    replay.calls(0, last)
    counted = []
    for name in gates:
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: counted.append(name))
    replay.calls(0, last)
    assert counted == [name for name in order if name in gates and name.startswith(layers[-1])]


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "gpt_neox"])
def test_in_a_steady_model_the_end_of_a_layer_comes_with_its_last_module(model_type):
    """Layer 0 runs once for each of its modules; with a change between, once more."""
    model, batches, gates, layers = prepared(model_type)
    order = finishing_order(model, batches[0], [*gates, *layers])
    counted = []
    model.get_submodule(layers[0]).register_forward_pre_hook(lambda *_: counted.append(1))
    for steady, times in ((True, 2), (False, 3)):
        counted.clear()
        replay = Replay(model, batches[:1], order, layers, steady=steady)
        for name in order:
            if name in gates:
                replay.calls(0, name, *(layers[:1] if name.startswith(layers[0]) else []))
        assert sum(counted) == times + 2  # a layer that is left out is called, and hands on


def test_what_was_held_is_not_changed_by_code_that_works_in_place():
    class Doubling(nn.Module):
        def forward(self, x):
            return x.mul_(2)

    chain = nn.Sequential(nn.Identity(), Doubling(), nn.Identity())
    chain.get_submodule("0").forward = lambda x: x + 1
    batch = {"input": torch.ones(2)}
    order = finishing_order(chain, batch, ["0", "1"])
    replay = Replay(chain, [batch], order, ["0"])
    for _ in range(3):
        [(_, output)] = replay.calls(0, "1")["1"]
        assert output.tolist() == [4, 4]
    [(_, first)] = Replay(chain, [batch], order, []).calls(0, "0")["0"]
    assert first.tolist() == [2, 2]


def test_a_module_that_is_called_twice_is_seen_twice():
    model, batches, gates, layers = prepared("albert")
    order = finishing_order(model, batches[0], gates)
    assert order == (gates[1], gates[0]) * 2
    assert layers == []


PLACES = {
    "bert": ("attention.output.LayerNorm", "input", "output.LayerNorm", "input"),
    "distilbert": ("sa_layer_norm", "input", "output_layer_norm", "input"),
    "gpt2": ("ln_2", "input", "", "output"),
    "llama": ("post_attention_layernorm", "input", "", "output"),
    "gpt_neox": ("", "output", "", "output"),  # attention and network side by side
    "falcon": ("", "output", "", "output"),  # added in place to the network's output
}


@pytest.mark.parametrize("model_type", PLACES)
def test_the_place_where_an_output_has_been_added(model_type):
    model, batches, gates, _ = prepared(model_type)
    order = [n for n in finishing_order(model, batches[0], gates) if ".1." in n]
    layer = layer_path(order[0])
    found = [find_sum(model, batches[0], gate) for gate in order]
    sides = PLACES[model_type]
    assert found == [
        Sum(f"{layer}.{path}".rstrip("."), side)
        for path, side in zip(sides[::2], sides[1::2], strict=True)
    ]
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("model_type", ["gemma2", "beit"])
def test_an_output_that_is_normalised_or_scaled_first_has_no_such_place(model_type):
    model, batches, gates, _ = prepared(model_type)
    assert [find_sum(model, batches[0], gate) for gate in gates] == [None] * len(gates)


def test_a_projection_outside_of_any_layer_has_no_such_place():
    model = nn.ModuleDict({"out": nn.Linear(2, 2)})
    assert find_sum(model, {}, "out") is None
