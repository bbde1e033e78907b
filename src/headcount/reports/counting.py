"""Show the progress of long work other than training, such as measuring latency."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from headcount.reports.measure import Told

PAUSE_S = 10.0
"""Seconds between two lines of output, where there is no terminal."""


@contextmanager
def counting(console: Console, name: str) -> Iterator[Told]:
    """Show a progress bar in a terminal; elsewhere print a line every ten seconds.

    Args:
        console: the console to write to.
        name: the name of the work, such as ``measuring latency``.

    Yields:
        A function to call with (number done, total).

    Example:
        >>> import io
        >>> console = Console(file=io.StringIO())
        >>> with counting(console, "measuring latency") as told:
        ...     told(1, 2)
        ...     told(2, 2)
        >>> print(console.file.getvalue().strip())
        measuring latency: 1 of 2
        measuring latency: 2 of 2
    """
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn())
    shown, said = console.is_terminal, -PAUSE_S
    bar = Progress(*columns, TimeRemainingColumn(), console=console, disable=not shown)
    task = bar.add_task(name, total=None)

    def told(done: int, total: int) -> None:
        nonlocal said
        bar.update(task, completed=done, total=total)
        if shown or (time.monotonic() - said < PAUSE_S and done < total):
            return
        said = time.monotonic()
        console.print(f"{name}: {done} of {total}", markup=False, highlight=False)

    with bar:
        yield told
