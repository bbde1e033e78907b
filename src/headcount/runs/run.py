"""Carry out one run: fine-tune, or choose with a method and cut; keep the result in a file."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict, cast

import torch
from datasets import Dataset
from rich.console import Console
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback, set_seed

from headcount.door.atomic import write_text
from headcount.door.files import read_json
from headcount.door.shape import Count, Finite, Matching, Positive
from headcount.errors import TrainingError
from headcount.evidence.gate_grads import num_examples
from headcount.methods.method import Method
from headcount.post_training.decide import decide, deciding
from headcount.post_training.pruning import cut_post_training
from headcount.runs.data import TaskData
from headcount.runs.examples import example_batches
from headcount.runs.in_time import TABLE, in_time
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
from headcount.units.latency import LatencyTable

RESULT_FILE = "result.json"
NUM_EXAMPLES = 2048
"""Default number of training examples for a method that decides from data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSpec:
    """One way to a model: fine-tune it whole, or prune it with a method.

    Example:
        >>> dense_run("bert-base-uncased", Recipe()).method is None
        True
    """

    name: str
    """Name of the run in tables and folders."""
    method: Method | None = None
    """How to choose units; None for plain fine-tuning."""
    budget: Budget | None = None
    """What must remain; None exactly if there is no method."""
    remeasure: bool = False
    """Whether the chosen model is timed, and the choice made again until it meets the latency."""
    start: str
    """Name or folder of the model to start from."""
    recipe: Recipe
    """How to train."""
    num_examples: int = NUM_EXAMPLES
    """Training examples for a method that decides from data; 0 takes all."""
    teacher: str = ""
    """Folder of a fine-tuned model to learn from; empty to learn from the labels alone."""
    decided: Decision | None = None
    """The decision by which ``start`` was cut; the run is then its recovery, plain fine-tuning."""

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
    """The content of the result file."""

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
    """The task's primary metric on the evaluation data, measured on the cut model."""
    train_s: float
    """Seconds of training or of deciding from data, with those of asking the teacher. After
    resuming, the time before the interruption is not included."""
    num_steps: int
    """Optimizer steps."""
    decision: Decision | None
    """The units that stayed; None for a dense run."""
    folder: Path
    """Folder of the saved model."""
    correct: str | None = None
    """Right (``1``) or wrong (``0``) for each evaluation example; see ``Quality.correct``."""
    only_class: str | None = None
    """The label predicted for every evaluation example, if it is the same for all."""


def dense_run(start: str, recipe: Recipe) -> RunSpec:
    """The run without a method: plain fine-tuning.

    Example:
        >>> dense_run("bert-base-uncased", Recipe()).describe()
        {'name': 'dense'}
    """
    return RunSpec(name="dense", start=start, recipe=recipe)


def recipe_of(method: Method, recipe: Recipe, pipelined_epochs: float) -> Recipe:
    """The recipe for a method: ``pipelined_epochs`` if it trains logits alone.

    Example:
        >>> from headcount.methods.dsp import DSP
        >>> recipe_of(DSP(training="pipelined"), Recipe(), 1.0).epochs
        1.0
    """
    return recipe.lasting(pipelined_epochs) if method.trains == "logits" else recipe


def carry_out(
    spec: RunSpec,
    task_data: TaskData,
    work: Path,
    console: Console,
    callbacks: Sequence[TrainerCallback] = (),
) -> RunResult:
    """Choose, cut, evaluate and save; read a finished run back, and resume a killed one.

    There are three ways. Without a method, or with ``spec.decided``, the model is fine-tuned as it
    is. A method that decides from data decides on the given model, which is cut and not trained
    after. Any other method trains: it is cut before training if it decides at once, else after it.

    Args:
        spec: what to run.
        task_data: the data, and how a fresh model is made.
        work: the folder of this run; made if absent.
        console: where progress is shown.
        callbacks: further callbacks for the training.

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
    set_seed(spec.recipe.seed)  # no run may depend on those before it
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
    """Train a cut model by the recipe of its run; save it in ``recovered/model``.

    Args:
        trained: the result of the run that made the cut model.
        task_data: the data.
        epochs: epochs of recovery.
        console: where progress is shown.
        callbacks: further callbacks of the training.

    Returns:
        The result, with the decision of the first run.
    """
    spec, folder = trained.spec, trained.folder.parent
    whole = replace(
        spec,
        name=f"{spec.name}, recovering",
        start=str(trained.folder),
        recipe=spec.recipe.lasting(epochs),
        decided=trained.decision,
    )
    return carry_out(whole, task_data, folder / "recovered", console, callbacks)


def read_run(spec: RunSpec, work: Path) -> RunResult:
    """Read the result of a finished run from its folder."""
    give = "Delete that file to have it run again."
    result: _Result = read_json(work / RESULT_FILE, _Result, call=f"{spec.name}: read", give=give)
    if spec.remeasure and (work / TABLE).is_file():
        table = LatencyTable.load(work / TABLE)
        spec = replace(spec, budget=replace(cast(Budget, spec.budget), costs=table))
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
    """Train with a method; cut before training if the method decides at once, else after it."""
    method, budget = cast(Method, spec.method), cast(Budget, spec.budget)
    if method.phase == "at once":
        # Training the cut model is the same as training it masked, and faster.
        model = task_data.fresh_model(spec.start)
        choose = partial(decide, model, method, seed=spec.recipe.seed)
        decided, spec = in_time(spec, model, task_data, work, console, choose)
        small = cut(model, decided, in_place=True)
        return _tuned(replace(spec, decided=decided), task_data, work, console, callbacks, small)
    given, asking_s = _given(spec, task_data, work, console)
    trainer = PruningTrainer(
        model=task_data.fresh_model(spec.start), method=method, budget=budget, **given
    )
    train_s = asking_s + _train(trainer, spec, work, console, callbacks)
    whole = cast(PreTrainedModel, trainer.accelerator.unwrap_model(trainer.model))
    with trainer.session.lifted():
        decided, spec = in_time(
            spec, whole, task_data, work, console, lambda b: trainer.decisions([b])[0]
        )
    small = cast(PreTrainedModel, trainer.prune(decided))
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
    """Fine-tune the dense model or a cut one, without gates."""
    if spec.method is None and task_data.task.is_trained:
        whole = task_data.fresh_model(spec.start)
        return _finish(spec, whole, task_data, work, train_s=0.0, num_steps=0)
    given, asking_s = _given(spec, task_data, work, console)
    tuner = FineTuner(task_data.fresh_model(spec.start) if model is None else model, **given)
    train_s = asking_s + _train(tuner, spec, work, console, callbacks)
    tuned = cast(PreTrainedModel, tuner.trained())
    if spec.decided is not None:
        vars(tuned)["headcount_decision"] = spec.decided
    num_steps = tuner.state.global_step
    return _finish(spec, tuned, task_data, work, train_s=train_s, num_steps=num_steps)


def _given(
    spec: RunSpec, task_data: TaskData, work: Path, console: Console
) -> tuple[dict[str, Any], float]:
    """The arguments for a Trainer but the model, and the seconds of asking a teacher before."""
    args, task = spec.recipe.arguments(work), task_data.task
    train, asking_s = task_data.train, 0.0
    given: dict[str, Any] = {"distillation": Distillation() if spec.teacher else None}
    if spec.teacher and task.teaches == "examples":
        train, asking_s = _taught(spec, task_data, args.device, console)
    elif spec.teacher:
        given["teacher"] = task_data.fresh_model(spec.teacher)
    if args.dataloader_drop_last and len(train) < args.train_batch_size:
        raise TrainingError(
            f"Recipe(training={{'dataloader_drop_last': True}}): {len(train)} training examples "
            f"make no batch of {args.train_batch_size}. Give a smaller batch_size (--batch-size)."
        )
    given |= {"args": args, "train_dataset": train, "data_collator": task_data.collator}
    given |= {"compute_loss_func": task.loss_function(), "sizes": [*task.sizes(train)]}
    if args.eval_strategy != "no":
        given |= {
            "eval_dataset": task_data.eval,
            "compute_metrics": task.metrics,
            "preprocess_logits_for_metrics": task.reduce,
        }
    return given, asking_s


def _taught(
    spec: RunSpec, task_data: TaskData, device: torch.device, console: Console
) -> tuple[Dataset, float]:
    """The training data with the answers of a teacher, and the seconds of asking it."""
    console.print(f"{spec.name}: asking the teacher about {len(task_data.train)} examples")
    began = time.monotonic()
    teacher = task_data.fresh_model(spec.teacher).to(device)  # pyright: ignore[reportArgumentType]
    return taught(task_data.train, teacher, task_data.collator), time.monotonic() - began


def _train(
    trainer: FineTuner,
    spec: RunSpec,
    work: Path,
    console: Console,
    callbacks: Sequence[TrainerCallback],
) -> float:
    """Train, or resume from the last complete checkpoint; return the seconds."""
    trainer.remove_callback(PrinterCallback)
    for callback in (ProgressBar(spec.name, console), *callbacks):
        trainer.add_callback(callback)
    began = time.monotonic()
    trainer.train(resume_from_checkpoint=bool(complete_checkpoints(work)))
    return time.monotonic() - began


def _decided(spec: RunSpec, task_data: TaskData, work: Path, console: Console) -> RunResult:
    """Decide from data and cut; train nothing."""
    method, budget = cast(Method, spec.method), cast(Budget, spec.budget)
    model = task_data.fresh_model(spec.start).to(spec.recipe.arguments(work).device)  # pyright: ignore[reportArgumentType]
    batches = example_batches(spec, task_data, model.device)
    seen, loss = (
        sum(num_examples(one, spec.name) for one in batches),
        task_data.task.loss_function(),
    )

    def say(line: str) -> None:
        console.print(f"{spec.name}: {line}", highlight=False)

    say(f"looking at {seen} examples")
    began = time.monotonic()
    with deciding(model, method, budget, batches, seed=spec.recipe.seed, loss=loss) as session:
        deciding_s = time.monotonic() - began
        with session.lifted():
            decision, spec = in_time(
                spec, model, task_data, work, console, lambda b: session.decisions([b])[0]
            )
    say(f"{method.name}: {decision.num_kept} units stay, {deciding_s:.1f} s")
    began = time.monotonic()
    small, _ = cut_post_training(
        model, decision, batches, scales=method.scales, report=say, loss=loss
    )
    train_s = deciding_s + time.monotonic() - began
    return _finish(spec, small, task_data, work, train_s=train_s, num_steps=0)


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
    task_data.processor.save_pretrained(work / "model")
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
    """Write the result of a run, whole or not at all: the file marks the run as finished."""
    write_text(work / RESULT_FILE, json.dumps(result) + "\n")
