"""Everything in one call: train, decide, cut, save, measure."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from rich.console import Console
from transformers import PreTrainedModel

from headcount.architectures.discover import units
from headcount.checkpoints.disk import check_room, expanded, expanded_name
from headcount.checkpoints.folder import write_card
from headcount.checkpoints.workspace import (
    check_apart,
    check_output,
    clear,
    keep_logs,
    publish,
    resolved,
    workspace,
)
from headcount.checkpoints.written import check_no_links
from headcount.door.arguments import check_fields, checks_arguments
from headcount.errors import BudgetError, TrainingError, check_argument
from headcount.methods.dsp import DSP
from headcount.methods.method import Method
from headcount.methods.random import Random
from headcount.reports.card import FIGURE, OTHER_FIGURE
from headcount.reports.counting import counting
from headcount.reports.heatmap import heat_map
from headcount.reports.report import Report
from headcount.runs.data import TaskData, check_finetuned, describe_source, gather, task_of
from headcount.runs.in_time import TABLE, measured_here, with_table
from headcount.runs.recipe import Recipe
from headcount.runs.rehearse import check_task, check_trainable, rehearse
from headcount.runs.run import (
    NUM_EXAMPLES,
    RunResult,
    RunSpec,
    carry_out,
    dense_run,
    recipe_of,
    recover,
)
from headcount.side_by_side import side_by_side
from headcount.tasks.task import Task
from headcount.units.budget import Budget
from headcount.units.decision import Decision
from headcount.units.kinds import KIND

BASELINES = ("dense", "random")
MOST_SITES = 200
"""With more sites, such as the experts of a mixture, a picture of a line each is not drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Settings of ``prune`` beside model, data, budget and method.

    Example:
        >>> Options(baselines=("dense",)).resume
        False
    """

    recipe: Recipe = field(default_factory=Recipe)
    """How to train; the same for every run."""
    pipelined_epochs: float = 1.0
    """Epochs for the logits when the method is pipelined."""
    recover_epochs: float = 0.0
    """Epochs of training after the cut, by the recipe, for methods that decide while the weights
    rest; 0 leaves the model as decided."""
    num_examples: int = NUM_EXAMPLES
    """Training examples for a method that decides from data; 0 takes all."""
    finetuned: bool = False
    """Whether the model is already fine-tuned on the task. Methods that need such a model then
    start from it; otherwise the dense model is fine-tuned first. The checkpoint must have the
    task's head."""
    distil: bool = False
    """Learn from the fine-tuned dense model as well as from the labels. The dense model is trained
    first, unless ``finetuned`` is set."""
    baselines: tuple[str, ...] = ()
    """Further runs for comparison: ``dense`` (all units), ``random`` (a random choice). They are
    trained by the recipe. A method that decides while the weights rest is trained only for
    ``recover_epochs``, after the cut."""
    resume: bool = False
    """Resume an interrupted ``prune`` call with the same output folder."""
    latency_batch: int = 8
    """Batch size of the latency measurement."""
    latency_length: int = 64
    """Tokens of an example in the latency and MACs measurement."""
    command: str | None = None
    """The command line, for the report."""
    console: Console = field(default_factory=Console)
    """Where progress is shown."""

    def __post_init__(self) -> None:
        check_fields(self)
        unknown = [name for name in self.baselines if name not in BASELINES]
        if unknown:
            raise BudgetError(f"Options(baselines={self.baselines}): give some of {BASELINES}.")
        if not 0 <= self.recover_epochs < float("inf"):
            raise TrainingError(
                f"Options(recover_epochs={self.recover_epochs!r}): give a number of epochs, or 0."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """The result of ``prune``.

    Example:
        >>> [field for field in Pruned.__dataclass_fields__]
        ['model', 'decision', 'report', 'folder']
    """

    model: PreTrainedModel
    """The smaller model, in evaluation mode."""
    decision: Decision
    """The units that stayed, with their scores."""
    report: Report
    """Quality, size and speed, compared with the dense architecture."""
    folder: Path | None
    """Folder of the saved result; None if ``output`` was None."""


@checks_arguments
def prune(
    model: str | Path,
    *,
    train: Sequence[str | Path],
    eval: Sequence[str | Path],  # noqa: A002
    budget: Budget,
    task: str | Task = "nli",
    method: Method | None = None,
    output: str | Path | None = None,
    options: Options | None = None,
) -> Pruned:
    """Prune a model on a task to an exact budget, and measure the result.

    Args:
        model: hub id or folder of a pretrained or fine-tuned model.
        train: training files (tsv, csv, jsonl, parquet; gzip too) or a hub data set id.
        eval: evaluation files, likewise.
        budget: what must remain.
        task: ``nli``, or a task of your own.
        method: how to choose; ``DSP()`` by default.
        output: folder for the result, other than the model's. An older result there is replaced;
            anything else is refused. None saves nothing.
        options: training recipe, baselines, resuming, measurement.

    Returns:
        The model, the decision and the report.

    Raises:
        PruningError: bad input of any kind; no half-written result is left.

    Example:
        >>> import headcount as hc
        >>> pruned = hc.prune("microsoft/MiniLM-L12-H384-uncased", train=["train.tsv"],
        ...     eval=["dev.tsv"], budget=hc.Budget(heads=24), output="small")  # doctest: +SKIP
    """
    opts = options or Options()
    chosen = DSP() if method is None else method
    check_call(model, chosen, budget, output, opts)
    model, kind = expanded_name(model), task_of(task)
    check_task(kind, opts.recipe, distils=opts.distil)
    data = {"train": train, "eval": eval}
    settings = settings_of(str(model), kind, chosen, budget, data, opts)
    task_data = gather(str(model), kind, train, eval, opts.recipe)
    whole = task_data.fresh_model(str(model))
    check_model(str(model), whole, task_data, budget, output, opts)
    with TemporaryDirectory() as scratch:
        target = expanded(output) if output is not None else Path(scratch) / "pruned"
        # All is made in the working folder and published at the end, so no result is half-written.
        with workspace(target, settings, resume=opts.resume) as work:
            remeasure = measured_here(budget)
            budget = with_table(
                budget,
                whole,
                task_data,
                work / TABLE,
                batch=opts.latency_batch,
                length=opts.latency_length,
                console=opts.console,
            )
            del whole  # the runs load their own models
            specs = plan(str(model), chosen, budget, opts, work, remeasure=remeasure)
            trained = carry_out_all(specs, task_data, work, opts)
            with counting(opts.console, "measuring latency") as told:
                report = side_by_side(
                    trained,
                    task_data,
                    settings,
                    batch=opts.latency_batch,
                    length=opts.latency_length,
                    command=opts.command,
                    told=told,
                )
            small = write_folder(trained[-1], report, task_data, work / "result", target.name)
            keep_logs(work, work / "result")
            publish(work / "result", target)
        return Pruned(
            model=small,
            decision=cast(Decision, trained[-1].decision),  # the asked run has a method
            report=report,
            folder=None if output is None else target,
        )


def settings_of(
    model: str,
    task: Task,
    method: Method,
    budget: Budget,
    data: dict[str, Sequence[str | Path]],
    options: Options,
) -> dict[str, Any]:
    """Settings that a resumed ``prune`` call must share with the interrupted one: plain values.

    Raises:
        ArgumentError: ``train`` or ``eval`` is not a list.
    """
    for name, sources in data.items():
        check_argument("prune", name, sources, Sequence, "a list of files or hub data sets")
    return {
        "model": model,
        "task": task.name,
        **({"task_settings": dict(task.describe())} if task.describe() else {}),
        "budget": budget.describe(),
        "method": method.describe(),
        "recipe": options.recipe.described(),
        "pipelined_epochs": options.pipelined_epochs,
        "recover_epochs": options.recover_epochs,
        "num_examples": options.num_examples,
        "finetuned": options.finetuned,
        "distil": options.distil,
        "baselines": list(options.baselines),
        "table": [options.latency_batch, options.latency_length] if measured_here(budget) else None,
        **{name: [describe_source(one) for one in sources] for name, sources in data.items()},
    }


def check_model(
    name: str,
    model: PreTrainedModel,
    task_data: TaskData,
    budget: Budget,
    output: str | Path | None,
    options: Options,
) -> None:
    """Refuse a model that cannot be pruned by these settings, and a disk without room.

    Raises:
        PruningError: says why.
    """
    if options.finetuned:
        check_finetuned(name, model)
    if not measured_here(budget):
        budget.quotas(units(model))
    task_data.example(model, options.latency_batch, options.latency_length)
    check_trainable(options.recipe, model, distils=options.distil)
    if output is not None and not options.resume:
        size = sum(p.numel() * p.element_size() for p in model.parameters())
        check_room("output", resolved(output), size)  # runs may save the whole model too


def check_call(
    model: str | Path, method: Method, budget: Budget, output: str | Path | None, options: Options
) -> None:
    """Refuse wrong arguments before anything is read.

    Raises:
        ArgumentError: something of the wrong type.
        BudgetError: a budget or an option that does not go with the method.
        TrainingError: a training setting that does not.
        CheckpointError: the output would replace the model, or files that headcount did not
            write; or the folder cannot be written.
    """
    check_argument("prune", "options", options, Options, "hc.Options(...)")
    example = "a hub id or folder; save a model of your own to one with save_pretrained"
    check_argument("prune", "model", model, (str, Path), example)
    check_argument("prune", "method", method, Method, "an instance, such as hc.DSP()")
    check_argument("prune", "budget", budget, Budget, "a budget, such as hc.Budget(heads=12)")
    method.check(budget)
    if options.distil and method.rests:
        raise BudgetError(
            f"Options(distil=True): {method.name} trains no weights that could learn from the "
            "dense model. Leave it out, or give a method that trains weights, such as DSP()."
        )
    if options.recover_epochs and not method.rests:
        raise BudgetError(
            f"Options(recover_epochs={options.recover_epochs}): {method.name} trains the weights "
            "already. Give more epochs instead, or a method that decides while they rest, such as "
            "GradientImportance()."
        )
    check_argument("prune", "output", output, (str, Path, type(None)), "a folder, or None")
    if output is not None:
        check_apart(model, output)
        check_output(Path(output))
    rehearse(options.recipe, [method])


def plan(
    model: str,
    method: Method,
    budget: Budget,
    options: Options,
    work: Path,
    *,
    remeasure: bool = False,
) -> list[RunSpec]:
    """The runs to carry out, in order; the asked method comes last.

    A method that needs a fine-tuned model starts from the dense run's result, unless the model is
    fine-tuned already. ``remeasure``: see ``RunSpec``.
    """
    wants_tuned = method.rests or options.distil
    tune_first = wants_tuned and not options.finetuned
    tuned = str(work / "dense" / "model") if tune_first else model
    recipe = options.recipe
    specs: list[RunSpec] = []
    if "dense" in options.baselines or tune_first:
        specs.append(dense_run(model, recipe))
    if "random" in options.baselines:
        specs.append(
            RunSpec(
                name="random",
                method=Random(),
                budget=budget,
                remeasure=remeasure,
                start=model,
                recipe=recipe,
            )
        )
    name = method.name if not (method.name == "random" and specs) else "random (asked)"
    asked = RunSpec(
        name=name,
        method=method,
        budget=budget,
        remeasure=remeasure,
        start=tuned if method.rests else model,
        teacher=tuned if options.distil else "",
        recipe=recipe_of(method, recipe, options.pipelined_epochs),
        num_examples=options.num_examples,
    )
    return [*specs, asked]


def carry_out_all(
    specs: list[RunSpec], task_data: TaskData, work: Path, options: Options
) -> list[RunResult]:
    """Carry out the runs; with ``recover_epochs``, train the last one's cut model further.

    The last result then adds up time and steps of pruning and recovery. The result before recovery
    precedes it.
    """
    trained = [carry_out(spec, task_data, work / spec.name, options.console) for spec in specs]
    if options.recover_epochs:
        decided = trained[-1]
        after = recover(decided, task_data, options.recover_epochs, options.console)
        once = replace(decided.spec, name=f"{decided.spec.name}, as decided")
        both = replace(
            after,
            spec=decided.spec,
            train_s=decided.train_s + after.train_s,
            num_steps=decided.num_steps + after.num_steps,
        )
        trained = [*trained[:-1], replace(decided, spec=once), both]
    return trained


def write_folder(
    asked: RunResult, report: Report, task_data: TaskData, draft: Path, name: str
) -> PreTrainedModel:
    """Write the result's folder: weights, tokenizer, decision, report, figure and card."""
    check_no_links(f"{asked.spec.name}:", asked.folder)
    if draft.exists():  # left by a call that was killed at this point
        clear(draft, {path.name for path in asked.folder.iterdir()})
    shutil.copytree(asked.folder, draft)
    report.save(draft)
    decision, budget = cast(Decision, asked.decision), cast(Budget, asked.spec.budget)
    if budget.costs is not None:
        budget.costs.save(draft / TABLE)
    each = all(KIND[kind].drawn for kind in decision.kinds)
    if each or len(decision.sites) <= MOST_SITES:
        figure = draft / (FIGURE if each else OTHER_FIGURE)
        heat_map(decision, figure, title=f"{name}: {asked.spec.describe()['name']}")
    small = task_data.fresh_model(str(draft)).eval()
    write_card(small, draft, name=name, decision=decision, report=report)
    return small
