"""Read sentences of tagged tokens, one token a line (CoNLL and CoNLL-U)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from headcount.errors import DataError

Lines = Iterator[tuple[int, str]]
"""Line numbers, from 1, and lines."""
Row = tuple[int, dict[str, Any]]
"""A line number, and column -> cell."""

TOKENS, TAGS = "tokens", "tags"
"""The columns of the table."""


def conll(file: Lines, columns: Sequence[str], call: str) -> Iterator[Row]:
    """Sentences with an empty line after each; of a line, the first column and the last.

    Columns are split at tabs, or at blanks where a line has no tab. In front of a sentence, lines
    such as ``# id = 3`` are comments; ``-DOCSTART-`` is left out.

    Yields:
        The number of a sentence's first line, and its ``tokens`` and ``tags``.

    Raises:
        DataError: a line has another number of columns than the first one, or fewer than two.
    """
    return _sentences(file, call, _first_and_last)


def conllu(file: Lines, columns: Sequence[str], call: str) -> Iterator[Row]:
    """Sentences of CoNLL-U: the columns FORM and UPOS, without ranges and empty nodes."""
    return _sentences(file, call, _form_and_upos)


Cells = Callable[[list[str], str], tuple[str, str] | None]


def _sentences(file: Lines, call: str, cells: Cells) -> Iterator[Row]:
    tokens: list[str] = []
    tags: list[str] = []
    first, width = 0, 0
    for number, line in file:
        text = line.rstrip("\r\n")
        if not text.strip():
            if tokens:
                yield first, {TOKENS: tokens, TAGS: tags}
            tokens, tags = [], []
            continue
        # A sentence may begin with the token "#", so a comment needs a name and a value.
        if not tokens and text.startswith("# ") and " = " in text and "\t" not in text:
            continue
        parts = text.split("\t") if "\t" in text else text.split()
        where = f"{call}: line {number}"
        if len(parts) < 2 or (width and len(parts) != width):
            wanted = width or "a token and a tag, so two or more"
            raise DataError(
                f"{where} has {len(parts)} columns, and there must be {wanted}. Give a token first "
                "and its tag last, with tabs or blanks between, and an empty line after each "
                "sentence."
            )
        width = len(parts)
        found = cells(parts, where)
        if found is None:
            continue
        first = first if tokens else number
        tokens.append(found[0])
        tags.append(found[1])
    if tokens:
        yield first, {TOKENS: tokens, TAGS: tags}


def _first_and_last(parts: list[str], where: str) -> tuple[str, str] | None:
    if not parts[0].strip() or not parts[-1].strip():
        raise DataError(f"{where} has an empty token or tag. Give both.")
    return None if parts[0] == "-DOCSTART-" else (parts[0], parts[-1].strip())


def _form_and_upos(parts: list[str], where: str) -> tuple[str, str] | None:
    if len(parts) != 10:
        raise DataError(f"{where} has {len(parts)} columns; CoNLL-U has ten. Write it again.")
    return (parts[1], parts[3]) if parts[0].isdecimal() else None
