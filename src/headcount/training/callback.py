"""What moves a session along with a Trainer's loop."""

import logging
from typing import TYPE_CHECKING, Any, final

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from headcount.training.resume import load_session

if TYPE_CHECKING:
    from headcount.training.fine_tuner import FineTuner
    from headcount.training.trainer import PruningTrainer

logger = logging.getLogger("headcount")


@final
class CheckpointCallback(TrainerCallback):
    """Completes each checkpoint that the Trainer has written, so that it can be resumed from.

    Example:
        >>> issubclass(CheckpointCallback, TrainerCallback)
        True
    """

    def __init__(self, trainer: "FineTuner") -> None:
        """Follow the trainer."""
        self._trainer = trainer

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Complete the checkpoint that the Trainer has just written."""
        if args.should_save:
            self._trainer.complete(self._trainer.checkpoint_folder())


@final
class SessionCallback(TrainerCallback):
    """Begins a session, and moves it on step by step.

    Example:
        >>> issubclass(SessionCallback, TrainerCallback)
        True
    """

    def __init__(self, trainer: "PruningTrainer") -> None:
        """Follow the trainer."""
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Restore the session, or start it anew."""
        resume, session = self._trainer.resume_from, self._trainer.session
        if session.num_done and resume is None:
            session.restart()
            self._trainer.forget_moments()
        session.begin(state.max_steps)
        if resume is not None:
            load_session(resume, session, step=state.global_step)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Clip what the method learns, apart from the weights."""
        self._trainer.session.clip_grad()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move the schedules on."""
        self._trainer.session.step()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say so where a callback has ended the run before its last step."""
        session = self._trainer.session
        if session.method.learns and state.global_step < session.num_steps:
            logger.warning(
                "train: stopped after %d of %d steps, before the units are settled. The decision "
                "is that of the moment; the weights have not been trained with it.",
                *(state.global_step, session.num_steps),
            )
