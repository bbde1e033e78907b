"""What moves a session along with a Trainer's loop."""

import logging
from typing import TYPE_CHECKING, Any, final

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from headcount.training.resume import load_session, write_session

if TYPE_CHECKING:
    from headcount.training.trainer import PruningTrainer

logger = logging.getLogger("headcount")


@final
class SessionCallback(TrainerCallback):
    """Begins a session, moves it on step by step, and writes it into checkpoints.

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
        del args, control, kwargs
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
        del args, state, control, kwargs
        self._trainer.session.clip_grad()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move the schedules on."""
        del args, state, control, kwargs
        self._trainer.session.step()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Complete the checkpoint that the Trainer has just written."""
        del state, control, kwargs
        if args.should_save:
            write_session(self._trainer.checkpoint_folder(), self._trainer.session)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say so where a callback has ended the run before its last step."""
        del args, control, kwargs
        session = self._trainer.session
        if session.method.learns and state.global_step < session.num_steps:
            logger.warning(
                "train: stopped after %d of %d steps, before the units are settled. The decision "
                "is that of the moment; the weights have not been trained with it.",
                *(state.global_step, session.num_steps),
            )
