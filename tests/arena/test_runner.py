"""Processes that are started and stopped; what runs in them is nothing of ours here."""

import subprocess
import sys
import time

import pytest

import headcount as hc
from headcount.arena.grid import Cell, digest
from headcount.arena.output import Output, write_json
from headcount.arena.runner import Processes
from headcount.cli.cell import PROGRAM

CELL = Cell(method="random", amount=3, seed=1)


@pytest.fixture
def output(grid, tmp_path) -> Output:
    output = Output.of(tmp_path / "out", grid())
    output.open()
    return output


def start(output, code, **settings):
    runner = Processes(output=output, program=(sys.executable, "-c", code), **settings)
    return runner.start(CELL)


def ended(job):
    deadline = time.monotonic() + 60
    while not job.is_over():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return job.failure()


def test_a_process_is_told_the_folder_and_the_cell(output):
    job = start(output, "import sys; print(sys.argv[1:]); print('oh', file=sys.stderr)", adopt=True)
    ended(job)
    log = (output.folder(CELL) / "log.txt").read_text(encoding="utf-8")
    assert str([str(output.path), "random-3-1", "--adopt"]) in log
    assert "oh" in log


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("pass", "the process ended with code 0 and no result"),
        ("raise SystemExit(3)", "the process ended with code 3 and no result"),
        ("import os; os.kill(os.getpid(), 9)", "the process was killed by SIGKILL"),
        ("import os; os.abort()", "the process was killed by SIGABRT"),
    ],
)
def test_a_process_without_a_result_has_failed(output, code, reason):
    assert ended(start(output, code)) == reason
    assert output.failure(CELL) == reason


@pytest.mark.slow
def test_modules_of_the_folder_we_are_called_in_are_not_taken_for_others(tmp_path):
    (tmp_path / "datasets.py").write_text("raise SystemExit('mine')", encoding="utf-8")
    ended = subprocess.run(PROGRAM, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "mine" not in ended.stderr
    assert "not enough values to unpack" in ended.stderr  # it came as far as asking for a cell


def test_an_older_failure_is_forgotten(output):
    output.note_failure(CELL, "long ago")
    assert "code 2" in ended(start(output, "raise SystemExit(2)"))


def test_a_failure_that_the_process_tells_itself_counts(output):
    told = "import json; open('error.json', 'w').write(json.dumps({'reason': 'why', 'log': []}))"
    code = f"import os, sys; os.chdir(sys.argv[1] + '/' + sys.argv[2]); {told}; sys.exit(1)"
    assert ended(start(output, code)) == "why"


def test_a_result_counts_however_the_process_ended(output):
    job = start(output, "import time; time.sleep(0.2); raise SystemExit(1)")
    write_json(output.folder(CELL) / "result.json", {"digest": digest(output.spec(CELL))})
    assert ended(job) is None


@pytest.mark.parametrize(
    "code",
    ["import time; time.sleep(99)", "import subprocess, time; subprocess.run(['sleep', '9'])"],
)
def test_what_is_stopped_is_gone_at_once(output, code):
    job = start(output, code)
    assert not job.is_over()
    began = time.monotonic()
    job.stop()
    assert job.is_over()
    assert time.monotonic() - began < 8
    job.stop()  # again does nothing


def test_a_process_that_does_not_listen_is_killed(output, monkeypatch):
    monkeypatch.setattr("headcount.arena.runner._GRACE_S", 0.2)
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN)"
    job = start(output, f"{deaf}; print(1, flush=True); time.sleep(99)")
    while "1" not in (output.folder(CELL) / "log.txt").read_text(encoding="utf-8"):
        time.sleep(0.01)
    job.stop()
    assert job.is_over()


def test_standard_input_ends_with_the_job(output):
    """The lifeline: open for as long as the cell shall live."""
    job = start(output, "import os; print(os.read(0, 1), flush=True)")
    time.sleep(0.3)
    assert not job.is_over()
    job._process.stdin.close()
    ended(job)
    assert "b''" in (output.folder(CELL) / "log.txt").read_text(encoding="utf-8")


def test_fewer_than_one_job_is_refused(output):
    with pytest.raises(hc.PruningError, match=r"compare\(jobs=0\): give 1 or more"):
        Processes(output=output, program=(), jobs=0)


@pytest.mark.slow
def test_a_process_ends_when_the_one_that_started_it_is_gone():
    code = (
        "from headcount.arena.runner import end_with_parent as e; e(); import time; time.sleep(99)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(60) == 1
