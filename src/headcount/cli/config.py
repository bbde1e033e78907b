"""Options from a YAML file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from headcount.door.files import YAML_LIMIT, parse_yaml, read_text
from headcount.door.shape import Finite, Misfit, fit
from headcount.units.kinds import ALL

Value = str | bool | int | Finite
Flags = dict[str | int, Value | list[Value] | dict[str, Value] | None]
"""The values that a file of options may have. A mapping is a number for each of several places."""
PLACED = {kind.plural for kind in ALL}
"""The options that may have a mapping."""
SECTION = "training"
"""The section of a file of options that has training settings, for commands with ``--set``."""


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
    known = {parameter.name for parameter in context.command.params}
    try:
        text = read_text(path.expanduser(), limit=YAML_LIMIT).removeprefix("\ufeff")
        read: dict[str | int, Any] = parse_yaml(text, dict[str | int, Any])
        if SECTION in known and SECTION in read:
            context.meta[SECTION] = _section(read.pop(SECTION))
        fit(read, Flags, plain=True)
    except (OSError, Misfit) as error:
        said = error if isinstance(error, Misfit) else error.strerror
        give = "Give a mapping such as 'heads: 12'."
        raise typer.BadParameter(f"{path}: cannot be read as YAML: {said}. {give}") from error
    values: dict[str, Any] = {str(key).replace("-", "_"): value for key, value in read.items()}
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
    flat = {n: value if n in several else _as_words(value) for n, value in values.items()}
    context.default_map = {**(context.default_map or {}), **flat}
    return path


def _as_words(value: Any) -> Any:
    """A value as it is written on the command line."""
    if isinstance(value, list):  # 36,24,12
        return ",".join(map(str, value))
    if isinstance(value, dict):  # encoder=6,decoder.cross=2
        return ",".join(f"{place}={number}" for place, number in value.items())
    return value


def with_section(context: typer.Context, words: list[str] | None) -> list[str]:
    """The settings of the file of options, then those of the command line, which replace them."""
    given = words or []
    named = {word.partition("=")[0] for word in given}
    section: dict[str, Any] = context.meta.get(SECTION, {})
    kept = {name: value for name, value in section.items() if name not in named}
    return [*(f"{name}={json.dumps(value)}" for name, value in kept.items()), *given]


def _section(body: Any) -> dict[str, Any]:
    try:
        return fit(body, dict[str, Any])
    except Misfit as problem:
        raise problem.below(f".{SECTION}") from None


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
