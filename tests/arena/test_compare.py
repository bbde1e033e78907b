"""A whole comparison in this process, on a tiny model: two methods, two budgets, two seeds."""

import json
import os
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from filelock import FileLock
from transformers import AutoModelForSequenceClassification, TrainerCallback

import headcount as hc
from headcount.arena.compare import CompareOptions, _interruptible, check, compare
from headcount.arena.comparison import Comparison
from headcount.arena.latency import Timing
from headcount.arena.result import read_result
from headcount.runs.data import gather
from headcount.runs.run import carry_out
from headcount.training.trainer import PruningTrainer
from looking import Failing, Looking

METHODS = {"random": hc.Random(), "looking": Looking()}
NAMES = {f"{m}-{k}-{s}" for m in METHODS for k in (6, 3) for s in (0, 1)} | {"dense-0", "dense-1"}
FILES = {"grid.json", "latency.json", "lock", "summary.json", "table.md"}
FIGURES = {"quality.png", "heads.png", "latency.png"}
TIMING = Timing(batch=2, length=8, num_runs=3)
NO_TIMING = Timing(num_runs=0)


@pytest.fixture
def run(tmp_path, quiet):
    """Compares into the test's own folder, without timing."""

    def call(grid, **how) -> Comparison:
        how = {"timing": NO_TIMING, "console": quiet, **how}
        return compare(grid, tmp_path / "out", CompareOptions(**how))

    return call


@pytest.fixture(scope="module")
def whole_grid(grid):
    return grid(METHODS, recover_epochs=0.25)


@pytest.fixture(scope="module")
def whole(whole_grid, tmp_path_factory):
    """A comparison that is finished; not to be changed."""
    path = tmp_path_factory.mktemp("arena") / "whole"
    return compare(whole_grid, path, CompareOptions(timing=TIMING, against="random"))


def cells_of(path, files):
    """All files of the cells, but for their logs."""
    return {name: file for name, file in files(path).items() if "/" in name and "log" not in name}


def failures(found):
    return {cell.name: failure for cell, failure in found.unfinished.items()}


def finished(found):
    return {result.cell.name for result in found.results}


def test_every_cell_leaves_a_result_that_is_exact(whole):
    assert {path.name for path in whole.path.iterdir() if path.is_dir()} == NAMES
    assert not whole.unfinished
    for result in whole.results:
        asked = 12 if result.amount is None else result.amount
        folder = whole.path / result.cell.name
        small = AutoModelForSequenceClassification.from_pretrained(folder / "model")
        assert hc.units(small).num("head") == asked
        assert sum(site.keep.count("1") for site in result.sites) == asked
        assert sum(site.num for site in result.sites) == asked
        assert sum(result.units["head"]) == asked
        assert result.quality == result.correct.count("1") / 24
        assert {path.name for path in folder.iterdir()} >= {"cell.json", "result.json", "log.txt"}
        assert not list(folder.rglob("checkpoint-*"))
        assert read_result(folder) == result


def measured(folder, inputs):
    """The quality of a saved cell, measured by another part of the library."""
    recipe = hc.Recipe(batch_size=8, max_length=24)
    return hc.evaluate(folder, eval=inputs["eval"], recipe=recipe)["accuracy"]


@pytest.mark.parametrize("method", ["random", "looking"])
def test_what_rests_while_it_decides_has_two_qualities(whole, inputs, method):
    for seed in (0, 1):
        folder = whole.path / f"{method}-3-{seed}"
        result = read_result(folder)
        if method == "random":
            assert (result.quality_once, result.recover_steps) == (None, 0)
            assert measured(folder / "model", inputs) == result.quality
            continue
        assert (result.num_steps, result.recover_steps) == (0, 3)
        for part, quality in (("model", result.quality_once), ("recovered/model", result.quality)):
            assert measured(folder / part, inputs) == quality
            decision = hc.Decision.load(folder / part / "decision.json")
            assert decision.provenance["method"]["name"] == "looking"
            kept = {s.module: "".join("01"[k] for k in s.keep) for s in decision.sites}
            assert kept == {site.module: site.keep for site in result.sites}
            assert "3 of 12 heads" in (folder / part / "README.md").read_text(encoding="utf-8")


def test_recovery_changes_the_weights_and_not_the_shape(whole):
    folder = whole.path / "looking-6-0"
    one, other = (
        AutoModelForSequenceClassification.from_pretrained(folder / part)
        for part in ("model", "recovered/model")
    )
    assert {k: v.shape for k, v in one.state_dict().items()} == {
        k: v.shape for k, v in other.state_dict().items()
    }
    assert not torch.equal(one.classifier.weight, other.classifier.weight)


def test_a_method_that_looks_decides_about_the_dense_model_of_its_seed(whole):
    for seed in (0, 1):
        dense, cut = (
            AutoModelForSequenceClassification.from_pretrained(whole.path / name / "model")
            for name in (f"dense-{seed}", f"looking-3-{seed}")
        )
        assert torch.equal(dense.classifier.weight, cut.classifier.weight)


def test_the_summary_is_complete(whole):
    assert {path.name for path in whole.path.iterdir() if path.is_file()} == FILES | FIGURES
    body = json.loads((whole.path / "summary.json").read_text(encoding="utf-8"))
    assert {run["method"] for run in body["runs"]} == {"dense", "random", "looking"}
    assert len(body["runs"]) == 10
    assert not any("correct" in run for run in body["runs"])
    assert body["unfinished"] == []
    assert body["against"] == "random"
    compared = {(d["method"], d["heads"]) for d in body["differences"]}
    assert compared == {("looking", 6), ("looking", 3)}
    assert body["settings"]["recover_epochs"] == 0.25
    table = (whole.path / "table.md").read_text(encoding="utf-8")
    assert "| looking |" in table
    assert table.count("**accuracy") == len(whole.sheets)


def test_every_method_and_number_of_heads_is_timed(whole):
    pruned = {(method, heads) for method in METHODS for heads in (6, 3)}
    assert set(whole.latencies) == pruned | {("dense", None)}
    assert whole.latencies["dense", None].ratio == 1.0
    assert all(latency.median_s > 0 for latency in whole.latencies.values())


def test_a_second_call_repeats_nothing(whole, whole_grid, files, monkeypatch, quiet):
    def nothing(*args, **settings):
        raise AssertionError("something was done again")

    for name in ("cell.carry_out", "compare.check", "latency.latency_s"):
        monkeypatch.setattr(f"headcount.arena.{name}", nothing)
    before = cells_of(whole.path, files)
    again = compare(
        whole_grid, whole.path, CompareOptions(timing=TIMING, against="random", console=quiet)
    )
    assert cells_of(whole.path, files) == before
    assert again == whole


def test_the_summary_alone_reads_what_is_there(whole, files):
    before = files(whole.path)
    assert Comparison.read(whole.path, against="random") == whole
    assert Comparison.read(whole.path).against == "random"  # there is no dsp
    assert files(whole.path) == before
    with pytest.raises(hc.BudgetError, match=r"against='best'\): give one of random, looking"):
        Comparison.read(whole.path, against="best")


def test_heads_and_methods_added_later_keep_what_is_finished(grid, run, tmp_path, files):
    run(grid(amounts=(6,), seeds=(0,)))
    before = cells_of(tmp_path / "out", files)
    found = run(grid(METHODS, amounts=(3,), seeds=(0,)))
    assert finished(found) == {"dense-0", "random-6-0", "random-3-0", "looking-3-0"}
    after = cells_of(tmp_path / "out", files)
    assert {name: after[name] for name in before} == before
    only = run(grid(amounts=(6,), seeds=(0,)))  # what was asked before is still in the summary
    assert finished(only) == finished(found)


def test_a_changed_recipe_is_refused(grid, run, tmp_path, files):
    run(grid(amounts=(6,), seeds=(0,)))
    before = files(tmp_path / "out")
    with pytest.raises(hc.CheckpointError, match=r"recipe.learning_rate = 0.0001, this one has 0"):
        run(grid(amounts=(6,), seeds=(0,), recipe={"learning_rate": 0.01}))
    assert files(tmp_path / "out") == before


def test_a_model_without_any_head_recovers(grid, run):
    found = run(grid({"looking": Looking()}, amounts=(0,), seeds=(0,), recover_epochs=0.25))
    assert failures(found) == {}
    assert found.results[-1].recover_steps == 3


class Kill(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 5:
            raise KeyboardInterrupt


def test_an_interrupted_comparison_goes_on_where_it_was(grid, run, tmp_path, files, monkeypatch):
    whole = run(grid({"dsp": hc.DSP()}, amounts=(6,), seeds=(0,)))
    shutil.move(tmp_path / "out", tmp_path / "whole")
    with monkeypatch.context() as patch:
        begin = PruningTrainer.__init__

        def killed(self, **kwargs):
            begin(self, **kwargs)
            if not isinstance(kwargs["method"], hc.Random):
                self.add_callback(Kill())

        patch.setattr(PruningTrainer, "__init__", killed)
        with pytest.raises(KeyboardInterrupt):
            run(grid({"dsp": hc.DSP()}, amounts=(6,), seeds=(0,)))
    before = cells_of(tmp_path / "out" / "dense-0", files)
    found = run(grid({"dsp": hc.DSP()}, amounts=(6,), seeds=(0,)))
    assert cells_of(tmp_path / "out" / "dense-0", files) == before
    log = (tmp_path / "out" / "dsp-6-0" / "log.txt").read_text(encoding="utf-8")
    steps = [line for line in log.splitlines() if line.startswith("training")]
    assert steps == [
        "training from step 0 of 6",
        "training from step 4 of 6",
        "training up to step 6 of 6",
    ]
    assert [r.correct for r in found.results] == [r.correct for r in whole.results]
    assert [r.sites for r in found.results] == [r.sites for r in whole.results]


def test_a_failing_method_does_not_lose_the_others(grid, run, tmp_path, monkeypatch):
    methods = {"failing": Failing(), "random": hc.Random()}
    found = run(grid(methods, amounts=(6,), seeds=(0,)))
    assert finished(found) == {"dense-0", "random-6-0"}
    assert failures(found) == {"failing-6-0": "KeyError: 'nothing to go by'"}
    body = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert len(body["runs"]) == 2
    assert {entry["cell"] for entry in body["unfinished"]} == set(failures(found))
    error = json.loads((tmp_path / "out/failing-6-0/error.json").read_text(encoding="utf-8"))
    assert any("looking.py" in line for line in error["log"])
    assert (tmp_path / "out" / "quality.png").is_file()
    monkeypatch.setattr(Failing, "init", lambda self, *given: hc.Random().init(*given))
    mended = run(grid(methods, amounts=(6,), seeds=(0,)))
    assert not mended.unfinished
    assert not (tmp_path / "out/failing-6-0/error.json").exists()


@pytest.mark.slow
def test_a_damaged_dense_model_fails_its_own_seed_alone(grid, run, tmp_path):
    run(grid(amounts=(3,)))
    weights = tmp_path / "out" / "dense-0" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    found = run(grid(METHODS, amounts=(3,)))
    assert set(failures(found)) == {"looking-3-0"}
    assert finished(found) == {"dense-0", "dense-1", "random-3-0", "random-3-1", "looking-3-1"}


def test_a_failed_dense_model_fails_what_needs_it(grid, run, monkeypatch):
    def broken(spec, *args, **settings):
        if spec.name == "dense-1":
            raise hc.TrainingError("the loss is nan")
        return carry_out(spec, *args, **settings)

    monkeypatch.setattr("headcount.arena.cell.carry_out", broken)
    found = run(grid(METHODS, amounts=(3,)))
    assert failures(found) == {
        "dense-1": "TrainingError: the loss is nan",
        "looking-3-1": "needs dense-1, which failed",
    }


def test_bad_input_leaves_nothing(grid, run, tmp_path):
    for made, error, message in (
        (grid(amounts=(6, 13)), hc.BudgetError, r"the model has 12 heads. Give 0 to 12"),
        (grid(num_train=97), hc.DataError, r"num_train=97: there are 96 training examples"),
        (grid(task="poetry"), hc.DataError, r"task='poetry'"),
    ):
        with pytest.raises(error, match=message):
            run(made)
    with pytest.raises(hc.BudgetError, match=r"against='dsp'\): give one of random"):
        run(grid(), against="dsp")
    assert list(tmp_path.iterdir()) == []


def test_two_calls_do_not_work_on_one_folder(grid, run, tmp_path):
    (tmp_path / "out").mkdir()
    with (
        FileLock(tmp_path / "out" / "lock"),
        pytest.raises(hc.CheckpointError, match="another call of compare is at work"),
    ):
        run(grid(amounts=(6,), seeds=(0,)))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["lock"]


@pytest.mark.slow
def test_without_models_the_dense_ones_stay_and_the_shapes_are_timed(grid, run, tmp_path):
    found = run(grid(METHODS, amounts=(3,), seeds=(0,)), keep_models=False, timing=TIMING)
    kept = {path.parent.parent.name for path in (tmp_path / "out").rglob("*.safetensors")}
    assert kept == {"dense-0"}
    assert ("looking", 3) in found.latencies
    later = run(grid({**METHODS, "magnitude": hc.Magnitude()}, amounts=(3,), seeds=(0,)))
    assert not later.unfinished


@pytest.mark.slow
def test_a_dense_model_that_is_gone_is_trained_again_once_it_is_needed(grid, run, tmp_path, files):
    run(grid(amounts=(3,), seeds=(0,)))
    first = read_result(tmp_path / "out" / "dense-0").correct
    shutil.rmtree(tmp_path / "out" / "dense-0" / "model")
    before = cells_of(tmp_path / "out", files)
    run(grid(amounts=(6, 3), seeds=(0,)))  # needs no dense model
    assert cells_of(tmp_path / "out", files).items() >= before.items()
    found = run(grid(METHODS, amounts=(3,), seeds=(0,)))
    assert "looking-3-0" in finished(found)
    after = cells_of(tmp_path / "out", files)
    assert after["random-3-0/result.json"] == before["random-3-0/result.json"]
    assert after["dense-0/result.json"] != before["dense-0/result.json"]
    assert read_result(tmp_path / "out" / "dense-0").correct == first


def gone(path, *cells):
    """Delete the models of some cells."""
    for cell in cells:
        shutil.rmtree(path / cell / "model")


@pytest.mark.slow
def test_a_dense_result_counts_until_the_model_is_trained_again(grid, run, tmp_path, monkeypatch):
    before = run(grid(amounts=(3,))).results
    gone(tmp_path / "out", "dense-0", "dense-1")
    seen = []

    def killed(spec, *given, **settings):
        seen.append(spec.name)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("headcount.arena.cell.carry_out", killed)
        with pytest.raises(KeyboardInterrupt):
            run(grid(METHODS, amounts=(3,)))
    assert seen == ["dense-0"]
    kept = [r for r in Comparison.read(tmp_path / "out").results if r.method != "looking"]
    assert sorted(kept, key=lambda r: r.cell.name) == sorted(before, key=lambda r: r.cell.name)
    assert run(grid(amounts=(3,))).unfinished.keys().isdisjoint(r.cell for r in before)
    assert not (tmp_path / "out/dense-0/model").exists()  # nothing that was asked needs it
    found = run(grid(METHODS, amounts=(3,)))
    assert not found.unfinished
    assert not list((tmp_path / "out").rglob("result.before.json"))


def test_a_dense_model_that_cannot_be_trained_again_fails_what_needs_it(
    grid, run, tmp_path, monkeypatch
):
    run(grid(amounts=(3,), seeds=(0,)))
    gone(tmp_path / "out", "dense-0")

    def broken(spec, *given, **settings):
        raise hc.TrainingError("the loss is nan")

    monkeypatch.setattr("headcount.arena.cell.carry_out", broken)
    found = run(grid(METHODS, amounts=(3,), seeds=(0,)))
    assert failures(found) == {"looking-3-0": "needs dense-0, which failed"}
    assert finished(found) == {"dense-0", "random-3-0"}


def test_what_another_call_finishes_meanwhile_is_left_alone(
    grid, run, tmp_path, files, monkeypatch
):
    with monkeypatch.context() as patch:

        def slow(*given):  # before the lock
            patch.setattr("headcount.arena.compare.check", check)
            run(grid(amounts=(3,), seeds=(0,)))
            kept.append(cells_of(tmp_path / "out", files))

        kept: list[dict] = []
        patch.setattr("headcount.arena.compare.check", slow)
        found = run(grid(amounts=(3,), seeds=(0,)))
    assert cells_of(tmp_path / "out", files) == kept[0]
    assert finished(found) == {"dense-0", "random-3-0"}


def test_a_result_of_another_comparison_does_not_count(grid, run, tmp_path):
    run(grid(amounts=(3,), seeds=(0,)))
    shutil.move(tmp_path / "out", tmp_path / "other")
    run(grid(amounts=(6,), seeds=(0,), num_train=32))
    shutil.copytree(tmp_path / "other" / "random-3-0", tmp_path / "out" / "random-3-0")
    found = run(grid(amounts=(3,), seeds=(0,), num_train=32))
    assert finished(found) == {"dense-0", "random-6-0"}
    assert "is a cell with settings.num_train = 0, this one has 32" in failures(found)["random-3-0"]
    assert finished(Comparison.read(tmp_path / "out")) == {"dense-0", "random-6-0"}


def test_other_weights_under_the_same_name_are_refused(grid, run, tmp_path, inputs):
    model = tmp_path / "model"
    shutil.copytree(inputs["model"], model)
    made = grid(amounts=(3,), seeds=(0,))
    made = replace(made, settings=replace(made.settings, model=str(model)))
    run(made)
    weights = AutoModelForSequenceClassification.from_pretrained(model)
    torch.nn.init.ones_(weights.classifier.weight)
    weights.save_pretrained(model)
    with pytest.raises(hc.CheckpointError, match=r"a comparison with files of model = \['model', "):
        run(made)


def test_what_a_full_disk_leaves_behind_is_not_in_the_way(grid, run, tmp_path):
    def leave(draft):
        (tmp_path / "out" / draft).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / draft).write_text("{", encoding="utf-8")

    leave(".0f1e-grid.json.part")
    assert not run(grid(amounts=(6,), seeds=(0,))).unfinished
    leave("random-3-0/.0f1e-progress.json.part")
    assert not run(grid(amounts=(3,), seeds=(0,))).unfinished


def test_inputs_too_long_to_be_timed_are_refused_before_anything_runs(grid, run, tmp_path):
    with pytest.raises(hc.BudgetError, match=r"latency_length=1024: the model reads at most"):
        run(grid(amounts=(3,), seeds=(0,)), timing=Timing(length=1024))
    assert list(tmp_path.iterdir()) == []


def test_latency_that_cannot_be_measured_takes_nothing_along(grid, run, tmp_path, quiet):
    run(grid(amounts=(3,), seeds=(0,)))
    gone(tmp_path / "out", "dense-0")
    found = run(grid(amounts=(3,), seeds=(0,)), timing=TIMING)
    assert not found.unfinished
    assert not found.latencies
    assert "latency: not measured:" in quiet.file.getvalue()
    assert (tmp_path / "out" / "table.md").is_file()


def test_a_later_call_may_compare_with_a_method_of_an_earlier_one(grid, run):
    run(grid({"dsp": hc.DSP()}, amounts=(3,), seeds=(0,)))
    found = run(grid(amounts=(3,), seeds=(0,)), against="dsp")
    assert found.against == "dsp"


def test_a_closed_terminal_does_not_stop_what_ignores_it():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _interruptible():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


class TestAdoption:
    """Arms that were trained elsewhere, with ``carry_out`` alone."""

    @pytest.fixture
    def asked(self, grid):
        return grid({"dsp": hc.DSP()}, amounts=(6,), seeds=(0,), recover_epochs=0.25)

    @pytest.fixture
    def trained(self, asked, tmp_path, quiet):
        """The runs of a grid, trained without ``compare`` and without noting every answer."""
        for cell in asked.cells:
            spec = asked.run_spec(cell, tmp_path / "out")
            given = asked.settings
            task_data = gather(given.model, given.task, given.train, given.eval, spec.recipe)
            carry_out(spec, task_data, tmp_path / "out" / cell.name, quiet)
            change_result(tmp_path / "out" / cell.name, correct=None)
        return tmp_path / "out"

    def test_is_complete_without_training(self, asked, trained, run, monkeypatch):
        before = {p: p.read_bytes() for p in trained.glob("*/model/*")}
        monkeypatch.setattr(PruningTrainer, "train", None)
        found = run(asked, adopt=True)
        assert finished(found) == {"dense-0", "dsp-6-0"}
        for result in found.results:
            assert result.adopted
            assert result.quality == result.correct.count("1") / 24
            assert sum(result.units["head"]) == (result.amount or 12)
        assert {p: p.read_bytes() for p in trained.glob("*/model/*")} == before
        assert finished(run(asked)) == finished(found)  # from now on, no different from others

    def test_has_to_be_asked_for(self, asked, trained, run):
        with pytest.raises(hc.CheckpointError, match=r"has no grid.json.*give --adopt"):
            run(asked)
        for cell in trained.iterdir():
            assert not (cell / "cell.json").exists()

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"methods": {"dsp": hc.DSP(learning_rate=0.1)}}, "method.learning_rate = 0.5, this"),
            ({"recipe": {"epochs": 1.0}}, "num_steps = 6, this one has 12"),
        ],
    )
    def test_of_another_arm_is_refused(self, trained, grid, run, changed, message):
        settings = {"methods": {"dsp": hc.DSP()}, "recover_epochs": 0.25, **changed}
        found = run(grid(amounts=(6,), seeds=(0,), **settings), adopt=True)
        assert message in failures(found)["dsp-6-0"]
        assert "Move it away to train anew" in failures(found)["dsp-6-0"]

    def test_of_another_seed_or_budget_is_refused(self, trained, grid, run):
        shutil.copytree(trained / "dsp-6-0", trained / "dsp-3-0")
        shutil.copytree(trained / "dsp-6-0", trained / "dsp-6-1")
        made = grid({"dsp": hc.DSP()}, recover_epochs=0.25)
        found = failures(run(made, adopt=True))
        assert "budget.heads = 6, this one has 3" in found["dsp-3-0"]
        assert "seed = 0, this one has 1" in found["dsp-6-1"]
        assert set(found) == {"dsp-3-0", "dsp-6-1"}

    def test_that_claims_another_quality_is_refused(self, asked, trained, run):
        change_result(trained / "dsp-6-0", quality=0.99)
        found = failures(run(asked, adopt=True))
        assert "says that accuracy is 0.9900; measured on these evaluation" in found["dsp-6-0"]

    def test_of_something_unfinished_is_refused(self, asked, trained, run):
        (trained / "dsp-6-0" / "result.json").unlink()
        found = failures(run(asked, adopt=True))
        assert "holds files that compare did not make" in found["dsp-6-0"]
        assert not (trained / "dsp-6-0" / "cell.json").exists()


def change_result(folder, **changed):
    path = folder / "result.json"
    body = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**body, **changed}), encoding="utf-8")


def test_a_part_of_the_training_data_is_enough(grid, run):
    found = run(grid(amounts=(6,), seeds=(0,), num_train=32))
    assert {result.num_steps for result in found.results} == {2}
