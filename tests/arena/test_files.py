"""A comparison deletes and replaces nothing that it did not write."""

import os
import shutil

import pytest

import headcount as hc
from headcount.arena.compare import CompareOptions, compare
from headcount.arena.comparison import Comparison
from headcount.arena.latency import Timing
from headcount.training.trainer import PruningTrainer

OTHERS = {
    "notes.txt": "precious",
    "random-6-0/notes.txt": "precious",
    "random-6-0/checkpoint-of-mine/weights.bin": "precious",
    "random-6-0/model/model-of-mine.safetensors": "precious",
    "dense-0/my/model.safetensors": "precious",
}


@pytest.fixture(scope="module")
def small_grid(grid):
    def make(heads=(6,)):
        return grid(amounts=heads, seeds=(0,), recipe={"epochs": 0.1})

    return make


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def call(grid, path, console, **how):
    timing = Timing(batch=1, length=8, num_runs=2)
    return compare(grid, path, CompareOptions(timing=timing, console=console, **how))


@pytest.fixture(scope="module")
def whole(small_grid, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "whole"
    compare(small_grid(), path, CompareOptions(timing=Timing(num_runs=0)))
    return path


@pytest.fixture
def out(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "out")


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(PruningTrainer, "train", None)


def test_what_others_put_there_stays(small_grid, out, tmp_path, quiet, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "link").symlink_to(out)
    write(out, OTHERS)
    call(small_grid(), tmp_path / "link", quiet, keep_models=False)
    found = call(small_grid((6, 3)), "~/out", quiet)
    assert {(r.method, r.amount) for r in found.results} == {
        *(("dense", None), ("random", 6), ("random", 3))
    }
    assert {name: (out / name).read_text() for name in OTHERS} == OTHERS
    assert not (out / "random-6-0" / "model" / "model.safetensors").exists()
    assert "latency of these shapes, rounds: " in quiet.file.getvalue()


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("name", ["table.md", "quality.png", "summary.json"])
def test_a_table_that_was_changed_is_not_replaced(small_grid, out, quiet, name):
    write(out, {name: "my remarks"})
    with pytest.raises(hc.CheckpointError, match=rf"{name}.*(changed since|move)"):
        call(small_grid((6, 3)), out, quiet)
    with pytest.raises(hc.CheckpointError, match="changed since"):
        Comparison.read(out).save()
    assert (out / name).read_text() == "my remarks"


@pytest.mark.usefixtures("no_training")
def test_a_table_in_a_folder_to_be_adopted_is_not_replaced(small_grid, tmp_path, quiet):
    write(tmp_path / "out", {"table.md": "my remarks"})
    with pytest.raises(hc.CheckpointError, match=r"where it would write its own: table\.md"):
        call(small_grid(), tmp_path / "out", quiet, adopt=True)
    assert os.listdir(tmp_path / "out") == ["table.md"]  # noqa: PTH208


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("place", "message"),
    [("file/out", "is no folder"), ("x" * 300, "name too long"), ("file", "is no folder|exists")],
    ids=["below a file", "long", "file"],
)
def test_places_that_cannot_be_written_are_refused(small_grid, tmp_path, quiet, place, message):
    write(tmp_path, {"file": "a"})
    with pytest.raises(hc.CheckpointError, match=message):
        call(small_grid(), tmp_path / place, quiet)
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208


def test_models_that_say_one_label_of_everything_are_named(whole):
    found = Comparison.read(whole)
    said = {result.cell.name: result.only_class for result in found.results}
    note = found.sheets[0].note
    for name, label in said.items():
        assert (f"{name} ({label})" in note) == (label is not None)
    assert ("No model tells examples apart" in note) == all(said.values())
    assert any(said.values())  # after a step or two they have learnt nothing


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("wrong", [{"grid": "all"}, {"path": None}])
def test_arguments_of_another_type_are_refused(small_grid, tmp_path, wrong):
    given = {"grid": small_grid(), "path": tmp_path / "out", **wrong}
    with pytest.raises(hc.ArgumentError, match=r"compare\("):
        compare(**given)
