"""Read tables of text from files and from data sets of the Hugging Face hub."""

import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, Features, List, Value, concatenate_datasets

from headcount.errors import DataError, check_argument
from headcount.tasks.bounds import (
    check_folder,
    check_growth,
    check_regular,
    most_bytes,
    opened,
    shown,
)
from headcount.tasks.hub import load_hub
from headcount.tasks.rows import TEXT_FORMS, MissingColumnError, read_rows, text_of, texts_of

SUFFIXES = (*TEXT_FORMS, *(f"{form}.gz" for form in TEXT_FORMS), ".parquet")
"""Suffixes of the files that ``read_table`` reads."""

_BATCH = 256
"""Rows of a parquet file read at a time."""
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.+-]*){0,2}")
_FILE_SUFFIXES = (".json", ".gz", ".zip", ".xlsx", ".arrow", ".bz2", ".xz", ".zst")


def read_table(
    sources: Sequence[str | Path],
    columns: Sequence[str],
    *,
    split: str,
    lists: Sequence[str] = (),
) -> Dataset:
    r"""Read columns from one or more sources into one table of strings.

    A source is a file, or else a data set of the hub.

    - Files: ``.tsv`` (split on tabs only, no quoting), ``.csv`` (quoting as in RFC 4180) and
      ``.jsonl`` (one object a line), ``.txt`` (one ``text`` a line), each also with ``.gz``; and
      ``.parquet``. Text is UTF-8, and blank lines are skipped.
    - Data sets: ``"id"``, ``"id:config"`` or ``"id:config:split"`` (``"id::split"`` for the default
      config), or a folder in the hub's layout. Class labels become their names; -1 (no label)
      becomes ``"-"``.

    Args:
        sources: files or data sets.
        columns: names of the columns to read; others are ignored.
        split: split of a data set that names none; also named in messages.
        lists: those of the columns that hold lists of strings: a list where the format has lists,
            else text with commas between.

    Raises:
        DataError: a source does not exist or has an unknown format, or a table lacks a column, has
            no rows, or has a row that cannot be read.

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
    for source in sources:
        check_argument("read_table", "sources", source, (str, Path), "files or hub data sets")
    # A Dataset has no place for notes about its rows, so their lines are kept beside it.
    wanted = _Wanted(columns=tuple(columns), lists=frozenset(lists))
    found = [_read_source(source, wanted, split=split) for source in sources]
    tables = [table for table, _ in found]
    table = tables[0] if len(tables) == 1 else concatenate_datasets(tables)
    _ORIGINS[table] = [origin for _, origin in found]
    return table


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    """The columns to read, and which of them hold lists."""

    columns: tuple[str, ...]
    lists: frozenset[str]

    @property
    def features(self) -> Features:
        text = Value("string")
        return Features({name: List(text) if name in self.lists else text for name in self.columns})


@dataclass(frozen=True, kw_only=True, slots=True)
class _Origin:
    """A source of a table: its name, and the line or row number of each of its rows."""

    name: str
    unit: str
    numbers: Sequence[int]


_ORIGINS: WeakKeyDictionary[Dataset, list[_Origin]] = WeakKeyDictionary()
"""Table that ``read_table`` returned -> its sources. An entry goes when the table does."""


def place_of(table: Dataset, row: int) -> str:
    r"""The file and line of a row, for messages; empty if ``read_table`` did not make the table.

    Args:
        table: a table.
        row: number of the row, from 0.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "pairs.tsv")
        >>> _ = path.write_text("text\nIt rains.\n\nIt pours.\n")
        >>> place_of(read_table([path], ["text"], split="train"), 1)
        "'pairs.tsv' line 4"
    """
    rest = row
    for origin in _ORIGINS.get(table, ()):
        if rest < len(origin.numbers):
            return f"{origin.name!r} {origin.unit} {origin.numbers[rest]}"
        rest -= len(origin.numbers)
    return ""


def row_name(table: Dataset, row: int) -> str:
    """The file and line of a row, or its number from 1 where ``place_of`` does not know these.

    Example:
        >>> row_name(Dataset.from_dict({"text": ["a"]}), 0)
        'row 1'
    """
    return place_of(table, row) or f"row {row + 1}"


def _read_source(source: str | Path, wanted: _Wanted, *, split: str) -> tuple[Dataset, _Origin]:
    """One source as a table: a file, a folder, or a data set of the hub."""
    call = f"read_table({str(source)!r})"
    path = found_file(source, call)
    if isinstance(path, Path):
        return _read_file(path, wanted, call)
    table = load_hub(path, split=split)
    _check_names(table.column_names, wanted.columns, call)
    values = table.select_columns(list(wanted.columns)).with_format("arrow")[:]
    return _as_strings(values, table.features, wanted, call), _rows_of(str(source), len(table))


def found_file(source: str | Path, call: str, most: int | None = None) -> Path | str:
    """The file that a source names, as a path; or the id or folder of a data set, as text.

    Args:
        source: as for ``read_table``.
        call: beginning of every message.
        most: most files and folders in a folder; None for ``MOST_ENTRIES``.

    Raises:
        DataError: there is no such file, and the name cannot be a data set's.
    """
    # A name that cannot be a path, or is not there, may be the id of a data set.
    try:
        path = Path(source).expanduser()
        mode = path.stat().st_mode
    except (OSError, RuntimeError, ValueError):
        path, mode = Path(source), 0
    if stat.S_ISDIR(mode):
        check_folder(path, call, most)
        return str(path)
    if mode:
        return path
    if not (isinstance(source, str) and _may_be_hub_id(source)):
        raise DataError(
            f"{call}: there is no such file. Check the path (seen from {str(Path.cwd())!r}), or "
            "give a hub data set as 'id', 'id:config' or 'id:config:split'."
        )
    return source


def _may_be_hub_id(source: str) -> bool:
    file_like = source.lower().endswith((*SUFFIXES, *_FILE_SUFFIXES)) or source.startswith(".")
    return not file_like and _HUB_ID.fullmatch(source) is not None


def _rows_of(name: str, num_rows: int) -> _Origin:
    return _Origin(name=name, unit="row", numbers=range(1, num_rows + 1))


def _read_file(path: Path, wanted: _Wanted, call: str) -> tuple[Dataset, _Origin]:
    suffix = suffix_of(path, call)
    if suffix == ".parquet":
        values, features = read_parquet(path, wanted.columns, call)
        table = _as_strings(values, features, wanted, call)
        return table, _rows_of(path.name, len(table))
    cells, numbers = read_rows(path, wanted.columns, suffix=suffix, call=call, lists=wanted.lists)
    table = Dataset.from_dict(cells, features=wanted.features)
    return table, _Origin(name=path.name, unit="line", numbers=numbers)


def suffix_of(path: Path, call: str) -> str:
    """The suffix that says how a file is read, such as ``.tsv.gz``.

    Raises:
        DataError: it is not a regular file, or its suffix is unknown.
    """
    check_regular(path.stat(), call)
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise DataError(
            f"{call}: the suffix {path.suffix!r} is unknown. Give a file that ends in one of "
            f"{', '.join(SUFFIXES)}."
        )
    return suffix


def read_parquet(path: Path, columns: Sequence[str], call: str) -> tuple[pa.Table, Features]:
    """Columns of a parquet file as they are stored, and what its header says of them.

    Read in batches with a limit on the sum, since a small file may expand to any size.

    Args:
        path: the file.
        columns: names of the columns.
        call: beginning of every message.

    Raises:
        DataError: the file cannot be read, or lacks a column.
    """
    with opened(path, call) as file:
        most = most_bytes(path.stat().st_size)
        try:
            parquet = pq.ParquetFile(file)
            schema = parquet.schema_arrow
            _check_names(schema.names, columns, call)
            batches, total = [], 0
            for batch in parquet.iter_batches(_BATCH, columns=list(columns)):
                total += batch.nbytes
                check_growth(total, most, call)
                batches.append(batch)
            features = Features.from_arrow_schema(schema)
            return pa.Table.from_batches(batches, None if batches else schema), features
        except DataError:
            raise
        except Exception as error:  # arrow's own errors, and Python's that it passes on
            said = " ".join(str(error).split())[:200]
            raise DataError(f"{call}: not a parquet file. {said} Write it again.") from error


def _check_names(found: list[str], columns: Sequence[str], call: str) -> None:
    missing = [column for column in columns if column not in found]
    if missing:
        raise MissingColumnError(
            f"{call}: the table has no column {', '.join(map(repr, missing))}; it has "
            f"{shown(found, 400)}. Rename its columns to {list(columns)}."
        )
    twice = [column for column in columns if found.count(column) > 1]
    if twice:
        raise DataError(f"{call}: the column {twice[0]!r} occurs twice. Rename one of them.")


def _as_strings(values: pa.Table, features: Features, wanted: _Wanted, call: str) -> Dataset:
    if not len(values):
        raise DataError(f"{call}: the table has no rows. Give one with at least one row.")
    cells = {}
    for name in wanted.columns:
        # Stored values are taken as they are: nothing is decoded or downloaded.
        cell = partial(_list_cell if name in wanted.lists else cell_of, features[name], name)
        rows = enumerate(values.column(name).to_pylist(), 1)
        cells[name] = [cell(value, f"{call}: row {number}") for number, value in rows]
    return Dataset.from_dict(cells, features=wanted.features)


def cell_of(feature: Any, column: str, value: Any, where: str) -> str:
    """A stored value as text: the name of a class label, else as ``text_of``.

    Args:
        feature: the type of the column.
        column: its name, for the message.
        value: the value.
        where: beginning of the message.

    Raises:
        DataError: it is neither text nor a number, or no label of the class.

    Example:
        >>> cell_of(ClassLabel(names=["bad", "good"]), "label", 1, "row 3")
        'good'
    """
    if isinstance(feature, ClassLabel):
        return _label(value, feature.names, where, column)
    return text_of(value, where, column)


def _list_cell(feature: Any, column: str, value: Any, where: str) -> list[str]:
    inner = getattr(feature, "feature", None)
    if not isinstance(inner, ClassLabel) or not isinstance(value, list):
        return texts_of(value, where, column)
    return [_label(one, inner.names, where, column) for one in value]


def _label(value: Any, names: Sequence[str], where: str, column: str) -> str:
    if value in (None, -1):
        return "-"
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    raise DataError(
        f"{where} has {shown(value)} as {column!r}. Its class labels are 0 to {len(names) - 1} "
        f"({shown(list(names))}), or -1 for none."
    )
