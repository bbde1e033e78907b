"""Read files that somebody else may have written: with bounds, and of an expected shape.

Nothing that is built from a file may be much larger than the file, or than the limit of what is
unpacked.
"""

import gzip
import io
import json
import math
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import yaml

from headcount.door.atomic import PACKED
from headcount.door.shape import Misfit, Said, fit, short
from headcount.errors import CheckpointError, PruningError

LIMIT = 16 * 2**20
"""Most bytes of a file with settings or results."""
LARGE = 256 * 2**20
"""Most bytes of a file that lists every unit of a model."""
YAML_LIMIT = 2**16
"""Most bytes of a YAML file with flags."""
DEPTH = 40
"""Most lists and mappings inside each other."""
CONTAINERS = 500_000
"""Most lists and mappings in one file. In memory, an empty one is thirty times as large as its
text."""
DIGITS = 20
"""Most digits of a whole number; the greatest seed has as many."""


def read_text(path: str | Path, *, limit: int = LIMIT) -> str:
    """The text of a regular file; one whose name ends with ``.gz`` is unpacked.

    Args:
        path: the file.
        limit: most bytes that it may have, packed and unpacked.

    Raises:
        Misfit: it is not a regular file, is larger than allowed, is not UTF-8, or is packed and not
            whole.
        OSError: it does not exist, or cannot be read.

    Example:
        >>> read_text(os.devnull)
        Traceback (most recent call last):
            ...
        headcount.door.shape.Misfit: it is a device, not a regular file
    """
    content = read_bytes(path, limit=limit)
    if Path(path).suffix == PACKED:
        content = _unpacked(content, limit)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Misfit(Said(f"not UTF-8 in line {line}"), "a text file") from None


def read_bytes(path: str | Path, *, limit: int = LIMIT) -> bytes:
    """The contents of a regular file.

    Args:
        path: the file.
        limit: bytes that it may have.

    Raises:
        Misfit: it is no regular file, or larger than allowed.
        OSError: it is not there, or cannot be read.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:  # without O_NONBLOCK a pipe would wait for a writer
        _check_regular(os.fstat(handle))
    except Misfit:
        os.close(handle)
        raise
    with os.fdopen(handle, "rb") as file:
        content = file.read(limit + 1)
    _check_size(content, limit)
    return content


def _check_size(content: bytes, limit: int) -> None:
    if len(content) > limit:
        raise Misfit(Said(f"larger than {limit} bytes"), "a file of headcount")


def _unpacked(content: bytes, limit: int) -> bytes:
    """What was packed; no more than one byte beyond the limit is unpacked."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            found = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise Misfit(Said(f"no whole gzip file ({error})"), "a whole file") from None
    _check_size(found, limit)
    return found


def check_regular(path: Path, *, links: bool = True) -> None:
    """Refuse devices, pipes, folders and empty files; also links, if ``links`` is false.

    Raises:
        Misfit: the path is one of these.
        OSError: the path does not exist.
    """
    found = path.stat() if links else path.lstat()
    _check_regular(found)
    if not found.st_size:
        raise Misfit(Said("empty"), "a whole file")


def _check_regular(found: os.stat_result) -> None:
    kinds = {
        stat.S_ISDIR: "a folder",
        stat.S_ISLNK: "a link",
        stat.S_ISFIFO: "a pipe",
        stat.S_ISSOCK: "a socket",
    }
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_one, name in kinds.items() if is_one(found.st_mode)), "a device")
        raise Misfit(Said(kind), "a regular file")


def parse_json(text: str, wanted: Any) -> Any:
    """The values of a JSON text, checked against an annotation.

    Repeated keys, numbers that are not finite, and nesting deeper than ``DEPTH`` are refused: JSON
    readers do not agree on what these mean.

    Raises:
        Misfit: the text is not JSON, or its values do not fit the annotation.

    Example:
        >>> parse_json('{"a": 1, "a": 2}', dict[str, int])
        Traceback (most recent call last):
            ...
        headcount.door.shape.Misfit: it is a text with the key 'a' twice, not one value for each
    """
    if not isinstance(text, str):
        raise Misfit(text, "a text")
    # Counted in the text, before anything is built: brackets inside strings count too, harmlessly.
    if text.count("[") + text.count("{") > CONTAINERS:
        raise Misfit(Said(f"a text with more than {CONTAINERS} lists"), "a file of headcount")
    try:
        body = json.loads(
            text,
            object_pairs_hook=_without_doubles,
            parse_constant=_not_finite,
            parse_float=_finite,
            parse_int=_whole,
        )
    except RecursionError:
        raise Misfit(Said("nested too deep"), _DEEPEST) from None
    except ValueError as error:
        where = (
            f"line {error.lineno}: {error.msg}"
            if isinstance(error, json.JSONDecodeError)
            else error
        )
        raise Misfit(Said(f"no JSON ({where})"), "a whole file") from None
    _check_depth(body)
    # Only an escape can bring half a character into text that is UTF-8.
    if "\\u" in text:
        _check_characters(body)
    return fit(body, wanted, plain=True)


def read_json(
    path: str | Path,
    wanted: Any,
    *,
    call: str,
    give: str,
    error: type[PruningError] = CheckpointError,
    limit: int = LIMIT,
) -> Any:
    """The values of a JSON file, checked against an annotation.

    Args:
        path: the file.
        wanted: the annotation; see ``shape.fit``.
        call: the call that reads it, for the message.
        give: what the reader of the message should do.
        error: the class of the error.
        limit: most bytes that the file may have.

    Raises:
        PruningError: an ``error`` that names the file, the place in it, the value and what is
            allowed there.

    Example:
        >>> read_json("nowhere.json", dict, call="load", give="Give another.")
        Traceback (most recent call last):
            ...
        headcount.errors.CheckpointError: load('nowhere.json'): there is no such file. Give another.
    """
    with checked(f"{call}({str(path)!r})", give=give, error=error):
        return parse_json(read_text(path, limit=limit), wanted)


@contextmanager
def checked(call: str, *, give: str, error: type[PruningError] = CheckpointError) -> Iterator[None]:
    """Inside the block, turn everything that can be wrong with a file into one kind of error.

    Args:
        call: the call and what it reads: the beginning of the message.
        give: what the reader of the message should do: its end.
        error: the class of the error.

    Raises:
        PruningError: an ``error``.
    """
    try:
        yield
    except FileNotFoundError as problem:
        raise error(f"{call}: there is no such file. {give}") from problem
    except OSError as problem:
        raise error(f"{call}: {problem.strerror or problem}. {give}") from problem
    except Misfit as problem:
        raise error(f"{call}: {problem}. {give}") from None
    except PruningError as problem:
        raise error(f"{call}: {str(problem).removesuffix('.')}. {give}") from problem


def parse_format(
    text: str,
    wanted: Any,
    *,
    version: int,
    call: str,
    what: str,
    error: type[PruningError] = CheckpointError,
    older: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] | None = None,
) -> Any:
    """The values of a JSON text with a key ``format``, the version of the format.

    Args:
        text: the text.
        wanted: the annotation of the values without ``format``.
        version: the format that is written today.
        call: the call that reads it, for the message.
        what: what the text should be, for the message.
        error: the class of the error.
        older: older format that can be read -> function from its values to those of today. The
            values have not been checked when it is called.

    Raises:
        PruningError: an ``error``: the text is of another format, or something else.

    Example:
        >>> parse_format('{"format": 1, "a": 2}', dict[str, int], version=1, call="load",
        ...     what="a list")
        {'a': 2}
    """
    give = f"Give what {call.partition('.')[0]}.to_json wrote."
    with checked(f"{call}: not {what}", give=give, error=error):
        body = parse_json(text, dict[str, Any])
        if "format" not in body:
            raise Misfit(sorted(body), "a mapping with the key 'format'")
        found = body.pop("format")
        if isinstance(found, int) and not isinstance(found, bool):
            if found in (older or {}):
                found, body = version, (older or {})[found](body)
            if found == version:
                return fit(body, wanted, plain=True)
    raise error(f"{call}: format {short(found)}; this version of headcount reads {version}.")


def parse_yaml(text: str, wanted: Any) -> Any:
    """The values of a YAML text, checked against an annotation.

    Aliases are refused: a few lines with aliases can stand for gigabytes.

    Raises:
        Misfit: the text is not YAML, or its values do not fit the annotation.

    Example:
        >>> parse_yaml("heads: 12", dict[str, int])
        {'heads': 12}
    """
    depth = 0
    try:
        # A first pass over the events builds nothing, so it can stop in time.
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                where = f" in line {event.start_mark.line + 1}" if event.start_mark else ""
                raise Misfit(Said(f"a text with an alias (*{event.anchor}){where}"), "plain values")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH:
                raise Misfit(Said("nested too deep"), _DEEPEST)
        body = yaml.load(text, _OneOfEach)
    except yaml.MarkedYAMLError as error:
        where = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise Misfit(Said(f"no YAML ({error.problem}{where})"), "a whole file") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise Misfit(Said(f"no YAML ({str(error).splitlines()[0]})"), "a whole file") from None
    return fit(body, wanted, plain=True)


class _OneOfEach(yaml.SafeLoader):
    """A YAML loader that refuses a key that occurs twice; the stock one takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As the stock loader, after a check of the keys."""
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise Misfit(Said(f"a text with the key {short(twice)} twice"), "one value for each")
        return super().construct_mapping(node, deep)


# YAML 1.1, by which the loader reads, takes 1e-4 for a text.
_OneOfEach.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)
_DEEPEST = f"at most {DEPTH} lists inside of each other"


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise Misfit(Said(f"a text with the key {short(twice)} twice"), "one value for each")
    return found


def _not_finite(word: str) -> NoReturn:
    raise Misfit(Said(f"a text with {word}"), "finite numbers alone")


def _finite(word: str) -> float:
    value = float(word)
    return value if math.isfinite(value) else _not_finite(word[:40])


def _whole(word: str) -> int:
    if len(word.lstrip("-")) > DIGITS:
        raise Misfit(Said(f"a text with a number of {len(word)} digits"), f"{DIGITS} at most")
    return int(word)


def _check_characters(body: Any) -> None:
    """Refuse half a surrogate pair, which can be neither printed nor saved."""
    try:
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Misfit(Said("a text with half a character"), "UTF-8") from None


def _check_depth(body: Any) -> None:
    # Level by level, without recursion: a deep structure would exhaust the stack.
    level = [body]
    for _ in range(DEPTH + 1):
        inner = [one for one in level if isinstance(one, dict | list)]
        if not inner:
            return
        level = [one for box in inner for one in (box.values() if isinstance(box, dict) else box)]
    raise Misfit(Said("nested too deep"), _DEEPEST)
