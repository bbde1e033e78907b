import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headcount.arena.grid import Cell
from headcount.arena.runner import Job, Runner
from headcount.arena.schedule import Watch, run_cells

DENSE = [Cell(method="dense", amount=None, seed=seed) for seed in range(3)]
EARLY = [Cell(method="early", amount=k, seed=seed) for seed in range(3) for k in (6, 3)]
LATE = [Cell(method="late", amount=k, seed=seed) for seed in range(3) for k in (6, 3)]


def needs(cell):
    return cell.dense if cell.method == "late" else None


@dataclass
class Task(Job):
    """Is over after some looks."""

    looks: int
    reason: str | None
    stopped: bool = False

    def is_over(self):
        self.looks -= 1
        return self.looks < 0

    def failure(self):
        return self.reason

    def stop(self):
        self.stopped = True


@dataclass
class Fake(Runner):
    """Runs nothing; remembers what was started and how many were at work."""

    jobs: int = 2
    fail: frozenset = frozenset()
    lengths: itertools.cycle = field(default_factory=lambda: itertools.cycle([1]))
    started: list = field(default_factory=list)
    tasks: list = field(default_factory=list)
    most: int = 0
    stop_after: int | None = None

    def start(self, cell):
        self.started.append(cell)
        reason = f"{cell.name} broke" if cell in self.fail else None
        self.tasks.append(Task(next(self.lengths), reason))
        self.most = max(self.most, sum(task.looks >= 0 for task in self.tasks))
        return self.tasks[-1]

    def wait(self):
        if self.stop_after is not None and len(self.started) >= self.stop_after:
            raise KeyboardInterrupt


class Log(Watch):
    def __init__(self):
        self.begun, self.over = [], []

    def began(self, cell):
        self.begun.append(cell)

    def ended(self, cell, failure):
        self.over.append((cell, failure))


def run(cells, runner, log=None, refused=lambda cell: None):
    return run_cells(cells, runner, needs=needs, refused=refused, watch=log or Log())


@given(
    jobs=st.integers(1, 5),
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    fail=st.frozensets(st.sampled_from(DENSE + EARLY + LATE), max_size=5),
    order=st.permutations(DENSE + EARLY + LATE),
)
def test_each_cell_ends_once_and_none_starts_too_early(jobs, lengths, fail, order):
    runner, log = Fake(jobs=jobs, fail=fail, lengths=itertools.cycle(lengths)), Log()
    failures = run(order, runner, log)
    assert sorted(cell for cell, _ in log.over) == sorted(order)
    assert runner.most <= jobs
    lost = {cell for cell in LATE if cell.dense in fail}
    assert sorted(runner.started) == sorted(set(order) - lost)
    assert set(failures) == fail | lost
    for cell in set(LATE) & set(runner.started):
        ended = [over for over, _ in log.over]
        assert ended.index(cell.dense) < ended.index(cell)


def test_a_failed_cell_takes_along_only_those_that_need_it():
    runner = Fake(fail=frozenset({DENSE[1]}))
    failures = run([*DENSE, *EARLY, *LATE], runner)
    assert failures[DENSE[1]] == "dense-1 broke"
    assert {cell.name for cell in failures} == {"dense-1", "late-6-1", "late-3-1"}
    assert failures[LATE[2]] == "needs dense-1, which failed"


def test_a_cell_whose_need_was_finished_before_runs_at_once():
    runner = Fake()
    assert run(LATE, runner) == {}
    assert runner.started == LATE


def test_a_refused_cell_is_not_started():
    runner, log = Fake(jobs=1), Log()
    failures = run([*DENSE[:1], *LATE[:2]], runner, log, refused={DENSE[0]: "no"}.get)
    assert failures == {DENSE[0]: "no", **dict.fromkeys(LATE[:2], "needs dense-0, which failed")}
    assert runner.started == log.begun == []


def test_all_jobs_are_used():
    runner = Fake(jobs=3, lengths=itertools.cycle([2]))
    run([*DENSE, *EARLY], runner)
    assert runner.most == 3


def test_an_interruption_stops_what_is_at_work():
    runner = Fake(lengths=itertools.cycle([9]), stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        run([*DENSE, *EARLY], runner)
    assert [task.stopped for task in runner.tasks] == [True, True]
