"""Tasks and their settings on the command line."""

from collections.abc import Sequence
from typing import Any

from headcount.door.files import parse_yaml
from headcount.door.shape import Misfit
from headcount.errors import DataError
from headcount.runs.data import task_of
from headcount.tasks.task import Task


def task_with(name: str, words: Sequence[str] | None) -> Task:
    """The task of ``--task`` with the settings of ``--task-set``.

    Args:
        name: the task's name.
        words: texts such as ``text=review``.

    Raises:
        DataError: there is no such task or setting, or a text is no setting.

    Example:
        >>> task_with("text-classification", ["text=review"]).columns
        ('review',)
    """
    return task_of(name, settings_of(name, words))


def settings_of(name: str, words: Sequence[str] | None) -> dict[str, Any]:
    """The settings of ``--task-set``: name -> value, of the type of the task's own.

    Raises:
        DataError: a text is no setting, or a setting is given twice.

    Example:
        >>> settings_of("text-classification", ["label=2024"])
        {'label': '2024'}
    """
    task, settings = task_of(name), {}
    for word in words or ():
        key, equals, text = word.partition("=")
        if not key or not equals:
            raise DataError(f"--task-set {word!r}: give NAME=VALUE, such as text=review.")
        if key in settings:
            raise DataError(f"--task-set {word!r}: {key} is given twice. Give it once.")
        # A name of a column may look like a number: where a text is wanted, it stays one.
        is_text = isinstance(getattr(task, key, ""), str)
        settings[key] = text if is_text else _value(word, text)
    return settings


def _value(word: str, text: str) -> Any:
    try:
        return parse_yaml(text, Any)
    except Misfit as problem:
        raise DataError(
            f"--task-set {word!r}: the value is {problem.value}. Give a plain value such as 4 or "
            "true, or JSON."
        ) from None
