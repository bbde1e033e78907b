import importlib
import inspect
import re
import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import headcount as hc
from cases import write_model, write_pairs
from headcount.cli import main as cli
from headcount.cli.config import spread
from headcount.cli.methods import METHODS


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    train = [write_pairs(folder / f"train{i}.tsv", 24, seed=i) for i in (0, 1)]
    return {
        "model": write_model(folder / "model"),
        "train": train,
        "eval": write_pairs(folder / "eval.tsv", 12, seed=2),
    }


def run(*arguments: str):
    words = spread([str(word) for word in arguments], ["--train", "--eval"])
    return CliRunner().invoke(cli.app, words)


def said(done) -> str:
    """What was printed, in one line."""
    return " ".join(done.output.replace("│", " ").split())


def prune(inputs, *extra):
    files = ["--train", *inputs["train"], "--eval", inputs["eval"]]
    small = ["--epochs", "1", "--batch-size", "8", "--max-length", "24"]
    return run(
        "prune",
        inputs["model"],
        *files,
        *small,
        "--latency-batch",
        "2",
        "--latency-length",
        "16",
        *extra,
    )


@pytest.mark.compat
def test_prune_then_eval(inputs, tmp_path):
    done = prune(inputs, "--heads", "5", "--output", str(tmp_path / "small"))
    assert done.exit_code == 0, done.output
    assert "Kept 5 of 12 heads" in done.output
    assert "import headcount" in done.output
    again = run("eval", tmp_path / "small", "--eval", inputs["eval"])
    assert again.exit_code == 0, again.output
    assert re.fullmatch(r"accuracy: \d\.\d{4}", again.output.strip().splitlines()[-1])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--params", "0.8"], r"parameters: \S+ k of \S+ k \(\S+%\), at most \S+ k asked\."),
        (["--macs", "0.5", "--kinds", "neuron"], r"MACs: .* at most .* asked\."),
        pytest.param(
            ["--latency", "1.0"],
            r"Latency asked: at most 100%; predicted \S+%, measured \S+%",
            marks=pytest.mark.slow,  # times in fresh processes
        ),
    ],
)
def test_prune_to_a_cost(inputs, tmp_path, flags, said):
    done = prune(inputs, *flags, "--method", "magnitude", "--output", str(tmp_path / "small"))
    assert done.exit_code == 0, done.output
    assert re.search(said, " ".join(done.output.split()))
    cost = hc.Decision.load(tmp_path / "small" / "decision.json").provenance["cost"]
    assert cost["reached"] <= cost["target"]


def test_a_configuration_file_replaces_flags_and_flags_win(inputs, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("heads: 7\nmethod: random\nmin-per-layer: 1\n", encoding="utf-8")
    output = ("--output", str(tmp_path / "small"), "--config", str(config))
    assert prune(inputs, *output).exit_code == 0
    decision = hc.Decision.load(tmp_path / "small" / "decision.json")
    assert decision.num_kept == 7
    assert decision.provenance["budget"]["min_per_layer"] == 1
    assert prune(inputs, "--heads", "4", *output).exit_code == 0
    assert hc.Decision.load(tmp_path / "small" / "decision.json").num_kept == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("head: 7\n", "unknown head. Known: .*heads"),
        ("7\n", "it is 7, not a mapping. Give a mapping"),
        ("a: [\n", "YAML"),
        (
            "epochs: {a: 1}\n",
            "epochs is a mapping. Give one value; mappings of places are for heads",
        ),
        ("heads: {a: [1]}\n", r"heads.a is \[1\], not a text or"),
        ("heads: &a [*a, *a]\n", r"an alias \(\*a\) in line 1"),
        ("heads: 3\nheads: 4\n", "the key 'heads' twice"),
        ("heads: .nan\n", "heads is nan, not a finite number"),
    ],
)
def test_a_wrong_configuration_file_is_refused(inputs, tmp_path, text, message):
    config = tmp_path / "run.yaml"
    config.write_text(text, encoding="utf-8")
    done = prune(inputs, "--config", str(config))
    assert done.exit_code == 2
    assert re.search(message, " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.output).split()))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--heads", "many"], "--heads 'many': not a number"),
        (["--heads", "13"], "the model has 12 heads. Give 0 to 12"),
        (["--heads", "5", "--method", "magic"], "--method 'magic': give one of dsp"),
        (["--heads", "5", "--task", "poetry"], "task='poetry'"),
        (["--heads", "5", "--scope", "each"], "give 'global' or 'layer'"),
        (["--heads", "5", "--baselines", "best"], "baselines=('best',)"),
        (["--heads", "a=1,a=2"], "--heads 'a=1,a=2': 'a' stands twice. Give places"),
        (["--neurons", "encoder=x"], "--neurons encoder 'x': not a number"),
        (["--heads", "encoder=13"], "--heads 13: the model has 12 heads. Give 0 to 12"),
        (["--heads", "cross=1"], "--heads 1 at 'cross': the model has no heads there."),
        (["--kv-heads", "1"], "--kv-heads 1: the model has no key-value heads. It has 3 layers"),
        ([], "--params, --macs, --latency: nothing is asked. Give one of them, such as --heads 12"),
        (["--heads", "5", "--macs", "0.5"], "--heads and --macs: give numbers of units, or one c"),
        (["--params", "0.5", "--macs", "0.5"], "--params and --macs: give numbers of units, or on"),
        (["--heads", "5", "--kv-heads", "1"], "--heads 5 --kv-heads 1: give one of them. A key-"),
        (["--heads", "5", "--method", "layer-drop"], "the budget is about heads, and LayerDrop"),
        (["--macs", "0.5", "--method", "dsp-relaxed"], "--macs 0.5: RelaxedTopK needs a number"),
        (["--macs", "0.5", "--length", "0"], "--length 0: give a number of tokens, 1 or more"),
        (["--params", "half"], "--params 'half': not a number"),
        (["--params", "0.1"], "Without them,"),
        (["--macs", "0.5", "--kinds", "tail"], "give some of layer, sublayer, kv_head"),
        (["--heads", "5", "--kinds", "neuron"], "--kinds ...: it goes with params or macs"),
        (["--heads", "5", "--epochs", "0"], "Recipe(epochs=0.0): give a positive number"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_1(inputs, tmp_path, flags, message):
    done = prune(inputs, *flags, "--output", str(tmp_path / "small"))
    assert done.exit_code == 1
    assert message in " ".join(done.output.split())
    assert list(tmp_path.iterdir()) == []


def test_units_shows_every_site(inputs):
    done = run("units", inputs["model"])
    assert done.exit_code == 0, done.output
    assert "3 layers, 6 sublayers, 12 heads, 96 neurons" in done.output
    assert "encoder.layer.2.attention.self" in done.output


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nope", "nope' cannot be loaded: "),
        ("model/config.json", "config.json' cannot be loaded: it is a file. Give a folder with a"),
        ("damaged", "damaged' cannot be loaded: "),
    ],
)
def test_units_of_what_is_no_model_is_one_message(inputs, tmp_path, place, message):
    shutil.copytree(inputs["model"], tmp_path / "model")
    shutil.copytree(inputs["model"], tmp_path / "damaged")
    (tmp_path / "damaged" / "model.safetensors").write_bytes(b"half of a file")
    done = run("units", tmp_path / place)
    assert done.exit_code == 1
    assert done.output.startswith("CheckpointError model ")
    assert message in done.output.replace("\n", "")


@pytest.mark.parametrize("command", ["prune", "units", "eval", "demo"])
def test_help_teaches(command):
    done = run(command, "--help")
    assert done.exit_code == 0
    assert len(done.output.splitlines()) > 8


def test_the_names_of_methods_are_their_own():
    assert {name: method.name for name, method in METHODS.items()} == {
        name: name for name in METHODS
    }


def test_the_entry_point_spreads_its_files(inputs, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["headcount", "units", inputs["model"]])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    assert "12 heads" in capsys.readouterr().out


@pytest.mark.slow
def test_the_demo_on_the_packaged_model(tmp_path, minilm):
    done = run("demo", "--output", str(tmp_path / "demo"), "--epochs", "0.05")
    assert done.exit_code == 0, done.output
    assert "Kept 12 of 72 heads" in done.output


def test_the_help_says_what_the_commands_say_of_themselves():
    listed = run("--help")
    assert listed.exit_code == 0
    for name, does in cli.COMMANDS.items():
        module = importlib.import_module(f"headcount.cli.{name}")
        said_itself = inspect.getdoc(getattr(module, f"{name}_command")).partition("\n")[0]
        assert said_itself == does
        assert does in " ".join(listed.output.split())


def test_the_help_needs_neither_torch_nor_transformers():
    code = "import sys; sys.argv[1:] = ['--help']; from headcount.cli.main import main\n"
    code += "try: main()\nfinally: print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].split()
    assert "headcount" in loaded
    assert not {"torch", "transformers", "datasets", "matplotlib", "numpy"} & {*loaded}


def test_a_command_whose_package_is_missing_says_which(monkeypatch):
    def fails(name):
        raise ModuleNotFoundError(f"no module for {name}", name="datasets")

    monkeypatch.setattr(importlib, "import_module", fails)
    done = run("compare", "--help")
    assert done.exit_code == 1
    assert 'headcount compare: this needs datasets. Install it with: pip install "headc' in said(
        done
    )


def test_a_wrong_command_is_named_with_those_near_to_it():
    done = run("pruen")
    assert done.exit_code == 2
    assert "No such command 'pruen'. Did you mean 'prune'?" in said(done)
