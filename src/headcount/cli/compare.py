"""``headcount compare``: methods against each other on one task."""

import shlex
import sys
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
from headcount.checkpoints.place import expanded
from headcount.cli import options
from headcount.cli.cell import PROGRAM
from headcount.cli.methods import METHODS, method_of
from headcount.cli.show import clean_errors
from headcount.errors import BudgetError, DataError
from headcount.runs.recipe import Recipe
from headcount.runs.run import NUM_EXAMPLES

console = Console()


def compare_command(
    output: Annotated[Path, typer.Option(help="Folder of the comparison; made, or gone on with.")],
    model: Annotated[str, typer.Argument(help="Hub id or folder of the model.")] = "",
    train: Annotated[
        list[str] | None, typer.Option(help=f"Training file(s): {options.FILES}.")
    ] = None,
    eval: Annotated[list[str] | None, typer.Option(help="Evaluation file(s), likewise.")] = None,  # noqa: A002
    methods: Annotated[
        str,
        typer.Option(
            help=f"Some of: {', '.join(METHODS)} (comma-separated). With {DISTILLED} behind its "
            f"name, a method learns from the dense model, too; with {FINETUNED} it starts from it, "
            "and trains for the epochs of recovery."
        ),
    ] = "dsp,random",
    heads: Annotated[str, typer.Option(help="Heads to keep: 36,24,12.")] = "",
    seeds: Annotated[str, typer.Option(help="Seeds: 0,1,2.")] = "0",
    task: options.Task = "nli",
    against: Annotated[
        str, typer.Option(help="The others are compared with it. By default dsp, or the first.")
    ] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Cells at a time; they share the cores.")] = 1,
    epochs: options.Epochs = 3.0,
    batch_size: options.BatchSize = 32,
    learning_rate: options.LearningRate = 1e-4,
    max_length: options.MaxLength = 128,
    save_steps: options.SaveSteps = 100,
    pipelined_epochs: Annotated[
        float, typer.Option(help="Epochs for the logits of pipelined methods.")
    ] = 1.0,
    num_train: Annotated[int, typer.Option(help="Training examples drawn; 0: all.")] = 0,
    data_seed: Annotated[int, typer.Option(help="Seed of that draw.")] = 0,
    num_examples: options.NumExamples = NUM_EXAMPLES,
    recover_epochs: Annotated[
        float, typer.Option(help="Epochs after the cut, where the weights rested until then.")
    ] = 0.0,
    latency_batch: options.LatencyBatch = 8,
    latency_length: options.LatencyLength = 64,
    latency_runs: Annotated[int, typer.Option(help="Timed passes of each model; 0: none.")] = 20,
    keep_models: Annotated[
        bool, typer.Option(help="Keep all weights, or those of the dense models alone.")
    ] = True,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Check and take over runs that were trained elsewhere.")
    ] = False,
    summary_only: Annotated[
        bool, typer.Option("--summary-only", help="Table and figures of what is finished.")
    ] = False,
    config: options.Config = None,
) -> None:
    """Train a grid of METHODS x HEADS x SEEDS, and the dense model; then table and figures.

    [bold]Example[/]

      headcount compare bert-base-uncased --train train.tsv --eval dev.tsv
      --methods dsp,random,magnitude --heads 72,36,12 --seeds 0,1,2 --output runs/nli --jobs 2

    The same command goes on where it stopped; with more methods, heads or seeds, what is finished
    is kept. A cell that fails does not stop the others, and is tried again the next time. OUTPUT
    has a folder for each cell, and table.md, summary.json, quality.png, heads.png and latency.png.
    The exit code is 1 if a cell failed.
    """
    del config
    with clean_errors(console):
        if summary_only:
            summarise(output, against)
            return
        if not model or not train or not eval or not heads:
            raise DataError(
                "compare: MODEL, --train, --eval and --heads are needed; only --summary-only can "
                "do without them."
            )
        settings = Settings(
            model=model,
            train=tuple(train),
            eval=tuple(eval),
            task=task,
            recipe=Recipe(
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
        )
        grid = Grid(
            settings=settings,
            methods={name: method_of(bare(name)) for name in words(methods)},
            heads=numbers(heads, "--heads"),
            seeds=numbers(seeds, "--seeds"),
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
    """Compare and show; a failed cell gives exit code 1, an interruption 130."""
    try:
        found = compare(grid, output, options)
    except KeyboardInterrupt as stop:
        console.print("Stopped. The same command goes on from here.")
        raise typer.Exit(130) from stop
    show(found)
    if any(cell in found.unfinished for cell in grid.cells):
        raise typer.Exit(1)


def summarise(output: Path, against: str) -> None:
    """Tables and figures of what is finished."""
    found = Comparison.read(expanded(output), against=against or None)
    for file in found.save():
        console.print(f"written: {file}", markup=False, highlight=False)
    show(found)


def show(found: Comparison) -> None:
    """The tables, and what is not finished."""
    for sheet in found.sheets:
        console.print(f"\n{sheet.title}", style="bold", markup=False, highlight=False)
        console.print(sheet.rich(min(console.width, 120)))
        console.print(sheet.note, markup=False, highlight=False)
    for cell, failure in found.unfinished.items():
        text = f"failed: {in_short(failure)}" if failure else "not finished"
        console.print(f"{cell.name}: {text}", markup=False, highlight=False)
    if any(found.unfinished.values()):
        console.print(
            f"{ERROR_FILE} and {LOG_FILE} in the folders of failed cells say more. The same "
            "command tries them again.",
            highlight=False,
        )


def words(text: str) -> list[str]:
    """What stands between commas.

    Example:
        >>> words("dsp, random")
        ['dsp', 'random']
    """
    return [word.strip() for word in text.split(",") if word.strip()]


def numbers(text: str, flag: str) -> tuple[int, ...]:
    """Whole numbers between commas.

    Raises:
        BudgetError: something else.

    Example:
        >>> numbers("48,36", "--heads")
        (48, 36)
    """
    try:
        return tuple(int(word) for word in words(text))
    except ValueError as error:
        raise BudgetError(f"{flag} {text!r}: give whole numbers such as 36,24,12.") from error
