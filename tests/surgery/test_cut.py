import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import headcount as hc
from cases import CLASSIFIERS, batch, bert, keep_decision, llama, with_cross_attention

KEEPS = {
    "none": torch.zeros(12),
    "one": torch.arange(12) == 7,
    "an empty layer": torch.arange(12) % 8 >= 4,
    "uneven": torch.tensor([1, 0, 0, 1, 0, 1, 1, 1, 0, 0, 1, 0]),
    "even": torch.arange(12) % 2,
    "all": torch.ones(12),
}


@pytest.mark.compat
@pytest.mark.parametrize("keep", KEEPS.values(), ids=KEEPS)
@pytest.mark.parametrize("case", CLASSIFIERS, ids=str)
def test_masked_equals_cut(case, keep):
    model = case.make().double()
    decision = keep_decision(model, keep.bool())
    with hc.masked(model, decision):
        masked = model(**batch()).logits
    small = hc.cut(model, decision)
    torch.testing.assert_close(small(**batch()).logits, masked, atol=1e-10, rtol=0)
    assert hc.units(small).num("head") == keep.sum()


@settings(max_examples=25)
@given(st.lists(st.booleans(), min_size=12, max_size=12), st.sampled_from(["eager", "sdpa"]))
def test_masked_equals_cut_for_any_decision(keep, attention):
    model = bert().double()
    model.set_attn_implementation(attention)
    decision = keep_decision(model, torch.tensor(keep))
    with hc.masked(model, decision):
        masked = model(**batch()).logits
    small = hc.cut(model, decision)
    torch.testing.assert_close(small(**batch()).logits, masked, atol=1e-10, rtol=0)


@pytest.mark.parametrize("num_heads", range(37))
def test_every_count_from_none_to_all_is_met_exactly(num_heads):
    model = with_cross_attention()
    decision = hc.decide(model, hc.Random(seed=num_heads), hc.Budget(heads=num_heads))
    small = hc.cut(model, decision)
    widths = [
        module.weight.shape[0] // 6
        for name, module in small.named_modules()
        if name.endswith("self.query")
    ]
    assert sum(widths) == decision.num_kept == num_heads


def test_generation_masked_equals_generation_cut():
    model = with_cross_attention().double()
    decision = hc.decide(model, hc.Random(seed=5), hc.Budget(heads=14))
    settings = {
        "max_new_tokens": 9,
        "num_beams": 4,
        "decoder_start_token_id": 1,
        "pad_token_id": 0,
        "eos_token_id": 2,
    }
    with hc.masked(model, decision):
        masked = model.generate(**batch(), **settings)
        logits = model(**batch(), decoder_input_ids=batch()["input_ids"]).logits
    small = hc.cut(model, decision)
    assert torch.equal(small.generate(**batch(), **settings), masked)
    again = small(**batch(), decoder_input_ids=batch()["input_ids"]).logits
    torch.testing.assert_close(again, logits, atol=1e-10, rtol=0)


@pytest.mark.parametrize("where", ["self", "cross"])
def test_generation_survives_a_first_decoder_layer_without_heads(where):
    """The cache asks its first layer how many tokens there are."""
    model = with_cross_attention().double()
    keep = torch.cat(
        [
            torch.full(
                (s.num_units,), not (s.stack == "decoder" and s.layer == 0 and s.branch == where)
            )
            for s in hc.units(model, "head").sites
        ]
    )
    settings = {"max_new_tokens": 9, "num_beams": 3, "decoder_start_token_id": 1}
    settings |= {"pad_token_id": 0, "eos_token_id": 2}
    decision = keep_decision(model, keep)
    with hc.masked(model, decision):
        masked = model.generate(**batch(), **settings)
    small = hc.cut(model, decision)
    assert torch.equal(small.generate(**batch(), **settings), masked)
    assert torch.equal(small.generate(**batch(), **settings, use_cache=False), masked)


def test_the_model_itself_stays_whole_and_shares_nothing():
    model = bert()
    before = copy.deepcopy(model.state_dict())
    small = hc.cut(model, keep_decision(model, KEEPS["uneven"].bool()))
    for parameter in small.parameters():
        torch.nn.init.zeros_(parameter)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert hc.units(model).num("head") == 12
    assert not model.config.is_heterogeneous


def test_in_place_cuts_this_very_model():
    model = bert().double()
    decision = keep_decision(model, KEEPS["uneven"].bool())
    expected = hc.cut(model, decision)(**batch()).logits
    assert hc.cut(model, decision, in_place=True) is model
    assert torch.equal(model(**batch()).logits, expected)


def test_a_cut_model_can_be_cut_again():
    model = bert().double()
    once = hc.cut(model, keep_decision(model, KEEPS["uneven"].bool()))
    second = hc.decide(once, hc.Random(seed=1), hc.Budget(heads=2))
    with hc.masked(once, second):
        masked = once(**batch()).logits
    twice = hc.cut(once, second)
    torch.testing.assert_close(twice(**batch()).logits, masked, atol=1e-10, rtol=0)
    assert hc.units(twice).num("head") == 2


def test_a_cut_model_trains():
    small = hc.cut(bert(), keep_decision(bert(), KEEPS["an empty layer"].bool())).train()
    loss = small(**batch(), labels=torch.tensor([0, 1, 2])).loss
    loss.backward()
    missing = [name for name, p in small.named_parameters() if p.grad is None]
    assert missing == []


def test_frozen_weights_stay_frozen():
    model = bert().requires_grad_(False)
    small = hc.cut(model, keep_decision(model, KEEPS["uneven"].bool()))
    assert not any(parameter.requires_grad for parameter in small.parameters())


def test_attention_maps_come_for_every_layer():
    model = bert()
    model.set_attn_implementation("eager")
    small = hc.cut(model, keep_decision(model, KEEPS["one"]))
    maps = small(**batch(), output_attentions=True).attentions
    assert [tuple(each.shape) for each in maps] == [(3, 0, 7, 7), (3, 1, 7, 7), (3, 0, 7, 7)]


def test_a_gated_model_is_not_cut():
    model = bert()
    decision = keep_decision(model, KEEPS["uneven"].bool())
    with (
        hc.masked(model, decision),
        pytest.raises(hc.SurgeryError, match="gates are attached to the model"),
    ):
        hc.cut(model, decision)
    assert hc.units(hc.cut(model, decision)).num("head") == 6


def test_the_masked_block_leaves_no_trace():
    model = bert()
    plain = model(**batch()).logits
    with hc.masked(model, keep_decision(model, KEEPS["none"].bool())):
        assert not torch.equal(model(**batch()).logits, plain)
    assert torch.equal(model(**batch()).logits, plain)


def decided(model, **amounts):
    return hc.decide(model, hc.Random(seed=2), hc.Budget(**amounts))


def test_a_layer_without_heads_runs_stock_code_with_one_head_of_zeros():
    """Where the class is not of BERT's family: one attention map, which multiplies zeros."""
    model = llama().double()
    model.set_attn_implementation("eager")
    groups = hc.units(model, "kv_head")
    keep = torch.tensor([0] * 4 + [1, 1, 0, 0] + [1] * 4, dtype=torch.bool)
    decision = hc.Decision.of(groups, keep, keep.double(), {})
    with hc.masked(model, decision):
        masked = model(**batch()).logits
    small = hc.cut(model, decision)
    output = small(**batch(), output_attentions=True)
    assert [maps.shape[1] for maps in output.attentions] == [1, 4, 8]
    torch.testing.assert_close(output.logits, masked, atol=1e-10, rtol=0)
    assert hc.units(small).num("head") == 12


@pytest.mark.parametrize(
    "amounts", [{"neurons": 30}, {"kv_heads": 5}, {"layers": 1, "heads": 4}], ids=str
)
def test_in_place_cuts_of_every_kind(amounts):
    model = llama().double()
    decision = decided(model, **amounts)
    expected = hc.cut(model, decision)(**batch()).logits
    assert hc.cut(model, decision, in_place=True) is model
    assert torch.equal(model(**batch()).logits, expected)
