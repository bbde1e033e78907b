"""One arm of a run: choose with one method, cut, and remember the result."""

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict, cast

import torch
from rich.console import Console
from torch import Tensor
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback, set_seed

from headcount.architectures.discover import units
from headcount.door.atomic import write_text
from headcount.door.files import read_json
from headcount.door.shape import Count, Finite, Matching, Positive
from headcount.errors import TrainingError
from headcount.methods.method import Method
from headcount.methods.random import Random
from headcount.surgery.cut import cut
from headcount.training.decide import decide
from headcount.training.distillation import Distillation, taught
from headcount.training.material import Material
from headcount.training.post_training import prune_post_training
from headcount.training.progress import ProgressBar
from headcount.training.quality import quality
from headcount.training.recipe import Recipe
from headcount.training.resume import complete_checkpoints
from headcount.training.trainer import PruningTrainer
from headcount.units.budget import Budget
from headcount.units.decision import Decision
from headcount.units.kinds import KIND, KINDS

RESULT_FILE = "result.json"
NUM_EXAMPLES = 2048
"""Training examples that a method looks at, unless asked otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One way to come to a smaller model."""

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
    num_examples: int = NUM_EXAMPLES
    """Training examples for a method that decides by looking at data; 0 takes all."""
    teacher: str = ""
    """Folder of a fine-tuned model whose answers are learnt, too; empty for labels alone."""
    decided: Decision | None = None
    """What ``start`` was cut by, if it was: then all that is left is trained."""

    def __post_init__(self) -> None:
        if self.num_examples < 0:
            raise TrainingError(f"num_examples={self.num_examples}: give a count, or 0 for all.")


class _Result(TypedDict):
    """What ``write_result`` writes."""

    quality: Finite
    train_s: Positive
    num_steps: Count
    correct: NotRequired[Annotated[str, Matching("[01]*", "a text of 0 and 1")] | None]
    only_class: NotRequired[str | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """The result of an arm."""

    arm: Arm
    quality: float
    """The task's number on the evaluation data, measured on the cut model."""
    train_s: float
    """Seconds of training, or of looking at data, and of asking the teacher; of the last sitting,
    where a run was resumed."""
    num_steps: int
    """Optimizer steps."""
    decision: Decision
    """What stayed."""
    folder: Path
    """Where the cut model is saved."""
    correct: str | None = None
    """Right (``1``) or wrong (``0``), evaluation example by example, if that was noted."""
    only_class: str | None = None
    """The label that the model gives every evaluation example, if it is one and the same."""


def dense_arm(start: str, recipe: Recipe) -> Arm:
    """The arm in which every head stays: plain fine-tuning.

    Example:
        >>> dense_arm("bert-base-uncased", Recipe()).budget.heads
        1.0
    """
    budget = Budget(heads=1.0)
    return Arm(name="dense", method=Random(), budget=budget, start=start, recipe=recipe)


def recipe_of(method: Method, recipe: Recipe, pipelined_epochs: float) -> Recipe:
    """The recipe of a method's arm: logits alone are trained for so many epochs.

    Example:
        >>> from headcount.methods.dsp import DSP
        >>> recipe_of(DSP(training="pipelined"), Recipe(), 1.0).epochs
        1.0
    """
    return replace(recipe, epochs=pipelined_epochs) if method.trains == "logits" else recipe


def run_arm(
    arm: Arm,
    material: Material,
    work: Path,
    console: Console,
    callbacks: Sequence[TrainerCallback] = (),
) -> Trained:
    """Choose, cut, evaluate and save; a finished arm is read back, a killed one goes on.

    A method that looks at data decides about the model it is given, which is then cut and not
    trained any more; ``Arm.decided`` is for training it on. Any other method trains. A decision
    that stands before the first step is cut before it: the same as masking, and it costs less.

    Args:
        arm: what to run.
        material: the data, and how a fresh model is made.
        work: the arm's own folder; made if absent.
        console: where progress is shown.
        callbacks: further callbacks of the training.

    Returns:
        The result; the cut model lies in ``work / "model"``.

    Raises:
        CheckpointError: ``work`` holds the checkpoint of another arm.
        TrainingError: the loss is not finite.
    """
    if (work / RESULT_FILE).is_file():
        console.print(f"{arm.name}: finished before, kept", highlight=False)
        return read_arm(arm, work)
    work.mkdir(parents=True, exist_ok=True)
    set_seed(arm.recipe.seed)
    if arm.method.phase == "from data" and arm.decided is None:
        return _decided(arm, material, work, console)
    return _trained(arm, material, work, console, callbacks)


def recover(
    trained: Trained,
    material: Material,
    epochs: float,
    console: Console,
    callbacks: Sequence[TrainerCallback] = (),
) -> Trained:
    """Train a cut model with the recipe of its arm; it lies in ``recovered/model`` then.

    Args:
        trained: the result of the arm.
        material: the data.
        epochs: how long.
        console: where progress is shown.
        callbacks: further callbacks of the training.

    Returns:
        The result, with the decision of the arm.
    """
    arm, folder = trained.arm, trained.folder.parent
    whole = replace(
        arm,
        name=f"{arm.name}, recovering",
        start=str(trained.folder),
        recipe=replace(arm.recipe, epochs=epochs),
        decided=trained.decision,
    )
    return run_arm(whole, material, folder / "recovered", console, callbacks)


def read_arm(arm: Arm, work: Path) -> Trained:
    """The result of a finished arm, from its folder."""
    give = "Delete that file to have it run again."
    result: _Result = read_json(work / RESULT_FILE, _Result, call=f"{arm.name}: read", give=give)
    return Trained(
        arm=arm,
        decision=Decision.load(work / "model" / "decision.json"),
        folder=work / "model",
        quality=result["quality"],
        train_s=result["train_s"],
        num_steps=result["num_steps"],
        correct=result.get("correct"),
        only_class=result.get("only_class"),
    )


def _trained(
    arm: Arm,
    material: Material,
    work: Path,
    console: Console,
    callbacks: Sequence[TrainerCallback],
) -> Trained:
    train, asking_s = material.train, 0.0
    if arm.teacher:
        console.print(f"{arm.name}: asking the teacher about {len(train)} examples")
        began = time.monotonic()
        teacher = material.fresh_model(arm.teacher).to(arm.recipe.arguments(work).device)  # pyright: ignore[reportArgumentType]
        train = taught(train, teacher, material.collator)
        del teacher  # or it would stay on the device until the end
        asking_s = time.monotonic() - began
    model, decided = material.fresh_model(arm.start), arm.decided
    if decided is None and arm.method.phase == "at once":
        decided = decide(model, arm.method, arm.budget, seed=arm.recipe.seed)
        model = cut(model, decided, in_place=True)
    trainer = PruningTrainer(
        model=model,
        distillation=Distillation() if arm.teacher else None,
        method=arm.method if decided is None else Random(),
        budget=arm.budget if decided is None else _everything(model),
        args=arm.recipe.arguments(work),
        train_dataset=train,
        data_collator=material.collator,
    )
    trainer.remove_callback(PrinterCallback)
    for callback in (ProgressBar(arm.name, console), *callbacks):
        trainer.add_callback(callback)
    began = time.monotonic()
    trainer.train(resume_from_checkpoint=bool(complete_checkpoints(work)))
    train_s = asking_s + time.monotonic() - began
    small = cast(PreTrainedModel, trainer.prune())
    trainer.session.close()
    if decided is not None:  # not that all of what was left has stayed
        vars(small)["headcount_decision"] = decided
    return _finish(arm, small, material, work, train_s=train_s, num_steps=trainer.state.global_step)


def _everything(model: PreTrainedModel) -> Budget:
    """Any kind will do, heads if there are some left: all of them stay."""
    left = units(model).kinds
    kind = next((kind for kind in ("head", *KINDS) if kind in left), "head")
    whole: dict[str, Any] = {KIND[kind].plural: 1.0}
    return Budget(**whole)


def _decided(arm: Arm, material: Material, work: Path, console: Console) -> Trained:
    model = material.fresh_model(arm.start).to(arm.recipe.arguments(work).device)  # pyright: ignore[reportArgumentType]
    batches = example_batches(arm, material, model.device)
    seen = sum(len(batch["labels"]) for batch in batches)
    console.print(f"{arm.name}: looking at {seen} examples", highlight=False)
    began = time.monotonic()
    small, _ = prune_post_training(
        model,
        arm.method,
        arm.budget,
        batches,
        scales=arm.method.scales,
        seed=arm.recipe.seed,
        report=lambda line: console.print(f"{arm.name}: {line}", highlight=False),
    )
    train_s = time.monotonic() - began
    return _finish(arm, small, material, work, train_s=train_s, num_steps=0)


def example_batches(arm: Arm, material: Material, device: torch.device) -> list[dict[str, Tensor]]:
    """The training examples that a method looks at: drawn with the arm's seed, in their order."""
    total = len(material.train)
    num = min(arm.num_examples or total, total)
    rows = sorted(random.Random(arm.recipe.seed).sample(range(total), num))
    size = arm.recipe.batch_size
    picked = material.train.select(rows)
    batches = (
        material.collator([picked[row] for row in range(first, min(first + size, num))])
        for first in range(0, num, size)
    )
    return [{name: value.to(device) for name, value in batch.items()} for batch in batches]


def _finish(
    arm: Arm,
    small: PreTrainedModel,
    material: Material,
    work: Path,
    *,
    train_s: float,
    num_steps: int,
) -> Trained:
    small.save_pretrained(work / "model")
    material.tokenizer.save_pretrained(work / "model")
    found = quality(small, material, arm.recipe, work)
    write_result(
        work,
        {
            "quality": found.value,
            "train_s": train_s,
            "num_steps": num_steps,
            "correct": found.correct,
            "only_class": found.only_class,
        },
    )
    return read_arm(arm, work)


def write_result(work: Path, result: dict[str, Any]) -> None:
    """Write the result of an arm, at once or not at all."""
    write_text(work / RESULT_FILE, json.dumps(result) + "\n")
