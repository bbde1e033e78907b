"""What a comparison shows while it runs: the running cells, and how long the rest will take."""

import time
from collections.abc import Collection
from typing import final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from headcount.arena.grid import Cell
from headcount.arena.output import Output, in_short
from headcount.arena.progress import read_progress
from headcount.arena.result import read_result
from headcount.arena.schedule import Watch
from headcount.reports.wording import duration

LONGEST_NAME = 28
"""Columns for a cell's name beside its bar, in a terminal of 80 columns."""


def short(name: str) -> str:
    """A cell's name, shortened to leave room for its bar. Budget and seed, at its end, stay.

    Example:
        >>> short("dsp-12-0"), short("dsp-relaxed-pipelined+finetuned+distil-144-0")
        ('dsp-12-0', 'dsp-relaxed-...distil-144-0')
    """
    return name if len(name) <= LONGEST_NAME else f"{name[:12]}...{name[-12:]}"


@final
class Display(Watch):
    """Progress bars in a terminal; elsewhere, a line of text when a cell begins or ends."""

    def __init__(self, output: Output, console: Console, *, num_done: int) -> None:
        """Show a run of which ``num_done`` cells are finished already."""
        self._output, self._console = output, console
        self._before, self._done, self._total = num_done, num_done, len(output.grid.cells)
        self._began = time.monotonic()
        self._shares: dict[Cell, float] = {}
        self._bars: dict[Cell, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[words]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._all = self._progress.add_task(
            "all cells", total=self._total, completed=num_done, words=""
        )

    def __enter__(self) -> "Display":
        """Begin to draw."""
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave what has been drawn."""
        self._progress.stop()

    def began(self, cell: Cell) -> None:
        """Add a bar."""
        self._bars[cell] = self._progress.add_task(short(cell.name), total=1.0, words="starting")
        self._shares[cell] = 0.0
        if not self._console.is_terminal:
            self._console.print(f"{cell.name}: begun", highlight=False)

    def goes_on(self, running: Collection[Cell]) -> None:
        """Move the bars."""
        if not self._console.is_terminal:
            return
        for cell in running:
            progress = read_progress(self._output.folder(cell))
            if progress is not None:
                # A later phase begins at 0 again; the bar must not fall back.
                share = max(self._shares[cell], progress.share)
                steps = f" {progress.done}/{progress.total}" if progress.total else ""
                words = f"{progress.phase}{steps}"
                self._shares[cell] = share
                self._progress.update(self._bars[cell], completed=share, words=words)
        self._count()

    def ended(self, cell: Cell, failure: str | None) -> None:
        """Replace the bar by a line with the result, which stays."""
        self._shares.pop(cell, None)
        if cell in self._bars:
            self._progress.remove_task(self._bars.pop(cell))
        self._done += 1
        self._count()
        if failure is None:
            result = read_result(self._output.folder(cell))
            took = duration(result.train_s + result.recover_s)
            text = f"{result.quality:.4f}, trained for {took}"
        else:
            text = f"failed: {in_short(failure)}"
        text = f"[{self._done}/{self._total}] {cell.name}: {text}{self.left()}"
        self._console.print(text, markup=False, highlight=False)

    def _count(self) -> None:
        done, words = self._done + sum(self._shares.values()), f"{self._done}/{self._total}"
        self._progress.update(self._all, completed=done, words=words + self.left())

    def left(self) -> str:
        """How long the rest will take at the pace of this call, in words; empty if not known."""
        new = self._done - self._before + sum(self._shares.values())
        rest = self._total - self._before - new
        if new < 0.05 or rest <= 0:
            return ""
        return f", about {duration(round((time.monotonic() - self._began) * rest / new))} left"
