"""Decide which cell runs when: several at a time, and none before the cell that it needs."""

from collections.abc import Callable, Collection, Sequence
from typing import final

from headcount.arena.grid import Cell
from headcount.arena.runner import Job, Runner


class Watch:
    """Is called as cells begin and end. This class does nothing.

    Example:
        >>> Watch().began(Cell(method="dsp", amount=12, seed=0))
    """

    def began(self, cell: Cell) -> None:
        """A cell starts."""

    def goes_on(self, running: Collection[Cell]) -> None:
        """Called again and again while cells run."""

    def ended(self, cell: Cell, failure: str | None) -> None:
        """A cell has finished (``failure`` is None), has failed, or cannot run at all."""


def run_cells(
    cells: Sequence[Cell],
    runner: Runner,
    *,
    needs: Callable[[Cell], Cell | None],
    refused: Callable[[Cell], str | None],
    watch: Watch,
) -> dict[Cell, str]:
    """Run cells. If a cell fails, the cells that need it fail, too; all others run.

    Args:
        cells: the unfinished cells.
        runner: runs them.
        needs: cell -> the cell that must be finished before it, or None.
        refused: cell -> why it must not be started, or None.
        watch: called as cells begin and end.

    Returns:
        Failed cell -> why.
    """
    schedule = _Schedule(cells, runner, watch)
    try:
        while schedule.waiting or schedule.running:
            schedule.give_up(needs)
            schedule.start(needs, refused)
            schedule.look()
    finally:
        for job in schedule.running.values():
            job.stop()
    return schedule.failures


@final
class _Schedule:
    def __init__(self, cells: Sequence[Cell], runner: Runner, watch: Watch) -> None:
        self.waiting, self._runner, self._watch = list(cells), runner, watch
        self.running: dict[Cell, Job] = {}
        self.failures: dict[Cell, str] = {}

    def give_up(self, needs: Callable[[Cell], Cell | None]) -> None:
        """Fail the waiting cells whose needed cell has failed."""
        for cell in list(self.waiting):
            first = needs(cell)
            if first is not None and first in self.failures:
                self.waiting.remove(cell)
                self._end(cell, f"needs {first.name}, which failed")

    def start(
        self, needs: Callable[[Cell], Cell | None], refused: Callable[[Cell], str | None]
    ) -> None:
        """Start waiting cells, in their order, while there are free jobs."""
        for cell in list(self.waiting):
            if len(self.running) >= self._runner.jobs:
                return
            first = needs(cell)
            if first in self.waiting or first in self.running or first in self.failures:
                continue
            self.waiting.remove(cell)
            why = refused(cell)
            if why is not None:
                self._end(cell, why)
                continue
            self._watch.began(cell)
            self.running[cell] = self._runner.start(cell)

    def look(self) -> None:
        """Collect the cells that have ended, then wait a moment."""
        for cell, job in list(self.running.items()):
            if job.is_over():
                del self.running[cell]
                self._end(cell, job.failure())
        if self.running:
            self._watch.goes_on(self.running.keys())
            self._runner.wait()

    def _end(self, cell: Cell, failure: str | None) -> None:
        if failure is not None:
            self.failures[cell] = failure
        self._watch.ended(cell, failure)
