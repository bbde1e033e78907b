"""Flags from a YAML file."""

from collections.abc import Sequence
from pathlib import Path

import typer
import yaml


def load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take the values of a YAML file as defaults of a command's flags; flags given win.

    Args:
        context: the command's context.
        path: a mapping of flag names, without dashes in front, to values; None does nothing.

    Returns:
        The path.

    Raises:
        typer.BadParameter: not a mapping, or a name that the command does not have.
    """
    if path is None:
        return None
    try:
        values = yaml.safe_load(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise typer.BadParameter(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise typer.BadParameter(f"{path}: give a mapping such as 'heads: 12'.")
    values = {str(key).replace("-", "_"): value for key, value in values.items()}
    known = {parameter.name for parameter in context.command.params}
    unknown = sorted(values.keys() - known)
    if unknown:
        raise typer.BadParameter(
            f"{path}: unknown {', '.join(unknown)}. Known: {', '.join(sorted(map(str, known)))}."
        )
    several = {p.name for p in context.command.params if getattr(p, "multiple", False)}
    for name, value in values.items():
        if isinstance(value, list) and name not in several:  # as on the command line: 36,24,12
            values[name] = ",".join(map(str, value))
    context.default_map = {**(context.default_map or {}), **values}
    return path


def spread(arguments: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Repeat a flag before each of its values: ``--train a b`` becomes ``--train a --train b``.

    Args:
        arguments: the command line.
        flags: flags that take several values, up to the next flag.

    Example:
        >>> spread(["prune", "m", "--train", "a", "b", "--heads", "3"], ["--train"])
        ['prune', 'm', '--train', 'a', '--train', 'b', '--heads', '3']
    """
    result: list[str] = []
    flag, owed = None, False
    for argument in arguments:
        if argument.startswith("--"):
            flag, owed = (argument, False) if argument in flags else (None, False)
        elif flag is not None:
            result += [flag] if owed else []
            owed = True
        result.append(argument)
    return result
