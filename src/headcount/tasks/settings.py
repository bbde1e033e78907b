"""Settings of a task by name, as the command line and files give them."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

from headcount.errors import DataError
from headcount.tasks.task import Task

FOUND = "found"
"""Key of the metadata of a field that is no setting, because data or model fill it in."""


def setting_names(task: Task) -> list[str]:
    """The names of a task's settings.

    Example:
        >>> from headcount.tasks.token_classification import TokenClassification
        >>> setting_names(TokenClassification())
        ['tokens', 'tags', 'metric']
    """
    if not is_dataclass(task):
        return []
    return [field.name for field in fields(task) if not field.metadata.get(FOUND)]


def with_settings(task: Task, settings: Mapping[str, Any]) -> Task:
    """A task with some of its settings given.

    Args:
        task: the task.
        settings: name of a setting -> value.

    Raises:
        DataError: the task has no such setting.
        ArgumentError: a value has the wrong type.

    Example:
        >>> from headcount.tasks.text_classification import TextClassification
        >>> with_settings(TextClassification(), {"text": "review"}).text
        'review'
    """
    if not settings:
        return task
    known = setting_names(task)
    unknown = [name for name in settings if name not in known]
    if unknown:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise DataError(f"task {task.name!r}: there is no setting {unknown[0]!r}; {has}.")
    return replace(cast(Any, task), **settings)


def described(task: Task) -> dict[str, Any]:
    """The settings of a task that differ from their defaults, for ``Task.describe``.

    Example:
        >>> from headcount.tasks.token_classification import TokenClassification
        >>> described(TokenClassification(tags="ner")), described(TokenClassification())
        ({'tags': 'ner'}, {})
    """
    usual = type(task)()
    given = {name: getattr(task, name) for name in setting_names(task)}
    return {name: value for name, value in given.items() if value != getattr(usual, name)}
