import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import headcount as hc
from cases import bert, keep_decision


@given(st.lists(st.booleans(), min_size=12, max_size=12))
def test_json_gives_back_the_same_decision(keep):
    model = bert()
    decision = keep_decision(model, torch.tensor(keep))
    again = hc.Decision.from_json(decision.to_json())
    assert again == decision
    assert again.keep(hc.units(model)).tolist() == keep
    assert again.num_kept == sum(again.kept_per_layer) == sum(keep)


def test_json_is_plain_to_read():
    body = json.loads(keep_decision(bert(), torch.arange(12) < 5).to_json())
    assert (body["num_units"], body["num_kept"], body["sites"][1]["kept"]) == (12, 5, [0])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "sites": 3}'])
def test_what_is_not_a_decision_is_refused(text):
    with pytest.raises(hc.DecisionError, match=r"Decision.from_json"):
        hc.Decision.from_json(text)


def test_another_format_is_refused():
    text = keep_decision(bert(), torch.ones(12, dtype=torch.bool)).to_json()
    with pytest.raises(hc.DecisionError, match="format 2; this version of headcount reads 1"):
        hc.Decision.from_json(text.replace('"format": 1', '"format": 2'))


def test_a_unit_outside_its_site_is_refused():
    text = keep_decision(bert(), torch.ones(12, dtype=torch.bool)).to_json()
    body = json.loads(text)
    body["sites"][0]["kept"] = [4]
    with pytest.raises(hc.DecisionError, match="not a decision"):
        hc.Decision.from_json(json.dumps(body))


def test_a_decision_about_another_model_is_refused():
    decision = keep_decision(bert(), torch.ones(12, dtype=torch.bool))
    small = hc.cut(bert(), keep_decision(bert(), torch.arange(12) < 9))
    with pytest.raises(hc.DecisionError, match="about another model"):
        hc.cut(small, decision)


def test_a_decision_survives_a_file(tmp_path):
    decision = keep_decision(bert(), torch.arange(12) % 2 == 0)
    decision.save(tmp_path / "decision.json")
    assert hc.Decision.load(tmp_path / "decision.json") == decision
