"""Rows of tab-separated, comma-separated and JSON-lines files, with line numbers for errors."""

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from headcount.errors import DataError

Row = tuple[int, dict[str, Any]]
"""A line number, from 1, and the cells by column."""


def read_rows(
    path: Path, columns: Sequence[str], *, suffix: str, call: str
) -> dict[str, list[str]]:
    """The asked columns of a text file.

    Args:
        path: an existing file.
        columns: names of the needed columns.
        suffix: one of ``TEXT_FORMS``, or one with ``.gz`` behind it.
        call: beginning of every message.

    Returns:
        The cells of each column, from top to bottom.

    Raises:
        DataError: the file is not of that form, lacks a column, or has no rows.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "a.jsonl")
        >>> _ = path.write_text('{"text": "It rains.", "label": 1}')
        >>> read_rows(path, ["text", "label"], suffix=".jsonl", call="read")
        {'text': ['It rains.'], 'label': ['1']}
    """
    form, is_gzip = suffix.removesuffix(".gz"), suffix.endswith(".gz")
    cells: dict[str, list[str]] = {column: [] for column in columns}
    try:
        with _open(path, is_gzip=is_gzip) as file:
            for number, row in TEXT_FORMS[form](file, columns, call):
                for column in columns:
                    cells[column].append(_cell(row[column], f"{call}: line {number}", column))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{call}: not a whole gzip file: {error}. Compress it again.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{call}: not UTF-8 text: {error}. Save it as UTF-8.") from error
    if not any(cells.values()):
        raise DataError(f"{call}: the file has no rows. Give one with at least one row.")
    return cells


def _open(path: Path, *, is_gzip: bool) -> TextIO:
    # utf-8-sig: spreadsheets put a byte-order mark before the first column's name.
    # newline="\n": only a line feed ends a line; csv needs its carriage returns untouched.
    if is_gzip:
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="\n")
    return path.open(encoding="utf-8-sig", newline="\n")


def _tsv(file: Iterable[str], columns: Sequence[str], call: str) -> Iterator[Row]:
    records = ((n, line.rstrip("\r\n").split("\t")) for n, line in enumerate(file, 1))
    return _below_header(((n, cells) for n, cells in records if cells != [""]), columns, call)


def _csv(file: Iterable[str], columns: Sequence[str], call: str) -> Iterator[Row]:
    return _below_header(_csv_records(file, call), columns, call)


def _csv_records(file: Iterable[str], call: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(file, strict=True)
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


def _jsonl(file: Iterable[str], columns: Sequence[str], call: str) -> Iterator[Row]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        where = f"{call}: line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where} is not JSON: {error}. Give one object a line.") from error
        if not isinstance(row, dict):
            raise DataError(f"{where} is a JSON {type(row).__name__}. Give one object a line.")
        _check_columns(list(row), columns, where)
        yield number, row


def _check_columns(found: list[str], columns: Sequence[str], where: str) -> None:
    missing = [column for column in columns if column not in found]
    if missing:
        raise DataError(
            f"{where}: there is no column {', '.join(map(repr, missing))}; the columns are "
            f"{found}. Rename them to {list(columns)}."
        )
    twice = [column for column in columns if found.count(column) > 1]
    if twice:
        raise DataError(f"{where}: the column {twice[0]!r} occurs twice. Rename one of them.")


def _cell(value: Any, where: str, column: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{where} has {value!r} as {column!r}. Give a string or a number.")
    return str(value)


TEXT_FORMS: dict[str, Callable[[Iterable[str], Sequence[str], str], Iterator[Row]]] = {
    ".tsv": _tsv,
    ".csv": _csv,
    ".jsonl": _jsonl,
}
"""Suffix -> reader of rows from an open file."""
