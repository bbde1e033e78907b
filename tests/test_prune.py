"""The whole way in one call, on a tiny model and a tiny corpus."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    TrainerCallback,
)

import headcount as hc
from cases import TINY, write_model, write_pairs
from headcount.prune import plan
from headcount.reports.report import report_of
from headcount.runs.training_settings import LEAVES_NO_TRACE
from headcount.units import decision as decision_module
from looking import Looking


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return {
        "model": write_model(folder / "model"),
        "train": [write_pairs(folder / "train.tsv", 96)],
        "eval": [write_pairs(folder / "eval.tsv", 24, seed=1)],
    }


def options(**settings) -> hc.Options:
    recipe = {"epochs": 1, "batch_size": 8, "max_length": 24, "save_steps": 4}
    recipe |= settings.pop("recipe", {})
    quiet = Console(quiet=True)
    settings = {"latency_batch": 2, "latency_length": 8, **settings}
    return hc.Options(recipe=hc.Recipe(**recipe), console=quiet, **settings)


def run(inputs, heads=5, **settings):
    data = {"train": inputs["train"], "eval": inputs["eval"]}
    budget = settings.pop("budget", None) or hc.Budget(heads=heads)
    call = {k: settings.pop(k) for k in ("method", "output", "task") if k in settings}
    return hc.prune(inputs["model"], **data, budget=budget, options=options(**settings), **call)


@pytest.fixture(scope="module")
def result(inputs, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "small"
    return run(inputs, output=output, baselines=("dense", "random"))


def test_the_folder_holds_everything_and_nothing_else_is_left(result):
    names = {path.name for path in result.folder.iterdir()}
    wanted = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    wanted |= {"decision.json", "report.json", "heads.png", "README.md", "headcount-files.json"}
    assert names == wanted
    assert [path.name for path in result.folder.parent.iterdir()] == ["small"]


def test_the_report_recounts_and_compares(result):
    rows = {row.name: row for row in result.report.rows}
    assert list(rows) == ["dense", "random", "dsp"]
    assert [row.num_heads for row in rows.values()] == [12, 5, 5]
    assert all(row.quality is not None for row in rows.values())
    assert rows["dsp"].macs < rows["dense"].macs
    assert rows["dsp"].num_bytes < rows["dense"].num_bytes
    assert report_of(result.folder) == result.report


def test_the_folder_reloads_with_the_reported_quality(inputs, result):
    model = AutoModelForSequenceClassification.from_pretrained(result.folder)
    tokenizer = AutoTokenizer.from_pretrained(result.folder)
    batch = tokenizer("a dog", "some cat", return_tensors="pt")
    assert torch.equal(model(**batch).logits, result.model(**batch).logits)
    again = hc.evaluate(result.folder, eval=inputs["eval"], recipe=options().recipe)
    assert again == {"accuracy": result.report.rows[-1].quality}
    assert hc.Decision.load(result.folder / "decision.json") == result.decision


def test_a_folder_without_its_tokenizer_is_refused(inputs, result, tmp_path):
    shutil.copytree(result.folder, tmp_path / "copy")
    for file in (tmp_path / "copy").glob("tokenizer*"):
        file.unlink()
    with pytest.raises(hc.CheckpointError, match=r"copy' has no tokenizer of its own"):
        hc.evaluate(tmp_path / "copy", eval=inputs["eval"])


def test_the_card_is_named_like_the_folder_and_tells_how_to_load(result):
    card = (result.folder / "README.md").read_text(encoding="utf-8")
    assert "# small" in card
    assert "import headcount" in card
    assert "heads.png" in card


def test_scores_in_a_file_of_their_own_come_along_and_give_way(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(decision_module, "MOST_IN_TEXT", 5)
    output = tmp_path / "small"
    for method in (hc.Magnitude(), hc.Random(seed=3)):
        result = run(inputs, method=method, output=output)
        assert hc.Decision.load(output / "decision.json") == result.decision
        (scores,) = output.glob("*.scores")
        listed = json.loads((output / "headcount-files.json").read_text(encoding="utf-8"))
        assert scores.name in listed["files"]
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_without_an_output_the_model_stays_in_memory(inputs):
    result = run(inputs, method=hc.Magnitude())
    assert result.folder is None
    assert hc.units(result.model).num("head") == 5
    assert [row.name for row in result.report.rows] == ["dense", "magnitude"]
    assert result.report.dense.quality is None


@pytest.mark.parametrize(
    ("budget", "counts"),
    [
        (hc.Budget(heads=5, neurons=30), {"head": 5, "neuron": 30}),
        (hc.Budget(layers=2, heads=3, neurons=9), {"layer": 2, "head": 3, "neuron": 9}),
        (hc.Budget(sublayers={"self": 1, "ffn": 2}, heads=3), {"sublayer": 3, "head": 3}),
    ],
    ids=repr,
)
def test_several_kinds_in_one_call(inputs, tmp_path, budget, counts):
    result = run(inputs, budget=budget, output=tmp_path / "small", baselines=("random",))
    assert {kind: result.decision.num(kind) for kind in counts} == counts
    assert hc.Decision.load(tmp_path / "small" / "decision.json") == result.decision
    again = hc.units(AutoModelForSequenceClassification.from_pretrained(tmp_path / "small"))
    assert {kind: again.num(kind) for kind in counts} == counts
    assert again == hc.units(result.model)
    assert [row.name for row in result.report.rows] == ["dense", "random", "dsp"]
    assert result.report.budget == budget.describe()
    assert result.report.rows[-1].num_heads == counts["head"]
    assert not (tmp_path / "small" / "heads.png").exists()  # a figure of heads alone
    card = (tmp_path / "small" / "README.md").read_text(encoding="utf-8")
    assert (tmp_path / "small" / "kept.png").is_file()
    assert "(kept.png)" in card
    assert "heads.png" not in card
    assert result.report.kinds == result.decision.kinds
    rows = result.report.rows[-1].units
    assert {kind: sum(rows[kind]) for kind in counts} == counts


@pytest.mark.parametrize(
    "budget",
    [hc.Budget(params=0.7), hc.Budget(macs=0.4, kinds=("sublayer", "head", "neuron"), length=16)],
    ids=repr,
)
def test_a_cost_in_one_call(inputs, tmp_path, budget):
    result = run(inputs, budget=budget, output=tmp_path / "small", baselines=("random",))
    cost = result.decision.provenance["cost"]
    assert cost["reached"] <= cost["target"]
    rows = {row.name: row for row in result.report.rows}
    if budget.params:
        assert rows["dsp"].num_params == cost["reached"]
        assert rows["dense"].num_params == cost["whole"]
        assert rows["random"].num_params <= cost["target"]
    assert result.report.budget == budget.describe()
    card = (tmp_path / "small" / "README.md").read_text(encoding="utf-8")
    noun = "parameters" if budget.params else "MACs"
    assert f"for a budget of at most {100 * (budget.params or budget.macs):.0f}% of the" in card
    assert f"- {noun}: " in card
    assert "heads.png" not in card


@pytest.mark.slow
def test_a_latency_is_measured_once_and_the_table_kept(inputs, tmp_path):
    result = run(inputs, budget=hc.Budget(latency=1.0), output=tmp_path / "small")
    table = hc.LatencyTable.load(tmp_path / "small" / "latency.json")
    assert result.decision.provenance["budget"]["costs"] == table.describe()
    assert (table.batch, table.length) == (2, 8)
    assert result.decision.provenance["cost"]["whole"] == table.whole_ns
    assert result.report.budget == {"latency": 1.0}


def test_pipelined_fine_tunes_the_dense_model_first(inputs):
    result = run(inputs, method=hc.DSP(training="pipelined"))
    assert [row.name for row in result.report.rows] == ["dense", "dsp-pipelined"]
    assert result.decision.num_kept == 5


def test_pipelined_starts_from_a_model_that_is_fine_tuned(inputs, result, tmp_path):
    dense = run(inputs, heads=12, method=hc.Random(), output=tmp_path / "dense")
    tuned = {**inputs, "model": str(dense.folder)}
    pruned = run(tuned, method=hc.DSP(training="pipelined"), finetuned=True)
    whole = AutoModelForSequenceClassification.from_pretrained(dense.folder)
    assert torch.equal(pruned.model.classifier.weight, whole.classifier.weight)
    assert "dense" in [row.name for row in pruned.report.rows]


def test_a_fine_tuned_model_that_does_not_name_its_labels(inputs, result, tmp_path, caplog):
    folder = tmp_path / "model"
    shutil.copytree(inputs["model"], folder)
    config = BertConfig(**TINY, num_labels=3)
    BertForSequenceClassification(config).save_pretrained(folder)
    run({**inputs, "model": str(folder)}, method=hc.Magnitude(), finetuned=True)
    assert "(LABEL_0, ...); taken to be, in this order: entailment, neutral, contra" in caplog.text
    caplog.clear()
    run({**inputs, "model": str(result.folder)}, heads=4, method=hc.Magnitude(), finetuned=True)
    assert "LABEL_0" not in caplog.text


@pytest.mark.parametrize(
    ("method", "finetuned", "starts"),
    [
        (hc.GradientImportance(), False, {"dense": "model", "gradient": "dense/model"}),
        (hc.GradientImportance(), True, {"gradient": "model"}),
        (hc.HardConcrete(), False, {"hard-concrete": "model"}),
        (hc.DSP(), False, {"dsp": "model"}),
    ],
    ids=repr,
)
def test_a_method_that_begins_with_a_fine_tuned_model_gets_one(method, finetuned, starts, tmp_path):
    given = options(finetuned=finetuned)
    specs = plan("model", method, hc.Budget(heads=5), given, tmp_path)
    places = {spec.name: spec.start.removeprefix(f"{tmp_path}/") for spec in specs}
    assert places == starts
    assert {spec.recipe for spec in specs} == {given.recipe}  # weights train as long as elsewhere


@pytest.mark.parametrize("finetuned", [False, True])
def test_distilling_trains_the_teacher_first_unless_it_is_there(finetuned, tmp_path):
    specs = plan(
        "model", hc.DSP(), hc.Budget(heads=5), options(distil=True, finetuned=finetuned), tmp_path
    )
    assert [spec.name for spec in specs] == (["dsp"] if finetuned else ["dense", "dsp"])
    assert [spec.start for spec in specs] == ["model"] * len(specs)
    assert specs[-1].teacher == ("model" if finetuned else str(tmp_path / "dense" / "model"))


def test_a_method_that_looks_at_data_decides_about_the_fine_tuned_model(inputs, result, tmp_path):
    found = run(inputs, method=Looking(), num_examples=20, output=tmp_path / "small")
    assert [row.name for row in found.report.rows] == ["dense", "looking"]
    assert found.report.num_steps == 0
    dense = run(inputs, heads=12, method=hc.Random(), output=tmp_path / "dense")
    tuned = {**inputs, "model": str(dense.folder)}
    again = run(tuned, method=Looking(), num_examples=20, finetuned=True)
    assert again.decision == found.decision
    whole = AutoModelForSequenceClassification.from_pretrained(dense.folder)
    assert torch.equal(again.model.classifier.weight, whole.classifier.weight)
    assert again.report.rows[-1].quality == found.report.rows[-1].quality
    other = run(tuned, method=Looking(), num_examples=1, finetuned=True)
    assert other.decision.sites != found.decision.sites


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "steps"),
    [(Looking(), 0), (hc.DSP(training="pipelined"), 12)],
    ids=["looks", "rests"],
)
def test_what_was_decided_may_be_trained_on(inputs, tmp_path, method, steps):
    given = {"method": method, "num_examples": 20}
    once = run(inputs, **given, output=tmp_path / "once")
    found = run(inputs, **given, recover_epochs=0.25, output=tmp_path / "more")
    assert found.decision == once.decision
    assert (once.report.num_steps, found.report.num_steps) == (steps, steps + 3)
    names = ["dense", f"{method.name}, as decided", method.name]
    assert [row.name for row in found.report.rows] == names
    before, after = found.report.rows[1:]
    assert before.quality == once.report.rows[-1].quality
    assert before.train_s < after.train_s
    assert hc.units(found.model).num("head") == 5
    weights = [model.classifier.weight for model in (once.model, found.model)]
    assert not torch.equal(*weights)
    again = hc.evaluate(found.folder, eval=inputs["eval"], recipe=options().recipe)
    assert again == {"accuracy": found.report.rows[-1].quality}
    assert hc.Decision.load(found.folder / "decision.json") == once.decision


def test_a_number_of_epochs_that_cannot_be_is_refused():
    with pytest.raises(hc.TrainingError, match=r"recover_epochs=-1\): give a number of epochs"):
        options(recover_epochs=-1)


def test_an_older_result_of_ours_gives_way(inputs, tmp_path):
    run(inputs, output=tmp_path / "small", method=hc.Random())
    second = run(inputs, heads=3, output=tmp_path / "small", method=hc.Random())
    assert hc.Decision.load(tmp_path / "small" / "decision.json").num_kept == 3
    assert second.folder == tmp_path / "small"


class TestBadInput:
    """A clear error, and nothing written."""

    def refuse(self, inputs, folder, error, message, *, other=None, **settings):
        with pytest.raises(error, match=message):
            run({**inputs, **(other or {})}, output=folder / "out", **settings)
        assert list(folder.iterdir()) == []

    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"heads": 13}, hc.BudgetError, r"the model has 12 heads. Give 0 to 12"),
            ({"heads": -1}, hc.BudgetError, "cannot be negative"),
            ({"heads": "many"}, hc.BudgetError, "not a number"),
            ({"task": "poetry"}, hc.DataError, r"task='poetry': give one of \['causal-lm', "),
            ({"other": {"train": []}}, hc.DataError, "give at least one file for each"),
            ({"other": {"train": ["no.tsv"]}}, hc.DataError, "no.tsv"),
            ({"recipe": {"max_length": 49}}, hc.DataError, r"=49: .* at most 48 tokens\. Give 48"),
            ({"latency_batch": 0}, hc.BudgetError, r"latency_batch=0, .* Give 1 or more"),
            ({"latency_length": 0}, hc.BudgetError, r"latency_length=0: .* Give 1 or more"),
            ({"latency_length": 49}, hc.BudgetError, r"latency_length=49: .* Give 1 to 48"),
            (
                {"recover_epochs": 1.0, "other": {"train": ["no.tsv"]}},
                hc.BudgetError,
                r"recover_epochs=1\.0\): dsp trains the weights already",
            ),
            (
                {"distil": True, "method": Looking(), "other": {"train": ["no.tsv"]}},
                hc.BudgetError,
                r"distil=True\): looking trains no weights",
            ),
        ],
    )
    def test_values(self, inputs, tmp_path, settings, error, message):
        self.refuse(inputs, tmp_path, error, message, **settings)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("premise\thypothesis\na\tb\n", "label"),
            ("premise\thypothesis\tlabel\n", "no rows|empty"),
            ("", "empty"),
            ("premise\thypothesis\tlabel\na\tb\tmaybe\n", "maybe"),
        ],
    )
    def test_data(self, inputs, tmp_path, tmp_path_factory, text, message):
        bad = tmp_path_factory.mktemp("bad") / "bad.tsv"
        bad.write_text(text, encoding="utf-8")
        train = {"train": [str(bad)]}
        self.refuse(inputs, tmp_path, hc.DataError, message, other=train)

    def test_a_folder_that_is_not_ours_is_left_alone(self, inputs, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("years of work", encoding="utf-8")
        with pytest.raises(hc.CheckpointError, match=r"has no decision.json, so headcount did not"):
            run(inputs, output=tmp_path / "out")
        assert (tmp_path / "out" / "thesis.txt").read_text(encoding="utf-8") == "years of work"

    @pytest.mark.parametrize("place", ["", "../{name}", ".."])
    def test_the_model_is_not_overwritten(self, inputs, tmp_path, place):
        model = tmp_path / "model"
        shutil.copytree(inputs["model"], model)
        (model / "decision.json").write_text("{}", encoding="utf-8")  # a result of ours
        (tmp_path / "decision.json").write_text("{}", encoding="utf-8")
        before = sorted(tmp_path.rglob("*"))
        output = model / place.format(name=model.name)
        with pytest.raises(hc.CheckpointError, match=r"is the folder of the model .* Give another"):
            run({**inputs, "model": str(model)}, output=output)
        assert sorted(tmp_path.rglob("*")) == before

    def test_a_bare_model_is_not_fine_tuned(self, inputs, tmp_path):
        message = r"lacks .*classifier\.weight.*; they would be random\. Give a fine-tuned model"
        self.refuse(inputs, tmp_path, hc.CheckpointError, message, finetuned=True)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"method": "dsp"}, r"prune\(method='dsp'\): a str is no Method\. Give an instance"),
            ({"budget": 5}, r"prune\(budget=5\): an int is no Budget"),
            (
                {"other": {"model": torch.nn.Linear(1, 1)}},
                r"model=Linear\): .* with save_pretrained",
            ),
        ],
    )
    def test_types(self, inputs, tmp_path, settings, message):
        self.refuse(inputs, tmp_path, hc.ArgumentError, message, **settings)

    def test_a_model_without_heads(self, inputs, tmp_path, tmp_path_factory):
        import transformers

        folder = tmp_path_factory.mktemp("convbert")
        shutil.copytree(inputs["model"], folder, dirs_exist_ok=True)
        config = transformers.ConvBertConfig(**TINY)
        transformers.ConvBertModel(config).save_pretrained(folder)
        self.refuse(
            inputs,
            tmp_path,
            hc.ArchitectureError,
            r"no table describes how its attention is built. Found .*ConvBertSelfAttention \(query",
            other={"model": str(folder)},
        )

    def test_a_model_that_is_not_there(self, inputs, tmp_path):
        other = {"model": str(tmp_path / "nowhere")}
        message = r"nowhere' cannot be loaded"
        self.refuse(inputs, tmp_path, hc.CheckpointError, message, other=other)

    def test_unknown_baselines(self):
        with pytest.raises(hc.BudgetError, match=r"baselines=\('best',\)"):
            hc.Options(baselines=("best",))

    @pytest.mark.parametrize("field", ["epochs", "batch_size", "learning_rate", "max_length"])
    def test_recipes(self, field):
        with pytest.raises(hc.TrainingError, match=rf"Recipe\({field}=0\): give a positive"):
            hc.Recipe(**{field: 0})


def test_an_interrupted_run_resumes_to_the_same_result(inputs, tmp_path, killed_at):
    whole = run(inputs, output=tmp_path / "whole")
    with killed_at(6):
        run(inputs, output=tmp_path / "killed")
    assert not (tmp_path / "killed").exists()
    with pytest.raises(hc.CheckpointError, match=r"an interrupted run is at .*--resume"):
        run(inputs, output=tmp_path / "killed")
    with pytest.raises(hc.CheckpointError, match=r"had budget = .*5.* this one has .*6"):
        run(inputs, heads=6, output=tmp_path / "killed", resume=True)
    second = run(inputs, output=tmp_path / "killed", resume=True)
    assert second.decision == whole.decision
    state = whole.model.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in second.model.state_dict().items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]


def test_training_settings_are_a_part_of_what_is_resumed(inputs, tmp_path, killed_at):
    """Killed between two steps of accumulated batches; then with other logs, the same result."""
    training = {"max_steps": 3, "gradient_accumulation_steps": 2, "lr_scheduler_type": "cosine"}
    training |= {"eval_strategy": "steps", "eval_steps": 1}

    def recipe(**changed):
        return {"save_steps": 1, "training": {**training, **changed}}

    whole = run(inputs, output=tmp_path / "whole", recipe=recipe())
    folder = tmp_path / "killed"
    with killed_at(2):
        run(inputs, output=folder, recipe=recipe())
    for changed in ({"max_steps": 4}, {"eval_steps": 2}, {"max_grad_norm": 2.0}):
        with pytest.raises(hc.CheckpointError, match=r"had recipe = .* this one has"):
            run(inputs, output=folder, resume=True, recipe=recipe(**changed))
    second = run(inputs, output=folder, resume=True, recipe=recipe(logging_steps=1, run_name="b"))
    assert second.decision == whole.decision
    assert (second.report.num_steps, whole.report.num_steps) == (3, 3)
    state = whole.model.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in second.model.state_dict().items())


@pytest.mark.parametrize(
    ("training", "method"),
    [
        ({"bf16": True, "use_cpu": True}, hc.DSP()),
        ({"label_smoothing_factor": 0.1, "gradient_accumulation_steps": 3}, hc.DSP()),
        ({"eval_strategy": "epoch", "save_strategy": "epoch"}, hc.DSP()),
        (
            {"eval_strategy": "steps", "eval_steps": 4, "load_best_model_at_end": True},
            hc.Magnitude(),
        ),
        ({"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "epoch"}, hc.Magnitude()),
    ],
    ids=str,
)
def test_settings_of_many_kinds_give_a_model_as_it_is_measured(inputs, tmp_path, training, method):
    result = run(inputs, output=tmp_path / "small", recipe={"training": training}, method=method)
    assert result.decision.num_kept == 5
    assert result.model.dtype == torch.float32
    again = hc.evaluate(tmp_path / "small", eval=inputs["eval"], recipe=options().recipe)
    assert again == {"accuracy": result.report.rows[-1].quality}
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


@pytest.mark.slow
def test_settings_that_leave_no_trace_leave_none(inputs):
    """With every such setting moved from its default, the same weights to the last bit."""
    moved = {"logging_steps": 1, "logging_first_step": True, "logging_nan_inf_filter": False}
    moved |= {"include_num_input_tokens_seen": "all", "skip_memory_metrics": False}
    moved |= {"save_strategy": "epoch", "run_name": "a", "log_level": "error"}
    assert moved.keys() <= LEAVES_NO_TRACE
    plain, other = run(inputs), run(inputs, recipe={"training": moved})
    state = other.model.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in plain.model.state_dict().items())
    evaluated = run(inputs, recipe={"training": {"eval_strategy": "steps", "eval_steps": 4}})
    weights = [found.model.classifier.weight for found in (plain, evaluated)]
    assert not torch.equal(*weights)  # so evaluation is not among them


def test_data_that_make_no_whole_batch_are_refused_where_parts_of_one_are_dropped(inputs):
    recipe = {"batch_size": 97, "training": {"dataloader_drop_last": True}}
    with pytest.raises(hc.TrainingError, match="96 training examples make no batch of 97"):
        run(inputs, recipe=recipe)


def test_max_steps_holds_for_epochs_and_not_for_recovery(inputs):
    given = {"method": Looking(), "num_examples": 20, "recover_epochs": 0.5}
    result = run(inputs, **given, recipe={"training": {"max_steps": 2}})
    assert result.report.num_steps == 6  # half of the 12 batches, not 2


@pytest.mark.slow
def test_the_logs_of_a_reporter_come_along_and_give_way(inputs, tmp_path, monkeypatch):
    from transformers.integrations import integration_utils

    class Board(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            place = Path(args.output_dir) / "runs" / "today"
            place.mkdir(parents=True)
            (place / "events.out.tfevents.1").write_bytes(b"log")

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tensorboard", Board)
    for _ in range(2):
        recipe = {"training": {"report_to": ["tensorboard"]}}
        run(inputs, output=tmp_path / "small", recipe=recipe, baselines=("dense",))
        assert [path.name for path in tmp_path.iterdir()] == ["small"]
        logs = {path.relative_to(tmp_path) for path in tmp_path.rglob("events*")}
        wanted = "small/logs/{}/runs/today/events.out.tfevents.1"
        assert logs == {Path(wanted.format(name)) for name in ("dense", "dsp")}


@pytest.mark.slow
def test_a_process_that_is_killed_resumes_to_the_same_decision(inputs, tmp_path):
    """SIGKILL in the middle of training, from outside; then the same command with --resume."""
    config = tmp_path / "config.yaml"
    config.write_text(
        "epochs: 6\nbatch-size: 4\nmax-length: 24\nsave-steps: 5\nlatency-length: 16\nheads: 5\n",
        encoding="utf-8",
    )

    def command(output: Path, *extra: str) -> list[str]:
        call = "from headcount.cli.main import main; main()"
        files = ["--train", *inputs["train"], "--eval", *inputs["eval"], "--config", str(config)]
        return [sys.executable, "-c", call, "prune", inputs["model"], *files, "--output",
                str(output), *extra]  # fmt: skip

    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True, timeout=600)
    process = subprocess.Popen(
        command(tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    partial = tmp_path / "killed.partial"
    deadline = time.monotonic() + 300
    while not list(partial.glob("*/checkpoint-*/headcount.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed").exists()
    resumed = command(tmp_path / "killed", "--resume")
    subprocess.run(resumed, check=True, capture_output=True, timeout=600)
    decisions = [
        json.loads((tmp_path / n / "decision.json").read_text()) for n in ("whole", "killed")
    ]
    assert decisions[0] == decisions[1]
