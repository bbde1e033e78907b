"""Which cell runs when: as many at a time as there are jobs, none before what it needs."""

from collections.abc import Callable, Collection, Sequence
from typing import final

from headcount.arena.grid import Cell
from headcount.arena.runner import Job, Runner


class Watch:
    """Is told what happens; does nothing by itself.

    Example:
        >>> Watch().began(Cell(method="dsp", heads=12, seed=0))
    """

    def began(self, cell: Cell) -> None:
        """A cell has been started."""

    def goes_on(self, running: Collection[Cell]) -> None:
        """Some time has passed."""

    def ended(self, cell: Cell, failure: str | None) -> None:
        """A cell has ended, well (None) or not; or it cannot run at all."""


def run_cells(
    cells: Sequence[Cell],
    runner: Runner,
    *,
    needs: Callable[[Cell], Cell | None],
    refused: Callable[[Cell], str | None],
    watch: Watch,
) -> dict[Cell, str]:
    """Run cells; one that fails takes along those that need it, and no other.

    Args:
        cells: those that are not finished.
        runner: where they run.
        needs: the cell that must be finished before another.
        refused: why a cell must not be started; None if it may.
        watch: told what happens.

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
        """End the cells whose need has failed."""
        for cell in list(self.waiting):
            first = needs(cell)
            if first is not None and first in self.failures:
                self.waiting.remove(cell)
                self._end(cell, f"needs {first.name}, which failed")

    def start(
        self, needs: Callable[[Cell], Cell | None], refused: Callable[[Cell], str | None]
    ) -> None:
        """Start cells in their order, as far as there are jobs free."""
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
        """Take in what has ended; then let some time pass."""
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
