import json

import pytest
import transformers

import headcount as hc
from cases import TINY
from headcount.arena.latency import (
    Timing,
    firsts,
    measure_latency,
    model_of,
    read_latency,
    shape_of,
)

TIMING = Timing(batch=2, length=8, num_runs=2)


@pytest.fixture
def saved(result, tmp_path):
    """Makes the saved configuration of a model of three layers of four heads, with its result."""

    def make(method, heads, seed=0):
        config = transformers.BertConfig(**TINY, num_labels=3)
        model = transformers.BertForSequenceClassification(config)
        budget = hc.Budget(heads=12 if heads is None else heads)
        small = hc.cut(model, hc.decide(model, hc.Random(seed=seed + (heads or 0)), budget))
        folder = tmp_path / result(method, heads, seed).cell.name / "model"
        small.save_pretrained(folder)
        (folder / "model.safetensors").unlink()
        counts = hc.Decision.load(folder / "decision.json").kept_per_layer
        return result(method, heads, seed, units={"head": counts})

    return make


def test_the_lowest_seed_stands_for_the_others(result):
    found = firsts([result("dsp", 3, 1), result("dsp", 3, 0), result("dsp", 6, 2), result()])
    assert sorted(r.cell.name for r in found) == ["dense-0", "dsp-3-0", "dsp-6-2"]


def test_a_model_without_weights_has_the_shape_of_its_cell(saved, tmp_path):
    one = saved("dsp", 5)
    model = model_of(tmp_path / "dsp-5-0" / "model")
    assert hc.units(model).num("head") == 5
    assert not model.training
    assert shape_of(one) == " ".join(map(str, one.units["head"]))


def test_each_shape_is_timed_once(saved, tmp_path, monkeypatch):
    found = [saved("dense", None), saved("dsp", 5), saved("random", 5), saved("dsp", 2, seed=1)]
    assert shape_of(found[1]) == shape_of(found[2])
    told = []
    measure_latency(found, tmp_path, TIMING, lambda done, total: told.append((done, total)))
    assert told == [(0, 2), (2, 2)]
    latencies = read_latency(found, tmp_path)
    assert latencies["dsp", 5] == latencies["random", 5]
    assert latencies["dense", None].ratio == 1.0
    body = json.loads((tmp_path / "latency.json").read_text(encoding="utf-8"))
    assert body["timing"] == {"batch": 2, "length": 8, "num_runs": 2}
    assert len(body["shapes"]) == 3
    monkeypatch.setattr("headcount.arena.latency.latency_s", None)
    measure_latency(found, tmp_path, TIMING)
    assert read_latency(found, tmp_path) == latencies


def test_more_shapes_join_and_another_timing_begins_anew(saved, tmp_path):
    first = [saved("dense", None), saved("dsp", 5)]
    measure_latency(first, tmp_path, TIMING)
    before = read_latency(first, tmp_path)
    more = [*first, saved("dsp", 2)]
    measure_latency(more, tmp_path, TIMING)
    after = read_latency(more, tmp_path)
    assert after["dsp", 5] == before["dsp", 5]
    assert ("dsp", 2) in after
    measure_latency(first, tmp_path, Timing(batch=1, length=8, num_runs=2))
    assert read_latency(more, tmp_path).keys() == before.keys()


def test_many_shapes_are_timed_a_few_at_a_time(saved, tmp_path, monkeypatch):
    monkeypatch.setattr("headcount.arena.latency.TOGETHER", 2)
    found = [saved("dense", None), *(saved("dsp", heads) for heads in (1, 2, 3))]
    told = []
    measure_latency(found, tmp_path, TIMING, lambda done, total: told.append((done, total)))
    assert told == [(0, 3), (2, 3), (3, 3)]
    assert len(read_latency(found, tmp_path)) == 4


def test_nothing_is_timed_without_a_dense_model_or_runs(saved, tmp_path):
    measure_latency([saved("dsp", 5)], tmp_path, TIMING)
    measure_latency([saved("dense", None)], tmp_path, Timing(num_runs=0))
    assert not (tmp_path / "latency.json").exists()


@pytest.mark.parametrize("field", ["batch", "length"])
def test_a_timing_of_nothing_is_refused(field):
    with pytest.raises(hc.PruningError, match=rf"{field}=0.*give 1 or more"):
        Timing(**{field: 0})
