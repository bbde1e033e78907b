"""How results and errors look in a terminal."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import datasets
import transformers
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from headcount.checkpoints.folder import how_to_load
from headcount.errors import BudgetError, PruningError
from headcount.prune import Pruned
from headcount.reports.table import render
from headcount.units.table import UnitTable


@contextmanager
def clean_errors(console: Console) -> Iterator[None]:
    """Quiet libraries, our own notes in view, and our errors as one message instead of a trace."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    handler = RichHandler(console=console, show_time=False, show_path=False)
    logger = logging.getLogger("headcount")
    logger.handlers, logger.propagate = [handler], False
    try:
        yield
    except PruningError as error:
        console.print(f"[bold red]{type(error).__name__}[/] ", end="")
        console.print(str(error), markup=False, highlight=False)
        raise typer.Exit(1) from error


def show_result(result: Pruned, console: Console) -> None:
    """The table of numbers, and how to load what was saved."""
    console.print(render(result.report))
    decision = result.decision
    console.print(
        f"Kept {decision.num_kept} of {decision.num_units} heads; per layer "
        f"{', '.join(map(str, decision.kept_per_layer))}."
    )
    if result.folder is not None:
        console.print(f"Saved to {result.folder}. Load it with:\n", markup=False)
        console.print(how_to_load(result.model, result.folder), markup=False, highlight=False)


def unit_table(units: UnitTable, num_params: int) -> Table:
    """The sites of a model, one a row, and what a unit costs."""
    title = f"{units.num('head')} heads in {len(units.layers)} layers"
    table = Table(
        title=title, caption="parameters and MACs (128 tokens) of one unit", box=SIMPLE_HEAD
    )
    table.add_column("module", overflow="fold")
    for name in ("units", "size", "params", "MACs", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    for site in units.sites:
        share = site.cost.params * site.num_units / num_params
        counts = (f"{site.num_units} {site.kind}", site.width, f"{site.cost.params:,}")
        table.add_row(site.module, *map(str, (*counts, f"{site.cost.macs(128):,}", f"{share:.1%}")))
    return table


def number(text: str) -> int | float:
    """A count if it is written as one, a fraction otherwise.

    Raises:
        BudgetError: neither.

    Example:
        >>> number("12"), number("0.25")
        (12, 0.25)
    """
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError as error:
        raise BudgetError(
            f"--heads {text!r}: not a number. Give a count such as 12, or a fraction such as 0.25."
        ) from error
