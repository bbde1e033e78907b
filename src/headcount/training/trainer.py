"""transformers' Trainer with a pruning session inside."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast
from warnings import catch_warnings, filterwarnings

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from headcount.door.arguments import checks_arguments
from headcount.errors import CheckpointError, TrainingError, check_argument
from headcount.methods.method import Method
from headcount.surgery.cut import cut
from headcount.training.attach import attach
from headcount.training.callback import SessionCallback
from headcount.training.distillation import TEACHER, Distillation
from headcount.training.order import GroupedByLength
from headcount.training.restore import Restoring, check_files
from headcount.training.resume import (
    check_session,
    complete_checkpoint,
    complete_checkpoints,
)
from headcount.training.session import Session
from headcount.training.shares import Counting, Division
from headcount.units.budget import Budget
from headcount.units.decision import Decision

logger = logging.getLogger("headcount")


class PruningTrainer(Restoring, Trainer):
    """A ``transformers.Trainer`` that prunes while it trains.

    Training draws the method's gates at each forward pass; evaluation uses the hard, noise-free
    decision. Checkpoints hold the method's state, so that a killed run resumes to the same
    decision. Logs show temperature, entropy of the choice and how many heads changed.

    Other Trainers are mixed in: ``class Mine(PruningTrainer, Seq2SeqTrainer)``; see the page on
    trainers. Each is given its arguments by name.

    Args:
        model: the model to prune; its weights are trained in place. None with ``model_init``, as
            for ``Trainer``: each run, and each trial of a search, then has a session of its own.
        method: how to choose, for instance ``DSP()``.
        budget: what must remain.
        args: as for ``Trainer``.
        distillation: learn from a teacher, too; the training data come from ``taught`` then.
        **kwargs: as for ``Trainer``: ``train_dataset``, ``eval_dataset``, ``data_collator``,
            ``compute_metrics``, ...

    Raises:
        ArgumentError: the method is no instance of one, or the budget none.
        BudgetError: the model cannot meet the budget.
        TrainingError: the method learns and ``load_best_model_at_end`` or an
            ``EarlyStoppingCallback`` is given; nobody has asked the teacher; a scheduler is given;
            the process would train on several devices by itself, or on shards of the weights.

    Example:
        >>> import headcount as hc, transformers
        >>> model = transformers.BertModel(transformers.BertConfig(num_hidden_layers=1))
        >>> args = transformers.TrainingArguments("out", report_to=[])
        >>> trainer = hc.PruningTrainer(
        ...     model=model, method=hc.DSP(), budget=hc.Budget(heads=3), args=args)
        >>> trainer.decision().num_kept
        3
    """

    @checks_arguments
    def __init__(
        self,
        *,
        model: PreTrainedModel | nn.Module | None = None,
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
        self._counting = Counting()
        super().__init__(model=model, args=args, **kwargs)
        self._check_devices()
        self._method, self._budget = method, budget
        self._check_end()
        if distillation is not None:
            distillation.check_model("PruningTrainer", self.model)
        self.session = self._attach(cast(nn.Module, self.model))
        self.add_callback(SessionCallback(self))
        self.resume_from: Path | None = None

    def _check_devices(self) -> None:
        """Refuse what the session cannot work with."""
        if self.args.n_gpu > 1:
            raise TrainingError(
                f"PruningTrainer: {self.args.n_gpu} devices in one process (nn.DataParallel) would "
                "draw gates of their own. Start one process a device with torchrun, or hide all "
                "but one with CUDA_VISIBLE_DEVICES."
            )
        for name in ("fsdp", "deepspeed"):
            if getattr(self, f"is_{name}_enabled", False):
                raise TrainingError(
                    f"PruningTrainer(args.{name}={getattr(self.args, name)!r}): its processes hold "
                    "shards of the weights, and a shard cannot be cut. Train data-parallel "
                    "(torchrun, with the whole model in each process)."
                )

    def _check_end(self) -> None:
        """Refuse to end with weights of an earlier step than the last, unless all steps are alike.

        Until the end, a method that learns has more units on, softer gates or another choice.
        """
        if not self._method.learns:
            return
        name = f"method={type(self._method).__name__}"
        if self.args.load_best_model_at_end:
            raise TrainingError(
                f"PruningTrainer({name}, args.load_best_model_at_end=True): an early checkpoint is "
                "soft and has another decision. Set it to False; the last step is the decided one."
            )
        early = [c for c in self.callback_handler.callbacks if isinstance(c, EarlyStoppingCallback)]
        if early:
            raise TrainingError(
                f"PruningTrainer({name}, callbacks=[EarlyStoppingCallback]): stopped early, the "
                "run ends before its units are settled. Take the callback away and give fewer "
                "steps; the schedule is stretched over them."
            )

    def _attach(self, model: nn.Module) -> Session:
        return attach(model, self._method, self._budget, num_steps=0, seed=self.args.seed)

    def call_model_init(self, trial: Any = None) -> nn.Module:
        """As in ``Trainer``; the new model gets a session of its own."""
        model = super().call_model_init(trial)
        if hasattr(self, "session"):  # the first model gets its own when all else is made
            self.session.close()
            self.session = self._attach(model)
        return model

    def create_accelerator_and_postprocess(self) -> None:
        """As in ``Trainer``; a model without anything to train is not wrapped for DDP."""
        super().create_accelerator_and_postprocess()
        prepare = self.accelerator.prepare_model

        def prepare_model(model: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
            if not any(parameter.requires_grad for parameter in model.parameters()):
                kwargs["evaluation_mode"] = True  # mixed precision and compiling, but no DDP
            return prepare(model, *args, **kwargs)

        self.accelerator.prepare_model = prepare_model

    @checks_arguments
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
        self._check_end()
        self.resume_from = self._resolve(resume_from_checkpoint)
        if self.resume_from is not None:
            check_session(self.resume_from, self.session)
            whole = cast(nn.Module, self.accelerator.unwrap_model(self.model))
            check_files(self.resume_from, whole, with_optimizer=not self.args.save_only_model)
        path = None if self.resume_from is None else str(self.resume_from)
        return super().train(resume_from_checkpoint=path, **kwargs)

    def decision(self) -> Decision:
        """The decision of the moment; after training, the final one."""
        return self.session.decision()

    @checks_arguments
    def decisions(self, budgets: Iterable[int | Budget]) -> list[Decision]:
        """What the scores of the moment decide for other budgets; see ``Session.decisions``."""
        return self.session.decisions(budgets)

    @checks_arguments
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

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As in ``Trainer``: the whole model, of which nothing is cut. A warning says so.

        For the smaller model, save what ``prune`` returns.
        """
        if not _internal_call:
            logger.warning(
                "save_model: this saves the whole model, with all of its units (as for a "
                "checkpoint). For the smaller one call trainer.prune().save_pretrained(folder)."
            )
        super().save_model(output_dir, _internal_call)

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        """As in ``Trainer``: the whole model, of which nothing is cut. A warning says so."""
        logger.warning(
            "push_to_hub: this uploads the whole model, with all of its units. For the smaller one "
            "call trainer.prune().push_to_hub(name)."
        )
        return super().push_to_hub(*args, **kwargs)

    def forget_moments(self) -> None:
        """Take what the optimizer remembers of the method's parameters from it."""
        state = getattr(self.optimizer, "state", {})
        for parameter in self.session.parameters():
            state.pop(parameter, None)

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
        if not model.training:
            return super().compute_loss(
                model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
            )
        if self.distillation is not None:
            self.distillation.check(inputs.get("labels"))
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
            learnt = self._learnt(outputs, teacher)
            weight = self.distillation.weight
            loss = (1 - weight) * loss + weight * whole.share * learnt
        loss = loss + whole.share * self.session.penalty()
        return (loss, outputs) if return_outputs else loss

    def _learnt(self, outputs: Any, teacher: Tensor | None) -> Tensor:
        """The teacher's part of the loss, mean over the batch."""
        given = cast(Distillation, self.distillation)
        if teacher is None:
            raise TrainingError(
                f"train(distillation={given}): a batch has no {TEACHER!r}. "
                "Give a collator that hands on this column of the training data."
            )
        own = outputs.get("logits") if isinstance(outputs, Mapping) else None
        if own is None:
            raise TrainingError(
                f"train(distillation={given}): {type(self.model).__name__} gives no logits here. "
                "Give a classifier, and a Trainer that hands its outputs on."
            )
        return given.loss(own, teacher.to(own.device, own.dtype))

    def _division(
        self, model: nn.Module, inputs: dict[str, Any], count: Tensor | int | None
    ) -> Division:
        """What the Trainer does to the loss of this batch."""

        def ask(count: Tensor | int) -> Tensor:
            device = self.args.device
            devices = [device] if device.type == "cuda" else []
            held = self.session.held(self.session.keep())
            with torch.no_grad(), torch.random.fork_rng(devices), held, catch_warnings():
                filterwarnings("ignore", "None of the inputs have requires_grad")  # checkpointing
                loss = super(PruningTrainer, self).compute_loss(
                    model, {**inputs}, num_items_in_batch=count
                )
                return cast(Tensor, loss)

        return self._counting.division(self, count, ask)

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
