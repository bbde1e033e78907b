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
    "prune": "Train, choose exactly HEADS heads, or what fits a cost; cut the others out; measure.",
    "units": "Show the removable units of MODEL: how many, of which kinds, where, at what cost.",
    "eval": "Load a saved model and measure its quality on a file.",
    "export": "Export a saved model to ONNX or OpenVINO, checked against PyTorch.",
    "coverage": "Check every model type of the installed transformers, tiny and random, with no "
    "download.",
    "compare": "Train a grid of METHODS x HEADS x SEEDS, and the dense model; then table and "
    "figures.",
    "demo": "Prune the packaged MiniLM (72 heads) to 12 on a built-in corpus, beside both "
    "baselines.",
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
