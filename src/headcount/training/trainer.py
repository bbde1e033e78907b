"""transformers' Trainer with a pruning session inside."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from headcount.errors import CheckpointError, TrainingError, check_argument
from headcount.methods.method import Method
from headcount.surgery.cut import cut
from headcount.training.distillation import TEACHER, Distillation
from headcount.training.order import GroupedByLength
from headcount.training.resume import (
    STATE_FILE,
    check_session,
    complete_checkpoint,
    complete_checkpoints,
    write_session,
)
from headcount.training.session import attach
from headcount.units.budget import Budget
from headcount.units.decision import Decision


class PruningTrainer(Trainer):
    """A ``transformers.Trainer`` that prunes while it trains.

    Training draws the method's gates at each forward pass; evaluation uses the hard, noise-free
    decision. Checkpoints hold the method's state, so that a killed run resumes to the same
    decision. Logs show temperature, entropy of the choice and how many heads changed.

    Args:
        model: the model to prune; its weights are trained in place.
        method: how to choose, for instance ``DSP()``.
        budget: what must remain.
        args: as for ``Trainer``.
        distillation: learn from a teacher, too; the training data come from ``taught`` then.
        **kwargs: as for ``Trainer``: ``train_dataset``, ``eval_dataset``, ``data_collator``,
            ``compute_metrics``, ...

    Raises:
        ArgumentError: the method is no instance of one, or the budget none.
        BudgetError: the model cannot meet the budget.
        TrainingError: ``load_best_model_at_end`` is set, nobody has asked the teacher, a scheduler
            is given, or the process would train on several devices by itself.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
        >>> args = transformers.TrainingArguments("out", report_to=[])
        >>> trainer = hc.PruningTrainer(
        ...     model=model, method=hc.DSP(), budget=hc.Budget(heads=3), args=args)
        >>> trainer.decision().num_kept
        3
    """

    def __init__(
        self,
        *,
        model: PreTrainedModel | nn.Module,
        method: Method,
        budget: Budget,
        args: TrainingArguments | None = None,
        distillation: Distillation | None = None,
        **kwargs: Any,
    ) -> None:
        check_argument("PruningTrainer", "method", method, Method, "an instance, such as hc.DSP()")
        check_argument(
            "PruningTrainer", "budget", budget, Budget, "a budget, such as hc.Budget(heads=12)"
        )
        if args is not None and args.load_best_model_at_end:
            raise TrainingError(
                "PruningTrainer(args.load_best_model_at_end=True): an early checkpoint is soft and "
                "has another decision. Set it to False; the last step is the decided one."
            )
        columns = getattr(kwargs.get("train_dataset"), "column_names", None)
        if distillation is not None and columns is not None and TEACHER not in columns:
            raise TrainingError(
                f"PruningTrainer(distillation={distillation}): the training data have no column "
                f"{TEACHER!r}. Give taught(train_dataset, teacher, collator)."
            )
        if kwargs.get("optimizers", (None, None))[1] is not None:
            raise TrainingError(
                "PruningTrainer(optimizers=...): the scheduler does not know of the group in which "
                "the method learns. Give (optimizer, None) and args.lr_scheduler_type."
            )
        self.distillation = distillation
        seed = args.seed if args is not None else 0
        self.session = attach(model, method, budget, num_steps=0, seed=seed)
        try:
            super().__init__(model=model, args=args, **kwargs)
        except BaseException:
            self.session.close()
            raise
        if self.args.n_gpu > 1:
            self.session.close()
            raise TrainingError(
                f"PruningTrainer: {self.args.n_gpu} devices in one process (nn.DataParallel) would "
                "draw gates of their own. Start one process a device with torchrun, or hide all "
                "but one with CUDA_VISIBLE_DEVICES."
            )
        self.add_callback(_SessionCallback(self))
        self.resume_from: Path | None = None
        self._heeds_count: bool | None = None

    def train(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, resume_from_checkpoint: str | Path | bool | None = None, **kwargs: Any
    ) -> Any:
        """Train; resume from a checkpoint folder, or with True from the last complete one.

        Without resuming, a second call starts the choice anew; the weights go on from where they
        are, as in ``Trainer``.

        Raises:
            CheckpointError: the checkpoint is incomplete, or that of another model, method or
                budget.
            TrainingError: the loss is not a finite number.
        """
        self.resume_from = self._resolve(resume_from_checkpoint)
        if self.resume_from is not None:
            check_session(self.resume_from, self.session)
        path = None if self.resume_from is None else str(self.resume_from)
        return super().train(resume_from_checkpoint=path, **kwargs)

    def decision(self) -> Decision:
        """The decision of the moment; after training, the final one."""
        return self.session.decision()

    def decisions(self, budgets: Iterable[int | Budget]) -> list[Decision]:
        """What the scores of the moment decide for other budgets; see ``Session.decisions``."""
        return self.session.decisions(budgets)

    def prune(self, decision: Decision | None = None) -> nn.Module:
        """A new, smaller model: the trained weights, cut by ``decision`` (default: the final one).

        The trainer's own model stays whole and gated.
        """
        chosen = self.decision() if decision is None else decision
        model = cast(nn.Module, self.accelerator.unwrap_model(self.model))
        with self.session.lifted():
            small = cut(model, chosen).eval()
        small = self.accelerator.unwrap_model(small, keep_fp32_wrapper=False)
        vars(small).pop("forward", None)  # what is left of the mixed-precision wrapper
        return small

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """As in ``Trainer``, with a group of their own for what the method learns."""
        optimizer = super().create_optimizer(model)
        learnt = list(self.session.parameters())
        known = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if learnt and id(learnt[0]) not in known:
            group = {**self.session.method.optimizer_group, "weight_decay": 0.0}
            optimizer.add_param_group({"params": learnt, **group})
        return optimizer

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
        """The task's loss, in training with the teacher's part and the method's penalty."""
        teacher = inputs.pop(TEACHER, None)
        share, task_share = 1.0, 1.0
        if model.training:
            share, task_share = self._shares(model, inputs, num_items_in_batch)
        loss, outputs = super().compute_loss(
            model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        if model.training:
            loss = task_share * loss if task_share < 1 else loss
            if self.distillation is not None:
                if teacher is None:
                    raise TrainingError(
                        f"train(distillation={self.distillation}): a batch has no {TEACHER!r}. "
                        "Give a collator that hands on this column of the training data."
                    )
                own = cast(dict[str, Tensor], outputs)["logits"]
                learnt = self.distillation.loss(own, teacher.to(own.device, own.dtype))
                weight = self.distillation.weight
                loss = (1 - weight) * loss + weight * share * learnt
            loss = loss + share * self.session.penalty()
        return (loss, outputs) if return_outputs else loss

    def _shares(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None
    ) -> tuple[float, float]:
        """What our parts of the loss, and the task's, have to be multiplied by.

        Where a step is made of several batches, the Trainer divides the loss by their number, or
        takes it for a part of the whole step's already. Then ours have to be one, and the task's
        too, if it is not.
        """
        parts = getattr(self, "current_gradient_accumulation_steps", 1)
        told = getattr(self, "loss_is_scaled_for_ga", None)  # newer versions alone ask
        counted = self.model_accepts_loss_kwargs and num_items_in_batch is not None
        is_part = (counted or self.compute_loss_func is not None) if told is None else told
        if parts == 1 or not is_part:
            return 1.0, 1.0
        if self._heeds_count is None:
            self._heeds_count = told or self._see_whether_it_heeds(
                model, inputs, num_items_in_batch
            )
        return 1 / parts, 1.0 if self._heeds_count else 1 / parts

    def _see_whether_it_heeds(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None
    ) -> bool:
        """Whether the task's loss heeds the count of the whole step; many classifiers do not.

        It is asked for with the count and without, with the same noise, which is taken back.
        """
        device, losses = self.args.device, []
        devices = [device] if device.type == "cuda" else []
        for count in (num_items_in_batch, None):
            held = self.session.held(self.session.keep())
            with torch.no_grad(), torch.random.fork_rng(devices), held:
                losses.append(super().compute_loss(model, {**inputs}, num_items_in_batch=count))
        return not torch.allclose(losses[0], losses[1], rtol=1e-3)

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[Any] | None:
        sampler = super()._get_train_sampler(train_dataset)
        if not isinstance(sampler, LengthGroupedSampler):
            return sampler
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return GroupedByLength(sampler, seed)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns = cast(list[str], self._signature_columns)
        if self.distillation is not None and TEACHER not in columns:
            columns.append(TEACHER)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """As in ``Trainer``, with the method's numbers beside the loss."""
        if "loss" in logs:
            logs = {**logs, **self.session.metrics(), "heads_changed": self.session.num_changed()}
        super().log(logs, *args, **kwargs)

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


class _SessionCallback(TrainerCallback):
    """Moves the session along with the Trainer's loop."""

    def __init__(self, trainer: PruningTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Restore the session, or start it anew."""
        del args, control, kwargs
        resume, session = self._trainer.resume_from, self._trainer.session
        if session.num_done and resume is None:
            session.restart()
        session.begin(state.max_steps)
        if resume is not None:
            session.load_state_dict(load_file(resume / STATE_FILE))

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
        del control, kwargs
        if args.should_save:
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            write_session(folder, self._trainer.session)
