"""``headcount prune``: train, choose, cut, measure, save."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headcount.cli import options
from headcount.cli.methods import METHODS, method_of
from headcount.cli.show import STOPPED, budget_of, clean_errors, show_result
from headcount.cli.training import recipe_with
from headcount.prune import Options, prune
from headcount.runs.recipe import Recipe
from headcount.units.kinds import KINDS

console = Console()
RECIPE, AROUND = options.defaults(Recipe), options.defaults(Options)


def prune_command(
    context: typer.Context,
    model: options.Model,
    train: Annotated[list[str], typer.Option(help=f"Training data. {options.FILES}.")],
    eval: Annotated[  # noqa: A002
        list[str], typer.Option(help="Evaluation data, in the same formats.")
    ],
    heads: Annotated[
        str | None,
        typer.Option(help="Heads to keep: a number, such as 12, or a fraction, such as 0.25."),
    ] = None,
    params: Annotated[
        str | None,
        typer.Option(
            help="Instead of --heads: the most parameters, as a fraction of the model's, such as "
            "0.6, or a number."
        ),
    ] = None,
    macs: Annotated[
        str | None,
        typer.Option(
            help="Instead of --heads: the most multiply-accumulates at 128 tokens, as a fraction "
            "of those of the removable units, such as 0.5, or a number."
        ),
    ] = None,
    latency: Annotated[
        str | None,
        typer.Option(
            help="Instead of --heads: the greatest latency, as a fraction of the dense model's, "
            "such as 0.7. It is measured on this machine first."
        ),
    ] = None,
    kinds: Annotated[
        str,
        typer.Option(
            help="With --params, --macs or --latency: the kinds of unit that may be removed, such "
            f"as sublayer,head,neuron. Known: {', '.join(KINDS)}. Default: head,neuron."
        ),
    ] = "",
    task: options.Task = "nli",
    method: Annotated[
        str, typer.Option(help=f"How the heads are chosen. One of {', '.join(METHODS)}.")
    ] = "dsp",
    scope: Annotated[
        str,
        typer.Option(
            help="global: --heads is for the whole model. layer: each layer keeps that many, so "
            "'--heads 3 --scope layer' keeps 3 in each."
        ),
    ] = "global",
    min_per_layer: Annotated[
        int,
        typer.Option(
            help="The least heads in each layer, such as 1. With --params, --macs or --latency: "
            "the least units of each kind."
        ),
    ] = 0,
    place: Annotated[
        str,
        typer.Option(
            help="Remove units only at this place, such as encoder or decoder.cross. Everything "
            "else stays whole."
        ),
    ] = "",
    baselines: Annotated[
        str,
        typer.Option(
            help="Models to train for comparison: dense (all heads), random (random heads), or "
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
    """Fine-tune a model, choose which heads stay, cut out the others, and measure the result.

    [bold]Example[/]

      headcount prune bert-base-uncased --train train.tsv --eval dev.tsv --heads 36 --output small

    Give exactly one of --heads, --params, --macs and --latency. The data need the columns premise,
    hypothesis and label.

    The result is a folder that AutoModelForSequenceClassification and pipeline load. It has a model
    card (README.md), the measurements (report.json) and, if only heads may be removed, a figure of
    the heads that stayed (heads.png).
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
        asked = {"heads": heads, "params": params, "macs": macs, "latency": latency}
        budget = budget_of(asked, kinds, scope, min_per_layer, place)
        result = prune(
            model,
            train=train,
            eval=eval,
            budget=budget,
            task=task,
            method=method_of(method),
            output=output,
            options=around,
        )
        show_result(result, console)
