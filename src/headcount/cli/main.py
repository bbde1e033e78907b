"""``headcount``: the entry point and its commands."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from transformers import AutoModel

from headcount.architectures.discover import units as find_units
from headcount.checkpoints.export import export
from headcount.checkpoints.loading import loading
from headcount.checkpoints.place import expanded_name
from headcount.cli import options
from headcount.cli.compare import compare_command
from headcount.cli.config import spread
from headcount.cli.coverage import coverage_command
from headcount.cli.demo import RECIPE, corpus, packaged_model
from headcount.cli.methods import METHODS, method_of
from headcount.cli.show import budget_of, clean_errors, number, show_export, show_result, unit_table
from headcount.evaluate import evaluate
from headcount.prune import BASELINES, Options, prune
from headcount.runs.recipe import Recipe
from headcount.runs.run import NUM_EXAMPLES
from headcount.units.budget import Budget
from headcount.units.kinds import KINDS

app = typer.Typer(
    name="headcount",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Prune a Transformer to an exact number of attention heads, and reload it anywhere.",
)
console = Console()

STOPPED = "Stopped. If checkpoints were written, the same command with --resume goes on from there."

Model = Annotated[str, typer.Argument(help="Hub id or folder of the model.")]


def main() -> None:
    """Run the command line."""
    sys.argv[1:] = spread(sys.argv[1:], ["--train", "--eval"])
    app()


@app.command("prune")
def prune_command(
    context: typer.Context,
    model: Model,
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


@app.command("units")
def units_command(model: Model) -> None:
    """Show the removable units of MODEL: how many, of which kinds, where, at what cost."""
    with clean_errors(console):
        model = expanded_name(model)
        with loading(model):
            loaded = AutoModel.from_pretrained(model, trust_remote_code=False)
        table = find_units(loaded)
        console.print(unit_table(table, sum(p.numel() for p in loaded.parameters())))


@app.command("eval")
def eval_command(
    folder: Annotated[Path, typer.Argument(help="Folder of a saved model.")],
    eval: Annotated[list[str], typer.Option(help="Evaluation file(s).")],  # noqa: A002
    task: options.Task = "nli",
    batch_size: options.BatchSize = 32,
    max_length: options.MaxLength = 128,
) -> None:
    """Load a saved model and measure its quality on a file."""
    with clean_errors(console):
        recipe = Recipe(batch_size=batch_size, max_length=max_length)
        numbers = evaluate(folder, task=task, eval=eval, recipe=recipe)
        for name, value in numbers.items():
            console.print(f"{name}: {value:.4f}")


@app.command("export")
def export_command(
    folder: Annotated[Path, typer.Argument(help="Folder of a saved model.")],
    output: Annotated[Path, typer.Argument(help="Folder for the export.")],
    to: Annotated[str, typer.Option(help="onnx or openvino.")] = "onnx",
    dense: Annotated[
        str | None, typer.Option(help="Dense model, folder or hub id, to be timed beside.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Examples of a timed pass.")] = 8,
    length: Annotated[int, typer.Option(help="Tokens of each.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the random inputs.")] = 0,
) -> None:
    """Export a saved model to ONNX or OpenVINO, checked against PyTorch.

    [bold]Example[/]

      headcount export small small-onnx --dense bert-base-uncased
    """
    with clean_errors(console):
        show_export(
            export(folder, output, to=to, dense=dense, batch=batch, length=length, seed=seed),
            output,
            console,
        )


app.command("coverage")(coverage_command)
app.command("compare")(compare_command)


@app.command("demo")
def demo_command(
    heads: Annotated[str, typer.Option(help="Heads to keep of 72.")] = "12",
    epochs: Annotated[float, typer.Option(help="Passes over the corpus.")] = RECIPE.epochs,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    output: Annotated[
        Path, typer.Option(help="Folder for the result; an older result there is replaced.")
    ] = Path("demo-pruned"),
    resume: Annotated[bool, typer.Option(help="Go on with an interrupted run.")] = False,
) -> None:
    """Prune the packaged MiniLM (72 heads) to 12 on a built-in corpus, beside both baselines."""
    with clean_errors(console, STOPPED), corpus(seed) as (train, test):
        result = prune(
            packaged_model(),
            train=[train],
            eval=[test],
            budget=Budget(heads=number(heads)),
            output=output,
            options=Options(
                recipe=replace(RECIPE, epochs=epochs, seed=seed),
                baselines=BASELINES,
                resume=resume,
                command=shlex.join(["headcount", *sys.argv[1:]]),
                console=console,
            ),
        )
        show_result(result, console)
