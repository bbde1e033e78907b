"""``headcount export``: a saved model for other engines."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headcount.checkpoints.export import export
from headcount.cli.show import clean_errors, show_export

console = Console()


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
