"""What older versions wrote is read, by the names of today."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)

import headcount as hc
from headcount.architectures.mark import FORMAT
from headcount.reports.report import report_of
from headcount.units.decision import FORMAT as DECISION_FORMAT
from headcount.units.kinds import KINDS, OLD_NAMES
from headcount.zoo.decisions import random_decision
from headcount.zoo.outputs import largest_difference

SAMPLES = Path(__file__).parents[1] / "samples" / "format-2"
FOLDERS = {
    "bert": AutoModelForSequenceClassification,
    "llama": AutoModelForCausalLM,
    "t5": AutoModelForSeq2SeqLM,
    "bloom": AutoModelForCausalLM,
    "bloom-standalone": AutoModelForCausalLM,
}
IDS = torch.tensor([[3, 5, 7, 9, 11]])


def outputs(model, name):
    more = {"decoder_input_ids": IDS} if name == "t5" else {}
    with torch.no_grad():
        return model(input_ids=IDS, **more).logits


def loaded(name, folder=None, **more):
    more |= {"trust_remote_code": True} if name == "bloom-standalone" else {}
    return FOLDERS[name].from_pretrained(folder or SAMPLES / name, **more).eval()


@pytest.mark.parametrize("name", FOLDERS)
def test_old_folders_load_bit_for_bit(name, monkeypatch, tmp_path):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path))
    model = loaded(name)
    written = load_file(SAMPLES / name / "model.safetensors")
    state = model.state_dict()
    assert written.keys() <= state.keys()
    assert all(torch.equal(state[key], written[key]) for key in written)
    expected = load_file(SAMPLES / f"{name}.logits.safetensors")["logits"]
    torch.testing.assert_close(outputs(model, name), expected)


@pytest.mark.parametrize("name", FOLDERS)
def test_what_is_left_in_an_old_folder_is_what_its_decision_says(name, monkeypatch, tmp_path):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path))
    model = loaded(name)
    decision = hc.Decision.load(SAMPLES / name / "decision.json")
    assert {*decision.kinds} <= {*KINDS}
    units = hc.units(model)
    for kind in decision.kinds:
        if kind in ("head", "layer"):  # of sublayers that lost their units some weights stay
            assert units.num(kind) == decision.num(kind)


@pytest.mark.parametrize("name", FOLDERS)
def test_old_models_are_cut_on_and_saved_by_the_new_names(name, monkeypatch, tmp_path):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path))
    model = loaded(name)
    again = tmp_path / "again"
    model.save_pretrained(again)
    mark = json.loads((again / "config.json").read_text())["headcount"]
    assert mark["format"] == FORMAT
    kinds = {kind for left in mark["left"].values() for kind in left}
    assert kinds
    assert not kinds & {*OLD_NAMES}
    assert torch.equal(outputs(loaded(name, again), name), outputs(model, name))
    decision = random_decision(hc.units(model), seed=0)
    model.double()
    with hc.masked(model, decision):
        expected = outputs(model, name)
    small = hc.cut(model, decision)
    assert largest_difference(expected, outputs(small, name)) < 1e-10
    small.save_pretrained(tmp_path / "small")
    last = loaded(name, tmp_path / "small", dtype=torch.float64)
    assert torch.equal(outputs(last, name), outputs(small, name))


def test_an_old_mark_in_a_configuration_that_was_made_by_hand_is_understood():
    body = json.loads((SAMPLES / "llama" / "config.json").read_text())
    model = loaded("llama")
    vars(model.config)["headcount"] = body["headcount"]  # as a pickle of an old version brings it
    twin = type(model)(model.config)
    assert {name: x.shape for name, x in twin.state_dict().items()} == {
        name: x.shape for name, x in model.state_dict().items()
    }


def test_old_decisions_are_read_and_written_by_the_new_names(tmp_path):
    counts = hc.Decision.load(SAMPLES / "counts.json")
    assert (counts.num("kv_head"), counts.num("neuron"), counts.num("sublayer")) == (4, 18, 5)
    assert counts.provenance["budget"] == {"kv_heads": 4, "neurons": 0.5, "sublayers": 5}
    cost = hc.Decision.load(SAMPLES / "cost.json")
    assert cost.provenance["budget"]["kinds"] == ["kv_head", "neuron", "layer"]
    for decision in (counts, cost):
        decision.save(tmp_path / "new.json")
        text = (tmp_path / "new.json").read_text()
        assert not any(f'"{old}"' in text.replace('"module":', "") for old in OLD_NAMES)
        assert hc.Decision.from_json(text) == decision


def test_old_tables_of_latencies_and_reports_are_read(tmp_path):
    table = hc.LatencyTable.load(SAMPLES / "latency_table.json")
    assert [curve.kind for curve in table.curves] == ["kv_head", "neuron"]
    assert hc.LatencyTable.from_json(table.to_json()) == table
    shutil.copy(SAMPLES / "report.json", tmp_path)
    assert report_of(tmp_path).budget == {
        "macs": 0.5,
        "kinds": ["kv_head", "neuron"],
        "place": "self",
    }


@pytest.mark.parametrize(
    "damage",
    [
        {"left": 3},
        {"left": {"encoder": 3}},
        {"left": {"encoder": {"row": -1}}},
        {"left": {"encoder": {"neuron": 1}, "nowhere": {"group": 1}}},
    ],
    ids=str,
)
def test_a_damaged_old_mark_is_an_error_of_headcount(damage, tmp_path):
    shutil.copytree(SAMPLES / "bert", tmp_path / "bert")
    config = tmp_path / "bert" / "config.json"
    body = json.loads(config.read_text())
    config.write_text(json.dumps(body | {"headcount": {"format": 2} | damage}))
    with pytest.raises(hc.CheckpointError, match="headcount"):
        loaded("bert", tmp_path / "bert")


@pytest.mark.parametrize("name", ["counts", "cost"])
def test_decisions_of_format_3_are_read_bit_for_bit(name, tmp_path):
    file = SAMPLES.with_name("format-3") / f"{name}.json"
    body = json.loads(file.read_text())
    decision = hc.Decision.load(file)
    assert body["format"] == 3
    scores = [site.scores for site in decision.sites]
    assert list(map(repr, scores)) == [repr(tuple(entry["scores"])) for entry in body["sites"]]
    assert [list(site.kept) for site in decision.sites] == [s["kept"] for s in body["sites"]]
    decision.save(tmp_path / "new.json")
    now = json.loads((tmp_path / "new.json").read_text())
    for entry in body["sites"]:
        entry["branch"] = entry.pop("where")  # the only name that has changed since
    assert now == body | {"format": DECISION_FORMAT}
