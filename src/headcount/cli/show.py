"""Show results and errors in a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import transformers
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.table import Table

from headcount.checkpoints.folder import how_to_load
from headcount.cli.budgets import in_flags
from headcount.errors import PruningError
from headcount.reports.table import render
from headcount.reports.wording import cost_words, kept_words
from headcount.units.kinds import KINDS
from headcount.units.table import UnitTable

if TYPE_CHECKING:
    from headcount.checkpoints.export import Exported
    from headcount.prune import Pruned

STOPPED = "Stopped. If checkpoints were written, the same command with --resume goes on from there."


@contextmanager
def clean_errors(console: Console, stopped: str = "Stopped.") -> Iterator[None]:
    """Show expected errors as one message without a traceback, and silence other libraries.

    Messages of headcount's logger are shown. The exit code is 1 after an error of headcount, of the
    disk, or of a file that ends too early, and 130 after Ctrl-C.

    Args:
        console: the console for messages.
        stopped: the message after Ctrl-C.
    """
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    if "datasets" in sys.modules:  # not in an installation without it
        sys.modules["datasets"].disable_progress_bars()
    handler = RichHandler(console=console, show_time=False, show_path=False)
    logger = logging.getLogger("headcount")
    logger.handlers, logger.propagate = [handler], False
    try:
        yield
    except PruningError as error:
        console.print(f"[bold red]{type(error).__name__}[/] ", end="")
        console.print(in_flags(str(error)), markup=False, highlight=False)
        raise typer.Exit(1) from error
    except (OSError, EOFError) as error:
        # EOFError has to be caught here: typer takes it for a closed terminal and prints no reason.
        console.print(f"[bold red]{type(error).__name__}[/] ", end="")
        console.print(str(error) or "a file ends too early", markup=False, highlight=False)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        console.print(stopped, markup=False, highlight=False)
        raise typer.Exit(130) from error


def show_result(result: Pruned, console: Console) -> None:
    """Print the table of numbers, and how to load the saved model."""
    console.print(render(result.report))
    decision = result.decision
    for kind in decision.kinds:
        own = replace(decision, sites=tuple(s for s in decision.sites if s.kind == kind))
        spread = ", ".join(map(str, own.kept_per_layer))
        console.print(f"Kept {kept_words(own)}; per layer {spread}.")
    cost = decision.provenance.get("cost")
    if cost and cost["kind"] != "latency":  # the table has a line about latency
        console.print(f"{cost_words(cost)}.", markup=False)
    if result.folder is not None:
        console.print(f"Saved to {result.folder}. Load it with:\n", markup=False)
        console.print(how_to_load(result.model, result.folder), markup=False, highlight=False)


def show_export(result: Exported, folder: Path, console: Console) -> None:
    """Print the exported file, its difference to PyTorch, and its speed."""
    console.print(f"{folder / result.file}: {result.model.num_bytes / 1e6:.1f} MB", markup=False)
    console.print(f"inputs: {', '.join(result.inputs)}; outputs: {', '.join(result.outputs)}")
    console.print(f"largest difference to PyTorch: {result.model.max_difference:.1e}")
    if result.speedup is not None:
        ratio, size = result.speedup, result.settings
        console.print(
            f"dense / this, {size['batch']} x {size['length']} tokens: {ratio.median:.2f} "
            f"(quartiles {ratio.lower_quartile:.2f} to {ratio.upper_quartile:.2f})"
        )


def unit_table(units: UnitTable, num_params: int) -> Table:
    """A table of a model's sites, with the cost of one unit of each."""
    counts = [(units.num(kind), kind) for kind in KINDS if kind in units.kinds]
    title = ", ".join(f"{count} {kind}{'s' * (count != 1)}" for count, kind in counts)
    notes = ["parameters and MACs (128 tokens) of one unit"]
    notes += [f"left whole, no row fits: {escape(text)}" for text in units.left_out]
    table = Table(title=title, caption="\n".join(notes), box=SIMPLE_HEAD)
    table.add_column("module", overflow="fold", min_width=16)
    for name in ("units", "params", "MACs", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    for site in sorted(units.sites, key=lambda site: site.layer_key):
        share = site.cost.params * site.num_units / num_params
        counts = (f"{site.num_units} {site.kind}", f"{site.cost.params:,}")
        table.add_row(site.module, *map(str, (*counts, f"{site.cost.macs(128):,}", f"{share:.1%}")))
    return table
