import re

import pytest
from typer.testing import CliRunner

import headcount as hc
from cases import write_model, write_pairs
from headcount.arena.grid import Cell
from headcount.arena.runner import Here
from headcount.cli import compare as command
from headcount.cli import main as cli
from headcount.cli.config import spread


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    return {
        "model": write_model(folder / "model"),
        "train": [write_pairs(folder / f"train{i}.tsv", 24, seed=i) for i in (0, 1)],
        "eval": write_pairs(folder / "eval.tsv", 12, seed=2),
    }


@pytest.fixture
def here(monkeypatch):
    """Cells run in this process, not in others; what would have been started is noted."""
    programs = []

    def make(*, output, program, jobs, adopt):
        programs.append((program, jobs))
        return Here(output=output, adopt=adopt)

    monkeypatch.setattr(command, "Processes", make)
    return programs


def run(*arguments):
    words = spread([str(word) for word in arguments], ["--train", "--eval"])
    return CliRunner().invoke(cli.app, words)


def compare(inputs, output, *extra):
    files = ["--train", *inputs["train"], "--eval", inputs["eval"]]
    small = ["--epochs", "1", "--batch-size", "8", "--max-length", "24", "--latency-runs", "0"]
    return run("compare", inputs["model"], *files, *small, "--output", output, *extra)


def said(done):
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.output).split())


@pytest.mark.slow
def test_compare_then_more_then_the_summary_alone(inputs, tmp_path, here):
    grid = ["--methods", "dsp,random", "--heads", "6", "--jobs", "2"]
    done = compare(inputs, tmp_path / "out", *grid)
    assert done.exit_code == 0, done.output
    assert here == [(command.PROGRAM, 2)]
    assert "[3/3] random-6-0" in said(done)
    assert "accuracy: difference to dsp, seed by seed" in said(done)
    more = compare(inputs, tmp_path / "out", "--methods", "dsp,random", "--heads", "6,3")
    assert more.exit_code == 0, more.output
    assert re.findall(r"(\S+): begun", more.output) == ["dsp-3-0", "random-3-0"]
    alone = run("compare", "--output", tmp_path / "out", "--summary-only", "--against", "random")
    assert alone.exit_code == 0, alone.output
    assert "difference to random" in said(alone)
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "| method | 6 | 3 |" in table


def test_a_failed_cell_gives_exit_code_1(inputs, tmp_path, here, monkeypatch):
    start = Here.start

    def broken(self, cell):
        if cell == Cell(method="random", amount=3, seed=0):
            folder = self.output.folder(cell)
            folder.mkdir(parents=True)
            self.output.note_failure(cell, "it broke")
        return start(self, cell)

    def refused(self, cell, *, adopt):
        return "it broke" if cell.name == "random-3-0" else None

    monkeypatch.setattr("headcount.arena.output.Output.obstacle", refused)
    done = compare(inputs, tmp_path / "out", "--methods", "random", "--heads", "6,3")
    assert done.exit_code == 1
    assert "random-3-0: failed: it broke" in said(done)
    assert "The same command tries them again" in said(done)
    assert "random" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")


def test_an_interruption_is_no_error_message(inputs, tmp_path, monkeypatch):
    def stop(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "compare", stop)
    done = compare(inputs, tmp_path / "out", "--heads", "6")
    assert done.exit_code == 130
    assert "Stopped. The same command goes on from here." in done.output


@pytest.mark.slow
def test_a_configuration_file_may_have_lists(inputs, tmp_path, here):
    config = tmp_path / "run.yaml"
    config.write_text(
        f"methods: [random, magnitude]\nheads: [6, 3]\nseeds: 1\ntrain: [{inputs['train'][0]}]\n",
        encoding="utf-8",
    )
    small = ["--epochs", "1", "--batch-size", "8", "--max-length", "24", "--latency-runs", "0"]
    done = run("compare", inputs["model"], "--eval", inputs["eval"], *small, "--config", config,
               "--heads", "4", "--output", tmp_path / "out")  # fmt: skip
    assert done.exit_code == 0, done.output
    names = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert names == {"dense-1", "random-4-1", "magnitude-4-1"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--heads", "many"],
            "--heads 'many': not a number. Give a count such as 12, or a fraction",
        ),
        (["--heads", "6,0.5"], "give counts or fractions in one comparison, not both"),
        (["--neurons", "1.5"], "--neurons 1.5: a fraction lies between 0.0 and 1.0"),
        (["--heads", "6", "--neurons", "9"], "a comparison has one axis. Give one of them"),
        (["--heads", "encoder=6"], "a comparison takes numbers for the whole model, or with --pl"),
        (["--latency", "0.5"], "--latency: it cannot be the axis of a comparison"),
        (["--heads", "6", "--kinds", "neuron"], "--kinds ...: it goes with params or macs or lat"),
        (["--heads", "6", "--methods", "dsp,layer-drop"], "LayerDrop only removes layers or subl"),
        (["--macs", "0.5", "--methods", "dsp-relaxed"], "--macs 0.5: RelaxedTopK needs a number"),
        (["--kv-heads", "1"], "--kv-heads 1: the model has no key-value heads"),
        (["--heads", "13"], "the model has 12 heads. Give 0 to 12"),
        (["--heads", "5", "--methods", "magic"], "--method 'magic': give one of dsp"),
        (["--heads", "5,5"], "each once"),
        (["--heads", "5", "--against", "magnitude"], "against='magnitude'): give one of dsp"),
        (["--heads", "5", "--seeds", "0,x"], "--seeds '0,x'"),
        ([], "MODEL, --train, --eval and an axis such as --heads are needed"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_1(inputs, tmp_path, flags, message):
    done = compare(inputs, tmp_path / "out", *flags)
    assert done.exit_code == 1
    assert message in said(done)
    assert "Traceback" not in done.output
    assert not list(tmp_path.rglob("result.json"))


def test_the_summary_of_nothing_is_refused(tmp_path):
    done = run("compare", "--output", tmp_path, "--summary-only")
    assert done.exit_code == 1
    assert "no comparison there" in said(done)


def test_help_teaches():
    done = run("compare", "--help")
    assert done.exit_code == 0
    assert "headcount compare bert-base-uncased" in said(done)


def test_numbers_are_read():
    assert command.whole_numbers(" 48, 36", "--seeds") == (48, 36)
    with pytest.raises(hc.BudgetError, match="--seeds"):
        command.whole_numbers("a", "--seeds")
