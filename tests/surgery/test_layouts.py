"""Masked equals cut: every layout of the tables, every kind of unit, and mixtures of them."""

from functools import cache

import pytest
import torch
import transformers
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from transformers import CONFIG_MAPPING, PreTrainedModel

import headcount as hc
from headcount.architectures.depth import name_now
from headcount.architectures.discover import discover
from headcount.zoo.decisions import random_decision
from headcount.zoo.inputs import dummy_inputs
from headcount.zoo.outputs import largest_difference, tensors_of
from headcount.zoo.shrink import shrunk
from headcount.zoo.tiny import auto_class_name

PLAIN = "head neuron sublayer layer"
INSIDE = "head neuron sublayer"
GROUPED = "kv_head head neuron sublayer layer"

LAYOUTS = {
    "bert": PLAIN,
    "roberta": PLAIN,
    "albert": INSIDE,
    "distilbert": PLAIN,
    "mpnet": INSIDE,
    "deberta-v2": INSIDE,
    "deberta": INSIDE,
    "modernbert": PLAIN,
    "modernbert-decoder": PLAIN,
    "gpt2": PLAIN,
    "gpt_bigcode": GROUPED,
    "gpt_bigcode, heads of their own": GROUPED,
    "openai-gpt": INSIDE,
    "falcon": "kv_head head neuron sublayer",
    "falcon, groups": "kv_head head neuron sublayer",
    "falcon, alibi": "kv_head head neuron sublayer",
    "bloom": INSIDE,
    "gpt_neox": PLAIN,
    "phi": GROUPED,
    "phi3": GROUPED,
    "mpt": INSIDE,
    "llama": GROUPED,
    "mistral": GROUPED,
    "qwen3": GROUPED,
    "olmo2": GROUPED,
    "gemma2": GROUPED,
    "deepseek_v3": PLAIN,
    "gpt_oss": "kv_head head neuron sublayer layer",
    "dbrx": "kv_head head sublayer layer",
    "t5": INSIDE,
    "mt5": INSIDE,
    "umt5": INSIDE,
    "longt5": INSIDE,
    "bart": PLAIN,
    "marian": PLAIN,
    "whisper": PLAIN,
    "vit": PLAIN,
    "deit": PLAIN,
    "beit": PLAIN,
    "dinov2": PLAIN,
    "swin": INSIDE,
    "clip": PLAIN,
    "siglip": PLAIN,
    "blip": PLAIN,
    "yolos": PLAIN,
    "wav2vec2": PLAIN,
    "wav2vec2-conformer": PLAIN,
    "hubert": PLAIN,
}
"""Model types, with a variant behind a comma, and the kinds of unit that they have."""

VARIANTS = {
    "gpt_bigcode, heads of their own": {"multi_query": False},
    "falcon, groups": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "falcon, alibi": {"multi_query": False, "num_kv_heads": 4, "alibi": True, "bias": True},
}
COMPAT = ("bert", "gpt2", "llama", "t5", "bart", "vit")
TWINS = (
    "roberta",
    "mistral",
    "mt5",
    "umt5",
    "longt5",
    "marian",
    "whisper",
    "deit",
    "yolos",
    "blip",
)
TWINS += ("siglip", "hubert", "wav2vec2-conformer")
"""Layouts that share their rows with another: of them, only mixtures are among the fast tests."""
MIXED = "mixture"


def marks(layout: str, kind: str) -> list[pytest.MarkDecorator]:
    slow = [pytest.mark.slow] * (layout in TWINS and kind != MIXED)
    return slow + [pytest.mark.compat] * (layout in COMPAT)


EVERY = [
    pytest.param(layout, kind, id=f"{layout}-{kind}", marks=marks(layout, kind))
    for layout, kinds in LAYOUTS.items()
    for kind in (*kinds.split(), MIXED)
]
ONE_EACH = [pytest.param(layout, marks=marks(layout, "gradients")) for layout in LAYOUTS]


@cache
def model_of(layout: str) -> PreTrainedModel:
    """A tiny model in float64 without a constant parameter; never changed by a test."""
    kind = layout.partition(",")[0]
    config = shrunk(CONFIG_MAPPING[kind], VARIANTS.get(layout, {}))
    config._experts_implementation = "eager"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        auto = getattr(transformers, auto_class_name(kind))
        model = auto.from_config(config, dtype=torch.float32).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def table_of(model: PreTrainedModel, kind: str) -> hc.UnitTable:
    return hc.units(model) if kind == MIXED else hc.units(model, kind)


def telling(table: hc.UnitTable, *, empty: bool) -> hc.Decision:
    """The first random decision that keeps and removes units of every kind."""
    drawn = [random_decision(table, seed=seed, empty=empty) for seed in range(40)]
    mixed = [d for d in drawn if all(0 < d.num(kind) < table.num(kind) for kind in table.kinds)]
    return (mixed or drawn)[0]


def assert_masked_equals_cut(model, decision):
    inputs = dummy_inputs(model)
    with torch.no_grad():
        with hc.masked(model, decision):
            expected = model(**inputs)
        small = hc.cut(model, decision)
        assert largest_difference(expected, small(**inputs)) < 1e-10
    return small


def assert_recount_equals(small, decision):
    """Site by site; a sublayer without any head or neuron counts only if a bias is left."""
    found = {site.key: site.num_units for site in discover(small).sites}
    hollow = {s.module for s in decision.sites if s.kind in ("head", "neuron") and not any(s.keep)}
    for site in decision.sites:
        if site.kind != "sublayer" or site.module not in hollow:
            name = name_now(small, site.module)
            assert found.get((name, site.kind), 0) == sum(site.keep), site.key


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_kinds_of_unit(layout):
    assert hc.units(model_of(layout)).kinds == set(LAYOUTS[layout].split())


@pytest.mark.parametrize(("layout", "kind"), EVERY)
def test_masked_equals_cut(layout, kind):
    model = model_of(layout)
    for empty in (False, True):
        decision = telling(table_of(model, kind), empty=empty)
        assert_recount_equals(assert_masked_equals_cut(model, decision), decision)


@pytest.mark.parametrize("layout", ["bert", "gpt2", "llama", "t5"])
@settings(max_examples=8, phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(0, 2**31), empty=st.booleans(), num_kinds=st.integers(1, 5))
def test_masked_equals_cut_for_any_decision(layout, seed, empty, num_kinds):
    model = model_of(layout)
    kinds = sorted(hc.units(model).kinds)[:num_kinds]
    decision = random_decision(hc.units(model, *kinds), seed=seed, empty=empty)
    assert_recount_equals(assert_masked_equals_cut(model, decision), decision)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), empty=st.booleans(), data=st.data())
def test_masked_equals_cut_for_any_decision_of_any_layout(layout, seed, empty, data):
    model = model_of(layout)
    known = LAYOUTS[layout].split()
    kinds = data.draw(st.lists(st.sampled_from(known), min_size=1, unique=True))
    decision = random_decision(hc.units(model, *kinds), seed=seed, empty=empty)
    assert_recount_equals(assert_masked_equals_cut(model, decision), decision)


@pytest.mark.parametrize(
    "layout", ["bert", "gpt2", "llama", "qwen3", "t5", "bloom", "olmo2", "swin"]
)
def test_a_cut_model_can_be_cut_again(layout):
    model = model_of(layout)
    once = hc.cut(model, telling(hc.units(model), empty=False))
    assert_masked_equals_cut(once, random_decision(hc.units(once), seed=3, empty=True))


def gradients(model, inputs) -> dict[str, torch.Tensor]:
    """Of a sum of all outputs with weights of their own."""
    model.zero_grad()
    outputs = dict(tensors_of(model(**inputs)))
    weights = (torch.arange(x.numel(), dtype=x.dtype).sin().view_as(x) for x in outputs.values())
    sum((x * w).sum() for x, w in zip(outputs.values(), weights, strict=True)).backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("layout", ONE_EACH)
def test_gradients_flow_as_in_the_masked_model(layout):
    model, inputs = model_of(layout), dummy_inputs(model_of(layout))
    decision = telling(hc.units(model), empty=False)
    with hc.masked(model, decision):
        masked = gradients(model, inputs)
    small = hc.cut(model, decision)
    found = gradients(small, inputs)
    for name, parameter in small.named_parameters():
        if name in masked and masked[name].any():
            assert name in found, name
            if parameter.shape == masked[name].shape and "relative_attention_bias" not in name:
                torch.testing.assert_close(found[name], masked[name], atol=1e-9, rtol=1e-9)


@pytest.mark.compat
@pytest.mark.parametrize("layout", ["bert", "llama", "t5", "vit"])
def test_a_training_step_lowers_the_loss(layout):
    model, inputs = model_of(layout), dummy_inputs(model_of(layout))
    small = hc.cut(model, telling(hc.units(model), empty=True)).train()
    optimizer = torch.optim.SGD(small.parameters(), lr=1e-6)
    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        loss = sum(x.square().sum() for _, x in tensors_of(small(**inputs)))
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[1] < losses[0]


@pytest.mark.parametrize("layout", ["bert", "llama"])
def test_attention_maps_come_where_they_are_asked_for(layout):
    model = model_of(layout)
    small = hc.cut(model, random_decision(hc.units(model, "head"), seed=1, empty=True))
    small.set_attn_implementation("eager")
    maps = small(**dummy_inputs(small), output_attentions=True).attentions
    counts = {site.layer: site.num_units for site in hc.units(small, "head").sites}
    assert len(maps) == 2
    assert maps[1].shape == (2, counts[1], 7, 7)
    torch.testing.assert_close(maps[1].sum(-1)[0], torch.ones_like(maps[1].sum(-1)[0]))
