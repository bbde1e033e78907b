"""Torch-Pruning, which finds what goes together by tracing, cuts the same shapes and numbers."""

import copy
import warnings

import pytest
import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

import headcount as hc
from headcount.zoo.decisions import random_decision
from headcount.zoo.inputs import dummy_inputs
from headcount.zoo.outputs import largest_difference, tensors_of
from headcount.zoo.tiny import tiny_model

tp = pytest.importorskip("torch_pruning", reason="Torch-Pruning is not installed")

TYPES = ("bert", "vit", "distilbert", "opt", "whole llama")
COUNTS = ("num_attention_heads", "num_heads", "n_heads", "num_key_value_heads")
SIZES = ("all_head_size", "embed_dim", "dim")


def model_of(kind: str) -> PreTrainedModel:
    """In float64; a Llama where every query head has a key-value head of its own."""
    if kind != "whole llama":
        return tiny_model(kind).double()
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=64,
    )
    return transformers.LlamaForCausalLM(config).double().eval()


def first_projection(model: nn.Module, site: hc.Site) -> nn.Linear:
    roles = ("query", "up")
    part = next(part for part in site.parts if part.role in roles and part.name == "weight")
    return model.get_submodule(part.module)


def dependencies(model: PreTrainedModel) -> tp.DependencyGraph:
    """What goes together, found by tracing a forward pass."""
    inputs = dummy_inputs(model)
    if "attention_mask" in inputs:
        inputs["attention_mask"] = torch.ones_like(inputs["attention_mask"])
    model.config.use_cache = False
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Unwrapped parameters detected")
        return tp.DependencyGraph().build_dependency(
            model,
            example_inputs=inputs,
            forward_fn=lambda net, given: dict(tensors_of(net(**given))),
        )


def pruned(model: PreTrainedModel, decision: hc.Decision) -> PreTrainedModel:
    """The model as Torch-Pruning cuts it; the counts of heads are set by hand, as it asks for."""
    small = copy.deepcopy(model)
    graph = dependencies(small)
    sites = {site.key: site for site in hc.units(model).sites}
    for decided in decision.sites:
        site = sites[decided.key]
        gone = [u * site.width + i for u, kept in enumerate(decided.keep) if not kept
                for i in range(site.width)]  # fmt: skip
        layer = first_projection(small, site)
        if gone:
            graph.get_pruning_group(layer, tp.prune_linear_out_channels, gone).prune()
        if site.kind == "head":
            count(small.get_submodule(site.module), site, sum(decided.keep))
    return small


def count(attention: nn.Module, site: hc.Site, kept: int) -> None:
    for names, old, new in (
        (COUNTS, site.num_units, kept),
        (SIZES, site.num_units * site.width, kept * site.width),
    ):
        for name in names:
            if vars(attention).get(name) == old:
                setattr(attention, name, new)


def not_empty(model: PreTrainedModel, kind: str, seed: int) -> hc.Decision:
    """Torch-Pruning leaves something of every layer."""
    units = hc.units(model, kind)
    drawn = (random_decision(units, seed=seed + i) for i in range(100))
    return next(d for d in drawn if all(any(site.keep) for site in d.sites))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("unit", ["head", "neuron"])
@pytest.mark.parametrize("kind", TYPES)
def test_the_same_shapes_and_the_same_outputs(kind, unit, seed):
    model = model_of(kind)
    decision = not_empty(model, unit, seed)
    theirs, ours = pruned(model, decision), hc.cut(model, decision)
    shapes = {name: tuple(p.shape) for name, p in theirs.named_parameters()}
    assert {name: tuple(p.shape) for name, p in ours.named_parameters()} == shapes
    for name, parameter in theirs.named_parameters():
        assert torch.equal(ours.get_parameter(name), parameter), name
    inputs = dummy_inputs(model)
    with torch.no_grad():
        assert largest_difference(ours(**inputs), theirs(**inputs)) < 1e-12
