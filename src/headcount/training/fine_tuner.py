"""A Trainer without pruning, whose runs resume to the same result."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast
from warnings import catch_warnings, filterwarnings

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from headcount.door.arguments import checks_arguments
from headcount.errors import CheckpointError, TrainingError
from headcount.training.callback import CheckpointCallback
from headcount.training.distillation import TEACHER, Distillation
from headcount.training.order import GroupedByLength
from headcount.training.restore import Restoring, check_files
from headcount.training.resume import (
    check_run,
    complete_checkpoint,
    complete_checkpoints,
    write_run,
)
from headcount.training.shares import Counting, Division


class FineTuner(Restoring, Trainer):
    """A ``transformers.Trainer`` for dense runs and for recovery: no gates, no method.

    It differs from ``Trainer`` in four ways. A killed run resumes to the same result; a checkpoint
    that is damaged or belongs to another run is refused. A loss that is not finite ends the run.
    Batches of similar length come in an order that depends only on seed and epoch. The model can
    learn from a teacher. ``PruningTrainer`` adds a session to this class.

    Args:
        model: as for ``Trainer``.
        args: as for ``Trainer``.
        distillation: also learn from a teacher; ``taught`` adds its answers to the training data.
        teacher: with ``distillation``: a model that is asked at each step, for answers that are too
            many to be kept, such as those for each token of a text. It has the same labels, and is
            put into evaluation mode, on the device of training.
        sizes: the size of each training example, by which batches are grouped where ``args`` asks
            for groups by length; None takes the number of ``input_ids``.
        **kwargs: as for ``Trainer``.

    Raises:
        TrainingError: with ``distillation``: there is no teacher, nor its answers in the training
            data, or the model does not choose one label for each example or token; or a teacher
            without ``distillation``.

    Example:
        >>> import transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
        >>> tuner = FineTuner(model, transformers.TrainingArguments("out", report_to=[]))
        >>> tuner.fingerprint()
        {'method': None, 'seed': 42}
    """

    def __init__(
        self,
        model: PreTrainedModel | nn.Module | None = None,
        args: TrainingArguments | None = None,
        *,
        distillation: Distillation | None = None,
        teacher: nn.Module | None = None,
        sizes: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        columns = getattr(kwargs.get("train_dataset"), "column_names", None)
        name = type(self).__name__
        asked = distillation is not None and teacher is None
        if asked and columns is not None and TEACHER not in columns:
            raise TrainingError(
                f"{name}(distillation={distillation}): the training data have no column "
                f"{TEACHER!r}. Give taught(train_dataset, teacher, collator), or a teacher."
            )
        if teacher is not None and distillation is None:
            raise TrainingError(
                f"{name}(teacher={type(teacher).__name__}): nothing is learnt from it without "
                "distillation. Give distillation=Distillation() as well."
            )
        self.distillation = distillation
        self.teacher = teacher
        self._sizes = sizes
        self.resume_from: Path | None = None
        self._counting = Counting()
        super().__init__(model=model, args=args, **kwargs)
        if distillation is not None:
            distillation.check_model(name, self.model)
        self.add_callback(CheckpointCallback(self))

    @checks_arguments
    def train(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, resume_from_checkpoint: str | Path | bool | None = None, **kwargs: Any
    ) -> Any:
        """Train; resume from a checkpoint folder, or with True from the last complete one.

        Raises:
            CheckpointError: the checkpoint is incomplete, damaged, or belongs to another run.
            TrainingError: the loss is not a finite number.
        """
        self._before_training()
        self.resume_from = self._resolve(resume_from_checkpoint)
        # Checked before the Trainer loads anything into the model.
        if self.resume_from is not None:
            check_run(self.resume_from, self.fingerprint())
            whole = cast(nn.Module, self.accelerator.unwrap_model(self.model))
            check_files(self.resume_from, whole, with_optimizer=not self.args.save_only_model)
        path = None if self.resume_from is None else str(self.resume_from)
        return super().train(resume_from_checkpoint=path, **kwargs)

    def fingerprint(self) -> dict[str, Any]:
        """Settings that a checkpoint must share with the run that resumes it: plain values."""
        return {"method": None, "seed": self.args.seed}

    def complete(self, folder: Path) -> None:
        """Complete a checkpoint that the Trainer has just written."""
        write_run(folder, self.fingerprint())

    def trained(self) -> nn.Module:
        """The trained model itself, without wrappers, in evaluation mode."""
        return self._bare(cast(nn.Module, self.model)).eval()

    def _bare(self, model: nn.Module) -> nn.Module:
        """A model without what accelerate has put around it and its ``forward``."""
        model = cast(nn.Module, self.accelerator.unwrap_model(model, keep_fp32_wrapper=False))
        vars(model).pop("forward", None)  # accelerate leaves its mixed-precision wrapper there
        return model

    def _before_training(self) -> None:
        """For subclasses: refuse settings that may have changed since ``__init__``."""

    def _with_penalty(self, loss: Tensor, share: float) -> Tensor:
        """For subclasses: add other terms to the loss of a batch.

        Args:
            loss: the task's loss and the teacher's, scaled to the batch's part of the step.
            share: factor for the mean of any other term over the batch; see ``Division``.
        """
        return loss

    def _asking(self) -> AbstractContextManager[Any]:
        """For subclasses: the context of a forward pass that only tests how the loss is scaled."""
        return nullcontext()

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """As in ``Trainer``; a loss that is not finite stops the run."""
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"train: the loss is {loss.item()} at step {self.state.global_step + 1}. Lower the "
                "learning rate or look at the data; the last checkpoint is still good."
            )
        return loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The task's loss; in training, the teacher's and a subclass's terms are added."""
        answers, labels = inputs.pop(TEACHER, None), inputs.get("labels")
        if not model.training:
            return super().compute_loss(
                model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
            )
        if self.distillation is not None:
            if self.teacher is None:
                self.distillation.check(labels)
            else:
                answers = self._ask(self.teacher, inputs)
        # With gradient accumulation or several processes, each term must be scaled alike.
        whole = self._division(model, inputs, num_items_in_batch)
        with whole.told(self):
            found = super().compute_loss(
                model,
                inputs,
                return_outputs=return_outputs or self.distillation is not None,
                num_items_in_batch=whole.count,
            )
        loss, outputs = found if isinstance(found, tuple) else (found, None)
        loss = whole.task_share * loss if whole.task_share < 1 else loss
        if self.distillation is not None:
            learnt = self._learnt(outputs, answers, labels)
            weight = self.distillation.weight
            loss = (1 - weight) * loss + weight * whole.share * learnt
        loss = self._with_penalty(loss, whole.share)
        return (loss, outputs) if return_outputs else loss

    def _ask(self, teacher: nn.Module, inputs: dict[str, Any]) -> Tensor | None:
        """The teacher's logits for a batch."""
        device = self.args.device
        with torch.no_grad():
            outputs = teacher.to(device).eval()(**inputs)
        return getattr(outputs, "logits", None)

    def _learnt(self, outputs: Any, answers: Tensor | None, labels: Any) -> Tensor:
        """The teacher's term of the loss, mean over the batch."""
        given = cast(Distillation, self.distillation)
        if answers is None:
            raise TrainingError(
                f"train(distillation={given}): a batch has no {TEACHER!r}. "
                "Give a collator that keeps this column of the training data, or a teacher that "
                "gives logits."
            )
        own = outputs.get("logits") if isinstance(outputs, Mapping) else None
        if own is None:
            raise TrainingError(
                f"train(distillation={given}): {type(self.model).__name__} gives no logits here. "
                "Give a classifier, and a Trainer that hands its outputs on."
            )
        answers = answers.to(own.device, own.dtype)
        if self.teacher is None or own.ndim == 2:
            return given.loss(own, answers)
        return given.loss_at(own, answers, labels, ahead=self._is_ahead())

    def _is_ahead(self) -> bool:
        """Whether logits are about the next token: a language model shifts its labels itself."""
        bare: Any = self.accelerator.unwrap_model(self.model)
        generates = getattr(bare, "can_generate", bool)()
        return generates and not bare.config.is_encoder_decoder

    def _division(
        self, model: nn.Module, inputs: dict[str, Any], count: Tensor | int | None
    ) -> Division:
        """How the loss of this batch is scaled to its part of the step; see ``Counting``."""

        def ask(count: Tensor | int) -> Tensor:
            # The test pass leaves no trace: no gradient, and the same random state after it.
            device = self.args.device
            devices = [device] if device.type == "cuda" else []
            with torch.no_grad(), torch.random.fork_rng(devices), self._asking(), catch_warnings():
                filterwarnings("ignore", "None of the inputs have requires_grad")  # checkpointing
                loss = super(FineTuner, self).compute_loss(
                    model, {**inputs}, num_items_in_batch=count
                )
                return cast(Tensor, loss)

        return self._counting.division(self, count, ask)

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[Any] | None:
        if self._sizes is not None and self.args.train_sampling_strategy == "group_by_length":
            # The Trainer would look for the lengths of tokens, which images and sound do not have.
            together = self.args.train_batch_size * self.args.gradient_accumulation_steps
            sampler = LengthGroupedSampler(together, lengths=[*self._sizes])
        else:
            sampler = super()._get_train_sampler(train_dataset)
        if not isinstance(sampler, LengthGroupedSampler):
            return sampler
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return GroupedByLength(sampler, seed)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        # The Trainer drops columns that the model's ``forward`` does not name.
        columns = cast(list[str], self._signature_columns)
        # A loss from outside needs labels of which the model knows nothing.
        if self.compute_loss_func is not None and "labels" not in columns:
            columns.append("labels")
        if self.distillation is not None and TEACHER not in columns:
            columns.append(TEACHER)

    def checkpoint_folder(self) -> Path:
        """Where the Trainer writes the checkpoint of this step."""
        folder = self._get_output_dir(trial=getattr(self, "_trial", None))
        return Path(folder) / f"checkpoint-{self.state.global_step}"

    def _resolve(self, resume: str | Path | bool | None) -> Path | None:
        if not resume:
            return None
        if isinstance(resume, str | Path):
            return complete_checkpoint(Path(resume))
        found = complete_checkpoints(Path(str(self.args.output_dir)))
        if not found:
            raise CheckpointError(
                f"train(resume_from_checkpoint=True): no complete checkpoint in "
                f"{self.args.output_dir}. Start without resuming."
            )
        return found[-1]
