"""Measure the models of a ``prune`` call side by side."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor
from transformers import PreTrainedModel

from headcount.architectures.discover import units
from headcount.reports.fresh import fresh_latency_s
from headcount.reports.measure import (
    Told,
    environment,
    latency_s,
    macs,
    num_params,
    summary,
    units_per_layer,
    weight_bytes,
)
from headcount.reports.report import DENSE, Report, Row
from headcount.runs.data import TaskData
from headcount.runs.run import RunResult
from headcount.units.decision import Decision
from headcount.units.kinds import KINDS

NUM_RUNS = 20
"""Timed forward passes of each model."""


def side_by_side(
    trained: Sequence[RunResult],
    task_data: TaskData,
    settings: dict[str, Any],
    *,
    batch: int,
    length: int,
    command: str | None,
    told: Told | None = None,
) -> Report:
    """Measure the model of every run and the dense architecture, all in this process.

    Without a dense run, the dense architecture is measured all the same: its size and speed do not
    depend on the weights. Its quality is left empty.

    Args:
        trained: the results of the runs; the asked one comes last.
        task_data: loads the models.
        settings: settings of the call: model, task, budget and method are used.
        batch: examples in a timed forward pass.
        length: tokens of each example.
        command: the command line, for the report.
        told: reports progress; see ``latency_s``.
    """
    folders = {spec.spec.name: spec.folder for spec in trained}
    models = {name: task_data.fresh_model(str(path)).eval() for name, path in folders.items()}
    if DENSE not in models:
        dense = task_data.fresh_model(settings["model"]).eval()
        folders = {DENSE: folders[trained[-1].spec.name].parent / "architecture", **folders}
        dense.save_pretrained(folders[DENSE])
        models = {DENSE: dense, **models}
    # All models are timed together: alternating passes share whatever slows the machine down.
    inputs = task_data.example(models[DENSE], batch, length)
    timing = fresh_latency_s if trained[-1].spec.remeasure else latency_s
    samples = timing(models, inputs, num_runs=NUM_RUNS, warmup=3, told=told)
    measured = {spec.spec.name: spec for spec in trained}
    kinds = [kind for kind in KINDS if kind in units(models[DENSE]).kinds]
    rows = tuple(
        make_row(name, model, inputs, folders[name], samples[name], measured.get(name), kinds)
        for name, model in models.items()
    )
    return Report(
        task=settings["task"],
        metric=task_data.metric,
        greater_is_better=task_data.task.greater_is_better,
        budget=settings["budget"],
        method=settings["method"],
        kinds=cast(Decision, trained[-1].decision).kinds,  # the asked run has a method
        seed=trained[-1].spec.recipe.seed,
        num_steps=trained[-1].num_steps,
        batch_size=batch,
        length=length,
        attn_implementation=str(models[DENSE].config._attn_implementation),
        rows=rows,
        environment=environment(),
        device=str(models[DENSE].device.type),
        num_runs=NUM_RUNS,
        command=command,
        cost=cost_of(cast(Decision, trained[-1].decision), rows),
    )


def cost_of(decision: Decision, rows: Sequence[Row]) -> dict[str, Any] | None:
    """The cost of a decision, and of a latency what was measured; None for other budgets.

    Args:
        decision: the asked one.
        rows: the measured models; the dense one first, the asked one last.
    """
    cost = decision.provenance.get("cost")
    if not cost or cost["kind"] != "latency":
        return cost
    dense, asked = (row.latency_s for row in (rows[0], rows[-1]))
    return {**cost, "measured": asked / dense if asked and dense else None}


def make_row(
    name: str,
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    folder: Path,
    samples: list[float],
    trained: RunResult | None,
    kinds: Iterable[str],
) -> Row:
    """Recount the units of one model, and measure it."""
    times = summary(samples)
    return Row(
        name=name,
        units={kind: units_per_layer(model)[kind] for kind in kinds},
        num_params=num_params(model),
        quality=None if trained is None else trained.quality,
        num_bytes=weight_bytes(folder),
        macs=macs(model, inputs),
        latency_s=times.median,
        latency_quartiles_s=(times.lower_quartile, times.upper_quartile),
        train_s=None if trained is None else trained.train_s,
        only_class=None if trained is None else trained.only_class,
    )
