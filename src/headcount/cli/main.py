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
from headcount.training.arm import NUM_EXAMPLES
from headcount.training.recipe import Recipe
from headcount.units.budget import Budget
from headcount.units.kinds import KINDS

app = typer.Typer(
    name="headcount",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Prune a Transformer to an exact number of attention heads.",
)
console = Console()

STOPPED = "Stopped. If checkpoints were written, the same command with --resume goes on from there."

Model = Annotated[
    str, typer.Argument(help="Hub id or folder of the model, such as bert-base-uncased.")
]


def main() -> None:
    """Run the command line."""
    sys.argv[1:] = spread(sys.argv[1:], ["--train", "--eval"])
    app()


@app.command("prune")
def prune_command(
    context: typer.Context,
    model: Model,
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
    where: Annotated[
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
    epochs: options.Epochs = 3.0,
    batch_size: options.BatchSize = 32,
    learning_rate: options.LearningRate = 1e-4,
    max_length: options.MaxLength = 128,
    save_steps: options.SaveSteps = 100,
    num_examples: options.NumExamples = NUM_EXAMPLES,
    recover_epochs: Annotated[
        float,
        typer.Option(
            help="Epochs of fine-tuning after the cut, such as 1, for methods that decide with "
            "frozen weights (gradient, fisher, pipelined ones)."
        ),
    ] = 0.0,
    finetuned: Annotated[
        bool,
        typer.Option(
            help="MODEL is fine-tuned on the task already, so methods that need a fine-tuned model "
            "do not train one first."
        ),
    ] = False,
    distil: Annotated[
        bool,
        typer.Option(
            help="Also learn from the outputs of the dense model, which is fine-tuned first."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = 0,
    latency_batch: options.LatencyBatch = 8,
    latency_length: options.LatencyLength = 64,
    output: Annotated[
        Path,
        typer.Option(help="Folder for the result, such as small. An older result is replaced."),
    ] = Path("pruned"),
    resume: Annotated[
        bool, typer.Option(help="Continue an interrupted run with the same options.")
    ] = False,
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
    """List the units of a model that can be removed, with the cost of each.

    [bold]Example[/]

      headcount units bert-base-uncased
    """
    with clean_errors(console):
        model = expanded_name(model)
        with loading(model):
            loaded = AutoModel.from_pretrained(model, trust_remote_code=False)
        table = find_units(loaded)
        console.print(unit_table(table, sum(p.numel() for p in loaded.parameters())))


@app.command("eval")
def eval_command(
    folder: Annotated[Path, typer.Argument(help="Folder of a saved model, such as small.")],
    eval: Annotated[  # noqa: A002
        list[str], typer.Option(help=f"Evaluation data. {options.FILES}.")
    ],
    task: options.Task = "nli",
    batch_size: options.BatchSize = 32,
    max_length: options.MaxLength = 128,
) -> None:
    """Measure the quality of a saved model.

    [bold]Example[/]

      headcount eval small --eval test.tsv
    """
    with clean_errors(console):
        recipe = Recipe(batch_size=batch_size, max_length=max_length)
        numbers = evaluate(folder, task=task, eval=eval, recipe=recipe)
        for name, value in numbers.items():
            console.print(f"{name}: {value:.4f}")


@app.command("export")
def export_command(
    folder: Annotated[Path, typer.Argument(help="Folder of a saved model, such as small.")],
    output: Annotated[Path, typer.Argument(help="Folder for the export, such as small-onnx.")],
    to: Annotated[str, typer.Option(help="Format of the export: onnx or openvino.")] = "onnx",
    dense: Annotated[
        str | None,
        typer.Option(
            help="Hub id or folder of the dense model, such as bert-base-uncased. It is exported "
            "too, and the two are timed in turns."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(help="Examples in a timed forward pass.")] = 8,
    length: Annotated[int, typer.Option(help="Tokens of each example in a timed pass.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the random inputs.")] = 0,
) -> None:
    """Export a saved model to ONNX or OpenVINO, and compare its outputs with PyTorch's.

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
    heads: Annotated[
        str,
        typer.Option(help="Heads to keep of 72: a number, such as 24, or a fraction, such as 0.5."),
    ] = "12",
    epochs: Annotated[float, typer.Option(help="Passes over the training data.")] = RECIPE.epochs,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = 0,
    output: Annotated[
        Path, typer.Option(help="Folder for the result. An older result is replaced.")
    ] = Path("demo-pruned"),
    resume: Annotated[
        bool, typer.Option(help="Continue an interrupted run with the same options.")
    ] = False,
) -> None:
    """Prune a small model to 12 of its 72 heads, without any data of your own.

    The model is MiniLM, which must be installed as a package, and the data are generated. The table
    compares it with the dense model and with random heads.
    """
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
