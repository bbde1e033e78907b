"""Settings that published checkpoints have and the defaults do not: masked = cut = reloaded."""

import copy
from functools import cache

import pytest
import torch
import transformers
from transformers import CONFIG_MAPPING, PreTrainedModel
from transformers.models.layoutlmv2.modeling_layoutlmv2 import LayoutLMv2Encoder

import headcount as hc
from headcount.checkpoints.padded import padded
from headcount.units.costs import params_of
from headcount.units.kinds import KINDS
from headcount.zoo.decisions import nested, random_decision
from headcount.zoo.inputs import dummy_inputs
from headcount.zoo.outputs import equal_bits, largest_difference
from headcount.zoo.shrink import shrunk
from headcount.zoo.tiny import auto_class_name, tiny_model

OWN = {"multi_query": False, "num_kv_heads": 4}
GROUPS = {"new_decoder_architecture": True, "num_attention_heads": 8}
SIX_LAYERS = {
    "num_hidden_layers": 6,
    "layer_types": ["sliding_attention", "full_attention"] * 3,
    "num_kv_shared_layers": 2,
}
SHARED, EACH = "use_shared_relative_position_bias", "use_relative_position_bias"

SWITCHES = {
    "falcon alibi": ("falcon", {**OWN, "alibi": True, "bias": True}),
    "falcon groups alibi": ("falcon", {**GROUPS, "alibi": True}),
    "stablelm norms": ("stablelm", {"qk_layernorm": True, "num_attention_heads": 8}),
    "beit both": ("beit", {EACH: True, SHARED: True}),
    "data2vec-vision both": ("data2vec-vision", {EACH: True, SHARED: True}),
    "t5": ("t5", {"num_layers": 3}),
    "umt5": ("umt5", {"num_layers": 3}),
    "deberta": ("deberta", {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "conformer rotary": ("wav2vec2-conformer", {"position_embeddings_type": "rotary"}),
    "gemma4 sharing": ("gemma4_text", SIX_LAYERS),
}
"""Name -> model type, settings."""

SLOW = {
    "falcon one alibi": ("falcon", {"alibi": True, "parallel_attn": False}),
    "falcon groups": ("falcon", GROUPS),
    "stablelm norms, no groups": ("stablelm", {"qk_layernorm": True, "num_key_value_heads": 4}),
    "beit each": ("beit", {EACH: True}),
    "beit shared": ("beit", {SHARED: True}),
    "data2vec-vision each": ("data2vec-vision", {EACH: True}),
    "data2vec-vision shared": ("data2vec-vision", {SHARED: True}),
    "mt5": ("mt5", {"num_layers": 3}),
    "longt5": ("longt5", {"num_layers": 3}),
    "pop2piano": ("pop2piano", {"num_layers": 3}),
    "switch_transformers": ("switch_transformers", {"num_layers": 3}),
    "mpt": ("mpt", {}),
    "bloom": ("bloom", {}),
    "mpnet": ("mpnet", {}),
    "w2v-bert rotary": ("wav2vec2-bert", {"position_embeddings_type": "rotary"}),
    "gemma4 keys are values": ("gemma4_text", {"attention_k_eq_v": True}),
    "gemma3n": ("gemma3n_text", {"num_kv_shared_layers": 0}),
    "sam3_lite_text": ("sam3_lite_text", {}),
}

EVERY = [
    *SWITCHES,
    *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW),
]


@cache
def model_of(name: str) -> PreTrainedModel:
    """A tiny model in float32, every parameter of it random; never changed by a test."""
    kind, given = {**SWITCHES, **SLOW}[name]
    config = shrunk(CONFIG_MAPPING[kind], dict(given))
    config._experts_implementation = "eager"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        auto = getattr(transformers, auto_class_name(kind))
        model = auto.from_config(config, dtype=torch.float32).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def decisions(units: hc.UnitTable) -> list[hc.Decision]:
    """Each kind alone, some with an empty site; all kinds; and an empty site at the end."""
    kinds = [kind for kind in KINDS if units.num(kind)]
    found = [random_decision(units.only(kind), seed=1) for kind in kinds]
    inner = units.only(*[kind for kind in ("kv_head", "head", "neuron") if kind in kinds])
    found += [random_decision(units, seed=2)]
    return [*found, random_decision(inner, seed=4, empty=True), last_empty(units.only("head"))]


def last_empty(heads: hc.UnitTable) -> hc.Decision:
    """Of the last attention in each stack nothing stays, of the others all but the first head."""
    keeps = {site.key: torch.arange(site.num_units) > 0 for site in heads.sites}
    for stack in dict.fromkeys(site.stack for site in heads.sites):
        inside = [site for site in heads.sites if site.stack == stack]
        last = ([site for site in inside if site.branch == "self"] or inside)[-1]
        keeps[last.key] = torch.zeros(last.num_units, dtype=torch.bool)
    for site in heads.sites:
        if site.num_groups > 1 and keeps[site.key].any():
            keeps[site.key] = torch.arange(site.num_units) % (site.num_units // site.num_groups) > 0
    return nested(heads, keeps)


def num_params(model: PreTrainedModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def gap(model: PreTrainedModel, decision: hc.Decision) -> tuple[float, PreTrainedModel]:
    inputs = dummy_inputs(model)
    with torch.no_grad():
        with hc.masked(model, decision):
            expected = model(**inputs)
        small = hc.cut(model, decision)
        return largest_difference(expected, small(**inputs)), small


@pytest.mark.parametrize("name", EVERY)
def test_masked_equals_cut_and_a_cut_of_a_cut(name):
    model = copy.deepcopy(model_of(name)).double()
    for decision in decisions(hc.units(model)):
        found, small = gap(model, decision)
        assert found < 1e-10, decision.kept_per_layer
        about = hc.units(model, *decision.kinds)
        if about.num_params is not None and not {"kv_head", "head"} <= about.kinds:
            assert params_of(about).of(decision.keep(about)) == num_params(small)
        again = random_decision(hc.units(small), seed=5)
        assert gap(small, again)[0] < 1e-10, (decision.kept_per_layer, again.kept_per_layer)


@pytest.mark.parametrize("name", EVERY)
def test_saved_equals_reloaded_after_one_cut_and_after_two(name, tmp_path):
    model = model_of(name)
    units, inputs = hc.units(model), dummy_inputs(model)
    shared = "kv_head" if units.num("kv_head") else "head"
    once = hc.cut(model, random_decision(units.only(shared), seed=1))
    twice = hc.cut(once, random_decision(hc.units(once), seed=5))
    empty = hc.cut(model, last_empty(units.only("head")))
    again = hc.cut(empty, random_decision(hc.units(empty), seed=6))
    for i, small in enumerate((once, twice, again)):
        small.save_pretrained(tmp_path / str(i))
        loaded = type(model).from_pretrained(tmp_path / str(i), experts_implementation="eager")
        loaded = copy.deepcopy(loaded).eval()  # processors round by where in memory a row begins
        with torch.no_grad():
            assert equal_bits(small(**inputs), loaded(**inputs)), i


@pytest.mark.parametrize("name", ["stablelm norms", "beit both"])
def test_padding_puts_everything_of_a_head_in_its_place(name):
    model = model_of(name)
    units, inputs = hc.units(model), dummy_inputs(model)
    shared = "kv_head" if units.num("kv_head") else "head"
    small = hc.cut(model, random_decision(units.only(shared), seed=1))
    with torch.no_grad():
        assert largest_difference(small(**inputs), padded(small)(**inputs)) < 1e-4


def test_layers_that_share_keys_and_values_are_left_out():
    model = model_of("gemma4 sharing")
    found = {site.layer for site in hc.units(model, "head").sites}
    assert found == {0, 1}  # 2 and 3 give theirs to 4 and 5
    with pytest.raises(hc.ArchitectureError, match="those of another layer too"):
        hc.units(model.model.layers[4].self_attn)


@pytest.mark.parametrize("fast_qkv", [True, False])
def test_an_encoder_that_hands_its_layers_two_position_biases(fast_qkv):
    config = shrunk(CONFIG_MAPPING["layoutlmv2"], {"fast_qkv": fast_qkv})
    encoder = LayoutLMv2Encoder(config).eval()  # its probabilities are float32
    boxes = torch.randint(0, 64, (2, 7, 4), generator=torch.Generator().manual_seed(0))
    inputs = {
        "hidden_states": torch.randn(2, 7, 32),
        "attention_mask": torch.zeros(2, 1, 1, 7),
        "bbox": boxes,
        "position_ids": torch.arange(7).repeat(2, 1),
    }
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for decision in decisions(hc.units(encoder)):
            with hc.masked(encoder, decision):
                expected = encoder(**inputs)
            small = hc.cut(encoder, decision)
            assert largest_difference(expected, small(**inputs)) < 1e-4


IN_PIECES = {"slow_but_exact": True, "pretraining_tp": 2}


@pytest.mark.parametrize(
    ("kind", "given", "reason"),
    [
        ("bloom", IN_PIECES, "slow_but_exact = False"),
        ("hy_v4", {}, "hands its choice of tokens"),
    ],
)
def test_attention_that_cannot_be_right_is_refused_with_the_reason(kind, given, reason):
    config = shrunk(CONFIG_MAPPING[kind], dict(given))
    model = getattr(transformers, auto_class_name(kind)).from_config(config)
    with pytest.raises(hc.ArchitectureError, match=reason):
        hc.units(model)


@pytest.mark.parametrize("kind", ["pvt", "swin2sr"])
def test_a_model_with_numbers_for_each_stage_is_cut_equally_in_all(kind, tmp_path):
    model = tiny_model(kind)
    heads = hc.units(model, "head")
    small = hc.cut(model, nested(heads, {site.key: torch.arange(4) > 1 for site in heads.sites}))
    small.save_pretrained(tmp_path)
    again = copy.deepcopy(type(model).from_pretrained(tmp_path).eval())
    with torch.no_grad():
        assert equal_bits(small(**dummy_inputs(model)), again(**dummy_inputs(model)))
