"""What users get wrong with files and folders: one sentence, at once, and nothing is lost."""

import json
import shutil

import pytest
from typer.testing import CliRunner

import headcount as hc
from headcount.cli import main as cli
from headcount.cli.config import spread
from headcount.training import trainer


def run(*arguments, **given):
    words = spread([str(word) for word in arguments], ["--train", "--eval"])
    return CliRunner().invoke(cli.app, words, **given)


def prune(inputs, *extra, **given):
    files = ["--train", inputs["train"], "--eval", inputs["eval"], "--heads", "5"]
    small = ["--epochs", "0.1", "--max-length", "24", "--method", "random"]
    small += ["--latency-batch", "1", "--latency-length", "8"]
    return run("prune", inputs["model"], *files, *small, *extra, **given)


def said(done):
    return " ".join(done.output.split())


def below(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*") if p.is_file()
    }


@pytest.fixture
def no_training(monkeypatch):
    """What can be known before training is told before it."""

    def train(*_, **__):
        pytest.fail("it trains")

    monkeypatch.setattr(trainer.PruningTrainer, "train", train)


def test_a_result_is_replaced_and_what_is_beside_it_is_not(inputs, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "small")
    for output in ("~/disk/small", tmp_path / "link"):
        done = prune(inputs, "--output", output)
        assert done.exit_code == 0, done.output
        assert "measuring latency: 23 of 23" in done.output
    assert "One label for every example: random (" in said(done)
    assert hc.Decision.load(tmp_path / "disk" / "small" / "decision.json").num_kept == 5
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["small"]
    (tmp_path / "disk" / "small" / "thesis.txt").write_text("precious")
    before = below(tmp_path)
    monkeypatch.setattr(trainer.PruningTrainer, "train", None)
    done = prune(inputs, "--output", tmp_path / "link")
    assert done.exit_code == 1
    assert "holds what headcount did not write, or what was changed since: thesis.txt." in said(
        done
    )
    assert below(tmp_path) == before


def note(folder):
    folder.mkdir()
    (folder / "decision.json").write_text("{}")
    (folder / "thesis.txt").write_text("precious")


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("make", "output", "message"),
    [
        (note, "small", "decision.json, thesis.txt. Give another folder"),
        (lambda place: place.write_text("a"), "small", "is no folder"),
        (lambda place: place.write_text("a"), "small/out", "is no folder"),
        (lambda place: place.symlink_to(place), "small", "Symlink loop"),
        (lambda place: place.mkdir(), "x" * 252, "File name too long"),
        (lambda place: note(place.with_name("small.partial")), "small", "is in the way"),
    ],
    ids=["notes", "file", "below a file", "loop", "long", "partial"],
)
def test_outputs_that_cannot_be(inputs, tmp_path, make, output, message):
    make(tmp_path / "small")
    before = below(tmp_path)
    done = prune(inputs, "--output", tmp_path / output)
    assert done.exit_code == 1
    assert done.output.startswith("CheckpointError output")
    assert message in said(done).replace("\n", "")
    assert below(tmp_path) == before


def no_config(folder):
    (folder / "config.json").unlink()


def no_tokenizer(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def half_a_config(folder):
    (folder / "config.json").write_text('{"model_type": "bert", ')


def another_shape(folder):
    body = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**body, "hidden_size": "wide"}))


def half_a_tokenizer(folder):
    (folder / "tokenizer.json").write_text('{"model": 3}')


def too_old(folder):
    (folder / "model.safetensors").rename(folder / "model.ckpt.index")


def code_of_its_own(folder):
    """Code that would leave a trace if it ran."""
    body = json.loads((folder / "config.json").read_text())
    body |= {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"},
    }
    (folder / "config.json").write_text(json.dumps(body))
    (folder / "evil.py").write_text(f"open({str(folder / 'ran.txt')!r}, 'w').write('ran')\n")


BROKEN = {
    no_config: ("units", "prune", "eval", "compare", "export"),
    no_tokenizer: ("prune", "eval", "compare"),
    no_weights: ("units", "prune", "compare", "export"),
    half_a_config: ("units", "prune", "eval", "compare", "export"),
    another_shape: ("units", "prune", "eval", "compare", "export"),
    half_a_tokenizer: ("prune", "eval", "compare"),
    too_old: ("units", "prune", "compare", "export"),
    code_of_its_own: ("units", "prune", "eval", "compare", "export"),
}


def command(name, model, inputs, output):
    files = ["--train", inputs["train"], "--eval", inputs["eval"], "--heads", "5"]
    small = ["--max-length", "24", "--latency-length", "8"]
    return {
        "units": ["units", model],
        "prune": ["prune", model, *files, *small, "--output", output],
        "compare": ["compare", model, *files, *small, "--output", output],
        "eval": ["eval", model, "--eval", inputs["eval"], "--max-length", "24"],
        "export": ["export", model, output, "--length", "8"],
    }[name]


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("broken", BROKEN, ids=[broken.__name__ for broken in BROKEN])
def test_models_that_are_none_are_one_message(inputs, tmp_path, broken):
    shutil.copytree(inputs["model"], tmp_path / "model")
    broken(tmp_path / "model")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    for name in BROKEN[broken]:
        words = command(name, tmp_path / "model", inputs, tmp_path / "out")
        done = run(*words, input="y\ny\ny\n")
        assert done.exit_code == 1, (name, done.output)
        assert done.output.startswith("CheckpointError "), (name, done.output)
        assert "model'" in said(done).replace("\n", ""), (name, done.output)
        assert "y/N" not in done.output
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    if broken is code_of_its_own:
        assert "code" in said(done)


@pytest.mark.usefixtures("no_training")
def test_names_that_are_none_are_one_message(inputs, tmp_path):
    for name in ("units", "prune", "eval", "compare", "export"):
        done = run(*command(name, "nobody/nothing", inputs, tmp_path / "out"))
        assert done.exit_code == 1, (name, done.output)
        assert done.output.startswith("CheckpointError ")
        assert "nobody/nothing" in said(done)
    for name in ("prune", "eval", "compare"):
        done = run(*command(name, inputs["model"], inputs, tmp_path / "out"), "--task", "poetry")
        assert done.exit_code == 1, (name, done.output)
        assert "task='poetry': give one of ['causal-lm', 'embedding', 'image-" in said(done)
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_is_told(inputs, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("headcount.cli.prune.prune", stop)
    done = prune(inputs, "--output", tmp_path / "small")
    assert done.exit_code == 130
    assert said(done).startswith("Stopped. If checkpoints were written, the same command with")


@pytest.mark.parametrize("error", [EOFError(), OSError("no more room")])
def test_errors_of_files_are_one_message(inputs, tmp_path, monkeypatch, error):
    """EOFError, of an empty optimizer.pt, was taken for a user who has left."""

    def fail(*_, **__):
        raise error

    monkeypatch.setattr("headcount.cli.prune.prune", fail)
    done = prune(inputs, "--output", tmp_path / "small")
    assert done.exit_code == 1
    assert said(done) in ("EOFError a file ends too early", "OSError no more room")
