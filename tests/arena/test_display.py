import io

import pytest
from rich.console import Console

from headcount.arena.display import Display
from headcount.arena.grid import Cell
from headcount.arena.output import Output, write_json
from headcount.arena.progress import Progress, read_progress, write_progress

CELL = Cell(method="random", amount=6, seed=0)


@pytest.fixture
def output(grid, tmp_path) -> Output:
    output = Output.of(tmp_path / "out", grid(amounts=(6,)))
    output.open()
    return output


def shown(output, steps, *, terminal, num_done=0):
    console = Console(file=io.StringIO(), width=100, force_terminal=terminal)
    with Display(output, console, num_done=num_done) as display:
        for step in steps:
            step(display)
    return console.file.getvalue()


def finish(output, result):
    folder = output.folder(CELL)
    folder.mkdir(exist_ok=True)
    write_json(folder / "result.json", result("random", 6, train_s=90.0, quality=0.625).plain())


@pytest.mark.parametrize("terminal", [True, False])
def test_what_has_ended_stays_in_view(output, result, terminal):
    finish(output, result)
    text = shown(
        output,
        [
            lambda display: display.began(CELL),
            lambda display: display.ended(CELL, None),
            lambda display: display.began(CELL.dense),
            lambda display: display.ended(CELL.dense, "KeyError: 'a'\n" + "long " * 90),
        ],
        terminal=terminal,
    )
    assert "[1/4] random-6-0: 0.6250, trained for 90 s, about" in text
    assert "[2/4] dense-0: failed: KeyError: 'a' long" in text
    assert text.count("long") < 40
    assert ("begun" in text) is not terminal


def test_a_cell_at_work_shows_its_step(output):
    write_progress_of(output, Progress(phase="training", done=30, total=120))
    steps = [lambda display: display.began(CELL), lambda display: display.goes_on([CELL])]
    text = shown(output, steps, terminal=True)
    assert "training 30/120" in text
    assert "all cells" in text
    assert "0/4" in text
    assert "left" in text


def test_without_a_terminal_nothing_is_said_meanwhile(output):
    write_progress_of(output, Progress(phase="training", done=30, total=120))
    assert shown(output, [lambda display: display.goes_on([CELL])], terminal=False) == ""


def write_progress_of(output, progress):
    output.folder(CELL).mkdir()
    write_progress(output.folder(CELL), progress)


def test_cells_that_were_finished_before_count(output, result):
    finish(output, result)
    text = shown(output, [lambda display: display.ended(CELL, None)], terminal=False, num_done=3)
    assert text.startswith("[4/4] random-6-0")
    assert "left" not in text


def test_progress_is_read_as_it_was_written(tmp_path):
    assert read_progress(tmp_path) is None
    for progress in (Progress(phase="reading data"), Progress(phase="training", done=3, total=4)):
        write_progress(tmp_path, progress)
        assert read_progress(tmp_path) == progress
    assert Progress(phase="reading data").share == 0
    (tmp_path / "progress.json").write_text("{", encoding="utf-8")
    assert read_progress(tmp_path) is None
