"""The results of a comparison so far, and the files that show them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self, final

from headcount.arena.axis import HEADS, Amount
from headcount.arena.figures.heads import draw_heads
from headcount.arena.figures.latency import draw_latency
from headcount.arena.figures.quality import draw_quality
from headcount.arena.figures.shares import draw_shares
from headcount.arena.grid import Cell
from headcount.arena.latency import LATENCY_FILE, Latency, read_latency
from headcount.arena.output import (
    asked,
    has_result,
    read_failure,
    read_grid,
    read_json,
)
from headcount.arena.result import Result, read_result
from headcount.arena.summary import Difference, Line, differences, lines
from headcount.arena.table import Sheet, sheets
from headcount.checkpoints.written import check_takes_place, take_place
from headcount.errors import BudgetError, CheckpointError
from headcount.reports.measure import environment
from headcount.reports.wording import metric_words, one_class
from headcount.runs.data import task_of
from headcount.tasks.task import Task
from headcount.units.kinds import KIND

FORMAT = 1
SUMMARY_FILE = "summary.json"
TABLE_FILE = "table.md"
QUALITY_FILE, HEADS_FILE, LATENCY_FIGURE = "quality.png", "heads.png", "latency.png"
KEPT_FILE = "kept.png"
FILES = (TABLE_FILE, QUALITY_FILE, HEADS_FILE, KEPT_FILE, LATENCY_FIGURE)
"""What ``Comparison.save`` writes beside ``summary.json``, which lists them."""
HEAVY = ("correct", "environment", "described")
"""Fields of a result that are too long for the summary."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The results of a comparison so far.

    Example:
        >>> list(Comparison.__dataclass_fields__)[:3]
        ['path', 'saved', 'results']
    """

    path: Path
    """The folder."""
    saved: Mapping[str, Any]
    """Settings and methods, as ``grid.json`` has them."""
    results: tuple[Result, ...]
    """Finished cells."""
    unfinished: Mapping[Cell, str | None]
    """Cells without a result -> why the last attempt failed; None if there was none."""
    against: str
    """The method that the others are compared with."""
    lines: tuple[Line, ...]
    """Mean and spread of each method, by budget."""
    differences: tuple[Difference, ...]
    """Each other method against the method ``against``."""
    latencies: Mapping[tuple[str, Amount | None], Latency]
    """(method, amount) -> latency, where it was measured."""

    @classmethod
    def read(
        cls, path: Path, *, against: str | None = None, failures: Mapping[Cell, str] | None = None
    ) -> Self:
        """Collect the results in a folder. Nothing is run.

        Args:
            path: the folder of a comparison.
            against: name of a method; by default ``dsp``, or the first method without it.
            failures: cells that failed in this call -> why.

        Raises:
            CheckpointError: the folder holds no comparison.
            BudgetError: the comparison has no method named ``against``.
        """
        saved = read_grid(path)
        known = failures or {}
        results, unfinished = [], {}
        for cell in asked(path):
            folder = path / cell.name
            if has_result(folder, saved["described"]):
                results.append(read_result(folder))
            else:
                unfinished[cell] = known.get(cell, read_failure(folder))
        other = reference(list(saved["methods"]), against)
        return cls(
            path=path,
            saved=saved,
            results=tuple(results),
            unfinished=unfinished,
            against=other,
            lines=tuple(lines(results)),
            differences=tuple(differences(results, other)),
            latencies=read_latency(results, path),
        )

    @property
    def metric(self) -> str:
        """Name of the quality."""
        return self._task.primary_metric

    @property
    def greater_is_better(self) -> bool:
        """Whether more of it is better."""
        return self._task.greater_is_better

    @property
    def _task(self) -> Task:
        settings = self.saved["settings"]
        return task_of(settings["task"], settings.get("task_settings"))

    @property
    def _metric(self) -> str:
        """Name of the quality, for readers of tables and figures."""
        return metric_words(self.metric, greater_is_better=self.greater_is_better)

    @property
    def axis(self) -> str:
        """The field of a budget in which the cells differ."""
        return self.saved["settings"].get("axis", HEADS)

    @property
    def sheets(self) -> list[Sheet]:
        """The tables."""
        only = {result.cell.name: result.only_class for result in self.results}
        remarks = one_class(only, self.metric, all_known=not self.unfinished)
        return sheets(
            self.lines,
            self.differences,
            metric=self._metric,
            greater_is_better=self.greater_is_better,
            against=self.against,
            axis=self.axis,
            remarks=remarks,
        )

    def save(self) -> list[Path]:
        """Write ``summary.json``, ``table.md`` and the figures.

        Returns:
            The files that were written.

        Raises:
            CheckpointError: a file with one of these names is there, and headcount did not write
                it, or it was changed since.
        """
        with TemporaryDirectory(dir=self.path, prefix=".draft-") as scratch:
            draft = Path(scratch)
            written = self._draw(draft)
            check_files(self.path)
            take_place(
                "output",
                draft,
                self.path,
                list_file=SUMMARY_FILE,
                body=self._summary(),
                trusted=FILES,
            )
        return [self.path / name for name in (SUMMARY_FILE, *written)]

    def _draw(self, folder: Path) -> list[str]:
        """Write the table and the figures into a folder; returns their names."""
        if not self.results:
            return []
        text = "\n\n".join(sheet.markdown() for sheet in self.sheets)
        (folder / TABLE_FILE).write_text(text + "\n", encoding="utf-8")
        draw_quality(self.lines, folder / QUALITY_FILE, metric=self._metric, axis=self.axis)
        written = [TABLE_FILE, QUALITY_FILE]
        pruned = [result for result in self.results if result.amount is not None]
        if pruned and self.axis == HEADS:
            draw_heads(pruned, folder / HEADS_FILE)
            written.append(HEADS_FILE)
        elif pruned:
            each = all(KIND[site.kind].drawn for result in pruned for site in result.sites)
            (draw_heads if each else draw_shares)(pruned, folder / KEPT_FILE)
            written.append(KEPT_FILE)
        # With one entry, the dense model alone was timed.
        if len(self.latencies) > 1:
            figure = folder / LATENCY_FIGURE
            draw_latency(
                self.lines,
                self.latencies,
                figure,
                metric=self._metric,
                axis=self.axis,
                greater_is_better=self.greater_is_better,
            )
            written.append(LATENCY_FIGURE)
        return written

    def _summary(self) -> dict[str, Any]:
        timed = read_json(self.path / LATENCY_FILE) or {}
        return {
            "format": FORMAT,
            "task": self.saved["settings"]["task"],
            "metric": self.metric,
            "greater_is_better": self.greater_is_better,
            "command": self.saved["command"],
            "settings": self.saved["described"],
            "methods": self.saved["methods"],
            "axis": self.axis,
            "lines": [self._named(line) for line in self.lines],
            "against": self.against,
            "differences": [self._named(difference) for difference in self.differences],
            "latency": [
                {"method": method, self.axis: amount, **asdict(latency)}
                for (method, amount), latency in self.latencies.items()
            ],
            "latency_measured": {k: v for k, v in timed.items() if k != "shapes"},
            "unfinished": [
                {"cell": cell.name, "failure": why} for cell, why in self.unfinished.items()
            ],
            "runs": [
                {name: value for name, value in result.plain().items() if name not in HEAVY}
                for result in self.results
            ],
            "environment": environment(),
        }

    def _named(self, entry: Line | Difference) -> dict[str, Any]:
        """The fields of an entry; the axis is the key of the amount."""
        return {self.axis if k == "amount" else k: value for k, value in asdict(entry).items()}


def check_files(path: Path) -> None:
    """Refuse to write the table and the figures over files that no comparison has written.

    Raises:
        CheckpointError: such files are there; the message names them.
    """
    summary = read_json(path / SUMMARY_FILE)
    if (path / SUMMARY_FILE).exists() and (summary is None or "runs" not in summary):
        raise CheckpointError(
            f"output {str(path)!r} has a {SUMMARY_FILE} that compare did not write, or that was "
            "changed since. Give another folder, or move it away."
        )
    trusted = FILES if summary else ()  # older versions did not list them
    check_takes_place("output", path, FILES, trusted=trusted, list_file=SUMMARY_FILE)


def reference(methods: Sequence[str], against: str | None) -> str:
    """The method that the others are compared with: ``against``, else ``dsp``, else the first.

    Raises:
        BudgetError: ``against`` is not one of the methods.

    Example:
        >>> reference(["random", "dsp"], None), reference(["random", "magnitude"], None)
        ('dsp', 'random')
    """
    if against is None:
        return "dsp" if "dsp" in methods else methods[0]
    if against not in methods:
        raise BudgetError(f"compare(against={against!r}): give one of {', '.join(methods)}.")
    return against
