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
from headcount.prune import Options, prune
from headcount.runs.recipe import Recipe
from headcount.runs.run import NUM_EXAMPLES
from headcount.units.kinds import KINDS

console = Console()


def prune_command(
    context: typer.Context,
    model: options.Model,
    train: Annotated[list[str], typer.Option(help=f"Training file(s): {options.FILES}.")],
    eval: Annotated[list[str], typer.Option(help="Evaluation file(s), likewise.")],  # noqa: A002
    heads: Annotated[
        str | None, typer.Option(help="Heads to keep: 12 (a count) or 0.25 (a fraction).")
    ] = None,
    params: Annotated[
        str | None, typer.Option(help="Or: parameters at most, 0.6 of all or a number.")
    ] = None,
    macs: Annotated[
        str | None, typer.Option(help="Or: MACs at most, 0.5 of the units' (128 tokens).")
    ] = None,
    latency: Annotated[
        str | None, typer.Option(help="Or: latency at most, 0.7 of the dense model's, measured.")
    ] = None,
    kinds: Annotated[
        str,
        typer.Option(
            help=f"What may go for these: some of {', '.join(KINDS)}; by default head,neuron."
        ),
    ] = "",
    task: options.Task = "nli",
    method: Annotated[str, typer.Option(help=f"One of: {', '.join(METHODS)}.")] = "dsp",
    scope: Annotated[str, typer.Option(help="global, or layer: HEADS in every layer.")] = "global",
    min_per_layer: Annotated[int, typer.Option(help="Heads that stay in every layer.")] = 0,
    where: Annotated[
        str, typer.Option(help="Only heads at this place: encoder, decoder.cross, ...")
    ] = "",
    baselines: Annotated[
        str, typer.Option(help="Also train for comparison: dense,random (comma-separated).")
    ] = "",
    epochs: options.Epochs = 3.0,
    batch_size: options.BatchSize = 32,
    learning_rate: options.LearningRate = 1e-4,
    max_length: options.MaxLength = 128,
    save_steps: options.SaveSteps = 100,
    num_examples: options.NumExamples = NUM_EXAMPLES,
    recover_epochs: Annotated[
        float, typer.Option(help="Train what gradient, fisher, *-pipelined decided for so long.")
    ] = 0.0,
    finetuned: Annotated[
        bool, typer.Option(help="MODEL is fine-tuned on the task: methods may start from it.")
    ] = False,
    distil: Annotated[
        bool, typer.Option(help="Learn from the fine-tuned dense model, too; it is trained first.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    latency_batch: options.LatencyBatch = 8,
    latency_length: options.LatencyLength = 64,
    output: Annotated[
        Path, typer.Option(help="Folder for the result; an older result there is replaced.")
    ] = Path("pruned"),
    resume: Annotated[bool, typer.Option(help="Go on with an interrupted run.")] = False,
    config: options.Config = None,
) -> None:
    """Train, choose exactly HEADS heads, or what fits a cost; cut the others out; measure.

    [bold]Example[/]

      headcount prune bert-base-uncased --train train.tsv --eval dev.tsv --heads 36 --output small

    The data needs the columns premise, hypothesis and label. The result is a folder that
    AutoModelForSequenceClassification and pipeline load; it has a model card, a table of numbers
    (report.json) and, where nothing but heads may go, a picture of those that stayed (heads.png).
    A killed run goes on with --resume.
    """
    del context, config
    with clean_errors(console, STOPPED):
        around = Options(
            recipe=Recipe(
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
        budget = budget_of(asked, kinds, scope, min_per_layer, where)
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
