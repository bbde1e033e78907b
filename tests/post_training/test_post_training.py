"""The whole way without training: decide, tune, cut, fold."""

import pytest
import torch

import headcount as hc
from cases import batch, bert

BUDGET = hc.Budget(heads=5, neurons=40)


def batches():
    generator = torch.Generator().manual_seed(0)
    return [
        {"input_ids": torch.randint(5, 40, (6, 7), generator=generator),
         "labels": torch.arange(6) % 3}
        for _ in range(4)
    ]  # fmt: skip


def test_the_result_is_the_masked_model_with_its_scales():
    model = bert().double()
    small, decision = hc.prune_post_training(model, hc.Fisher(), BUDGET, batches())
    assert decision.sites == hc.decide(model, hc.Fisher(), BUDGET, batches()).sites
    scales = hc.rescale(model, decision, batches())
    with torch.no_grad(), hc.masked(model, decision, scales):
        expected = model(**batch()).logits
    torch.testing.assert_close(small(**batch()).logits, expected, atol=1e-10, rtol=0)
    table = hc.units(small)
    assert (table.num("head"), table.num("neuron")) == (5, 40)
    assert not small.training


def test_without_scales_it_is_the_cut_model():
    model = bert()
    small, decision = hc.prune_post_training(model, hc.Fisher(), BUDGET, batches(), scales="ones")
    expected = hc.cut(model, decision)
    assert torch.equal(small(**batch()).logits, expected(**batch()).logits)
    assert "scales" not in decision.provenance


@pytest.mark.parametrize("method", [hc.Magnitude(), hc.Random()], ids=lambda method: method.name)
def test_methods_that_need_no_data_will_do(method):
    model = bert()
    small, decision = hc.prune_post_training(model, method, BUDGET, batches(), seed=3)
    assert decision.sites == hc.decide(model, method, BUDGET, seed=3).sites
    assert hc.units(small).num("neuron") == 40


def test_it_saves_and_reloads_with_the_same_bits(tmp_path):
    small, decision = hc.prune_post_training(bert(), hc.Fisher(), BUDGET, batches())
    small.save_pretrained(tmp_path)
    again = type(small).from_pretrained(tmp_path).eval()
    assert torch.equal(small(**batch()).logits, again(**batch()).logits)
    saved = hc.Decision.load(tmp_path / "decision.json")
    assert saved == decision
    assert saved.provenance["scales"] == "tuned"
    assert saved.provenance["method"]["name"] == "fisher"


def test_each_stage_is_reported():
    lines = []
    hc.prune_post_training(bert(), hc.Fisher(), BUDGET, batches(), report=lines.append)
    assert lines[0].startswith("fisher: 45 units stay, ")
    assert lines[-1].startswith("scales tuned, ")
    assert all(": scales " in line for line in lines[1:-1])
    assert 1 <= len(lines[1:-1]) <= 6


def test_an_unknown_choice_of_scales_is_refused():
    with pytest.raises(hc.BudgetError, match=r"scales='best'\): give 'tuned' or 'ones'"):
        hc.prune_post_training(bert(), hc.Fisher(), BUDGET, batches(), scales="best")


def test_a_method_that_learns_is_refused():
    with pytest.raises(hc.TrainingError, match="learns its scores by training"):
        hc.prune_post_training(bert(), hc.DSP(), BUDGET, batches())


def test_one_batch_is_not_taken_for_several():
    with pytest.raises(
        hc.ArgumentError, match=r"prune_post_training\(batches=dict\): .* \[batch\]"
    ):
        hc.prune_post_training(bert(), hc.Fisher(), hc.Budget(heads=5), batch())
