"""The data that all runs share, tokenised, and the way to make their models."""

import hashlib
import json
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from datasets import Dataset
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel, set_seed

from headcount.checkpoints.disk import expanded, expanded_name
from headcount.checkpoints.loading import loading
from headcount.errors import CheckpointError, DataError
from headcount.runs.recipe import Recipe
from headcount.tasks import TASKS
from headcount.tasks.bounds import check_folder, is_data_file
from headcount.tasks.heads import unnamed
from headcount.tasks.settings import with_settings
from headcount.tasks.task import Task

MOST_FILES = 1_000_000
"""Folders with more files have no digest."""

logger = logging.getLogger("headcount")


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskData:
    """What all runs share: data, metrics, and a function that makes a fresh model.

    Example:
        >>> list(TaskData.__dataclass_fields__)[:4]
        ['task', 'fresh_model', 'processor', 'train']
    """

    task: Task
    """The task, with all of its settings found."""
    fresh_model: Callable[[str], PreTrainedModel]
    """Loads a model by name or folder, with the task's head."""
    processor: Any
    """What makes the model's inputs out of data, such as its tokenizer."""
    train: Dataset
    """Encoded training examples."""
    eval: Dataset
    """Encoded evaluation examples."""
    collator: Callable[[list[dict[str, Any]]], dict[str, Any]]
    """Makes a batch out of examples."""

    @property
    def metric(self) -> str:
        """The measure by which models are compared."""
        return self.task.primary_metric

    def example(self, model: PreTrainedModel, batch: int, length: int) -> dict[str, Tensor]:
        """Inputs with which latency and MACs of a model are measured; see ``Task.example``."""
        return self.task.example(model, self.processor, batch=batch, length=length)


def gather(
    model: str, task: str | Task, train: Sequence[Any], evaluate: Sequence[Any], recipe: Recipe
) -> TaskData:
    """Read and tokenise the data, and make the function that loads fresh models.

    Args:
        model: hub id or folder of the model.
        task: name of a task, or a task.
        train: training files, or ids of data sets.
        evaluate: evaluation files, likewise.
        recipe: gives the length of the examples and the seed of fresh weights.

    Raises:
        DataError: unknown task, data that does not fit it, or examples longer than the model
            reads.
        CheckpointError: there is no such model, or it has no tokenizer.

    Example:
        >>> gather("small", "poetry", ["train.tsv"], ["dev.tsv"], Recipe())
        Traceback (most recent call last):
            ...
        headcount.errors.DataError: task='poetry': give one of ['causal-lm', ...
    """
    kind = task_of(task)
    model = expanded_name(model)
    if not train or not evaluate:
        raise DataError("train=..., eval=...: give at least one file for each.")
    # Cheap checks come first; the data need the processor and the model's order of labels.
    names = label_names(model)
    processor = kind.load_processor(model)
    kind.check_model(model, recipe.max_length)
    kind = kind.settled(train, model, split="train").settled(evaluate, model, split="validation")
    labels, train_set, eval_set = kind.load(
        train, evaluate, processor=processor, max_length=recipe.max_length, order=names
    )

    kind = kind.with_labels(labels)

    def fresh_model(name: str) -> PreTrainedModel:
        set_seed(recipe.seed)  # a new head is random: it must be the same in every run
        with loading(name):
            return kind.load_model(name, labels)

    return TaskData(
        task=kind,
        fresh_model=fresh_model,
        processor=processor,
        train=train_set,
        eval=eval_set,
        collator=kind.collator(processor),
    )


def task_of(task: str | Task, settings: Mapping[str, Any] | None = None) -> Task:
    """Find a task by its name, or check a task of your own.

    Args:
        task: the name, or the task.
        settings: settings of the task by name; see ``with_settings``.

    Raises:
        DataError: there is no task of this name, the task has no name, or no such setting.

    Example:
        >>> task_of("nli").primary_metric
        'accuracy'
    """
    if isinstance(task, Task):
        if not hasattr(task, "name"):
            raise DataError(
                f"task={type(task).__name__}(): it has no 'name'. Give the class attribute name; "
                "see Task.name."
            )
        return with_settings(task, settings or {})
    if not isinstance(task, str) or task not in TASKS:
        raise DataError(
            f"task={task!r}: give one of {sorted(TASKS)}, or an instance of a subclass of hc.Task."
        )
    return with_settings(TASKS[task], settings or {})


def sampled(task_data: TaskData, num_train: int, seed: int) -> TaskData:
    """Keep a random sample of the training examples, in their order.

    Args:
        task_data: with all training examples.
        num_train: examples to keep; 0 keeps all.
        seed: seed of the sample, drawn by Python's ``random``.

    Raises:
        DataError: ``num_train`` is negative, or more than there are.
    """
    total = len(task_data.train)
    if not 0 <= num_train <= total:
        raise DataError(
            f"num_train={num_train}: there are {total} training examples. Give 0 (all) to {total}."
        )
    if num_train in (0, total):
        return task_data
    rows = sorted(random.Random(seed).sample(range(total), num_train))
    return replace(task_data, train=task_data.train.select(rows))


def check_finetuned(source: str, model: PreTrainedModel) -> None:
    """Refuse a model that is said to be fine-tuned, but has new, random weights.

    If a classifier does not name its labels, their order in the data is assumed, with a warning.

    Args:
        source: hub id or folder of the model.
        model: the model loaded from there, with the task's head.

    Raises:
        CheckpointError: the checkpoint lacks weights, such as those of the head.
    """
    kind = cast(Any, type(model))
    with loading(source):
        _, found = kind.from_pretrained(source, config=model.config, output_loading_info=True)
    missing = sorted(found["missing_keys"])
    if missing:
        shown = ", ".join(missing[:4]) + (", ..." if len(missing) > 4 else "")
        raise CheckpointError(
            f"finetuned: model {source!r} is not fine-tuned on the task: its checkpoint lacks "
            f"{shown}; they would be random. Give a fine-tuned model, or leave finetuned "
            "(--finetuned) out: the dense model is then fine-tuned first where that is needed."
        )
    names = label_names(source)
    classifies = type(model).__name__.endswith("Classification")
    if classifies and len(names) > 1 and unnamed(names):
        order = ", ".join(str(name) for _, name in sorted((model.config.id2label or {}).items()))
        logger.warning(
            "finetuned: model %r does not name its labels (LABEL_0, ...); taken to be, in this "
            "order: %s. If it was trained with another order, name the labels in id2label of its "
            "config.json.",
            *(source, order),
        )


def label_names(model: str) -> tuple[str, ...]:
    """The labels in a model's configuration, in order; ``LABEL_0``, ... where it names none.

    Raises:
        CheckpointError: there is no such model.
    """
    with loading(model):
        config = AutoConfig.from_pretrained(model, trust_remote_code=False)
        names = sorted((config.id2label or {}).items())
    return tuple(str(name) for _, name in names)


def describe_source(source: str | Path) -> list[Any]:
    """Identify a data source, so that resuming notices a change: name and digest, or an id.

    The digest of a file is of its content, that of a folder of the names and sizes of its files.

    Example:
        >>> describe_source("nyu-mll/multi_nli")
        ['nyu-mll/multi_nli', None]
    """
    path = expanded(source)
    if path.is_dir():
        return [path.name, _digest_of_folder(path)]
    if not is_data_file(path):
        return [str(source), None]
    with path.open("rb") as file:
        return [path.name, hashlib.file_digest(file, "sha256").hexdigest()]


def _digest_of_folder(folder: Path) -> str | None:
    """None for a folder that is no data set, which reading it refuses later."""
    try:
        check_folder(folder, "describe_source", most=MOST_FILES)
        found = [
            (path.relative_to(folder).as_posix(), path.stat().st_size)
            for path in folder.rglob("*")
            if path.is_file()
        ]
    except (DataError, OSError):
        return None
    return hashlib.sha256(json.dumps(sorted(found)).encode()).hexdigest()


def describe_model(model: str | Path) -> list[Any]:
    """Identify a model: its name, and for a folder a digest of configuration and weights.

    Example:
        >>> describe_model("bert-base-uncased")
        ['bert-base-uncased', None]
    """
    folder = expanded(model)
    if not folder.is_dir():
        return [str(model), None]
    found = hashlib.sha256()
    for path in sorted([*folder.glob("config.json"), *folder.glob("*.safetensors")]):
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return [folder.name, found.hexdigest()]
