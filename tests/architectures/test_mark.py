"""Marks that headcount did not write, or not for this model."""

import json
import re
import time

import pytest
import transformers

import headcount as hc
from cases import TINY, llama
from headcount.architectures.mark import check_left, check_mark
from headcount.units.decision import Decision

FIRST, SECOND = "encoder.layer.0.attention.self", "encoder.layer.1.attention.self"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of which a layer and some heads are gone."""
    model = transformers.BertModel(transformers.BertConfig(**TINY))
    budget = hc.Budget(layers=2, heads=5)
    decision = hc.decide(model, hc.Random(seed=2), budget)
    path = tmp_path_factory.mktemp("cut") / "model"
    hc.cut(model, decision).save_pretrained(path)
    return path


def load(folder, tmp_path, change):
    """What comes of a folder whose mark was changed."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("per_layer_config", None)
    config["headcount"] = change(config["headcount"])
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    return transformers.AutoModel.from_pretrained(tmp_path)


def test_the_mark_as_it_was_saved_is_read(folder, tmp_path):
    assert hc.units(load(folder, tmp_path, lambda mark: mark)).num("head") == 5


@pytest.mark.parametrize(
    ("left", "message"),
    [
        ([], "headcount.left is [], not a mapping"),
        ({}, "headcount.left is {}, not what is left of one site or more"),
        ({FIRST: []}, f"headcount.left['{FIRST}'] is [], not a mapping"),
        ({FIRST: {"head": -1}}, ".head is -1, not a number of 0 or more"),
        ({FIRST: {"head": "3"}}, ".head is '3', not a whole number or a list"),
        ({FIRST: {"head": True}}, ".head is True, not a whole number or a list"),
        ({FIRST: {"head": 2.5}}, ".head is 2.5, not a whole number or a list"),
        ({FIRST: {"head": 10**12}}, ".head is 1000000000000, not a part of the 4 of the dense"),
        ({FIRST: {"head": 10**30}}, ".head is a whole number of 100 bits, not a number of 0"),
        ({FIRST: {"head": [0, 10**12]}}, ".head is [0, 1000000000000], not a part of the 4"),
        ({FIRST: {"head": [1, 1]}}, ".head is [1, 1], not a list in which each number is greater"),
        ({FIRST: {"head": [2, 1]}}, ".head is [2, 1], not a list in which each number is greater"),
        ({FIRST: {"head": [0, None]}}, ".head[1] is None, not a whole number"),
        ({FIRST: {"poem": 1}}, ".poem is 'poem', not a kind of unit"),
        ({FIRST: {"neuron": 1}}, ".neuron is 1, not about this model, which has no neuron there"),
        ({"nowhere": {"head": 1}}, "'nowhere'].head is 1, not about this model"),
        ({"decoder.layer.0": {"layer": 1}}, "config.json lists other units than the weights"),
        ({FIRST: {"own_bias": 2}}, ".own_bias is 2, not a part of the 1"),
    ],
)
def test_what_headcount_cannot_have_written_is_refused(folder, tmp_path, left, message):
    began = time.monotonic()
    with pytest.raises(hc.CheckpointError, match=re.escape(message)) as error:
        load(folder, tmp_path, lambda mark: {**mark, "left": left})
    assert "take the folder as it was saved" in str(error.value)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("mark", [{}, [], None, "x", {"format": 2}, {"format": "2", "left": {}}])
def test_a_mark_of_another_form_is_refused(mark):
    with pytest.raises(hc.CheckpointError, match=r"config\.json"):
        check_mark(mark)


def test_a_mark_that_the_weights_do_not_have_is_refused(folder, tmp_path):
    left = json.loads((folder / "config.json").read_text(encoding="utf-8"))["headcount"]["left"]
    gone = [path for path, kinds in left.items() if kinds.get("layer") == 0]
    heads = [path for path, kinds in left.items() if kinds.get("head")]
    assert gone
    assert heads
    changes = {
        "fewer heads": lambda left: left[heads[0]].update(head=left[heads[0]]["head"] - 1),
        "all of them": lambda left: left.pop(heads[0]),
        "a layer back": lambda left: left.pop(gone[0]),
        "another layer": lambda left: left.update({heads[0].rsplit(".", 2)[0]: {"layer": 0}}),
        "only one site": lambda left: [left.pop(path) for path in list(left) if path != heads[0]],
    }
    for name, change in changes.items():
        other = json.loads(json.dumps(left))
        change(other)
        place = tmp_path / name
        place.mkdir()
        with pytest.raises(hc.CheckpointError, match=r"other units than|headcount\."):
            load(folder, place, lambda mark, other=other: {**mark, "left": other})


def test_query_heads_of_a_mark_belong_to_its_groups():
    sites = {(site.module, site.kind): site for site in hc.units(llama()).sites}
    path = next(site.module for site in hc.units(llama(), "head").sites)
    for kinds in ({"head": 3}, {"head": 8, "kv_head": 3}, {"head": 4, "kv_head": 0}):
        with pytest.raises(hc.CheckpointError, match="equally many for each"):
            check_left({path: kinds}, sites, ["layers"])
    check_left({path: {"head": 6, "kv_head": 3}}, sites, ["layers"])


def test_half_of_an_encoder_decoder_takes_its_half_of_the_mark(tmp_path):
    sizes = {"d_model": 24, "d_ff": 32, "d_kv": 6, "num_layers": 2, "num_heads": 4}
    model = transformers.T5Model(transformers.T5Config(vocab_size=40, **sizes))
    decision = hc.decide(model, hc.Random(seed=0), hc.Budget(heads=13))
    hc.cut(model, decision).save_pretrained(tmp_path)
    half = transformers.T5EncoderModel.from_pretrained(tmp_path)
    encoder = [site for site in decision.sites if site.stack == "encoder"]
    assert hc.units(half).num("head") == Decision(sites=tuple(encoder)).num("head")
