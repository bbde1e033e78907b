"""Cells in processes of their own, which are killed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from headcount.arena.result import read_result

pytestmark = pytest.mark.slow

NAMES = [f"{m}-{k}-{s}" for s in (0, 1) for k in (6, 3) for m in ("dsp", "random")]
NAMES += ["dense-0", "dense-1"]
NUM_STEPS = 192


def command(inputs, output, *, heads="6,3", seeds="0,1", methods="dsp,random") -> list[str]:
    call = "from headcount.cli.main import main; main()"
    data = ["--train", *inputs["train"], "--eval", *inputs["eval"]]
    recipe = ["--epochs", "8", "--batch-size", "4", "--max-length", "24", "--save-steps", "4"]
    shape = ["--methods", methods, "--heads", heads, "--seeds", seeds, "--jobs", "2"]
    rest = ["--output", str(output), "--latency-runs", "0"]
    return [sys.executable, "-c", call, "compare", inputs["model"], *data, *recipe, *shape, *rest]


def start(words) -> "subprocess.Popen[str]":
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def until(condition, process):
    deadline = time.monotonic() + 500
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def finished(output) -> set[str]:
    return {
        path.parent.name for path in output.glob("*/result.json") if b"digest" in path.read_bytes()
    }


def half_done(output, *, at_most=NUM_STEPS) -> set[str]:
    """Unfinished cells with a checkpoint; those that are further than so many steps left out."""
    last: dict[str, int] = {}
    for path in output.glob("*/checkpoint-*/headcount.json"):
        name, step = path.parent.parent.name, int(path.parent.name.rpartition("-")[2])
        last[name] = max(step, last.get(name, 0))
    return {name for name, step in last.items() if step <= at_most} - finished(output)


def trained(folder) -> list[tuple[int, int]]:
    """Each time training began: at which step, and of how many."""
    log = (folder / "log.txt").read_text(encoding="utf-8")
    return [(int(a), int(b)) for a, b in re.findall(r"training from step (\d+) of (\d+)", log)]


def killed(process, how) -> list[psutil.Process]:
    """Send a signal to the scheduler alone; its children, who are gone a moment later."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(how)
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
    return children


@pytest.mark.timeout(1500)
def test_a_killed_comparison_goes_on_and_repeats_nothing(inputs, tmp_path, files):
    output = tmp_path / "out"
    process = start(command(inputs, output))
    young = NUM_STEPS // 2  # it does not finish before the kill has reached it
    until(lambda: len(finished(output)) >= 3 and half_done(output, at_most=young), process)
    assert killed(process, signal.SIGKILL)
    done, half = finished(output), half_done(output)
    assert half
    whole = {name for name in half if (output / name / "result.json").is_file()}
    before = {name: files(output / name) for name in done}
    begun = {name: trained(output / name) for name in half}
    again = subprocess.run(
        command(inputs, output), capture_output=True, text=True, check=False, timeout=1400
    )
    assert again.returncode == 0, again.stdout
    assert finished(output) == set(NAMES)
    assert {name: files(output / name) for name in done} == before
    for name in whole:  # trained, measured and saved; what was missing is the recount
        assert trained(output / name) == begun[name]
    for name in half - whole:
        *earlier, (step, total) = trained(output / name)
        assert earlier == begun[name]
        assert 0 < step <= total == NUM_STEPS
    for name in set(NAMES) - done - half:
        assert trained(output / name)[-1] == (0, NUM_STEPS)
    assert not any(f"{name}: begun" in again.stdout for name in done)
    kept = {name: sum(read_result(output / name).units["head"]) for name in NAMES}
    assert all(kept[name] == int(name.split("-")[1]) for name in NAMES if "dense" not in name)


@pytest.mark.timeout(1200)
def test_a_killed_cell_does_not_lose_the_others(inputs, tmp_path):
    output = tmp_path / "out"
    words = command(inputs, output, heads="6", seeds="0", methods="dsp,random")
    process = start(words)
    until(lambda: "dsp-6-0" in half_done(output), process)
    victim = next(
        child
        for child in psutil.Process(process.pid).children()
        if child.cmdline()[-1] == "dsp-6-0"
    )
    assert victim.environ()["OMP_WAIT_POLICY"] == "PASSIVE"
    cores = len(os.sched_getaffinity(0))
    assert victim.environ()["OMP_NUM_THREADS"] == str(max(1, cores // 2))
    victim.kill()
    shown = process.communicate(timeout=600)[0]
    assert process.returncode == 1
    assert finished(output) == {"dense-0", "random-6-0"}
    assert "dsp-6-0: failed: the process was killed by SIGKILL" in shown
    assert {path.name for path in output.glob("*.*")} >= {"summary.json", "table.md", "quality.png"}
    shutil.rmtree(output / "random-6-0")
    process = start(words)
    until(lambda: trained(output / "dsp-6-0")[1:], process)
    assert killed(process, signal.SIGTERM)
    assert process.returncode == 130
    again = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)
    assert again.returncode == 0, again.stdout
    assert [step > 0 for step, _ in trained(output / "dsp-6-0")][:2] == [False, True]
    assert finished(output) == {"dense-0", "random-6-0", "dsp-6-0"}
