"""Read plain texts: whole documents for language models, whatever the form of their files."""

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset

from headcount.errors import DataError
from headcount.tasks.bounds import lines, opened
from headcount.tasks.columns import TEXTS, find_column, first_rows
from headcount.tasks.files import found_file, read_table, suffix_of

PLAIN = (".txt", ".txt.gz")
"""Suffixes of files that are text and nothing else."""


def is_plain(source: str | Path) -> bool:
    """Whether a source is a file of plain text, which has no columns.

    Example:
        >>> is_plain("book.txt"), is_plain("nyu-mll/glue:mnli")
        (True, False)
    """
    return str(source).lower().endswith(PLAIN)


def text_column(sources: Sequence[str | Path], given: str, *, call: str, split: str) -> str:
    """The column of texts: the one given, or the first with a usual name.

    Args:
        sources: files or data sets; those of plain text have no columns.
        given: the column that the user names; empty to look for one.
        call: beginning of a message.
        split: split of a data set that names none.

    Raises:
        DataError: there is no such column.
    """
    tables = [source for source in sources if not is_plain(source)]
    if not tables:
        return given or "text"
    names = list(first_rows(tables[0], split=split)[0])
    where = f"{call}: {str(tables[0])!r}"
    return find_column(names, given, TEXTS, call=where, what="text", needed=True)


def read_documents(sources: Sequence[str | Path], column: str, *, split: str) -> Dataset:
    r"""Documents as a table with the column ``text``.

    A file of plain text (``.txt``, ``.txt.gz``) is one document, with all its line ends. Each row
    of any other source is one; rows without text are left out.

    Args:
        sources: files or data sets; see ``read_table``.
        column: the column of texts in tables.
        split: split of a data set that names none.

    Raises:
        DataError: a source cannot be read, or there is no text.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), "book.txt")
        >>> _ = path.write_text("It rains.\n\nIt pours.\n")
        >>> read_documents([path], "text", split="train")[0]
        {'text': 'It rains.\n\nIt pours.\n'}
    """
    found: list[str] = []
    for source in sources:
        if is_plain(source):
            found.append(_whole(source))
        else:
            found.extend(read_table([source], [column], split=split)[column])
    kept = [text for text in found if text.strip()]
    if not kept:
        raise DataError(
            f"read_documents({[str(source) for source in sources]}): there is nothing but blanks. "
            "Give files with text."
        )
    return Dataset.from_dict({"text": kept})


def _whole(source: str | Path) -> str:
    call = f"read_documents({str(source)!r})"
    path = found_file(source, call)
    if not isinstance(path, Path):
        raise DataError(f"{call}: this is a folder. Give a file.")
    suffix = suffix_of(path, call)
    with opened(path, call) as file:
        return "".join(line for _, line in lines(file, call, is_gzip=suffix.endswith(".gz")))
