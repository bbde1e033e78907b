"""Callbacks that keep sessions and checkpoints in step with a Trainer's loop."""

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
    """Adds our files to each checkpoint of the Trainer, so that a run can resume from it.

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
    """Starts or restores a session, and counts its steps.

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
        # Without resuming, a second call of ``train`` must give what the first one gave.
        if session.num_done and resume is None:
            session.restart()
            self._trainer.forget_moments()
        session.begin(state.max_steps)
        if resume is not None:
            load_session(resume, session, step=state.global_step)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Clip the gradient of the method's parameters, apart from that of the weights."""
        self._trainer.session.clip_grad()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count the step: schedules move on."""
        self._trainer.session.step()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Warn if a callback has ended the training before its last step."""
        session = self._trainer.session
        if session.method.learns and state.global_step < session.num_steps:
            logger.warning(
                "train: stopped after %d of %d steps, before the units are settled. The decision "
                "comes from the scores so far; the weights have not been trained with it.",
                *(state.global_step, session.num_steps),
            )
