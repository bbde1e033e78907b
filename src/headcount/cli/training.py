"""Training settings from ``--set`` and from the section ``training`` of a file of options."""

from collections.abc import Sequence
from typing import Any

from headcount.door.files import parse_yaml
from headcount.door.shape import Misfit
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
    training: dict[str, Any] = {}
    for word in words or ():
        name, equals, text = word.partition("=")
        if not name or not equals:
            raise TrainingError(f"--set {word!r}: give NAME=VALUE, such as bf16=true.")
        if name in training:
            raise TrainingError(f"--set {word!r}: {name} is given twice. Give it once.")
        training[name] = _value(word, name, text)
    own = {field: training.pop(name) for name, field in FIELDS.items() if name in training}
    return Recipe(**{**values, **own}, training=training)


def _value(word: str, name: str, text: str) -> Any:
    try:
        value = parse_yaml(text, Any)
    except Misfit as problem:
        if only_text(name):
            return text
        raise TrainingError(
            f"--set {word!r}: the value is {problem.value}. Give a plain value such as 4, true or "
            "cosine, or JSON."
        ) from None
    # A name may look like a number, such as that of a run.
    return value if isinstance(value, str | None) or not only_text(name) else text
