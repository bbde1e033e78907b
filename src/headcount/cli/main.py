"""``headcount``: the entry point. A command's own modules are imported when it is called."""

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from headcount.cli.config import spread
from headcount.door.extras import needing
from headcount.errors import MissingPackageError

COMMANDS = {
    "prune": "Fine-tune a model, choose which units stay, cut out the others, and measure the "
    "result.",
    "units": "List the units of a model that can be removed, with the cost of each.",
    "eval": "Measure the quality of a saved model.",
    "export": "Export a saved model to ONNX or OpenVINO, and compare its outputs with PyTorch's.",
    "coverage": "Check which model types of the installed transformers can be pruned exactly.",
    "compare": "Compare pruning methods: train each with each budget and each seed.",
    "demo": "Prune a small model to 12 of its 72 heads, without any data of your own.",
}
"""The commands in the order of the help, and the first sentence of each one's own help.

Each is the function ``NAME_command`` of the module ``headcount.cli.NAME``.
"""


class _Commands(TyperGroup):
    """The commands by name and first sentence; the one that is called, in full."""

    def __init__(self, **given: Any) -> None:
        """What the help says about each command."""
        super().__init__(**given)
        self.commands = {name: TyperCommand(name, help=does) for name, does in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """The command that is called."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if command is None else _command(str(name)), rest


def _command(name: str) -> Any:
    try:
        with needing(f"headcount {name}"):
            module = importlib.import_module(f"headcount.cli.{name}")
    except MissingPackageError as error:
        typer.echo(f"{type(error).__name__} {error}")
        raise typer.Exit(1) from error
    alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
    alone.command(name)(getattr(module, f"{name}_command"))
    return typer.main.get_command(alone)


app = typer.Typer(
    name="headcount",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)


@app.callback()
def headcount() -> None:
    """Prune a Transformer to an exact number of attention heads, and reload it anywhere."""


def main() -> None:
    """Run the command line."""
    sys.argv[1:] = spread(sys.argv[1:], ["--train", "--eval"])
    app()
