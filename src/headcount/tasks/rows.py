"""Read the rows of tab-separated, comma-separated and JSON-lines files, with their line numbers."""

import csv
import json
import math
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from headcount.errors import DataError
from headcount.tasks.bounds import lines, opened, shown
from headcount.tasks.conll import TAGS, TOKENS, Lines, Row, conll, conllu


class MissingColumnError(DataError):
    """A table lacks a column. A separate class, since a task may know what the table is instead.

    Example:
        >>> issubclass(MissingColumnError, DataError)
        True
    """


def read_rows(
    path: Path,
    columns: Sequence[str],
    *,
    suffix: str,
    call: str,
    lists: Collection[str] = (),
) -> tuple[dict[str, list[Any]], Sequence[int]]:
    """Read columns of a text file.

    Args:
        path: an existing file.
        columns: names of the columns to read.
        suffix: a key of ``TEXT_FORMS``, or one followed by ``.gz``.
        call: beginning of every message.
        lists: the columns whose cells are lists of strings; see ``texts_of``.

    Returns:
        The cells of each column, and the number of the line that each row ends in.

    Raises:
        DataError: the file is not of this format, lacks a column, or has no rows.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "a.jsonl")
        >>> _ = path.write_text('{"text": "It rains.", "label": 1}')
        >>> cells, numbers = read_rows(path, ["text", "label"], suffix=".jsonl", call="read")
        >>> cells, list(numbers)
        ({'text': ['It rains.'], 'label': ['1']}, [1])
    """
    form, is_gzip = suffix.removesuffix(".gz"), suffix.endswith(".gz")
    if form in SENTENCES:
        _check_columns([TOKENS, TAGS], columns, call)
    cells: dict[str, list[Any]] = {column: [] for column in columns}
    numbers = array("q")
    with opened(path, call) as file:
        for number, row in TEXT_FORMS[form](lines(file, call, is_gzip=is_gzip), columns, call):
            numbers.append(number)
            for column in columns:
                read = texts_of if column in lists else text_of
                cells[column].append(read(row[column], f"{call}: line {number}", column))
    if not numbers:
        raise DataError(f"{call}: the file has no rows. Give one with at least one row.")
    return cells, numbers


def _tsv(file: Lines, columns: Sequence[str], call: str) -> Iterator[Row]:
    # Not by csv: quotes in the text of such files are plain characters.
    records = ((number, line.rstrip("\r\n").split("\t")) for number, line in file)
    return _below_header(((n, cells) for n, cells in records if cells != [""]), columns, call)


def _csv(file: Lines, columns: Sequence[str], call: str) -> Iterator[Row]:
    return _below_header(_csv_records(file, call), columns, call)


def _csv_records(file: Lines, call: str) -> Iterator[tuple[int, list[str]]]:
    # A quoted cell may hold line ends, so the reader's own count gives the line of a record.
    reader = csv.reader((line for _, line in file), strict=True)
    try:
        yield from ((reader.line_num, cells) for cells in reader if cells)
    except csv.Error as error:
        raise DataError(
            f"{call}: line {reader.line_num} is not CSV: {error}. Put double quotes around cells "
            "with commas, line ends or double quotes, and double the quotes inside."
        ) from error


def _below_header(
    records: Iterator[tuple[int, list[str]]], columns: Sequence[str], call: str
) -> Iterator[Row]:
    _, header = next(records, (0, None))
    if header is None:
        raise DataError(f"{call}: the file is empty. Give one with a header and rows.")
    _check_columns(header, columns, call)
    for number, cells in records:
        if len(cells) != len(header):
            raise DataError(
                f"{call}: line {number} has {len(cells)} cells, the header has {len(header)}. "
                "Give each line as many cells as the header."
            )
        yield number, dict(zip(header, cells, strict=True))


def _txt(file: Lines, columns: Sequence[str], call: str) -> Iterator[Row]:
    """A text in each line, as the column ``text``."""
    for number, line in file:
        _check_columns(["text"], columns, call)
        if line.strip():
            yield number, {"text": line.strip()}


def _jsonl(file: Lines, columns: Sequence[str], call: str) -> Iterator[Row]:
    for number, line in file:
        if not line.strip():
            continue
        where = f"{call}: line {number}"
        try:
            row = json.loads(line, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError) as error:  # numbers of very many digits; deep nesting
            raise DataError(f"{where} is not JSON: {error}. Give one object a line.") from error
        if not isinstance(row, _Pairs):
            raise DataError(f"{where} is a JSON {type(row).__name__}. Give one object a line.")
        _check_columns([name for name, _ in row], columns, where)
        yield number, dict(row)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as a list of pairs: a dictionary would hide a name that occurs twice."""

    def __repr__(self) -> str:
        return repr(dict(self))


def _check_columns(found: list[str], columns: Sequence[str], where: str) -> None:
    missing = [column for column in columns if column not in found]
    if missing:
        raise MissingColumnError(
            f"{where}: there is no column {', '.join(map(repr, missing))}; the columns are "
            f"{shown(found, 400)}. Rename them to {list(columns)}."
        )
    twice = [column for column in columns if found.count(column) > 1]
    if twice:
        raise DataError(f"{where}: the column {twice[0]!r} occurs twice. Rename one of them.")


def text_of(value: Any, where: str, column: str) -> str:
    """A cell as text.

    Raises:
        DataError: the cell is neither text nor a number, or is text that UTF-8 cannot encode.

    Example:
        >>> text_of(1.5, "line 3", "label")
        '1.5'
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(value, float) and not math.isfinite(value):
        is_number = False  # pandas writes nan for a missing cell
    if not isinstance(value, str) and not is_number:
        raise DataError(f"{where} has {shown(value)} as {column!r}. Give a string or a number.")
    text = str(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:  # half a surrogate pair, such as \ud800 in JSON
            raise DataError(
                f"{where} has text that is no Unicode as {column!r}: {error}."
            ) from error
    return text


def texts_of(value: Any, where: str, column: str) -> list[str]:
    """A cell as a list of strings: a list, or text with commas between.

    Raises:
        DataError: the cell is neither, or a member of the list is neither text nor a number.

    Example:
        >>> texts_of("a, b", "line 3", "labels"), texts_of(["a", 1], "line 4", "labels")
        (['a', 'b'], ['a', '1'])
        >>> texts_of("", "line 5", "labels")
        []
    """
    if isinstance(value, list):
        return [text_of(one, where, column) for one in value]
    if isinstance(value, str):
        value = text_of(value, where, column)
        return [part.strip() for part in value.split(",")] if value.strip() else []
    raise DataError(
        f"{where} has {shown(value)} as {column!r}. Give a list of strings, or text with commas "
        "between."
    )


TEXT_FORMS: dict[str, Callable[[Lines, Sequence[str], str], Iterator[Row]]] = {
    ".tsv": _tsv,
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".txt": _txt,
    ".conll": conll,
    ".conllu": conllu,
}
"""Suffix -> function that reads rows from the lines of a file."""

SENTENCES = (".conll", ".conllu")
"""Suffixes of files whose rows are sentences of tagged tokens."""
