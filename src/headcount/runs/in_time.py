"""Meet a budget of latency: measure its table, and choose again until the cut model is so fast."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.console import Console
from torch import nn
from transformers import PreTrainedModel

from headcount.architectures.discover import units
from headcount.reports.counting import counting
from headcount.reports.latency_gap import calibrate_latency, meet
from headcount.reports.latency_table import latency_table
from headcount.runs.data import TaskData
from headcount.units.budget import Budget
from headcount.units.decision import Decision
from headcount.units.latency import LatencyTable

if TYPE_CHECKING:  # it imports this file
    from headcount.runs.run import RunSpec

TABLE = "latency.json"
"""Name of the table of latencies, in the working folder, a run's folder and the result's folder."""
NUM_RUNS = 30
"""Timed passes of a model whose latency decides whether its table is corrected."""


def measured_here(budget: Budget) -> bool:
    """Whether the table of a budget is still to be measured, on this machine.

    Example:
        >>> measured_here(Budget(latency=0.5)), measured_here(Budget(heads=3))
        (True, False)
    """
    return budget.latency is not None and budget.costs is None


def with_table(
    budget: Budget,
    model: PreTrainedModel,
    task_data: TaskData,
    file: Path,
    *,
    batch: int,
    length: int,
    console: Console,
) -> Budget:
    """Give a latency budget its table: measured and corrected once, read back after resuming.

    Args:
        budget: any budget; returned as it is if no table has to be measured.
        model: the whole model.
        task_data: gives the inputs.
        file: where the table is kept.
        batch: examples in a timed pass.
        length: tokens of each example.
        console: where progress is shown.

    Raises:
        BudgetError: the model cannot be as fast as the budget asks.
    """
    if not measured_here(budget):
        return budget
    if not file.is_file():
        inputs = task_data.example(model, batch, length)
        with counting(console, "measuring the table of latencies") as told:
            table = latency_table(model, inputs, kinds=budget.kinds, told=told)
        measured = replace(budget, costs=table)
        measured.quotas(units(model))
        with counting(console, "correcting the table, rounds") as told:
            measured = calibrate_latency(model, measured, inputs, num_runs=NUM_RUNS, told=told)
        cast(LatencyTable, measured.costs).save(file)
    # Read from the file in any case, so that a resumed call has the very same numbers.
    measured = replace(budget, costs=LatencyTable.load(file))
    measured.quotas(units(model))
    return measured


def in_time(
    spec: "RunSpec",
    model: nn.Module,
    task_data: TaskData,
    work: Path,
    console: Console,
    choose: Callable[[Budget], Decision],
) -> tuple[Decision, "RunSpec"]:
    """The decision of a run; with ``remeasure``, made again until the model is as fast as asked.

    The corrected table is kept in the run's folder. A resumed run reads it and chooses by it.

    Args:
        spec: the run, with a budget.
        model: the whole model, without gates.
        task_data: gives the inputs.
        work: the folder of the run.
        console: where progress is shown.
        choose: makes the decision for a budget, always by the same scores.

    Returns:
        The decision, and the run with the table that led to it.
    """
    budget, file = cast(Budget, spec.budget), work / TABLE
    if not spec.remeasure:
        return choose(budget), spec
    if not file.is_file():
        table = cast(LatencyTable, budget.costs)
        inputs = task_data.example(cast(PreTrainedModel, model), table.batch, table.length)
        with counting(console, f"{spec.name}: timing the choice, rounds") as told:
            met = meet(model, budget, inputs, lambda b: [choose(b)], num_runs=NUM_RUNS, told=told)
        cast(LatencyTable, met.costs).save(file)
    final = replace(budget, costs=LatencyTable.load(file))
    return choose(final), replace(spec, budget=final)
