"""A process of ``headcount compare`` runs ``python -P -m headcount.cli.cell FOLDER CELL``."""

import sys
from pathlib import Path

from rich.console import Console

from headcount.arena.cell import attempt
from headcount.arena.output import Output, asked, read_grid
from headcount.arena.runner import end_with_parent
from headcount.cli.methods import METHODS
from headcount.cli.show import clean_errors

# -P: do not import modules from the user's folder.
PROGRAM = (sys.executable, "-P", "-m", "headcount.cli.cell")


def main() -> None:
    """Run one cell; the exit code is 0 if it succeeded, else 1."""
    path, name, *flags = sys.argv[1:]
    end_with_parent()
    with clean_errors(Console(width=120)):
        output = Output.read(Path(path), METHODS)
        cell = next(cell for cell in asked(output.path) if cell.name == name)
        command = read_grid(output.path)["command"]
        went_well = attempt(output, cell, adopt="--adopt" in flags, command=command)
    sys.exit(0 if went_well else 1)


if __name__ == "__main__":
    main()
