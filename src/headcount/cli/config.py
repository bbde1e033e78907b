"""Options from a YAML file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from headcount.door.files import YAML_LIMIT, parse_yaml, read_text
from headcount.door.shape import Finite, Misfit
from headcount.units.kinds import ALL

Value = str | bool | int | Finite
Flags = dict[str | int, Value | list[Value] | dict[str, Value] | None]
"""The values that a file of options may have. A mapping is a number for each of several places."""
PLACED = {kind.plural for kind in ALL}
"""The options that may have a mapping."""


def load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Use the values of a YAML file as the defaults of a command's options.

    Options on the command line take precedence over the file.

    Args:
        context: the command's context.
        path: a file with a mapping of option names, without leading dashes, to values; None: no
            file.

    Returns:
        The path.

    Raises:
        typer.BadParameter: the file is not a mapping, or has an unknown option.
    """
    if path is None:
        return None
    try:
        text = read_text(path.expanduser(), limit=YAML_LIMIT).removeprefix("\ufeff")
        read: dict[str, Any] = parse_yaml(text, Flags)
    except (OSError, Misfit) as error:
        said = error if isinstance(error, Misfit) else error.strerror
        give = "Give a mapping such as 'heads: 12'."
        raise typer.BadParameter(f"{path}: cannot be read as YAML: {said}. {give}") from error
    values: dict[str, Any] = {str(key).replace("-", "_"): value for key, value in read.items()}
    known = {parameter.name for parameter in context.command.params}
    unknown = sorted(values.keys() - known)
    if unknown:
        raise typer.BadParameter(
            f"{path}: unknown {', '.join(unknown)}. Known: {', '.join(sorted(map(str, known)))}."
        )
    wrong = sorted(n for n, value in values.items() if isinstance(value, dict) and n not in PLACED)
    if wrong:
        raise typer.BadParameter(
            f"{path}: {wrong[0]} is a mapping. Give one value; mappings of places are for "
            f"{', '.join(sorted(PLACED))}."
        )
    several = {p.name for p in context.command.params if getattr(p, "multiple", False)}
    for name, value in values.items():
        if isinstance(value, list) and name not in several:  # as on the command line: 36,24,12
            values[name] = ",".join(map(str, value))
        elif isinstance(value, dict):  # encoder=6,decoder.cross=2
            values[name] = ",".join(f"{place}={number}" for place, number in value.items())
    context.default_map = {**(context.default_map or {}), **values}
    return path


def spread(arguments: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Repeat an option before each of its values: ``--train a b`` becomes ``--train a --train b``.

    Args:
        arguments: the command line.
        flags: options that take several values, up to the next option.

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
