"""``headcount prune``: train, choose, cut, measure, save."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headcount.cli import options
from headcount.cli.budgets import ONE, budget_of, takes
from headcount.cli.methods import METHODS, method_of
from headcount.cli.show import STOPPED, clean_errors, show_result
from headcount.cli.tasks import task_with
from headcount.cli.training import recipe_with
from headcount.prune import Options, prune
from headcount.runs.recipe import Recipe

console = Console()
RECIPE, AROUND = options.defaults(Recipe), options.defaults(Options)


@takes(ONE)
def prune_command(
    context: typer.Context,
    model: options.Model,
    train: Annotated[list[str], typer.Option(help=f"Training data. {options.FILES}.")],
    eval: Annotated[  # noqa: A002
        list[str], typer.Option(help="Evaluation data, in the same formats.")
    ],
    asked: dict[str, str],
    kinds: options.Kinds = "",
    length: options.Length = 128,
    task: options.Task = "nli",
    task_set: options.TaskSet = None,
    method: Annotated[
        str, typer.Option(help=f"How the units are chosen. One of {', '.join(METHODS)}.")
    ] = "dsp",
    scope: options.Scope = "global",
    min_per_layer: options.MinPerLayer = 0,
    place: options.Place = "",
    baselines: Annotated[
        str,
        typer.Option(
            help="Models to train for comparison: dense (all units), random (random units), or "
            "dense,random."
        ),
    ] = "",
    epochs: options.Epochs = RECIPE.epochs,
    batch_size: options.BatchSize = RECIPE.batch_size,
    learning_rate: options.LearningRate = RECIPE.learning_rate,
    max_length: options.MaxLength = RECIPE.max_length,
    save_steps: options.SaveSteps = RECIPE.save_steps,
    training: options.Training = None,
    num_examples: options.NumExamples = AROUND.num_examples,
    recover_epochs: options.RecoverEpochs = AROUND.recover_epochs,
    finetuned: Annotated[
        bool,
        typer.Option(
            help="MODEL is fine-tuned on the task already, so methods that need a fine-tuned model "
            "do not train one first."
        ),
    ] = AROUND.finetuned,
    distil: Annotated[
        bool,
        typer.Option(
            help="Also learn from the outputs of the dense model, which is fine-tuned first."
        ),
    ] = AROUND.distil,
    seed: options.Seed = RECIPE.seed,
    latency_batch: options.LatencyBatch = AROUND.latency_batch,
    latency_length: options.LatencyLength = AROUND.latency_length,
    output: options.Output = Path("pruned"),
    resume: options.Resume = AROUND.resume,
    config: options.Config = None,
) -> None:
    """Fine-tune a model, choose which units stay, cut out the others, and measure the result.

    [bold]Examples[/]

      headcount prune bert-base-uncased --train train.tsv --eval dev.tsv --heads 36 --output small

      ... --heads 0.25 --neurons 0.5      a quarter of the heads, half of the neurons

      ... --layers 6      six layers

      ... --heads encoder=6,decoder.cross=2      a number for each place

      ... --params 0.6      at most 60% of the parameters

    Give numbers of units, which are met exactly, or one of --params, --macs and --latency, which is
    not exceeded. The columns of the data are found by their usual names, or given with --task-set.

    The result is a folder that transformers' Auto classes and pipeline load. It has a model card
    (README.md), the measurements (report.json) and a figure of what stayed (heads.png if the budget
    is about heads only, else kept.png).
    """
    del context, config
    with clean_errors(console, STOPPED):
        around = Options(
            recipe=recipe_with(
                training,
                epochs=epochs,
                batch_size=batch_size,
                learning_rate=learning_rate,
                max_length=max_length,
                save_steps=save_steps,
                seed=seed,
            ),
            num_examples=num_examples,
            recover_epochs=recover_epochs,
            finetuned=finetuned,
            distil=distil,
            baselines=tuple(name.strip() for name in baselines.split(",") if name.strip()),
            resume=resume,
            latency_batch=latency_batch,
            latency_length=latency_length,
            command=shlex.join(["headcount", *sys.argv[1:]]),
            console=console,
        )
        budget = budget_of(
            asked,
            kinds=kinds,
            length=length,
            scope=scope,
            min_per_layer=min_per_layer,
            place=place,
        )
        result = prune(
            model,
            train=train,
            eval=eval,
            budget=budget,
            task=task_with(task, task_set),
            method=method_of(method),
            output=output,
            options=around,
        )
        show_result(result, console)
