"""Options that several commands share."""

from dataclasses import MISSING, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import typer

from headcount.cli.config import load_config, with_section
from headcount.tasks import TASKS
from headcount.tasks.settings import setting_names
from headcount.units.kinds import KINDS

FILES = (
    "Files (tsv, csv, jsonl, txt, also with .gz, or parquet), folders of images or sound, or data "
    "sets of the Hub, such as train.tsv or id:config:split"
)

Model = Annotated[
    str, typer.Argument(help="Hub id or folder of the model, such as bert-base-uncased.")
]
_SETTINGS = {name: setting_names(task) for name, task in TASKS.items()}

Task = Annotated[
    str,
    typer.Option(
        help=f"What the model does: {', '.join(TASKS)}. See the page on tasks for the data of each."
    ),
]
TaskSet = Annotated[
    list[str] | None,
    typer.Option(
        "--task-set",
        help="A setting of the task, such as text=review or label=stars. May be given again. What "
        "is not given is found in the data. There are, for "
        + "; for ".join(f"{name}: {', '.join(names)}" for name, names in _SETTINGS.items() if names)
        + ".",
    ),
]
Kinds = Annotated[
    str,
    typer.Option(
        help="With a cost (--params, --macs, --latency): the kinds of unit that may be removed, "
        f"such as sublayer,head,neuron. Known: {', '.join(KINDS)}. Default: head,neuron."
    ),
]
Length = Annotated[
    int, typer.Option(help="With --macs: tokens of the sequence for which they are counted.")
]
Scope = Annotated[
    str,
    typer.Option(
        help="global: numbers of units are for the whole model. layer: each layer keeps that many, "
        "so '--heads 3 --scope layer' keeps 3 in each."
    ),
]
MinPerLayer = Annotated[
    int,
    typer.Option(
        help="The least units in each layer, such as 1. With a cost: the least of each kind."
    ),
]
Place = Annotated[
    str,
    typer.Option(
        help="Remove units only at this place, such as encoder or decoder.cross. Everything else "
        "stays whole."
    ),
]
Epochs = Annotated[float, typer.Option(help="Passes over the training data, such as 3 or 0.5.")]
BatchSize = Annotated[int, typer.Option(help="Examples in a batch.")]
LearningRate = Annotated[
    float,
    typer.Option(help="Peak learning rate of the weights. Logits of a method have their own."),
]
MaxLength = Annotated[
    int, typer.Option(help="Longest input in tokens. Longer examples are truncated.")
]
SaveSteps = Annotated[
    int, typer.Option(help="Optimizer steps between checkpoints, from which a run can resume.")
]
NumExamples = Annotated[
    int,
    typer.Option(help="Training examples that gradient and fisher use to choose; 0: all."),
]
LatencyBatch = Annotated[int, typer.Option(help="Batch size with which latency is measured.")]
LatencyLength = Annotated[
    int, typer.Option(help="Tokens of each example when latency is measured.")
]
RecoverEpochs = Annotated[
    float,
    typer.Option(
        help="Epochs of fine-tuning after the cut, such as 1, for methods that decide with "
        "frozen weights (gradient, fisher, pipelined ones)."
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of all random choices.")]
Output = Annotated[
    Path, typer.Option(help="Folder for the result, such as small. An older result is replaced.")
]
Resume = Annotated[bool, typer.Option(help="Continue an interrupted run with the same options.")]
Training = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any other field of transformers.TrainingArguments, such as "
        "--set gradient_accumulation_steps=4. Give --set again for each further one. In a file of "
        "options they are a section, 'training:'.",
        callback=with_section,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        help="YAML file with any of these options, such as 'heads: 12' or 'heads: {encoder: 6}'. "
        "Options on the command line take precedence.",
        callback=load_config,
        is_eager=True,
    ),
]


def defaults(of: type) -> Any:
    """The defaults of a dataclass, each under the name of its field.

    Example:
        >>> from headcount.runs.recipe import Recipe
        >>> defaults(Recipe).batch_size
        32
    """
    known = {field.name: field.default for field in fields(of) if field.default is not MISSING}
    return SimpleNamespace(**known)
