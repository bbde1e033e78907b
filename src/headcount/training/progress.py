"""A progress bar for training that shows what pruning users want to see."""

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

FIELDS = (("loss", "loss {:.3f}"), ("temperature", "T {:.1e}"), ("heads_changed", "changed {:.0f}"))


@final
class ProgressBar(TrainerCallback):
    """Step, loss, temperature and heads changed; a line now and then where there is no terminal.

    Example:
        >>> from rich.console import Console
        >>> ProgressBar("dsp", Console()).name
        'dsp'
    """

    def __init__(self, name: str, console: Console) -> None:
        """Show the run ``name`` on ``console``."""
        self.name, self._console = name, console
        self._progress, self._task = Progress(console=console, disable=True), TaskID(0)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Draw the bar."""
        del args, control, kwargs
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

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move the bar."""
        del args, control, kwargs
        self._progress.update(self._task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the numbers."""
        del args, control, kwargs
        known = logs or {}
        numbers = "  ".join(text.format(known[key]) for key, text in FIELDS if key in known)
        if not numbers:
            return
        self._progress.update(self._task, numbers=numbers)
        if not self._console.is_terminal and state.global_step % 100 == 0:
            self._console.print(
                f"{self.name}: step {state.global_step}/{state.max_steps}  {numbers}"
            )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the bar as it stands."""
        del args, state, control, kwargs
        self._progress.stop()
