import json
import os
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import headcount as hc
from cases import bert, keep_decision, with_cross_attention

BERT = hc.units(bert())


def given_decision(table, keep):
    return hc.Decision.of(table, keep, torch.arange(len(table)) / 7, {"method": {"name": "given"}})


@given(st.lists(st.booleans(), min_size=12, max_size=12))
def test_json_gives_back_the_same_decision(keep):
    heads = BERT.only("head")
    decision = given_decision(heads, torch.tensor(keep))
    again = hc.Decision.from_json(decision.to_json())
    assert again == decision
    assert again.keep(heads).tolist() == keep
    assert again.num_kept == sum(again.kept_per_layer) == sum(keep)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite(bad):
    heads = BERT.only("head")
    keep, scores = torch.arange(12) < 5, torch.ones(12)
    decision = hc.Decision.of(heads, keep, scores, {})
    scores[6] = bad
    message = (
        r"scores of units \[2\] of kind 'head' in 'bert.encoder.layer.1.attention.self' are not"
    )
    with pytest.raises(hc.DecisionError, match=rf"Decision.of: the {message}"):
        hc.Decision.of(heads, keep, scores, {})
    one, other, *rest = decision.sites
    wrong = (one, replace(other, scores=(1.0, 1.0, bad, 1.0)), *rest)
    with pytest.raises(hc.DecisionError, match=rf"cut: the {message}"):
        hc.cut(bert(), replace(decision, sites=wrong))


@pytest.mark.parametrize(
    ("keep", "scores", "error", "message"),
    [
        (torch.ones(11, dtype=torch.bool), torch.ones(12), hc.DecisionError, r"keep=\[11\]"),
        (torch.ones(12, dtype=torch.bool), torch.ones(1, 12), hc.DecisionError, r"scores=\[1, 12"),
        (torch.ones(12), torch.ones(12), hc.DecisionError, "give bools"),
        ([True] * 12, torch.ones(12), hc.ArgumentError, "keep=list"),
    ],
)
def test_vectors_that_are_none_over_the_units(keep, scores, error, message):
    with pytest.raises(error, match=message):
        hc.Decision.of(BERT.only("head"), keep, scores, {})


@given(st.integers(0, 2 ** len(BERT) - 1))
def test_json_gives_back_a_decision_about_every_kind(bits):
    keep = [bool(bits >> i & 1) for i in range(len(BERT))]
    decision = given_decision(BERT, torch.tensor(keep))
    again = hc.Decision.from_json(decision.to_json())
    assert again == decision
    assert again.keep(BERT).tolist() == keep
    assert set(again.kinds) == BERT.kinds
    assert sum(again.num(kind) for kind in again.kinds) == again.num_kept == sum(keep)


def test_json_keeps_where_a_site_is():
    table = hc.units(with_cross_attention())
    decision = given_decision(table, torch.ones(len(table), dtype=torch.bool))
    again = hc.Decision.from_json(decision.to_json())
    places = [(s.tower, s.stack, s.layer, s.branch, s.key) for s in again.sites]
    assert places == [(s.tower, s.stack, s.layer, s.branch, s.key) for s in table.sites]


@given(st.sets(st.sampled_from(["head", "neuron", "sublayer", "layer"])), st.randoms())
def test_sites_that_a_decision_is_not_about_stay_whole(kinds, random):
    part = BERT.only(*kinds)
    keep = torch.tensor([random.random() < 0.5 for _ in part], dtype=torch.bool)
    decision = given_decision(part, keep)
    whole = decision.keep(BERT)
    for site, span in zip(BERT.sites, BERT.slices, strict=True):
        mine = next((entry.keep for entry in decision.sites if entry.key == site.key), None)
        assert tuple(whole[span].tolist()) == (mine or (True,) * site.num_units)
    assert decision.check(BERT) == part
    assert [i for s in decision.sites for i in s.kept] == [
        unit.index for unit, kept in zip(part, keep.tolist(), strict=True) if kept
    ]


def test_the_order_of_a_table_does_not_matter():
    heads = BERT.only("head")
    decision = given_decision(heads, torch.arange(12) < 5)
    turned = hc.UnitTable(sites=heads.sites[::-1])
    assert decision.check(turned) == heads
    assert decision.keep(turned).view(3, 4).flip(0).flatten().tolist() == [i < 5 for i in range(12)]


def test_json_is_plain_to_read():
    body = json.loads(keep_decision(bert(), torch.arange(12) < 5).to_json())
    assert (body["num_units"], body["num_kept"], body["sites"][1]["kept"]) == (12, 5, [0])


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 2}', '{"format": 2, "sites": 3}', '{"format": 1, "sites": 3}'],
)
def test_what_is_not_a_decision_is_refused(text):
    with pytest.raises(hc.DecisionError, match=r"Decision.from_json"):
        hc.Decision.from_json(text)


def test_another_format_is_refused():
    text = keep_decision(bert(), torch.ones(12, dtype=torch.bool)).to_json()
    with pytest.raises(hc.DecisionError, match="format 1; this version of headcount reads 4"):
        hc.Decision.from_json(text.replace('"format": 4', '"format": 1'))


def test_a_unit_outside_its_site_is_refused():
    text = keep_decision(bert(), torch.ones(12, dtype=torch.bool)).to_json()
    body = json.loads(text)
    body["sites"][0]["kept"] = [4]
    with pytest.raises(hc.DecisionError, match="not a decision"):
        hc.Decision.from_json(json.dumps(body))


def test_a_decision_about_another_model_is_refused():
    decision = keep_decision(bert(), torch.ones(12, dtype=torch.bool))
    small = hc.cut(bert(), keep_decision(bert(), torch.arange(12) < 9))
    with pytest.raises(
        hc.DecisionError, match=r"about another model: it has 4 units of kind 'head'"
    ):
        hc.cut(small, decision)


def test_a_decision_about_a_site_that_is_not_there_is_refused():
    keep = torch.ones(12, dtype=torch.bool)
    decision = given_decision(hc.units(bert(), "head"), keep)
    with pytest.raises(hc.DecisionError, match=r"the model has no such site. Decide again"):
        decision.check(hc.units(with_cross_attention()))
    with pytest.raises(hc.DecisionError, match=r"the model has no such site. Decide again"):
        decision.keep(BERT.only("neuron"))


def test_a_decision_survives_a_file(tmp_path):
    decision = keep_decision(bert(), torch.arange(12) % 2 == 0)
    decision.save(tmp_path / "decision.json")
    assert hc.Decision.load(tmp_path / "decision.json") == decision


def test_a_kind_that_no_model_has_is_not_counted_as_none():
    decision = keep_decision(bert(), torch.ones(12, dtype=torch.bool))
    assert (decision.num("head"), decision.num("neuron")) == (12, 0)
    with pytest.raises(hc.DecisionError, match=r"num\('heads'\): give one of layer, sublayer"):
        decision.num("heads")


def one_site(**changes):
    body = json.loads(keep_decision(bert(), torch.ones(12, dtype=torch.bool)).to_json())
    body["sites"][0].update(changes)
    return json.dumps(body)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_units": 10**8}, "sites[0].num_units is 100000000, not the 4 of its scores"),
        ({"num_units": 10**12, "scores": []}, "sites[0].num_units is 1000000000000, not the 0"),
        ({"num_units": -1}, "sites[0].num_units is -1, not a number of 0 or more"),
        ({"num_units": "4"}, "sites[0].num_units is '4', not a whole number"),
        ({"scores": [0, 0, 0, None]}, "sites[0].scores[3] is None, not a number"),
        ({"scores": "0000"}, "sites[0].scores is '0000', not a list"),
        ({"kept": [1, 1]}, "sites[0].kept is [1, 1], not a list of rising numbers below 4"),
        ({"kept": [-1]}, "sites[0].kept[0] is -1, not a number of 0 or more"),
        ({"kept": [0, 1]}, "num_kept is 12, not the 10 of the sites together"),
        ({"kind": "poem"}, "sites[0].kind is 'poem', not a kind of unit"),
        ({"module": None}, "sites[0].module is None, not a text"),
        ({"layer": True}, "sites[0].layer is True, not a whole number"),
        (
            {"module": "encoder.layer.1.attention.self"},
            "sites is ('encoder.layer.1.attention.self', 'head') twice, not each site once",
        ),
    ],
)
def test_a_damaged_decision_names_the_place(changes, message):
    text = one_site(**changes).replace("bert.", "")
    with pytest.raises(hc.DecisionError) as error:
        hc.Decision.from_json(text)
    assert message in str(error.value)
    assert "Give what Decision.to_json wrote." in str(error.value)


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"format": 2, "format": 2}', "[" * 9999, None, 3])
def test_what_json_has_no_words_for_is_no_decision(text):
    with pytest.raises(hc.DecisionError, match=r"Decision\.from_json: not a decision: it is"):
        hc.Decision.from_json(text)


def test_a_file_that_is_not_there_or_no_file_is_no_decision(tmp_path):
    for path in (tmp_path, tmp_path / "none.json", os.devnull):
        with pytest.raises(hc.DecisionError, match=r"Decision\.load\('.*Give a file that"):
            hc.Decision.load(path)
    with pytest.raises(hc.ArgumentError, match=r"Decision\.load\(path=3\): an int is no str or Pa"):
        hc.Decision.load(3)
