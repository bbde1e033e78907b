"""Flags that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from headcount.cli.config import load_config

FILES = "tsv, csv, jsonl, parquet, also .gz"

Model = Annotated[str, typer.Argument(help="Hub id or folder of the model.")]
Task = Annotated[str, typer.Option(help="What the model is trained for: nli.")]
Epochs = Annotated[float, typer.Option(help="Passes over the training data.")]
BatchSize = Annotated[int, typer.Option(help="Examples a step.")]
LearningRate = Annotated[float, typer.Option(help="Peak learning rate of the weights.")]
MaxLength = Annotated[int, typer.Option(help="Tokens kept of an example.")]
SaveSteps = Annotated[int, typer.Option(help="Steps between checkpoints.")]
NumExamples = Annotated[
    int, typer.Option(help="Training examples that a method without training sees; 0: all.")
]
LatencyBatch = Annotated[int, typer.Option(help="Batch size when latency is measured.")]
LatencyLength = Annotated[int, typer.Option(help="Tokens of each example then.")]
Config = Annotated[
    Path | None,
    typer.Option(
        help="YAML file with any of these flags; flags given win.",
        callback=load_config,
        is_eager=True,
    ),
]
