"""Look at the first rows of a source, and find the columns that a task needs."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import ClassLabel, Features

from headcount.errors import DataError
from headcount.tasks.bounds import lines, opened, shown
from headcount.tasks.files import found_file, suffix_of
from headcount.tasks.hub import load_hub
from headcount.tasks.rows import TEXT_FORMS

TEXTS = ("text", "sentence", "text_a", "sentence1", "premise", "question", "question1", "query",
         "review", "content", "comment", "title")  # fmt: skip
"""Usual names of the column of texts."""
PAIRS = ("text_b", "text_pair", "sentence2", "hypothesis", "question2", "passage", "context",
         "answer")  # fmt: skip
"""Usual names of the column of second texts."""
LABELS = ("label", "labels", "score", "similarity", "class", "category", "sentiment", "stars",
          "rating", "intent", "target")  # fmt: skip
"""Usual names of the column of labels."""

TOKENS = ("tokens", "words", "forms", "text")
"""Usual names of the column of tokens."""
TAGS = ("tags", "ner_tags", "pos_tags", "upos", "labels", "slots")
"""Usual names of the column of tags."""

LOOKED_AT = 1000
"""Rows that are looked at to find out what a column holds."""


def first_rows(source: str | Path, *, split: str) -> list[dict[str, Any]]:
    r"""The first rows of a source, at most 1,000, with all columns and the values as stored.

    Args:
        source: a file, or a data set of the hub; see ``read_table``.
        split: split of a data set that names none.

    Raises:
        DataError: the source cannot be read, or has no rows.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "pairs.tsv")
        >>> _ = path.write_text("text\tlabel\nIt rains.\t1\n")
        >>> first_rows(path, split="train")
        [{'text': 'It rains.', 'label': '1'}]
    """
    call = f"read_table({str(source)!r})"
    path = found_file(source, call)
    rows = _of_file(path, call) if isinstance(path, Path) else _of_hub(path, split)
    if not rows:
        raise DataError(f"{call}: the table has no rows. Give one with at least one row.")
    return rows


def _of_hub(source: str, split: str) -> list[dict[str, Any]]:
    table = load_hub(source, split=split)
    plain: Any = table.select(range(min(LOOKED_AT, len(table)))).with_format("arrow")[:]
    return _with_names(plain.to_pylist(), table.features)


def _of_file(path: Path, call: str) -> list[dict[str, Any]]:
    suffix = suffix_of(path, call)
    with opened(path, call) as file:
        if suffix == ".parquet":
            try:
                parquet = pq.ParquetFile(file)
                rows = next((batch.to_pylist() for batch in parquet.iter_batches(256)), [])
                return _with_names(rows, Features.from_arrow_schema(parquet.schema_arrow))
            except Exception as error:  # arrow's own errors, and Python's that it passes on
                said = " ".join(str(error).split())[:200]
                raise DataError(f"{call}: not a parquet file. {said} Write it again.") from error
        form = TEXT_FORMS[suffix.removesuffix(".gz")]
        read = form(lines(file, call, is_gzip=suffix.endswith(".gz")), (), call)
        return [row for _, row in islice(read, LOOKED_AT)]


def _with_names(rows: list[dict[str, Any]], features: Features) -> list[dict[str, Any]]:
    """Rows whose class labels, also those in lists, are names instead of numbers."""
    inner = {name: getattr(feature, "feature", feature) for name, feature in features.items()}
    named = {name: one.names for name, one in inner.items() if isinstance(one, ClassLabel)}
    return [row | {name: _named(row[name], known) for name, known in named.items()} for row in rows]


def _named(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value


def find_column(
    names: Sequence[str], given: str, known: Sequence[str], *, call: str, what: str, needed: bool
) -> str:
    """The name of a column: the one given, or the first known one that the table has.

    Args:
        names: the columns of the table.
        given: the column that the user names; empty to look for one.
        known: usual names, the most usual first. Capitals make no difference.
        call: beginning of the message.
        what: the setting that names the column, such as ``text``.
        needed: whether a table without such a column is refused.

    Raises:
        DataError: the table has no such column.

    Example:
        >>> find_column(["Review", "stars"], "", ["text", "review"], call="", what="text",
        ...             needed=True)
        'Review'
    """
    if given:
        if given in names:
            return given
        raise DataError(
            f"{call}: there is no column {given!r}; the columns are {shown(list(names), 400)}. "
            f"Give one of these as {what}."
        )
    lower = {name.casefold(): name for name in reversed(names)}
    found = next((lower[name] for name in known if name in lower), "")
    if needed and not found:
        raise DataError(
            f"{call}: no column of {shown(list(names), 400)} is known to be the {what}. Name it: "
            f"--task-set {what}=COLUMN on the command line, or {what}='COLUMN' of the task in "
            "Python."
        )
    return found
