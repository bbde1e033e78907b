"""One arm of a run: train a fresh model with one method, cut it, and remember the result."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from datasets import Dataset
from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, set_seed

from headcount.methods.method import Method
from headcount.training.progress import ProgressBar
from headcount.training.recipe import Recipe
from headcount.training.resume import complete_checkpoints
from headcount.training.trainer import PruningTrainer
from headcount.units.budget import Budget
from headcount.units.decision import Decision

RESULT_FILE = "result.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What all arms share: the data, and how a fresh model is made."""

    fresh_model: Callable[[str], PreTrainedModel]
    """Makes the model of a name or folder, with the task's head on it."""
    tokenizer: PreTrainedTokenizerBase
    """The model's tokenizer."""
    train: Dataset
    """Tokenised training examples."""
    eval: Dataset
    """Tokenised evaluation examples."""
    collator: Callable[[list[dict[str, Any]]], dict[str, Any]]
    """Makes a batch out of examples."""
    metrics: Callable[[Any], dict[str, float]]
    """From predictions to numbers."""
    metric: str
    """The number that counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One way to spend a training run."""

    name: str
    """Names the arm in tables and folders."""
    method: Method
    """How units are chosen."""
    budget: Budget
    """What remains."""
    start: str
    """Name or folder of the model to begin with."""
    recipe: Recipe
    """How to train."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """The result of an arm."""

    arm: Arm
    quality: float
    """The task's number on the evaluation data, measured on the cut model."""
    train_s: float
    """Seconds of training; of the last sitting, where a run was resumed."""
    num_steps: int
    """Optimizer steps."""
    decision: Decision
    """What stayed."""
    folder: Path
    """Where the cut model is saved."""


def run_arm(arm: Arm, material: Material, work: Path, console: Console) -> Trained:
    """Train, evaluate, cut and save one arm; a finished one is read back, a killed one goes on.

    Args:
        arm: what to run.
        material: the data, and how a fresh model is made.
        work: the arm's own folder; made if absent.
        console: where progress is shown.

    Returns:
        The result; the cut model lies in ``work / "model"``.

    Raises:
        CheckpointError: ``work`` holds the checkpoint of another arm.
        TrainingError: the loss is not finite.
    """
    if (work / RESULT_FILE).is_file():
        console.print(f"{arm.name}: finished before, kept")
        return _read(arm, work)
    work.mkdir(parents=True, exist_ok=True)
    set_seed(arm.recipe.seed)
    trainer = PruningTrainer(
        model=material.fresh_model(arm.start),
        method=arm.method,
        budget=arm.budget,
        args=arm.recipe.arguments(work),
        train_dataset=material.train,
        eval_dataset=material.eval,
        data_collator=material.collator,
        compute_metrics=material.metrics,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ProgressBar(arm.name, console))
    began = time.monotonic()
    trainer.train(resume_from_checkpoint=bool(complete_checkpoints(work)))
    return _finish(arm, trainer, material, work, time.monotonic() - began)


def _finish(
    arm: Arm, trainer: PruningTrainer, material: Material, work: Path, train_s: float
) -> Trained:
    pruned = cast(PreTrainedModel, trainer.prune())
    pruned.save_pretrained(work / "model")
    trainer.session.close()
    trainer.model = pruned
    trainer.model_wrapped = pruned
    quality = trainer.evaluate()[f"eval_{material.metric}"]
    result = {"quality": quality, "train_s": train_s, "num_steps": trainer.state.global_step}
    draft = work / f"{RESULT_FILE}.part"
    draft.write_text(json.dumps(result) + "\n", encoding="utf-8")
    draft.replace(work / RESULT_FILE)
    return _read(arm, work)


def _read(arm: Arm, work: Path) -> Trained:
    result = json.loads((work / RESULT_FILE).read_text(encoding="utf-8"))
    folder = work / "model"
    decision = Decision.load(folder / "decision.json")
    return Trained(arm=arm, decision=decision, folder=folder, **result)
