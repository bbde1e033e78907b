"""Tables of text from files and from data sets of the Hugging Face hub."""

import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, Features, Value, concatenate_datasets

from headcount.errors import DataError
from headcount.tasks.hub import load_hub
from headcount.tasks.rows import TEXT_FORMS, read_rows

SUFFIXES = (*TEXT_FORMS, *(f"{form}.gz" for form in TEXT_FORMS), ".parquet")
"""Ends of file names that ``read_table`` knows."""

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.+-]*){0,2}")
_FILE_SUFFIXES = (".txt", ".json", ".gz", ".zip", ".xlsx", ".arrow", ".bz2", ".xz", ".zst")


def read_table(sources: Sequence[str | Path], columns: Sequence[str], *, split: str) -> Dataset:
    r"""The asked columns of all sources, one below the other, each cell a string.

    A source is a file, or else a data set of the hub. Files: ``.tsv`` (split on tabs only: no
    quoting), ``.csv`` (quoting as in RFC 4180), ``.jsonl`` (one object a line), each also with
    ``.gz`` behind it, and ``.parquet``; text is UTF-8 and blank lines are skipped. A data set:
    ``"id"``, ``"id:config"`` or ``"id:config:split"`` (``"id::split"`` for the default config),
    or a folder in the hub's layout. Class labels become their names, and a class label of -1
    (none) becomes ``"-"``.

    Args:
        sources: files or data sets.
        columns: names of the needed columns; others are left out.
        split: split of a data set that names none; also told in messages.

    Raises:
        DataError: a source that is not there or not of a known form, a table without the needed
            columns, without rows, or with a row that cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "pairs.tsv")
        >>> _ = path.write_text("premise\thypothesis\nIt rains.\tIt pours.\n")
        >>> read_table([path], ["hypothesis"], split="train")[0]
        {'hypothesis': 'It pours.'}
    """
    if isinstance(sources, str | Path) or not sources:
        raise DataError(
            f"read_table({sources!r}, split={split!r}): give a list of one or more files or hub "
            "data sets."
        )
    tables = [_read_source(source, columns, split=split) for source in sources]
    return tables[0] if len(tables) == 1 else concatenate_datasets(tables)


def _read_source(source: str | Path, columns: Sequence[str], *, split: str) -> Dataset:
    path, call = Path(source).expanduser(), f"read_table({str(source)!r})"
    if path.is_file():
        return _read_file(path, columns, call)
    if path.is_dir() or (isinstance(source, str) and _may_be_hub_id(source)):
        return _as_strings(load_hub(str(source), split=split), columns, call)
    raise DataError(
        f"{call}: there is no such file. Check the path (seen from {str(Path.cwd())!r}), or give a "
        "hub data set as 'id', 'id:config' or 'id:config:split'."
    )


def _may_be_hub_id(source: str) -> bool:
    file_like = source.lower().endswith((*SUFFIXES, *_FILE_SUFFIXES)) or source.startswith(".")
    return not file_like and _HUB_ID.fullmatch(source) is not None


def _read_file(path: Path, columns: Sequence[str], call: str) -> Dataset:
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise DataError(
            f"{call}: the suffix {path.suffix!r} is unknown. Give a file that ends in one of "
            f"{', '.join(SUFFIXES)}."
        )
    if suffix == ".parquet":
        return _as_strings(_read_parquet(path, call), columns, call)
    cells = read_rows(path, columns, suffix=suffix, call=call)
    return Dataset.from_dict(cells, features=_string_features(columns))


def _read_parquet(path: Path, call: str) -> Dataset:
    try:
        return Dataset(pq.read_table(path))
    except pa.ArrowInvalid as error:
        raise DataError(f"{call}: not a parquet file. {error}") from error


def _as_strings(table: Dataset, columns: Sequence[str], call: str) -> Dataset:
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise DataError(
            f"{call}: the table has no column {', '.join(map(repr, missing))}; it has "
            f"{table.column_names}. Rename its columns to {list(columns)}."
        )
    if not len(table):
        raise DataError(f"{call}: the table has no rows. Give one with at least one row.")
    cells = {column: _string_cells(table, column, call) for column in columns}
    return Dataset.from_dict(cells, features=_string_features(columns))


def _string_cells(table: Dataset, column: str, call: str) -> list[str]:
    feature, values = table.features[column], list(table[column])
    if isinstance(feature, ClassLabel):
        return ["-" if value in (None, -1) else feature.names[value] for value in values]
    for number, value in enumerate(values, 1):
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise DataError(
                f"{call}: row {number} has {value!r} as {column!r}. Give a string or a number."
            )
    return [str(value) for value in values]


def _string_features(columns: Sequence[str]) -> Features:
    return Features({column: Value("string") for column in columns})
