"""Arms that look at data instead of training, and what is noted of every evaluation example."""

import json
import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

import headcount as hc
from cases import write_model, write_pairs
from headcount.runs.data import describe_source, gather, sampled
from headcount.runs.quality import quality
from headcount.runs.run import RunSpec, carry_out, dense_run, example_batches, read_run
from headcount.tasks.nli import NLI
from headcount.training.distillation import taught
from looking import Looking

RECIPE = hc.Recipe(epochs=0.5, batch_size=8, max_length=24, seed=3)


@pytest.fixture(scope="module")
def task_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    model = write_model(folder / "model")
    train, dev = write_pairs(folder / "a.tsv", 50), write_pairs(folder / "b.tsv", 37, seed=1)
    return model, gather(model, "nli", [train], [dev], RECIPE)


def looking_spec(model, num_examples=20, **settings) -> RunSpec:
    return RunSpec(
        name="looking",
        method=Looking(**settings),
        budget=hc.Budget(heads=5),
        start=model,
        recipe=RECIPE,
        num_examples=num_examples,
    )


@pytest.mark.parametrize(("num", "seen"), [(20, 20), (1, 1), (0, 50), (999, 50)])
def test_examples_are_drawn_with_the_seed_and_stay_in_order(task_data, num, seen):
    model, given = task_data
    batches = example_batches(looking_spec(model, num), given, torch.device("cpu"))
    assert [len(batch["labels"]) for batch in batches] == [8] * (seen // 8) + [seen % 8][: seen % 8]
    rows = sorted(random.Random(3).sample(range(50), seen))
    expected = [given.train[row]["input_ids"] for row in rows]
    ids = [row[row != 0].tolist() for batch in batches for row in batch["input_ids"]]
    assert ids == expected


@pytest.mark.parametrize("rounds", [1, 3])
def test_an_arm_that_looks_cuts_the_model_it_was_given(task_data, tmp_path, rounds):
    model, given = task_data
    spec = looking_spec(model, rounds=rounds)
    done = carry_out(spec, given, tmp_path, Console(quiet=True))
    whole = given.fresh_model(model)
    batches = example_batches(spec, given, torch.device("cpu"))
    expected = hc.decide(whole, spec.method, spec.budget, batches, seed=3)
    assert done.decision == expected
    assert done.num_steps == 0
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    cut = hc.cut(whole, expected).state_dict()
    assert all(torch.equal(value, cut[name]) for name, value in saved.state_dict().items())
    assert done.quality == done.correct.count("1") / 37
    assert read_run(spec, tmp_path) == done


@pytest.mark.parametrize("heads", [3, 0])
@pytest.mark.parametrize("method", [hc.Random(), hc.Magnitude()], ids=lambda m: m.name)
def test_a_decision_that_stands_is_cut_first(task_data, tmp_path, monkeypatch, method, heads):
    """Without dropout the same model comes out as when the heads are masked all along."""
    name, given = task_data
    spec = RunSpec(
        name="run", method=method, budget=hc.Budget(heads=heads), start=name, recipe=RECIPE
    )
    fresh = given.fresh_model

    def calm(start):
        model = fresh(start)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = 0.0
        return model.double()

    given = replace(given, fresh_model=calm)
    trained = {}
    for fixed in (True, False):
        monkeypatch.setattr(type(method), "phase", "at once" if fixed else "in training")
        trained[fixed] = carry_out(spec, given, tmp_path / str(fixed), Console(quiet=True))
    assert trained[True].decision.sites == trained[False].decision.sites
    assert trained[True].decision.num_kept == heads
    states = [load_file(done.folder / "model.safetensors") for done in trained.values()]
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        torch.testing.assert_close(value, states[1][key], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("heads", [5, 0])
def test_a_cut_model_is_trained_on(task_data, tmp_path, heads):
    model, given = task_data
    spec = replace(looking_spec(model), budget=hc.Budget(heads=heads))
    cut = carry_out(spec, given, tmp_path / "cut", Console(quiet=True))
    again = replace(spec, start=str(cut.folder), decided=cut.decision)
    done = carry_out(again, given, tmp_path / "again", Console(quiet=True))
    assert (done.decision, done.num_steps) == (cut.decision, 4)
    assert hc.units(given.fresh_model(str(done.folder))).num("head") == heads
    before, after = (load_file(f.folder / "model.safetensors") for f in (cut, done))
    assert {k: v.shape for k, v in before.items()} == {k: v.shape for k, v in after.items()}
    assert not torch.equal(before["classifier.weight"], after["classifier.weight"])


def test_a_finished_arm_is_read_back(task_data, tmp_path, monkeypatch):
    model, given = task_data
    spec = looking_spec(model)
    done = carry_out(spec, given, tmp_path, Console(quiet=True))
    monkeypatch.setattr("headcount.runs.run.deciding", None)
    assert carry_out(spec, given, tmp_path, Console(quiet=True)) == done


def test_a_result_that_notes_no_answers_is_read(task_data, tmp_path):
    model, given = task_data
    spec = looking_spec(model)
    carry_out(spec, given, tmp_path, Console(quiet=True))
    old = {"quality": 0.25, "train_s": 2.5, "num_steps": 7}
    (tmp_path / "result.json").write_text(json.dumps(old), encoding="utf-8")
    done = read_run(spec, tmp_path)
    assert (done.quality, done.train_s, done.num_steps, done.correct) == (0.25, 2.5, 7, None)


def test_a_negative_number_of_examples_is_refused():
    with pytest.raises(hc.TrainingError, match=r"num_examples=-1: give a count, or 0 for all"):
        looking_spec("model", -1)


def test_answers_are_in_the_order_of_the_data(task_data, tmp_path):
    """Compared with one example at a time, without any padding."""
    model, given = task_data
    trained = carry_out(dense_run(model, RECIPE), given, tmp_path, Console(quiet=True))
    tuned = given.fresh_model(str(trained.folder)).eval()
    expected = ""
    with torch.no_grad():
        for row in given.eval:
            ids = {k: torch.tensor([v]) for k, v in row.items() if k != "labels"}
            expected += "01"[int(tuned(**ids).logits.argmax()) == row["labels"]]
    found = quality(tuned, given, RECIPE, tmp_path / "scratch")
    assert found.correct == expected == trained.correct
    assert found.value == expected.count("1") / 37
    assert 0 < expected.count("1") < 37


def test_a_task_without_right_and_wrong_has_no_answers(task_data, tmp_path):
    model, given = task_data

    class Unmarked(type(given.task)):
        def correct(self, eval_prediction):
            return None

    other = replace(given, task=Unmarked())
    found = quality(given.fresh_model(model), other, RECIPE, tmp_path)
    assert found.correct is None
    assert found.value == quality(given.fresh_model(model), given, RECIPE, tmp_path).value


def test_a_sample_is_drawn_by_pythons_own_generator(task_data):
    _, given = task_data
    rows = sorted(random.Random(4).sample(range(50), 12))
    part = sampled(given, 12, 4)
    assert part.train["input_ids"] == [given.train[row]["input_ids"] for row in rows]
    assert part.eval is given.eval
    assert sampled(given, 0, 4) is sampled(given, 50, 4) is given


@pytest.mark.parametrize("num", [-1, 51])
def test_a_sample_of_more_than_there_is_is_refused(task_data, num):
    with pytest.raises(hc.DataError, match=rf"num_train={num}: there are 50 .* Give 0 \(all\)"):
        sampled(task_data[1], num, 0)


def test_a_source_is_known_by_name_and_contents(tmp_path):
    (tmp_path / "a.tsv").write_text("one", encoding="utf-8")
    first = describe_source(tmp_path / "a.tsv")
    (tmp_path / "a.tsv").write_text("two", encoding="utf-8")
    assert first[0] == describe_source(str(tmp_path / "a.tsv"))[0] == "a.tsv"
    assert first[1] != describe_source(tmp_path / "a.tsv")[1]
    assert describe_source("some/id") == ["some/id", None]


def test_right_and_wrong_agree_with_the_accuracy():
    from transformers import EvalPrediction

    generator = np.random.default_rng(0)
    logits, golds = generator.normal(size=(40, 3)), generator.integers(0, 3, 40)
    prediction = EvalPrediction(predictions=(logits, logits), label_ids=golds)
    task = NLI()
    assert task.metrics(prediction)["accuracy"] == task.correct(prediction).mean()


def test_the_seconds_of_training_count_those_of_asking_the_teacher(
    task_data, tmp_path, monkeypatch
):
    name, given = task_data
    now = [0.0]

    def asked(*words):
        now[0] += 1000
        return taught(*words)

    monkeypatch.setattr("headcount.runs.run.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("headcount.runs.run.taught", asked)
    whole = dense_run(name, RECIPE)
    assert carry_out(whole, given, tmp_path / "alone", Console(quiet=True)).train_s == 0
    spec = replace(whole, teacher=name)
    assert carry_out(spec, given, tmp_path / "taught", Console(quiet=True)).train_s == 1000
