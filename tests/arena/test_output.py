import json

import pytest

import headcount as hc
from headcount.arena.grid import Cell, digest
from headcount.arena.output import Output, asked, first_change, read_grid, read_json, write_json

METHODS = {"dsp": hc.DSP(), "random": hc.Random()}
CELL = Cell(method="random", amount=3, seed=1)


def opened(path, grid, **how) -> Output:
    output = Output.of(path, grid)
    output.open(**how)
    return output


def test_another_process_reads_the_same_specifications(grid, tmp_path):
    output = opened(tmp_path / "out", grid(METHODS))
    again = Output.read(tmp_path / "out", {**METHODS, "magnitude": hc.Magnitude()})
    assert list(asked(tmp_path / "out")) == list(output.grid.cells)
    for cell in output.grid.cells:
        assert digest(again.spec(cell)) == digest(output.spec(cell))
        assert again.grid.run_spec(cell, output.path) == output.grid.run_spec(cell, output.path)


def test_methods_heads_and_seeds_may_be_added(grid, tmp_path):
    first = opened(tmp_path / "out", grid(METHODS, amounts=(6,), seeds=(0,)))
    more = {"magnitude": hc.Magnitude()}
    second = opened(tmp_path / "out", grid(more, amounts=(3,), seeds=(1,)))
    assert list(asked(tmp_path / "out")) == [*second.grid.cells, *first.grid.cells]
    assert list(read_grid(tmp_path / "out")["methods"]) == ["magnitude", *METHODS]
    opened(
        tmp_path / "out", grid(METHODS, amounts=(6,), seeds=(0,))
    )  # what is asked now comes first
    assert list(asked(tmp_path / "out")) == [*first.grid.cells, *second.grid.cells]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"recipe": {"epochs": 2.0}}, r"recipe.epochs = 0.5, this one has 2.0"),
        ({"num_train": 9}, "num_train = 0, this one has 9"),
        ({"methods": {"random": hc.Random(seed=3)}}, "method.random.seed = None, this one has 3"),
    ],
)
def test_a_changed_setting_is_refused(grid, tmp_path, changed, message):
    opened(tmp_path / "out", grid())
    before = (tmp_path / "out" / "grid.json").read_bytes()
    with pytest.raises(hc.CheckpointError, match=message + ".*may be added"):
        opened(tmp_path / "out", grid(**changed))
    assert (tmp_path / "out" / "grid.json").read_bytes() == before


def test_a_folder_whose_runs_have_other_numbers_is_read_and_not_gone_on_with(grid, tmp_path):
    """Such as one from before the order of the data was that of the seed and the epoch."""
    output = opened(tmp_path / "out", grid(METHODS))
    body = read_grid(tmp_path / "out")
    del body["described"]["numbers"]
    write_json(tmp_path / "out" / "grid.json", body)
    message = r"begun with a version of .* other numbers .*\(numbers = 1, here 2\)\. Finish it with"
    with pytest.raises(hc.CheckpointError, match=message):
        opened(tmp_path / "out", grid(METHODS))
    assert Output.read(tmp_path / "out", METHODS).grid == output.grid


def test_a_folder_of_something_else_is_refused(grid, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(hc.CheckpointError, match=r"has no grid.json, so compare did not make it"):
        opened(tmp_path, grid())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    opened(tmp_path, grid(), adopt=True)


@pytest.mark.parametrize(
    ("text", "message"), [("{}", "format None"), ("{", "no comparison"), (None, "no comparison")]
)
def test_a_damaged_folder_is_told(tmp_path, text, message):
    if text is not None:
        (tmp_path / "grid.json").write_text(text, encoding="utf-8")
    with pytest.raises(hc.CheckpointError, match=rf"{message} there; .* reads format 1"):
        asked(tmp_path)


class TestObstacles:
    """A cell's folder holds the cell's own files, or it is left alone."""

    @pytest.fixture
    def output(self, grid, tmp_path) -> Output:
        return opened(tmp_path / "out", grid())

    def obstacle(self, output, *, adopt=False):
        return output.obstacle(CELL, adopt=adopt)

    def test_none(self, output):
        assert self.obstacle(output) is None
        output.folder(CELL).mkdir()
        for name in ("log.txt", "error.json", "progress.json"):
            (output.folder(CELL) / name).write_text("{}", encoding="utf-8")
        assert self.obstacle(output) is None

    def test_its_own_checkpoints(self, output):
        (output.folder(CELL) / "checkpoint-2").mkdir(parents=True)
        assert "holds files that compare did not make" in self.obstacle(output)
        write_json(output.folder(CELL) / "cell.json", output.spec(CELL))
        assert self.obstacle(output) is None

    def test_another_cell(self, output):
        other = {**output.spec(CELL), "seed": 5}
        output.folder(CELL).mkdir()
        write_json(output.folder(CELL) / "cell.json", other)
        assert "is a cell with seed = 5, this one has 1. Move it away." in self.obstacle(output)

    def test_an_arm_of_another_run(self, output):
        output.folder(CELL).mkdir()
        write_json(output.folder(CELL) / "result.json", {"quality": 0.5})
        assert "Give --adopt" in self.obstacle(output)
        assert self.obstacle(output, adopt=True) is None
        assert not output.is_finished(CELL)


def test_a_result_of_another_specification_is_not_finished(grid, tmp_path):
    output = opened(tmp_path / "out", grid())
    output.folder(CELL).mkdir()
    for spec, finished in ((output.spec(CELL.dense), False), (output.spec(CELL), True)):
        write_json(output.folder(CELL) / "result.json", {"digest": digest(spec)})
        assert output.is_finished(CELL) is finished


def test_a_failure_is_remembered_with_the_end_of_the_log(grid, tmp_path):
    output = opened(tmp_path / "out", grid())
    assert output.failure(CELL) is None
    output.folder(CELL).mkdir()
    lines = "\n".join(f"line {i}" for i in range(50))
    (output.folder(CELL) / "log.txt").write_text(lines, encoding="utf-8")
    output.note_failure(CELL, "it broke")
    assert output.failure(CELL) == "it broke"
    saved = json.loads((output.folder(CELL) / "error.json").read_text(encoding="utf-8"))
    assert saved["log"] == [f"line {i}" for i in range(30, 50)]


def test_the_first_change_is_named_by_its_path():
    assert first_change({"a": 1, "b": {"c": [1]}}, {"a": 1, "b": {"c": [1]}}) is None
    assert first_change({"a": 1}, {"a": 1, "b": 2}) == "b = None, this one has 2"
    nested = ({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"c": 1, "d": 3}}})
    assert first_change(*nested) == "a.b.d = 2, this one has 3"


def test_a_file_is_written_at_once(tmp_path):
    path = tmp_path / "it.json"
    assert read_json(path) is None
    write_json(path, {"a": 1})
    assert read_json(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["it.json"]
