"""Two data-parallel processes (gloo, CPU) come to what one process comes to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import headcount as hc
from cases import batch, bert
from two_processes import CASES

SCRIPT = Path(__file__).parents[1] / "two_processes.py"
pytestmark = pytest.mark.timeout(900)  # two processes on a busy machine

STEADY = sorted({*CASES} - {"relaxed", "hard concrete", "penalty", "evidence"})
"""Cases that draw nothing and observe nothing, so that parts of a step come to the whole step."""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    path = os.pathsep.join([str(SCRIPT.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for start in ([], torchrun):
        done = subprocess.run(
            [sys.executable, *start, str(SCRIPT), str(folder)],
            env=env,
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{name}.pt") for name in ("alone", "0", "1")]


def check_close(one, other):
    assert one["kept"] == other["kept"]
    for name, value in one["moved"].items():
        torch.testing.assert_close(value, other["moved"][name], atol=1e-6, rtol=0, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_and_decide_like_one(found, name, parts):
    alone, first, second = (run[name, parts] for run in found)
    check_close(alone, first)
    assert first["kept"] == second["kept"]
    assert all(torch.equal(v, second["moved"][k]) for k, v in first["moved"].items())


@pytest.mark.slow
@pytest.mark.parametrize("name", STEADY)
def test_parts_of_a_step_come_to_the_whole_step_in_one_process_and_in_two(found, name):
    for run in found:
        check_close(run[name, 1], run[name, 2])


@pytest.fixture
def two_processes(monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)


@pytest.mark.usefixtures("two_processes")
@pytest.mark.parametrize("method", [hc.GradientImportance(), hc.Fisher()], ids=lambda m: m.name)
def test_looking_at_a_part_of_the_data_is_refused(method):
    batches = [{**batch(), "labels": torch.tensor([0, 1, 2])}]
    message = "there are 2 processes, and each would decide from its own part of the data"
    with pytest.raises(hc.TrainingError, match=rf"decide\(method=\w+\): {message}"):
        hc.decide(bert(), method, hc.Budget(heads=5), batches)
    with pytest.raises(hc.TrainingError, match=message):
        hc.prune_post_training(bert(), method, hc.Budget(heads=5), batches)
    decision = hc.decide(bert(), hc.Random(seed=0), hc.Budget(heads=5))
    with pytest.raises(hc.TrainingError, match=f"rescale: {message}"):
        hc.rescale(bert(), decision, batches)
