"""``--set``, the section ``training`` of a file of options, and where defaults come from."""

import inspect
import json

import pytest
from typer.testing import CliRunner

import headcount as hc
from cases import write_model, write_pairs
from headcount.arena.compare import CompareOptions
from headcount.arena.grid import Settings
from headcount.arena.latency import Timing
from headcount.arena.runner import Here
from headcount.cli import compare, main, prune
from headcount.cli.eval import eval_command
from headcount.cli.options import defaults
from headcount.cli.training import recipe_with


@pytest.mark.parametrize(
    ("word", "training"),
    [
        ("bf16=true", {"bf16": True}),
        ("gradient_accumulation_steps=4", {"gradient_accumulation_steps": 4}),
        ("adam_epsilon=1e-8", {"adam_epsilon": 1e-8}),
        ("max_grad_norm=1", {"max_grad_norm": 1.0}),
        ("lr_scheduler_type=cosine", {"lr_scheduler_type": "cosine"}),
        ('lr_scheduler_kwargs={"min_lr": 1e-5}', {"lr_scheduler_kwargs": {"min_lr": 1e-5}}),
        ("report_to=[tensorboard, wandb]", {"report_to": ["tensorboard", "wandb"]}),
        ("eval_strategy=no", {"eval_strategy": "no"}),
        ("run_name=123", {"run_name": "123"}),
        ("run_name=a: b", {"run_name": "a: b"}),
        ("optim_args=a=1,b=2", {"optim_args": "a=1,b=2"}),
        ("tf32=null", {"tf32": None}),
    ],
)
def test_a_value_is_read_as_its_field_needs_it(word, training):
    assert recipe_with([word]).training == training


def test_settings_with_a_field_of_their_own_go_there():
    recipe = recipe_with(["warmup_steps=0.06", "weight_decay=0.1", "bf16=true"], epochs=2)
    assert recipe == hc.Recipe(epochs=2, warmup=0.06, weight_decay=0.1, training={"bf16": True})
    assert recipe_with(["warmup_steps=100"]).warmup == 100
    assert recipe_with(None) == hc.Recipe()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bf16"], r"--set 'bf16': give NAME=VALUE, such as bf16=true"),
        (["=3"], "give NAME=VALUE"),
        (["bf16=true", "bf16=false"], "bf16 is given twice"),
        (["lr_scheduler_kwargs={"], "--set 'lr_scheduler_kwargs={': the value is no YAML"),
        (["bf16="], "'bf16': None}.: give true or false"),
        (["weight_decay=a"], r"Recipe\(weight_decay='a'\): give a number"),
        (["epochs=3"], r"Give epochs \(--epochs\) instead"),
    ],
)
def test_what_is_no_setting_is_one_message(words, message):
    with pytest.raises(hc.PruningError, match=message):
        recipe_with(words)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return [
        write_model(folder / "model"),
        *("--train", write_pairs(folder / "train.tsv", 24)),
        *("--eval", write_pairs(folder / "eval.tsv", 12, seed=2)),
        *("--batch-size", "4", "--max-length", "24", "--heads", "5"),
    ]


def call(*words):
    return CliRunner().invoke(main.app, [str(word) for word in words])


def shown(done):
    return " ".join(done.output.split())


def test_a_tiny_prune_with_settings(inputs, tmp_path):
    small = ["--latency-batch", "2", "--latency-length", "16", "--output", tmp_path / "small"]
    words = ["max_steps=3", "gradient_accumulation_steps=2", "lr_scheduler_type=cosine"]
    done = call("prune", *inputs, *small, *(part for word in words for part in ("--set", word)))
    assert done.exit_code == 0, done.output
    assert hc.Decision.load(tmp_path / "small" / "decision.json").num_kept == 5
    report = json.loads((tmp_path / "small" / "report.json").read_text(encoding="utf-8"))
    assert report["num_steps"] == 3


def test_the_section_of_a_file_and_the_flag_that_replaces_a_part_of_it(
    inputs, tmp_path, monkeypatch
):
    seen = []
    monkeypatch.setattr(prune, "prune", lambda *_, options, **__: seen.append(options.recipe))
    monkeypatch.setattr(prune, "show_result", lambda *_: None)
    config = tmp_path / "run.yaml"
    config.write_text(
        "save-steps: 7\ntraining:\n  max_grad_norm: 1e-1\n  gradient_accumulation_steps: 4\n"
        "  eval_strategy: no\n  run_name: '12'\n  warmup_steps: 9\n",
        encoding="utf-8",
    )
    given = ["--set", "gradient_accumulation_steps=2", "--set", "bf16=true"]
    done = call("prune", *inputs, "--config", config, *given)
    assert done.exit_code == 0, done.output
    training = {"max_grad_norm": 0.1, "gradient_accumulation_steps": 2, "eval_strategy": "no"}
    training |= {"run_name": "12", "bf16": True}
    assert seen[0].training == training
    assert (seen[0].save_steps, seen[0].warmup, seen[0].batch_size) == (7, 9, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: 3\n", "training is 3, not a mapping"),
        ("training: {1: 2}\n", "training[1] is 1, not a text"),
        ("training: {bf16: true}\nepochs: {a: 1}\n", "epochs is a mapping. Give one value"),
    ],
)
def test_a_wrong_section_is_refused(inputs, tmp_path, text, message):
    config = tmp_path / "run.yaml"
    config.write_text(text, encoding="utf-8")
    done = call("prune", *inputs, "--config", config)
    assert done.exit_code == 2
    assert message in " ".join(done.output.replace("│", " ").split())


@pytest.mark.parametrize("command", ["prune", "compare"])
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("bf17=true", "Did you mean bf16, fp16?"),
        ("seed=3", "Give seed (--seed; in a comparison --seeds) instead."),
        ("bf16=4", "give true or false"),
        ("lr_scheduler_type=cosine_with_min_lr", "transformers refuses this here: One of min_lr"),
    ],
)
def test_a_wrong_setting_is_one_message_before_data_are_read(
    inputs, tmp_path, command, word, message
):
    absent = [word if not str(word).endswith("train.tsv") else word + ".gone" for word in inputs]
    if command == "compare" and "min_lr" in word:
        absent = inputs  # a comparison knows its files by their contents
    done = call(command, *absent, "--output", tmp_path / "out", "--set", word)
    assert done.exit_code == 1
    assert message in shown(done)
    assert "Traceback" not in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_comparison_has_the_settings_in_all_cells(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(
        compare, "Processes", lambda *, output, adopt, **_: Here(output=output, adopt=adopt)
    )
    flags = ["--methods", "random", "--latency-runs", "0", "--output", tmp_path / "out"]
    done = call("compare", *inputs, *flags, "--set", "max_steps=2", "--set", "logging_steps=1")
    assert done.exit_code == 0, done.output
    for cell in ("dense-0", "random-5-0"):
        result = json.loads((tmp_path / "out" / cell / "result.json").read_text(encoding="utf-8"))
        assert result["num_steps"] == 2
    again = call("compare", *inputs, *flags, "--set", "max_steps=2")
    assert again.exit_code == 0, again.output
    assert "begun" not in again.output
    other = call("compare", *inputs, *flags, "--set", "max_steps=3")
    assert other.exit_code == 1
    assert "recipe.training.max_steps = 2, this one has 3" in shown(other)


@pytest.mark.parametrize("command", ["prune", "compare"])
def test_the_help_says_how_to_set_more(command):
    done = call(command, "--help")
    assert "--set gradient_accumulation_steps=4" in " ".join(done.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("command", "classes", "names"),
    [
        (prune.prune_command, (hc.Recipe, hc.Options), {}),
        (
            compare.compare_command,
            (hc.Recipe, Settings, CompareOptions),
            {"latency_batch": "batch", "latency_length": "length", "latency_runs": "num_runs"},
        ),
        (eval_command, (hc.Recipe,), {}),
    ],
    ids=["prune", "compare", "eval"],
)
def test_a_default_of_an_option_is_that_of_its_field(command, classes, names):
    known = {}
    for one in classes:
        known |= vars(defaults(one))
    known |= {option: vars(defaults(Timing))[field] for option, field in names.items()}
    options = inspect.signature(command).parameters
    lists = {"baselines", "against", "command"}  # written otherwise on the command line
    shared = known.keys() & options.keys() - lists
    assert len(shared) >= 2
    assert {name: options[name].default for name in shared} == {n: known[n] for n in shared}
