"""The progress of a cell, in a file that another process can read."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from rich.console import Console
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from headcount.arena.output import PROGRESS_FILE, read_json, write_json
from headcount.door.shape import Count

_PAUSE_S = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """The progress of a cell.

    Example:
        >>> Progress(phase="training", done=50, total=200).share
        0.25
    """

    phase: str
    """What the cell is doing."""
    done: Count = 0
    """Optimizer steps done."""
    total: Count = 0
    """Optimizer steps of the phase; 0 if it has none."""

    @property
    def share(self) -> float:
        """The share of the phase that is done."""
        return self.done / self.total if self.total else 0.0


def read_progress(folder: Path) -> Progress | None:
    """The progress that was written last; None if there is none."""
    return read_json(folder / PROGRESS_FILE, Progress)


def write_progress(folder: Path, progress: Progress) -> None:
    """Write the progress of a cell."""
    write_json(folder / PROGRESS_FILE, asdict(progress))


@final
class ProgressFile(TrainerCallback):
    """Writes the step twice a second at most; logs the first and the last step of training.

    Example:
        >>> ProgressFile(Path("runs/dsp-12-0"), "training", Console()).phase
        'training'
    """

    def __init__(self, folder: Path, phase: str, console: Console) -> None:
        """Write progress into a folder, as that of a phase."""
        self.folder, self.phase, self._console = folder, phase, console
        self._wrote = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Log where training begins or goes on."""
        self._say(state)
        self._console.print(f"{self.phase} from step {state.global_step} of {state.max_steps}")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the step, unless that was done a moment ago."""
        if time.monotonic() - self._wrote > _PAUSE_S:
            self._say(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Log where training ended."""
        self._say(state)
        self._console.print(f"{self.phase} up to step {state.global_step} of {state.max_steps}")

    def _say(self, state: TrainerState) -> None:
        done, total = state.global_step, state.max_steps
        write_progress(self.folder, Progress(phase=self.phase, done=done, total=total))
        self._wrote = time.monotonic()
