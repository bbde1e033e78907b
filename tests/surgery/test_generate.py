"""A cut model generates, token for token, what the masked model generates."""

from functools import cache

import pytest
import torch
from transformers import PreTrainedModel

import headcount as hc
from headcount.zoo.decisions import decision_of, nested, random_decision
from headcount.zoo.inputs import generation_inputs
from headcount.zoo.tiny import tiny_model

GREEDY = {"do_sample": False, "output_logits": True}
BEAMS = {"do_sample": False, "num_beams": 4, "output_scores": True}
COMMON = {"max_new_tokens": 6, "min_new_tokens": 6, "return_dict_in_generate": True}

KINDS = {
    "gpt2": ("heads", "no head", "sublayer", "layer"),
    "bloom": ("heads", "no head", "sublayer"),
    "llama": ("heads", "kv_heads", "no head", "sublayer", "layer"),
    "qwen3": ("kv_heads", "no head", "layer"),
    "gemma2": ("kv_heads", "layer"),
    "phi3": ("heads", "no head"),
    "falcon": ("heads", "no head"),
    "mpt": ("heads", "no head"),
    "bart": ("heads", "no head", "no cross head", "sublayer", "layer"),
    "t5": ("heads", "no head", "no cross head", "sublayer"),
    "marian": ("heads", "no head", "layer"),
}
"""Model types, and what is cut of them."""

SINGLE = ("bloom", "mpt", "gemma2")
"""Types that put out NaN for padding on the left in float64, before anything is cut."""
COMPAT = ("gpt2", "llama", "bart", "t5")
SLOW = ("qwen3", "gemma2", "phi3", "falcon", "mpt", "marian")
CASES = [
    pytest.param(
        kind,
        what,
        id=f"{kind}-{what}",
        marks=[pytest.mark.compat] * (kind in COMPAT) + [pytest.mark.slow] * (kind in SLOW),
    )
    for kind, names in KINDS.items()
    for what in names
]


@cache
def model_of(kind: str) -> PreTrainedModel:
    model = tiny_model(kind)
    return model if kind in SINGLE else model.double()


def first_of(units: hc.UnitTable, kind: str, where: str) -> hc.Decision:
    """Remove the decoder's first site of a kind, keep everything else."""
    every = units.only("head", "kv_head", "neuron", "sublayer", "layer")
    stack = [s for s in every.sites if s.kind == kind and s.stack == "decoder"]
    gone = next(s for s in stack if s.branch == where or kind == "layer")
    keeps = {s.key: torch.full((s.num_units,), s.key != gone.key) for s in every.sites}
    if kind in ("sublayer", "layer"):
        return nested(every, keeps)
    heads = every.only("head")
    return decision_of(heads, [keeps[site.key] for site in heads.sites])


def decision_for(model: PreTrainedModel, what: str) -> hc.Decision:
    units = hc.units(model)
    match what:
        case "heads":
            return random_decision(units.only("head"), seed=4)
        case "kv_heads":
            return random_decision(units.only("kv_head", "head"), seed=4)
        case "no head":
            return first_of(units, "head", "self")
        case "no cross head":
            return first_of(units, "head", "cross")
        case "sublayer":
            return first_of(units, "sublayer", "self")
        case _:
            return first_of(units, "layer", "layer")


def generate(model: PreTrainedModel, how: dict, **more):
    inputs = generation_inputs(model)
    assert inputs is not None
    return model.generate(**inputs, **COMMON, **how, **more)


def assert_the_same(found, expected):
    assert torch.equal(found.sequences, expected.sequences)
    steps = "logits" if expected.get("logits") else "scores"
    for mine, theirs in zip(found[steps], expected[steps], strict=True):
        atol = 1e-10 if theirs.dtype == torch.float64 else 1e-5
        torch.testing.assert_close(mine, theirs, atol=atol, rtol=0)


@pytest.mark.parametrize(("kind", "what"), CASES)
def test_a_cut_model_generates_what_the_masked_one_does(kind, what):
    model = model_of(kind)
    decision = decision_for(model, what)
    assert 0 < decision.num_kept < decision.num_units
    with hc.masked(model, decision):
        greedy, beams = generate(model, GREEDY), generate(model, BEAMS)
    small = hc.cut(model, decision)
    assert_the_same(generate(small, GREEDY), greedy)
    assert_the_same(generate(small, BEAMS), beams)
    assert_the_same(generate(small, GREEDY, use_cache=False), greedy)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bloom"])
def test_padding_on_the_left_changes_no_token(kind):
    """The second of two prompts is padded; alone it goes on in the same way."""
    model = model_of(kind)
    small = hc.cut(model, decision_for(model, "heads"))
    inputs = generation_inputs(small)
    assert inputs is not None
    padding = int((inputs["attention_mask"][1] == 0).sum())
    assert padding > 0
    alone = {name: value[1:, padding:] for name, value in inputs.items()}
    together = small.generate(**inputs, **COMMON, **GREEDY)
    single = small.generate(**alone, **COMMON, **GREEDY)
    assert torch.equal(together.sequences[1:, padding:], single.sequences)


@pytest.mark.parametrize("what", ["no head", "layer"])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_cache_counts_the_tokens_of_a_first_layer_without_heads(kind, what):
    model = model_of(kind)
    small = hc.cut(model, decision_for(model, what))
    inputs = generation_inputs(small)
    assert inputs is not None
    with torch.no_grad():
        past = small(**inputs, use_cache=True).past_key_values
    assert past.get_seq_length() == inputs["input_ids"].shape[1]


@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5"])
def test_sampling_with_a_seed_gives_the_same_tokens(kind):
    model = model_of(kind)
    decision = decision_for(model, "heads")
    small, found = hc.cut(model, decision), []
    for each in (model, small):
        torch.manual_seed(3)
        if each is small:
            found.append(generate(small, {"do_sample": True, "top_k": 20}).sequences)
        else:
            with hc.masked(model, decision):
                found.append(generate(model, {"do_sample": True, "top_k": 20}).sequences)
    assert torch.equal(*found)
