"""Continuous batching, whose paged cache has the same key-value heads in every layer."""

import pytest
import torch
import transformers

import headcount as hc
from cases import llama
from headcount.zoo.decisions import decision_of

SETTINGS = transformers.GenerationConfig(
    max_new_tokens=4, do_sample=False, pad_token_id=0, eos_token_id=None
)
IDS = [[5, 6, 7], [8, 9, 10]]


def cut(kind, kept):
    """Llama with so many units left in its three layers."""
    torch.manual_seed(1)
    model = llama()
    units = hc.units(model, kind)
    sites = zip(units.sites, kept, strict=True)
    return hc.cut(model, decision_of(units, [torch.arange(s.num_units) < n for s, n in sites]))


@pytest.mark.parametrize(
    ("kind", "kept", "shown"),
    [
        ("kv_head", (4, 1, 2), r"\[4, 1, 2\]"),
        ("kv_head", (2, 0, 2), r"\[2, 0, 2\]"),
        ("sublayer", (1, 1, 0, 1, 1, 1), r"\[4, 0, 4\]"),
    ],
)
def test_layers_of_different_caches_are_refused(kind, kept, shown):
    small = cut(kind, kept)
    message = rf"generate_batch\(LlamaForCausalLM\): the layers keep {shown} key-value heads, and"
    with pytest.raises(hc.ArchitectureError, match=message):
        small.generate_batch(IDS, generation_config=SETTINGS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "kept"), [("kv_head", (2, 2, 2)), ("neuron", (9, 0, 24)), ("layer", (1, 0, 1))]
)
def test_layers_of_one_cache_are_served(kind, kept):
    small = cut(kind, kept)
    assert small.init_continuous_batching(SETTINGS) is not None
