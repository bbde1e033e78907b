"""Tasks and their settings on the command line."""

from collections.abc import Sequence
from typing import Any

from headcount.cli.settings import named_values
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
    task = task_of(name)
    return named_values(
        words,
        flag="--task-set",
        example="text=review",
        is_text=lambda key: isinstance(getattr(task, key, ""), str),
        error=DataError,
    )
