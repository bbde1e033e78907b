"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from headcount.cli.config import load_config
from headcount.units.kinds import KINDS

FILES = (
    "Files (tsv, csv, jsonl, also with .gz, or parquet) or data sets of the Hub, "
    "such as train.tsv or id:config:split"
)

Model = Annotated[
    str, typer.Argument(help="Hub id or folder of the model, such as bert-base-uncased.")
]
Task = Annotated[
    str, typer.Option(help="The task. nli (natural language inference) is the only one.")
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
Config = Annotated[
    Path | None,
    typer.Option(
        help="YAML file with any of these options, such as 'heads: 12' or 'heads: {encoder: 6}'. "
        "Options on the command line take precedence.",
        callback=load_config,
        is_eager=True,
    ),
]
