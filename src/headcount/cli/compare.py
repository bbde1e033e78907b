"""``headcount compare``: compare methods, budgets and seeds on one task."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headcount.arena.compare import CompareOptions, compare
from headcount.arena.comparison import Comparison
from headcount.arena.grid import DISTILLED, FINETUNED, Grid, Settings, bare
from headcount.arena.latency import Timing
from headcount.arena.output import ERROR_FILE, LOG_FILE, in_short
from headcount.arena.runner import Processes
from headcount.checkpoints.disk import expanded
from headcount.cli import options
from headcount.cli.budgets import SEVERAL, amounts, fields_of, flag_of, takes, words
from headcount.cli.cell import PROGRAM
from headcount.cli.methods import METHODS, method_of
from headcount.cli.show import clean_errors
from headcount.cli.tasks import settings_of
from headcount.cli.training import recipe_with
from headcount.errors import BudgetError, DataError
from headcount.runs.recipe import Recipe

console = Console()
NEEDED = (
    "compare: MODEL, --train, --eval and an axis such as --heads are needed. Give all of them, or "
    "--summary-only."
)
RECIPE, SETTINGS, TIMING, HOW = map(options.defaults, (Recipe, Settings, Timing, CompareOptions))


@takes(SEVERAL, hidden=["latency"])
def compare_command(
    output: Annotated[
        Path,
        typer.Option(
            help="Folder for the comparison, such as runs/nli. If a comparison is there, it is "
            "continued."
        ),
    ],
    asked: dict[str, str],
    model: Annotated[
        str, typer.Argument(help="Hub id or folder of the model, such as bert-base-uncased.")
    ] = "",
    train: Annotated[
        list[str] | None, typer.Option(help=f"Training data. {options.FILES}.")
    ] = None,
    eval: Annotated[  # noqa: A002
        list[str] | None, typer.Option(help="Evaluation data, in the same formats.")
    ] = None,
    methods: Annotated[
        str,
        typer.Option(
            help=f"Methods to compare, such as dsp,random. Known: {', '.join(METHODS)}. Two "
            f"endings change a method: dsp{FINETUNED} starts from the fine-tuned dense model and "
            f"trains for --recover-epochs; dsp{DISTILLED} also learns from that model's outputs."
        ),
    ] = "dsp,random",
    kinds: options.Kinds = "",
    length: options.Length = 128,
    scope: options.Scope = "global",
    min_per_layer: options.MinPerLayer = 0,
    place: options.Place = "",
    seeds: Annotated[str, typer.Option(help="Seeds, such as 0,1,2. Each is a separate run.")] = "0",
    task: options.Task = SETTINGS.task,
    task_set: options.TaskSet = None,
    against: Annotated[
        str,
        typer.Option(
            help="The method with which the others are compared, such as random. Default: dsp, "
            "or else the first method."
        ),
    ] = "",
    jobs: Annotated[
        int, typer.Option(min=1, help="Runs at the same time, such as 2. They share the cores.")
    ] = 1,
    epochs: options.Epochs = RECIPE.epochs,
    batch_size: options.BatchSize = RECIPE.batch_size,
    learning_rate: options.LearningRate = RECIPE.learning_rate,
    max_length: options.MaxLength = RECIPE.max_length,
    save_steps: options.SaveSteps = RECIPE.save_steps,
    training: options.Training = None,
    pipelined_epochs: Annotated[
        float,
        typer.Option(help="Epochs for which pipelined methods train the logits of a frozen model."),
    ] = SETTINGS.pipelined_epochs,
    num_train: Annotated[
        int,
        typer.Option(help="Training examples, drawn at random, such as 20000; 0: all of them."),
    ] = SETTINGS.num_train,
    data_seed: Annotated[
        int, typer.Option(help="Seed with which --num-train draws. All runs get the same examples.")
    ] = SETTINGS.data_seed,
    num_examples: options.NumExamples = SETTINGS.num_examples,
    recover_epochs: options.RecoverEpochs = SETTINGS.recover_epochs,
    latency_batch: options.LatencyBatch = TIMING.batch,
    latency_length: options.LatencyLength = TIMING.length,
    latency_runs: Annotated[
        int, typer.Option(help="Timed forward passes of each model; 0: latency is not measured.")
    ] = TIMING.num_runs,
    keep_models: Annotated[
        bool,
        typer.Option(
            help="Keep the weights of all finished runs, or only those of the dense models."
        ),
    ] = HOW.keep_models,
    adopt: Annotated[
        bool,
        typer.Option(
            "--adopt",
            help="Use models that the library function carry_out has put into the folders of the "
            "runs, after measuring them again.",
        ),
    ] = HOW.adopt,
    summary_only: Annotated[
        bool,
        typer.Option(
            "--summary-only",
            help="Train nothing; only write tables and figures of the finished runs.",
        ),
    ] = False,
    config: options.Config = None,
) -> None:
    """Compare pruning methods: train each with each budget and each seed.

    [bold]Examples[/]

      headcount compare bert-base-uncased --train train.tsv --eval dev.tsv
      --methods dsp,random,magnitude --heads 72,36,12 --seeds 0,1,2 --output runs/nli --jobs 2

      ... --neurons 0.5,0.25      half and a quarter of the neurons

      ... --macs 0.5,0.35      at most this share of the multiply-accumulates

    Give one of --neurons, --heads, --kv-heads, --sublayers, --layers, --params and --macs: the axis
    of the comparison.

    For each seed the dense model is trained too. The same command continues a comparison that was
    stopped. Methods, amounts of the axis and seeds can be added later; finished runs are kept. If a
    run fails, the others go on, the exit code is 1, and the next call tries it again.

    OUTPUT gets a folder for each run, table.md, summary.json, quality.png, latency.png, and a
    figure of what is kept: heads.png, or kept.png for other axes.
    """
    del config
    with clean_errors(console):
        if summary_only:
            summarise(output, against)
            return
        if not model or not train or not eval or not asked:
            raise DataError(NEEDED)
        axis, found = axis_of(asked)
        settings = Settings(
            model=model,
            train=tuple(train),
            eval=tuple(eval),
            task=task,
            task_settings=settings_of(task, task_set),
            recipe=recipe_with(
                training,
                epochs=epochs,
                batch_size=batch_size,
                learning_rate=learning_rate,
                max_length=max_length,
                save_steps=save_steps,
            ),
            pipelined_epochs=pipelined_epochs,
            num_train=num_train,
            data_seed=data_seed,
            num_examples=num_examples,
            recover_epochs=recover_epochs,
            axis=axis,
            budget=fields_of(
                kinds, length=length, scope=scope, min_per_layer=min_per_layer, place=place
            ),
        )
        grid = Grid(
            settings=settings,
            methods={name: method_of(bare(name)) for name in words(methods)},
            amounts=found,
            seeds=whole_numbers(seeds, "--seeds"),
        )
        options = CompareOptions(
            runner=lambda folder: Processes(output=folder, program=PROGRAM, jobs=jobs, adopt=adopt),
            adopt=adopt,
            keep_models=keep_models,
            against=against or None,
            timing=Timing(batch=latency_batch, length=latency_length, num_runs=latency_runs),
            command=shlex.join(["headcount", *sys.argv[1:]]),
            console=console,
        )
        run(grid, output, options)


def run(grid: Grid, output: Path, options: CompareOptions) -> None:
    """Compare and show the result. The exit code is 1 if a cell failed, 130 after Ctrl-C."""
    try:
        found = compare(grid, output, options)
    except KeyboardInterrupt as stop:
        console.print("Stopped. The same command goes on from here.")
        raise typer.Exit(130) from stop
    show(found)
    if any(cell in found.unfinished for cell in grid.cells):
        raise typer.Exit(1)


def summarise(output: Path, against: str) -> None:
    """Write and show the tables and figures of the finished cells."""
    found = Comparison.read(expanded(output), against=against or None)
    for file in found.save():
        console.print(f"written: {file}", markup=False, highlight=False)
    show(found)


def show(found: Comparison) -> None:
    """Show the tables, and the cells that failed or are not finished."""
    for sheet in found.sheets:
        console.print(f"\n{sheet.title}", style="bold", markup=False, highlight=False)
        console.print(sheet.rich(min(console.width, 120)))
        console.print(sheet.note, markup=False, highlight=False)
    for cell, failure in found.unfinished.items():
        text = f"failed: {in_short(failure)}" if failure else "not finished"
        console.print(f"{cell.name}: {text}", markup=False, highlight=False)
    if any(found.unfinished.values()):
        console.print(
            f"See {ERROR_FILE} and {LOG_FILE} in the folders of failed cells. The same command "
            "tries them again.",
            highlight=False,
        )


def axis_of(asked: Mapping[str, str]) -> tuple[str, tuple[float, ...]]:
    """The axis of a comparison and its amounts.

    Raises:
        BudgetError: there are several axes, or an amount is no number.

    Example:
        >>> axis_of({"heads": "48,36"})
        ('heads', (48, 36))
    """
    if len(asked) > 1:
        raise BudgetError(
            f"{' and '.join(map(flag_of, asked))}: a comparison has one axis. Give one of them; "
            "compare the other in another folder."
        )
    ((axis, text),) = asked.items()
    if axis not in SEVERAL:
        raise BudgetError(
            f"{flag_of(axis)}: it cannot be the axis of a comparison, since it needs a table that "
            "is measured for each model. Give --macs or --params; the latency of every run is "
            "measured in any case."
        )
    return axis, amounts(text, flag_of(axis))


def whole_numbers(text: str, flag: str) -> tuple[int, ...]:
    """The whole numbers between commas.

    Raises:
        BudgetError: the text has something else.

    Example:
        >>> whole_numbers("0,1", "--seeds")
        (0, 1)
    """
    try:
        return tuple(int(word) for word in words(text))
    except ValueError as error:
        raise BudgetError(f"{flag} {text!r}: give whole numbers such as 0,1,2.") from error
