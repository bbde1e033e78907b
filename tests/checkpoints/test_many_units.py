"""Models with so many units that their scores stand in a file of their own."""

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

import headcount as hc
from headcount.units.scores import MOST_IN_TEXT

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = BertConfig(vocab_size=40, intermediate_size=MOST_IN_TEXT, num_labels=3, **SIZES)
    return BertForSequenceClassification(config).eval()


def cut(model, neurons, seed=0):
    budget = hc.Budget(heads=0.5, neurons=neurons)
    return hc.cut(model, hc.decide(model, hc.Random(seed=seed), budget))


def scores_in(folder):
    return sorted(path.name for path in folder.glob("*.scores"))


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(1, 9)[None]).logits


def test_saved_loaded_cut_on_and_saved_again(model, tmp_path):
    small = cut(model, neurons=0.9)
    small.save_pretrained(tmp_path)
    (first,) = scores_in(tmp_path)
    assert hc.Decision.load(tmp_path / "decision.json") == small.headcount_decision
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "`decision.json` has the score of every unit in a file that it names" in card
    again = BertForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(logits(again), logits(small))
    smaller = cut(again, neurons=0.9, seed=1)
    smaller.save_pretrained(tmp_path)
    (second,) = scores_in(tmp_path)
    assert second != first
    assert hc.Decision.load(tmp_path / "decision.json") == smaller.headcount_decision
    last = BertForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(logits(last), logits(smaller))
    least = cut(last, neurons=0.1, seed=2)
    least = cut(least, neurons=0.5, seed=3)  # so few are left that their scores stand in the text
    least.save_pretrained(tmp_path)
    assert scores_in(tmp_path) == []
    assert hc.Decision.load(tmp_path / "decision.json") == least.headcount_decision


@pytest.mark.parametrize("way", [{}, {"standalone": True}, {"padded": True}], ids=str)
def test_every_way_of_saving_has_one_file_of_scores(model, tmp_path, way):
    for seed in (0, 1):
        small = cut(model, neurons=0.9, seed=seed)
        hc.save(small, tmp_path / "small", **way)
        assert len(scores_in(tmp_path / "small")) == 1
        assert hc.Decision.load(tmp_path / "small" / "decision.json") == small.headcount_decision
    hc.save(model, tmp_path / "small")
    assert scores_in(tmp_path / "small") == []
