import json
from pathlib import Path

import pytest
import torch

import headcount as hc
from headcount.arena.grid import Cell, Settings
from headcount.runs.data import gather
from headcount.runs.run import carry_out
from looking import Looking


def test_every_seed_has_a_dense_cell_and_all_the_others(grid):
    methods = {"dsp": hc.DSP(), "random": hc.Random()}
    names = [cell.name for cell in grid(methods, amounts=(6, 3), seeds=(4, 7)).cells]
    assert names[:5] == ["dense-4", "dsp-6-4", "random-6-4", "dsp-3-4", "random-3-4"]
    assert [name.replace("-4", "-7") for name in names[:5]] == names[5:]


@pytest.mark.parametrize(
    ("method", "starts_from_dense", "epochs"),
    [
        (hc.DSP(), False, 0.5),
        (hc.DSP(training="pipelined"), True, 2.0),
        (hc.Magnitude(), False, 0.5),
        (Looking(), True, 0.5),
    ],
    ids=repr,
)
def test_an_arm_starts_where_its_method_needs(grid, tmp_path, method, starts_from_dense, epochs):
    made = grid({"it": method}, pipelined_epochs=2.0, num_examples=7)
    cell = Cell(method="it", amount=3, seed=1)
    spec = made.run_spec(cell, tmp_path)
    assert made.needs(cell) == (cell.dense if starts_from_dense else None)
    assert spec.start == (
        str(tmp_path / "dense-1" / "model") if starts_from_dense else made.settings.model
    )
    assert (spec.recipe.epochs, spec.recipe.seed, spec.num_examples) == (epochs, 1, 7)
    assert spec.budget == hc.Budget(heads=3)


def test_runs_of_another_length_do_without_max_steps(grid, tmp_path):
    methods = {"dsp": hc.DSP(), "rests": hc.DSP(training="pipelined"), "dsp+finetuned": hc.DSP()}
    recipe = {"training": {"max_steps": 4, "bf16": True}}
    made = grid(methods, recover_epochs=0.25, recipe=recipe)
    found = {
        name: made.run_spec(Cell(method=name, amount=3, seed=1), tmp_path).recipe.training
        for name in methods
    }
    assert found["dsp"] == recipe["training"]
    assert found["rests"] == found["dsp+finetuned"] == {"bf16": True}


def test_the_dense_run_has_no_method(grid, tmp_path):
    spec = grid().run_spec(Cell(method="dense", amount=None, seed=1), tmp_path)
    assert (spec.method, spec.budget) == (None, None)
    assert spec.describe() == {"name": "dense"}
    assert spec.recipe.seed == 1
    assert grid().needs(Cell(method="dense", amount=None, seed=1)) is None


def test_settings_survive_json(settings):
    training = {"max_steps": 4, "lr_scheduler_kwargs": {"min_lr": 1e-5}, "report_to": ["wandb"]}
    for recipe in ({}, {"training": training}):
        made = settings(num_train=50, recover_epochs=1.5, recipe=recipe)
        assert Settings.of(json.loads(json.dumps(made.plain()))) == made


def test_a_comparison_without_training_settings_has_no_key_for_them(settings):
    for values in (settings().plain(), settings().described()):
        assert "training" not in values["recipe"]
    logged = settings(recipe={"training": {"report_to": "wandb"}})
    assert logged.plain()["recipe"]["training"] == {"report_to": "wandb"}
    assert logged.described() == settings().described()


def test_what_leaves_no_trace_is_no_setting(settings):
    described = settings().described()
    assert settings(recipe={"save_steps": 7, "seed": 5}).described() == described
    assert settings(recipe={"learning_rate": 1.0}).described() != described
    assert settings(recipe={"training": {"bf16": True}}).described() != described


def test_files_are_known_by_their_contents(settings, inputs, tmp_path):
    copy = tmp_path / "train.tsv"
    text = Path(inputs["train"][0]).read_text(encoding="utf-8")
    copy.write_text(text, encoding="utf-8")
    there = Settings(**{**inputs, "train": (str(copy),)}, recipe=settings().recipe)
    assert there.described() == settings().described()
    copy.write_text(text + "a dog\tno cat\tneutral\n", encoding="utf-8")
    assert there.described()["train"] != settings().described()["train"]


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"amounts": ()}, hc.BudgetError, r"compare\(heads=\(\)\): give one or more"),
        ({"amounts": (6, 6)}, hc.BudgetError, r"heads=\(6, 6\).*each once"),
        ({"seeds": (0, -1)}, hc.BudgetError, "give seeds of 0 or more"),
        ({"methods": {"dense": hc.Random()}}, hc.BudgetError, "'dense' is compared in any case"),
        ({"num_train": -1}, hc.TrainingError, r"compare\(num_train=-1\): give 0 or more"),
        ({"recover_epochs": -0.5}, hc.TrainingError, r"recover_epochs=-0.5"),
        ({"pipelined_epochs": 0.0}, hc.TrainingError, r"pipelined_epochs=0.0\): give a positive"),
    ],
)
def test_what_cannot_be_compared_is_refused(grid, changed, error, message):
    with pytest.raises(error, match=message):
        grid(**changed)


def test_a_distilled_method_waits_for_its_teacher_and_begins_where_it_would(grid, tmp_path):
    made = grid({"random+distil": hc.Random(), "random": hc.Random()})
    cell, plain = (Cell(method=name, amount=3, seed=1) for name in ("random+distil", "random"))
    assert made.needs(cell) == cell.dense
    spec = made.run_spec(cell, tmp_path)
    assert spec.teacher == str(tmp_path / "dense-1" / "model")
    assert spec.start == made.settings.model
    assert made.run_spec(plain, tmp_path).teacher == ""
    assert "distillation" in made.described(cell)
    assert "distillation" not in made.described(plain)


def test_a_method_may_start_from_the_dense_model_and_train_as_others_recover(grid, tmp_path):
    made = grid({"dsp+finetuned": hc.DSP(), "dsp": hc.DSP()}, recover_epochs=0.25)
    cell, plain = (Cell(method=name, amount=3, seed=1) for name in ("dsp+finetuned", "dsp"))
    assert made.needs(cell) == cell.dense
    spec = made.run_spec(cell, tmp_path)
    assert spec.start == str(tmp_path / "dense-1" / "model")
    assert (spec.recipe.epochs, spec.teacher) == (0.25, "")
    assert made.run_spec(plain, tmp_path).recipe.epochs == 0.5
    assert made.described(cell) == {**made.described(plain), "start": "dense"}


def test_a_method_may_start_from_its_teacher(grid, tmp_path):
    made = grid({"dsp+finetuned+distil": hc.DSP()}, recover_epochs=0.25)
    spec = made.run_spec(Cell(method="dsp+finetuned+distil", amount=3, seed=1), tmp_path)
    assert spec.start == spec.teacher == str(tmp_path / "dense-1" / "model")
    assert spec.method == hc.DSP()


@pytest.mark.parametrize("suffix", ["+distil", "+finetuned"])
@pytest.mark.parametrize("method", [hc.DSP(training="pipelined"), Looking()], ids=repr)
def test_a_method_that_trains_no_weights_has_nothing_behind_its_name(grid, method, suffix):
    with pytest.raises(hc.BudgetError, match="starts from the dense model, and trains no weights"):
        grid({f"it{suffix}": method}, recover_epochs=1.0)


def test_what_stands_behind_a_name_is_known(grid):
    with pytest.raises(hc.BudgetError, match=r"'dsp\+tuned' ends in \+tuned: .* \+finetuned"):
        grid({"dsp+tuned": hc.DSP()})
    with pytest.raises(hc.BudgetError, match="for the epochs of recovery, of which there are 0"):
        grid({"dsp+finetuned": hc.DSP()})


def test_a_distilled_arm_trains_otherwise_than_a_plain_one(settings, grid, tmp_path, quiet):
    """Same seed, same data, same decision; other weights."""
    made = grid({"random": hc.Random(), "random+distil": hc.Random()}, recipe={"epochs": 1.0})
    given = made.settings
    recipe = made.run_spec(made.cells[0], tmp_path).recipe
    task_data = gather(given.model, given.task, list(given.train), list(given.eval), recipe)
    found = {}
    for cell in (made.cells[0], *(c for c in made.cells if (c.amount, c.seed) == (3, 0))):
        found[cell.method] = carry_out(
            made.run_spec(cell, tmp_path), task_data, tmp_path / cell.name, quiet
        )
    plain, distilled = found["random"], found["random+distil"]
    assert plain.decision == distilled.decision
    heads = [
        task_data.fresh_model(str(spec.folder)).classifier.weight for spec in (plain, distilled)
    ]
    assert not torch.equal(*heads)
