"""``headcount export``: a saved model for other engines."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headcount.checkpoints.export import export
from headcount.cli.show import clean_errors, show_export

console = Console()


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
