"""Try a recipe's training settings before data are read: what is refused, is refused at once."""

from collections.abc import Iterable
from tempfile import TemporaryDirectory
from typing import cast

from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PreTrainedConfig, PreTrainedModel, Trainer

from headcount.errors import TrainingError
from headcount.methods.method import Method
from headcount.runs.recipe import Recipe
from headcount.tasks.task import Task

_CHECKPOINTING = ("activation_checkpointing", "gradient_checkpointing")


def rehearse(recipe: Recipe, methods: Iterable[Method]) -> None:
    """Refuse training settings that this machine, the Trainer or a method does not take.

    A Trainer is made for a model of a single weight, with its optimizer and its schedule. Nothing
    is trained, and nothing stays on the disk. Without training settings there is nothing to try.

    Args:
        recipe: the recipe.
        methods: the methods that will choose.

    Raises:
        TrainingError: says what transformers said, or which method the settings do not go with.
    """
    if not recipe.training:
        return
    learning = next((method for method in methods if method.learns), None)
    if recipe.training.get("load_best_model_at_end") and learning is not None:
        raise TrainingError(
            f"Recipe(training={{'load_best_model_at_end': True}}): {learning.name} has its final "
            "decision only at the last step; an earlier checkpoint has another. Leave it out."
        )
    try:
        with TemporaryDirectory() as scratch:
            _make_trainer(recipe, scratch)
    except Exception as error:
        said = " ".join(str(error).split())
        # Of a KeyError the message is a bare name.
        said = said if " " in said else f"{type(error).__name__} {said}"
        raise TrainingError(
            f"Recipe(training={recipe.training}): transformers refuses this here: {said}"
        ) from error


def check_trainable(recipe: Recipe, model: PreTrainedModel, *, distils: bool = False) -> None:
    """Refuse training settings that this model does not take.

    Args:
        recipe: the recipe.
        model: the model.
        distils: whether a run learns from a teacher.

    Raises:
        TrainingError: the model has no gradient checkpointing, and the recipe asks for it; or it
            has CTC, and a run learns from a teacher.
    """
    if distils and type(model).__name__.endswith("ForCTC"):
        raise TrainingError(
            f"distillation ({type(model).__name__}): a model with CTC answers for each frame, and "
            "no frame has a label of its own. Leave it (--distil, +distil) out."
        )
    asked = next((name for name in _CHECKPOINTING if recipe.training.get(name)), None)
    if asked and not model.supports_gradient_checkpointing:
        raise TrainingError(
            f"Recipe(training={{{asked!r}: True}}): {type(model).__name__} has no gradient "
            "checkpointing. Leave it out."
        )


def check_task(task: Task, recipe: Recipe, *, distils: bool) -> None:
    """Refuse settings that a task has no place for.

    Args:
        task: the task.
        recipe: the recipe.
        distils: whether a run learns from a teacher.

    Raises:
        TrainingError: the task learns from the dense model in any case, or predicts in a way that
            the Trainer does not know.
    """
    if distils and task.teaches == "nothing":
        raise TrainingError(
            f"task {task.name!r}: it has no labels beside the answers of the dense model, from "
            "which it learns in any case. Leave distillation (--distil, +distil) out."
        )
    when = recipe.training.get("eval_strategy", "no")
    if when != "no" and type(task).predict is not Task.predict:
        raise TrainingError(
            f"Recipe(training={{'eval_strategy': {str(when)!r}}}): the task {task.name!r} makes "
            "its predictions in a way of its own, which the Trainer does not know. Leave it out: "
            "quality is measured when training is over."
        )


class _Tiny(PreTrainedModel):
    """A model that is never run."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.weight = nn.Linear(1, 1)
        self.post_init()

    def forward(self, input_ids: Tensor, labels: Tensor) -> None:
        """Only its arguments are read."""


def _make_trainer(recipe: Recipe, scratch: str) -> None:
    row = {"input_ids": [0], "labels": 0}
    rows = cast(Dataset, [row, row])
    trainer = Trainer(
        _Tiny(PreTrainedConfig()),
        recipe.arguments(scratch),
        train_dataset=rows,
        eval_dataset=rows,
    )
    trainer.get_train_dataloader()
    if not recipe.training.get("optim_target_modules"):  # names of modules of the real model
        trainer.create_optimizer_and_scheduler(num_training_steps=10)
