"""A Trainer with a pruning session inside."""

import logging
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import EarlyStoppingCallback, PreTrainedModel, TrainingArguments

from headcount.door.arguments import checks_arguments
from headcount.errors import TrainingError, check_argument
from headcount.methods.method import Method
from headcount.surgery.cut import cut
from headcount.training.attach import attach
from headcount.training.callback import SessionCallback
from headcount.training.distillation import Distillation
from headcount.training.fine_tuner import FineTuner
from headcount.training.resume import write_session
from headcount.training.session import Session
from headcount.units.budget import Budget
from headcount.units.decision import Decision
from headcount.units.kinds import KIND

logger = logging.getLogger("headcount")


class PruningTrainer(FineTuner):
    """A ``transformers.Trainer`` that prunes while it trains.

    Training draws the method's gates at each forward pass; evaluation uses the current decision,
    hard and without noise. Checkpoints hold the method's state, so that a killed run resumes to the
    same decision. Logs show temperature, entropy of the choice, and the number of
    changed units of each kind, such as ``heads_changed``.

    To prune with another Trainer, derive from both: ``class Mine(PruningTrainer, Seq2SeqTrainer)``;
    see the page on trainers. Give all arguments by name.

    Args:
        model: the model to prune; its weights are trained in place. None with ``model_init``, as
            for ``Trainer``: each call of ``train`` and each trial then has its own session.
        method: how to choose, for instance ``DSP()``.
        budget: what must remain.
        args: as for ``Trainer``.
        distillation: also learn from a teacher; ``taught`` adds its answers to the training data.
        teacher: a model that is asked at each step instead; see ``FineTuner``.
        **kwargs: as for ``Trainer``: ``train_dataset``, ``eval_dataset``, ``data_collator``,
            ``compute_metrics``, ...

    Raises:
        ArgumentError: ``method`` is not a method, or ``budget`` not a budget.
        BudgetError: the model cannot meet the budget.
        TrainingError: the method learns and ``load_best_model_at_end`` or an
            ``EarlyStoppingCallback`` is given; the training data have no teacher's answers; a
            scheduler is given; one process would train on several devices, or on shards of the
            weights.

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
        teacher: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        check_argument("PruningTrainer", "method", method, Method, "an instance, such as hc.DSP()")
        check_argument(
            "PruningTrainer", "budget", budget, Budget, "a budget, such as hc.Budget(heads=12)"
        )
        if kwargs.get("optimizers", (None, None))[1] is not None:
            raise TrainingError(
                "PruningTrainer(optimizers=...): this scheduler does not know the group of the "
                "method's parameters. Give (optimizer, None) and args.lr_scheduler_type."
            )
        super().__init__(model, args, distillation=distillation, teacher=teacher, **kwargs)
        self._check_devices()
        self._method, self._budget = method, budget
        self._check_end()
        self.session = self._attach(cast(nn.Module, self.model))
        self.add_callback(SessionCallback(self))

    def _check_devices(self) -> None:
        """Refuse several devices in one process, and sharded weights."""
        if self.args.n_gpu > 1:
            raise TrainingError(
                f"PruningTrainer: {self.args.n_gpu} devices in one process (nn.DataParallel) would "
                "each draw other gates. Start one process a device with torchrun, or hide all "
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
        """Refuse settings by which a method that learns would end before its last step.

        Before the last step, such a method has more units on, softer gates or another choice.
        """
        if not self._method.learns:
            return
        name = f"method={type(self._method).__name__}"
        if self.args.load_best_model_at_end:
            raise TrainingError(
                f"PruningTrainer({name}, args.load_best_model_at_end=True): an earlier "
                "checkpoint has softer gates and another decision. Set it to False: only the last "
                "step has the final decision."
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
        """As in ``Trainer``; the new model gets its own session."""
        model = super().call_model_init(trial)
        if hasattr(self, "session"):  # ``__init__`` attaches to the first model
            self.session.close()
            self.session = self._attach(model)
        return model

    def create_accelerator_and_postprocess(self) -> None:
        """As in ``Trainer``; a model with frozen weights is not wrapped for DDP."""
        super().create_accelerator_and_postprocess()
        prepare = self.accelerator.prepare_model

        def prepare_model(model: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
            if not any(parameter.requires_grad for parameter in model.parameters()):
                kwargs["evaluation_mode"] = True  # mixed precision and compiling, but no DDP
            return prepare(model, *args, **kwargs)

        self.accelerator.prepare_model = prepare_model

    def fingerprint(self) -> dict[str, Any]:
        """The fingerprint of the session."""
        return self.session.fingerprint()

    def complete(self, folder: Path) -> None:
        """Write the session into a checkpoint that the Trainer has just written."""
        write_session(folder, self.session)
        super().complete(folder)

    def _before_training(self) -> None:
        self._check_end()

    def _with_penalty(self, loss: Tensor, share: float) -> Tensor:
        return loss + share * self.session.penalty()

    def _asking(self) -> AbstractContextManager[Any]:
        # Hard gates draw no noise, so asking does not move the method's generator.
        return self.session.held(self.session.keep())

    def decision(self) -> Decision:
        """The current decision; after training, the final one."""
        return self.session.decision()

    @checks_arguments
    def decisions(self, budgets: Iterable[int | Budget]) -> list[Decision]:
        """Decisions by the current scores for other budgets; see ``Session.decisions``."""
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
        return self._bare(small)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the whole, uncut model, as in ``Trainer``; a warning says so.

        For the smaller model, save what ``prune`` returns.
        """
        if not _internal_call:
            logger.warning(
                "save_model: this saves the whole model, with all of its units (as for a "
                "checkpoint). For the smaller one call trainer.prune().save_pretrained(folder)."
            )
        super().save_model(output_dir, _internal_call)

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        """Upload the whole, uncut model, as in ``Trainer``; a warning says so."""
        logger.warning(
            "push_to_hub: this uploads the whole model, with all of its units. For the smaller one "
            "call trainer.prune().push_to_hub(name)."
        )
        return super().push_to_hub(*args, **kwargs)

    def forget_moments(self) -> None:
        """Clear the optimizer's moments of the method's parameters."""
        state = getattr(self.optimizer, "state", {})
        for parameter in self.session.parameters():
            state.pop(parameter, None)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """As in ``Trainer``, with a parameter group for the method's parameters."""
        optimizer = super().create_optimizer(model)
        learnt = list(self.session.parameters())
        known = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if learnt and id(learnt[0]) not in known:
            group = {**self.session.method.optimizer_group, "weight_decay": 0.0}
            optimizer.add_param_group({"params": learnt, **group})
        return optimizer

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """As in ``Trainer``, with the method's numbers beside the loss."""
        if "loss" in logs:
            changed = self.session.num_changed().items()
            named = {f"{KIND[kind].plural}_changed": number for kind, number in changed}
            logs = {**logs, **self.session.metrics(), **named}
        super().log(logs, *args, **kwargs)
