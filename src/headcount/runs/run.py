"""One run: fine-tune, or choose with a method and cut; and remember the result."""

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict, cast

import torch
from datasets import Dataset
from rich.console import Console
from torch import Tensor
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback, set_seed

from headcount.door.atomic import write_text
from headcount.door.files import read_json
from headcount.door.shape import Count, Finite, Matching, Positive
from headcount.errors import TrainingError
from headcount.methods.method import Method
from headcount.post_training.decide import decide
from headcount.post_training.pruning import prune_post_training
from headcount.runs.data import TaskData
from headcount.runs.progress import ProgressBar
from headcount.runs.quality import quality
from headcount.runs.recipe import Recipe
from headcount.surgery.cut import cut
from headcount.training.distillation import Distillation, taught
from headcount.training.fine_tuner import FineTuner
from headcount.training.resume import complete_checkpoints
from headcount.training.trainer import PruningTrainer
from headcount.units.budget import Budget
from headcount.units.decision import Decision

RESULT_FILE = "result.json"
NUM_EXAMPLES = 2048
"""Training examples that a method looks at, unless asked otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSpec:
    """One way to come to a model: fine-tuned whole, or made smaller by a method.

    Example:
        >>> dense_run("bert-base-uncased", Recipe()).method is None
        True
    """

    name: str
    """Names the run in tables and folders."""
    method: Method | None = None
    """How units are chosen; None for plain fine-tuning."""
    budget: Budget | None = None
    """What remains; None for everything, and only then without a method."""
    start: str
    """Name or folder of the model to begin with."""
    recipe: Recipe
    """How to train."""
    num_examples: int = NUM_EXAMPLES
    """Training examples for a method that decides by looking at data; 0 takes all."""
    teacher: str = ""
    """Folder of a fine-tuned model whose answers are learnt, too; empty for labels alone."""
    decided: Decision | None = None
    """What ``start`` was cut by, if it was. The run is then its recovery: plain fine-tuning."""

    def __post_init__(self) -> None:
        if self.num_examples < 0:
            raise TrainingError(f"num_examples={self.num_examples}: give a count, or 0 for all.")
        if (self.method is None) != (self.budget is None):
            raise TrainingError(
                f"RunSpec(method={self.method!r}, budget={self.budget!r}): give both, or neither "
                "for plain fine-tuning."
            )

    @property
    def rests(self) -> bool:
        """Whether the weights rest while a method decides; see ``Method.rests``."""
        return self.method is not None and self.method.rests

    def describe(self) -> dict[str, Any]:
        """The method's name and settings, for provenance; ``dense`` without a method."""
        return {"name": "dense"} if self.method is None else self.method.describe()


class _Result(TypedDict):
    """What ``write_result`` writes."""

    quality: Finite
    train_s: Positive
    num_steps: Count
    correct: NotRequired[Annotated[str, Matching("[01]*", "a text of 0 and 1")] | None]
    only_class: NotRequired[str | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """The result of a run."""

    spec: RunSpec
    quality: float
    """The task's number on the evaluation data, measured on the cut model."""
    train_s: float
    """Seconds of training, or of looking at data, and of asking the teacher; of the last sitting,
    where a run was resumed."""
    num_steps: int
    """Optimizer steps."""
    decision: Decision | None
    """What stayed; None where nothing was to be removed."""
    folder: Path
    """Where the cut model is saved."""
    correct: str | None = None
    """Right (``1``) or wrong (``0``), evaluation example by example, if that was noted."""
    only_class: str | None = None
    """The label that the model gives every evaluation example, if it is one and the same."""


def dense_run(start: str, recipe: Recipe) -> RunSpec:
    """The run in which everything stays: plain fine-tuning.

    Example:
        >>> dense_run("bert-base-uncased", Recipe()).describe()
        {'name': 'dense'}
    """
    return RunSpec(name="dense", start=start, recipe=recipe)


def recipe_of(method: Method, recipe: Recipe, pipelined_epochs: float) -> Recipe:
    """The recipe of a method's run: logits alone are trained for so many epochs.

    Example:
        >>> from headcount.methods.dsp import DSP
        >>> recipe_of(DSP(training="pipelined"), Recipe(), 1.0).epochs
        1.0
    """
    return replace(recipe, epochs=pipelined_epochs) if method.trains == "logits" else recipe


def carry_out(
    spec: RunSpec,
    task_data: TaskData,
    work: Path,
    console: Console,
    callbacks: Sequence[TrainerCallback] = (),
) -> RunResult:
    """Choose, cut, evaluate and save; a finished run is read back, a killed one goes on.

    A method that looks at data decides about the model it is given, which is then cut and not
    trained any more; ``RunSpec.decided`` is for training it on. Any other method trains. A decision
    that stands before the first step is cut before it: the same as masking, and it costs less.

    Args:
        spec: what to run.
        task_data: the data, and how a fresh model is made.
        work: the run's own folder; made if absent.
        console: where progress is shown.
        callbacks: further callbacks of the training.

    Returns:
        The result; the cut model lies in ``work / "model"``.

    Raises:
        CheckpointError: ``work`` holds the checkpoint of another spec.
        TrainingError: the loss is not finite.
    """
    if (work / RESULT_FILE).is_file():
        console.print(f"{spec.name}: finished before, kept", highlight=False)
        return read_run(spec, work)
    work.mkdir(parents=True, exist_ok=True)
    set_seed(spec.recipe.seed)
    if spec.method is None or spec.decided is not None:
        return _tuned(spec, task_data, work, console, callbacks)
    if spec.method.phase == "from data":
        return _decided(spec, task_data, work, console)
    return _trained(spec, task_data, work, console, callbacks)


def recover(
    trained: RunResult,
    task_data: TaskData,
    epochs: float,
    console: Console,
    callbacks: Sequence[TrainerCallback] = (),
) -> RunResult:
    """Train a cut model with the recipe of its run; it lies in ``recovered/model`` then.

    Args:
        trained: the result of the spec.
        task_data: the data.
        epochs: how long.
        console: where progress is shown.
        callbacks: further callbacks of the training.

    Returns:
        The result, with the decision of the spec.
    """
    spec, folder = trained.spec, trained.folder.parent
    whole = replace(
        spec,
        name=f"{spec.name}, recovering",
        start=str(trained.folder),
        recipe=replace(spec.recipe, epochs=epochs),
        decided=trained.decision,
    )
    return carry_out(whole, task_data, folder / "recovered", console, callbacks)


def read_run(spec: RunSpec, work: Path) -> RunResult:
    """The result of a finished run, from its folder."""
    give = "Delete that file to have it run again."
    result: _Result = read_json(work / RESULT_FILE, _Result, call=f"{spec.name}: read", give=give)
    return RunResult(
        spec=spec,
        decision=None if spec.method is None else Decision.load(work / "model" / "decision.json"),
        folder=work / "model",
        quality=result["quality"],
        train_s=result["train_s"],
        num_steps=result["num_steps"],
        correct=result.get("correct"),
        only_class=result.get("only_class"),
    )


def _trained(
    spec: RunSpec,
    task_data: TaskData,
    work: Path,
    console: Console,
    callbacks: Sequence[TrainerCallback],
) -> RunResult:
    """Train with a method, and cut: before training if the decision stands, else after it."""
    method, budget = cast(Method, spec.method), cast(Budget, spec.budget)
    if method.phase == "at once":
        model = task_data.fresh_model(spec.start)
        decided = decide(model, method, budget, seed=spec.recipe.seed)
        small = cut(model, decided, in_place=True)
        return _tuned(replace(spec, decided=decided), task_data, work, console, callbacks, small)
    train, asking_s = _taught(spec, task_data, work, console)
    trainer = PruningTrainer(
        model=task_data.fresh_model(spec.start),
        distillation=Distillation() if spec.teacher else None,
        method=method,
        budget=budget,
        args=spec.recipe.arguments(work),
        train_dataset=train,
        data_collator=task_data.collator,
    )
    train_s = asking_s + _train(trainer, spec, work, console, callbacks)
    small = cast(PreTrainedModel, trainer.prune())
    trainer.session.close()
    num_steps = trainer.state.global_step
    return _finish(spec, small, task_data, work, train_s=train_s, num_steps=num_steps)


def _tuned(
    spec: RunSpec,
    task_data: TaskData,
    work: Path,
    console: Console,
    callbacks: Sequence[TrainerCallback],
    model: PreTrainedModel | None = None,
) -> RunResult:
    """Train all that there is, without gates: the dense model, or one that was cut."""
    train, asking_s = _taught(spec, task_data, work, console)
    tuner = FineTuner(
        task_data.fresh_model(spec.start) if model is None else model,
        spec.recipe.arguments(work),
        distillation=Distillation() if spec.teacher else None,
        train_dataset=train,
        data_collator=task_data.collator,
    )
    train_s = asking_s + _train(tuner, spec, work, console, callbacks)
    tuned = cast(PreTrainedModel, tuner.trained())
    if spec.decided is not None:
        vars(tuned)["headcount_decision"] = spec.decided
    num_steps = tuner.state.global_step
    return _finish(spec, tuned, task_data, work, train_s=train_s, num_steps=num_steps)


def _taught(
    spec: RunSpec, task_data: TaskData, work: Path, console: Console
) -> tuple[Dataset, float]:
    """The training data, with the teacher's answers if there is one, and the seconds it took."""
    if not spec.teacher:
        return task_data.train, 0.0
    console.print(f"{spec.name}: asking the teacher about {len(task_data.train)} examples")
    began = time.monotonic()
    teacher = task_data.fresh_model(spec.teacher).to(spec.recipe.arguments(work).device)  # pyright: ignore[reportArgumentType]
    return taught(task_data.train, teacher, task_data.collator), time.monotonic() - began


def _train(
    trainer: FineTuner,
    spec: RunSpec,
    work: Path,
    console: Console,
    callbacks: Sequence[TrainerCallback],
) -> float:
    """Train, or go on with what was interrupted; the seconds of this sitting."""
    trainer.remove_callback(PrinterCallback)
    for callback in (ProgressBar(spec.name, console), *callbacks):
        trainer.add_callback(callback)
    began = time.monotonic()
    trainer.train(resume_from_checkpoint=bool(complete_checkpoints(work)))
    return time.monotonic() - began


def _decided(spec: RunSpec, task_data: TaskData, work: Path, console: Console) -> RunResult:
    """Decide from data and cut; nothing is trained."""
    method, budget = cast(Method, spec.method), cast(Budget, spec.budget)
    model = task_data.fresh_model(spec.start).to(spec.recipe.arguments(work).device)  # pyright: ignore[reportArgumentType]
    batches = example_batches(spec, task_data, model.device)
    seen = sum(len(batch["labels"]) for batch in batches)
    console.print(f"{spec.name}: looking at {seen} examples", highlight=False)
    began = time.monotonic()
    small, _ = prune_post_training(
        model,
        method,
        budget,
        batches,
        scales=method.scales,
        seed=spec.recipe.seed,
        report=lambda line: console.print(f"{spec.name}: {line}", highlight=False),
    )
    train_s = time.monotonic() - began
    return _finish(spec, small, task_data, work, train_s=train_s, num_steps=0)


def example_batches(
    spec: RunSpec, task_data: TaskData, device: torch.device
) -> list[dict[str, Tensor]]:
    """The training examples that a method looks at: drawn with the run's seed, in their order."""
    total = len(task_data.train)
    num = min(spec.num_examples or total, total)
    rows = sorted(random.Random(spec.recipe.seed).sample(range(total), num))
    size = spec.recipe.batch_size
    picked = task_data.train.select(rows)
    batches = (
        task_data.collator([picked[row] for row in range(first, min(first + size, num))])
        for first in range(0, num, size)
    )
    return [{name: value.to(device) for name, value in batch.items()} for batch in batches]


def _finish(
    spec: RunSpec,
    small: PreTrainedModel,
    task_data: TaskData,
    work: Path,
    *,
    train_s: float,
    num_steps: int,
) -> RunResult:
    small.save_pretrained(work / "model")
    task_data.tokenizer.save_pretrained(work / "model")
    found = quality(small, task_data, spec.recipe, work)
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
    return read_run(spec, work)


def write_result(work: Path, result: dict[str, Any]) -> None:
    """Write the result of an run, at once or not at all."""
    write_text(work / RESULT_FILE, json.dumps(result) + "\n")
