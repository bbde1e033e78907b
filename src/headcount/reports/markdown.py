"""A table in Markdown: the one that reports, cards, comparisons and coverage have."""

from collections.abc import Iterable, Sequence

from headcount.errors import ArgumentError

RULES = {"l": ":--", "r": "--:", "-": "---"}
"""How a column is aligned -> what stands below its heading; ``-`` leaves it to the reader."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str = "") -> str:
    r"""A Markdown table. What would end a cell or a row is written so that it does not.

    Args:
        head: headings.
        rows: rows of as many cells.
        align: a letter for each column: ``l`` for left, ``r`` for right, ``-`` for neither. By
            default the first is left, the others are right, as names and numbers are.

    Returns:
        Lines without a newline at the end.

    Raises:
        ArgumentError: a row or ``align`` is not as long as ``head``, or there is no such letter.

    Example:
        >>> print(table(["method", "a | b"], [["dsp", "0.5"]]))
        | method | a \| b |
        |:--|--:|
        | dsp | 0.5 |
    """
    align = align or "l" + "r" * (len(head) - 1)
    if len(align) != len(head) or not set(align) <= RULES.keys():
        raise ArgumentError(
            f"table(align={align!r}): give one of {', '.join(RULES)} for each of the {len(head)} "
            "columns."
        )
    lines = ["|" + "".join(f" {cell} |" if cell else " |" for cell in map(one_line, head))]
    lines.append("|" + "".join(f"{RULES[letter]}|" for letter in align))
    for row in rows:
        if len(row) != len(head):
            raise ArgumentError(f"table(rows={list(row)}): give {len(head)} cells in each row.")
        lines.append("|" + "".join(f" {cell} |" for cell in map(one_line, row)))
    return "\n".join(lines)


def one_line(text: str) -> str:
    r"""Text that stays within its cell: on one line, with ``|`` escaped.

    Example:
        >>> print(one_line("a\nb | c"))
        a b \| c
    """
    return " ".join(text.split()).replace("|", "\\|")
