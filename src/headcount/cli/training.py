"""Training settings from ``--set`` and from the section ``training`` of a file of options."""

from collections.abc import Sequence
from typing import Any

from headcount.cli.settings import named_values
from headcount.errors import TrainingError
from headcount.runs.recipe import Recipe
from headcount.runs.training_settings import only_text

FIELDS = {"weight_decay": "weight_decay", "warmup_steps": "warmup"}
"""Settings that have no flag of their own -> their field of ``Recipe``."""


def recipe_with(words: Sequence[str] | None, **values: Any) -> Recipe:
    """A recipe with the settings of ``--set``.

    Args:
        words: texts such as ``bf16=true``.
        values: fields of ``Recipe``.

    Raises:
        TrainingError: a text is no setting, a setting is given twice, or ``Recipe`` refuses it.

    Example:
        >>> recipe = recipe_with(["gradient_accumulation_steps=4", "warmup_steps=0.06"], epochs=1)
        >>> recipe.training, recipe.warmup
        ({'gradient_accumulation_steps': 4}, 0.06)
    """
    training = named_values(
        words, flag="--set", example="bf16=true", is_text=only_text, error=TrainingError
    )
    own = {field: training.pop(name) for name, field in FIELDS.items() if name in training}
    return Recipe(**{**values, **own}, training=training)
