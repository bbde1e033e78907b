"""A progress bar for training: steps, loss, temperature, units changed."""

import time
from typing import Any, final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from headcount.units.kinds import ALL

EVERY_S = 5.0
"""Without a terminal, a line is printed at least this often, in seconds."""

FIELDS = (
    ("loss", "loss {:.3f}"),
    ("temperature", "T {:.1e}"),
    *((f"{kind.plural}_changed", f"{kind.nouns} changed {{:.0f}}") for kind in ALL),
)

_TIMES = ("_runtime", "_per_second", "epoch")
"""Ends of the names of an evaluation's numbers that are no quality."""


@final
class ProgressBar(TrainerCallback):
    """Show step, loss, temperature and units changed: as a bar, or as lines without a terminal.

    A line is printed every 100 steps, and every few seconds if the steps are slow.

    Example:
        >>> from rich.console import Console
        >>> ProgressBar("dsp", Console()).name
        'dsp'
    """

    def __init__(self, name: str, console: Console) -> None:
        """Show the run ``name`` on ``console``."""
        self.name, self._console = name, console
        self._said, self._numbers = 0.0, ""
        self._progress, self._task = Progress(console=console, disable=True), TaskID(0)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the bar."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
        )
        shown = self._console.is_terminal
        self._progress = Progress(*columns, console=self._console, disable=not shown)
        self._task = self._progress.add_task(
            self.name, total=state.max_steps, completed=state.global_step, numbers=""
        )
        self._progress.start()
        self._said, self._numbers = time.monotonic(), ""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=state.global_step)
        slow = time.monotonic() - self._said >= EVERY_S
        if not self._console.is_terminal and slow and state.global_step < state.max_steps:
            self._say(state)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the new numbers."""
        known = logs or {}
        numbers = "  ".join(text.format(known[key]) for key, text in FIELDS if key in known)
        if not numbers:
            return
        self._numbers = numbers
        self._progress.update(self._task, numbers=numbers)
        if not self._console.is_terminal and state.global_step % 100 == 0:
            self._say(state)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Print what an evaluation in training has measured."""
        known = {k: v for k, v in (metrics or {}).items() if not k.endswith(_TIMES)}
        numbers = "  ".join(f"{k.removeprefix('eval_')} {v:.4f}" for k, v in known.items())
        line = f"{self.name}: evaluated at step {state.global_step}/{state.max_steps}  {numbers}"
        self._console.print(line, highlight=False)

    def _say(self, state: TrainerState) -> None:
        """Print a line in place of the bar."""
        self._said = time.monotonic()
        line = f"{self.name}: step {state.global_step}/{state.max_steps}  {self._numbers}"
        self._console.print(line.rstrip())

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the bar as it stands."""
        self._progress.stop()
