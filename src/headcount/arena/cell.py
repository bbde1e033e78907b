"""Run one cell: choose, cut, measure, recover, recount."""

import traceback
from dataclasses import replace

import torch
from rich.console import Console
from transformers import PreTrainedModel

from headcount.architectures.discover import units
from headcount.arena.adopt import adopt_run
from headcount.arena.grid import Cell, digest
from headcount.arena.output import ERROR_FILE, LOG_FILE, SPEC_FILE, Output, read_json, write_json
from headcount.arena.progress import Progress, ProgressFile, write_progress
from headcount.arena.recount import check_recount
from headcount.arena.result import KeptSite, Result
from headcount.checkpoints.workspace import clear
from headcount.errors import CheckpointError, PruningError
from headcount.reports.measure import environment, units_per_layer
from headcount.runs.data import TaskData, gather, sampled
from headcount.runs.run import RESULT_FILE, RunResult, carry_out, recover, write_result
from headcount.units.decision import Decision
from headcount.units.kinds import BY_FIELD
from headcount.units.table import UnitTable

FEW = 256
"""Sites with more units than this, such as neurons, are noted by their number alone."""


def attempt(output: Output, cell: Cell, *, adopt: bool = False, command: str | None = None) -> bool:
    """Run a cell. An error is written into its folder instead of raised.

    Args:
        output: the folder of the comparison.
        cell: the cell.
        adopt: take over a run that was trained elsewhere.
        command: the command line, for the record.

    Returns:
        Whether the cell finished.
    """
    folder = output.folder(cell)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ERROR_FILE).unlink(missing_ok=True)
    with (folder / LOG_FILE).open("a", encoding="utf-8") as log:
        console = Console(file=log, width=120, force_terminal=False, highlight=False)
        try:
            run_cell(output, cell, console, adopt=adopt, command=command)
        except Exception as error:
            # Our own errors say what to do; any other needs its traceback in the log.
            expected = isinstance(error, PruningError)
            console.print(f"{error}" if expected else traceback.format_exc(), markup=False)
            output.note_failure(cell, f"{type(error).__name__}: {error}")
            return False
    return True


def run_cell(
    output: Output, cell: Cell, console: Console, *, adopt: bool = False, command: str | None = None
) -> None:
    """Run a cell, or go on with it. A finished cell is left alone.

    A finished dense cell whose model is gone is trained again. Its old result counts until the new
    one is there.

    Args:
        output: the folder of the comparison.
        cell: the cell.
        console: the log.
        adopt: take over a run that was trained elsewhere.
        command: the command line, for the record.

    Raises:
        CheckpointError: the folder of the cell holds something else.
        PruningError: an error of choosing, cutting or training.
    """
    folder = output.folder(cell)
    again = output.is_gone(cell)
    if output.is_finished(cell) and not again:
        return
    obstacle = output.obstacle(cell, adopt=adopt)
    if obstacle:
        raise CheckpointError(obstacle)
    folder.mkdir(parents=True, exist_ok=True)
    if again:
        console.print(f"{cell.name}: its model is gone and needed; trained again")
        output.set_aside(cell)
    write_progress(folder, Progress(phase="reading data"))
    settings, spec = output.grid.settings, output.grid.run_spec(cell, output.path)
    task_data = gather(
        settings.model, settings.of_task(), list(settings.train), list(settings.eval), spec.recipe
    )
    task_data = sampled(task_data, settings.num_train, settings.data_seed)
    # Every cell of ours writes its specification first. A result without one is from elsewhere.
    if (folder / RESULT_FILE).is_file() and not (folder / SPEC_FILE).is_file():
        write_progress(folder, Progress(phase="adopting"))
        adopt_run(spec, task_data, folder)
        console.print(f"{cell.name}: trained elsewhere, checked and taken over")
    write_json(folder / SPEC_FILE, output.spec(cell))
    write_progress(folder, Progress(phase="choosing"))
    watched = ProgressFile(folder, "training", console)
    trained = carry_out(spec, task_data, folder, console, [watched])
    recovered = None
    if spec.rests and settings.recover_epochs:
        watched = ProgressFile(folder, "recovering", console)
        recovered = recover(trained, task_data, settings.recover_epochs, console, [watched])
    result = _result(output, cell, trained, recovered, task_data)
    if not result.adopted:  # checkpoints of another run are not ours to delete
        for checkpoint in (*folder.glob("checkpoint-*"), *folder.glob("recovered/checkpoint-*")):
            clear(checkpoint)
    write_result(folder, replace(result, command=command).plain())
    output.settle(cell)


def _result(
    output: Output, cell: Cell, trained: RunResult, recovered: RunResult | None, task_data: TaskData
) -> Result:
    """Reload the final model, count what it has from the weights, and collect the numbers."""
    last = recovered or trained
    write_progress(output.folder(cell), Progress(phase="recounting"))
    model, decision = task_data.fresh_model(str(last.folder)), trained.decision
    if decision is not None and trained.spec.budget is not None:
        dense = task_data.fresh_model(output.grid.settings.model)
        call = f"{cell.name}: recounted from {str(last.folder)!r}"
        check_recount(call, trained.spec.budget, dense, model, decision, task_data.example)
    spec = output.spec(cell)
    return Result(
        method=cell.method,
        amount=cell.amount,
        seed=cell.seed,
        axis=cell.axis,
        described=spec["described"],
        units=_counted(model, cell),
        sites=_sites(decision or _whole(output, model)),
        cost=None if decision is None else decision.provenance.get("cost"),
        quality=last.quality,
        quality_once=trained.quality if trained.spec.rests else None,
        num_steps=trained.num_steps,
        train_s=trained.train_s,
        recover_steps=0 if recovered is None else recovered.num_steps,
        recover_s=0.0 if recovered is None else recovered.train_s,
        correct=last.correct,
        only_class=last.only_class,
        digest=digest(spec),
        environment=environment(),
        adopted=bool((read_json(output.folder(cell) / RESULT_FILE) or {}).get("adopted")),
    )


def _counted(model: PreTrainedModel, cell: Cell) -> dict[str, tuple[int, ...]]:
    """Kind -> units in each layer, for kinds that are left and that of the axis."""
    asked = BY_FIELD.get(cell.axis)
    return {
        kind: counts
        for kind, counts in units_per_layer(model).items()
        if any(counts) or (asked is not None and kind == asked.name)
    }


def _whole(output: Output, dense: PreTrainedModel) -> Decision:
    """The decision that keeps everything, about the units that the budgets are about."""
    table = UnitTable(
        sites=tuple(
            site
            for quota in output.grid.budget(1.0).quotas(units(dense))
            for site in quota.units.sites
        )
    )
    ones = torch.ones(len(table))
    return Decision.of(table, ones.bool(), ones, {})


def _sites(decision: Decision) -> tuple[KeptSite, ...]:
    return tuple(
        KeptSite(
            module=site.module,
            kind=site.kind,
            layer=".".join(part for part in (site.tower, site.stack, str(site.layer)) if part),
            branch=site.branch,
            num=len(site.kept),
            whole=len(site.keep),
            keep="".join("01"[kept] for kept in site.keep) if len(site.keep) <= FEW else None,
        )
        for site in decision.sites
    )
