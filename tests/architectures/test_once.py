"""An operation discovers a model once, and hands on what it has found."""

import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)

import headcount as hc
from cases import bert, keep_decision
from headcount.architectures import sublayers
from headcount.zoo.tiny import tiny_model

MODELS = {
    "bert": (bert, AutoModelForSequenceClassification),
    "t5": (lambda: tiny_model("t5"), AutoModelForSeq2SeqLM),
}


@pytest.fixture
def walks(monkeypatch):
    """The models that are walked over, in order: a walk begins with the model itself."""
    begun = []
    attention_of = sublayers.attention_of

    def counted(model, name, module):
        if not name:
            begun.append(model)
        return attention_of(model, name, module)

    monkeypatch.setattr(sublayers, "attention_of", counted)
    return begun


def uneven(model):
    return hc.decide(model, hc.Random(seed=1), hc.Budget(heads=0.6, neurons=0.5))


@pytest.mark.parametrize("make", [make for make, _ in MODELS.values()], ids=MODELS)
def test_whatever_reads_a_model_walks_once(walks, make):
    model = make()
    decision = uneven(model)
    assert walks == [model]
    hc.units(model)
    with hc.masked(model, decision):
        pass
    assert walks == [model] * 3


@pytest.mark.parametrize("make", [make for make, _ in MODELS.values()], ids=MODELS)
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_a_cut_walks_over_the_model_and_then_over_what_it_has_made(walks, make, scope):
    model = make()
    decision = hc.decide(model, hc.Random(seed=1), hc.Budget(heads=0.5, scope=scope))
    walks.clear()
    small = hc.cut(model, decision)
    # The second walk is the recount: it is the proof, so it must see the new weights.
    assert walks == [model, small]
    walks.clear()
    hc.cut(model, decision, in_place=True)
    assert walks == [model, model]


def test_layers_that_move_are_looked_at_once_more(walks):
    model = bert()
    decision = hc.decide(model, hc.Random(seed=1), hc.Budget(layers=2))
    walks.clear()
    small = hc.cut(model, decision)
    assert small.config.num_hidden_layers == 2
    assert walks == [model, small, small]


@pytest.mark.parametrize(("make", "auto"), MODELS.values(), ids=MODELS)
@pytest.mark.parametrize(("way", "most"), [(None, 0), ("standalone", 1), ("padded", 1)])
def test_saving_walks_only_to_plan_again_and_reloading_once(walks, tmp_path, make, auto, way, most):
    model = make()
    small = hc.cut(model, uneven(model))
    walks.clear()
    hc.save(small, tmp_path / "saved", **({way: True} if way else {}))
    assert len(walks) == most
    assert not any(walked is small for walked in walks)  # but the dense model, without weights
    small.save_pretrained(tmp_path / "plain")
    assert len(walks) == most
    walks.clear()
    again = auto.from_pretrained(tmp_path / "plain")
    assert len(walks) == 1
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in small.state_dict().items())


def test_a_dense_model_is_saved_and_loaded_without_a_walk(walks, tmp_path):
    model = bert()
    hc.save(model, tmp_path)
    AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert walks == []


def test_weights_are_looked_through_for_units_only_if_some_are_missing(walks, tmp_path):
    model = bert()
    hc.cut(model, keep_decision(model, torch.arange(12) % 8 >= 4)).save_pretrained(tmp_path)
    walks.clear()
    # The masked-language head is not in the file.
    AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert len(walks) == 2
