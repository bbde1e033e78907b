"""The tables of a comparison, for the terminal and in Markdown."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, final

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from headcount.arena.axis import HEADS, in_column, in_words
from headcount.arena.grid import FINETUNED
from headcount.arena.summary import Difference, Line
from headcount.reports.markdown import table

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"
WIDTH = 80
"""Columns of a terminal."""
_WIDEST = 28
"""Greatest width of the first column, in characters; longer names are wrapped."""
_AROUND = 3
"""Blanks around a cell, in characters."""
FEW = 3
"""With this many seeds or fewer, a 95% bootstrap interval over seeds is just their range."""
T = TypeVar("T", Line, Difference)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """A table of texts with a title and a note.

    Example:
        >>> sheet = Sheet(title="t", head=("method", "12"), rows=(("dsp", "0.5"),), note="n")
        >>> print(sheet.markdown())
        **t**
        <BLANKLINE>
        | method | 12 |
        |:--|--:|
        | dsp | 0.5 |
        <BLANKLINE>
        n
    """

    title: str
    """What the table shows."""
    head: tuple[str, ...]
    """Headings of the columns."""
    rows: tuple[tuple[str, ...], ...]
    """Rows, each as long as the head."""
    note: str
    """How to read the table; stands below it."""

    def markdown(self) -> str:
        """Title, table and note as Markdown."""
        return f"**{self.title}**\n\n{table(self.head, self.rows)}\n\n{self.note}"

    def rich(self, width: int = WIDTH) -> Group:
        """The table for a terminal. A cell's spread or interval stands below its value.

        Columns for which the terminal is too narrow go into further tables.

        Args:
            width: columns of the terminal.
        """
        cells = [[cell.replace(" ", "\n", 1) for cell in row[1:]] for row in self.rows]
        names = [row[0] for row in self.rows]
        first = min(_WIDEST, _longest([self.head[0], *names])) + _AROUND
        blocks: list[list[int]] = [[]]
        # Columns are put into the current table while there is room; each has one at least.
        left = width - first
        for number, heading in enumerate(self.head[1:]):
            needed = _longest([heading, *(row[number] for row in cells)]) + _AROUND
            if needed > left and blocks[-1]:
                blocks.append([])
                left = width - first
            blocks[-1].append(number)
            left -= needed
        return Group(*(self._block(block, names, cells) for block in blocks))

    def _block(self, block: list[int], names: list[str], cells: list[list[str]]) -> Table:
        shown = Table(box=SIMPLE_HEAD)
        shown.add_column(Text(self.head[0]), overflow="fold", max_width=_WIDEST)
        for number in block:
            shown.add_column(Text(self.head[number + 1]), justify="right", overflow="fold")
        for name, row in zip(names, cells, strict=True):
            shown.add_row(Text(name), *(Text(row[number]) for number in block))
        return shown


def _longest(texts: Iterable[str]) -> int:
    return max((len(line) for text in texts for line in text.split("\n")), default=0)


def sheets(
    lines: Sequence[Line],
    differences: Sequence[Difference],
    *,
    metric: str,
    against: str,
    axis: str = HEADS,
    remarks: Sequence[str] = (),
    greater_is_better: bool = True,
) -> list[Sheet]:
    """The tables of a comparison: quality, quality right after the cut, differences.

    Args:
        lines: means and standard deviations.
        differences: each method compared with ``against``.
        metric: name of the metric.
        against: name of the method that the others are compared with.
        axis: the comparison's axis.
        remarks: further sentences for the note below the first table.
        greater_is_better: whether more of the metric is better.

    Returns:
        The tables that have rows.

    Example:
        >>> table = sheets([Line.of("dsp", 12, [0.5])], [], metric="accuracy", against="dsp")[0]
        >>> table.head, table.rows
        (('method', '12'), (('dsp', '0.500'),))
    """
    once = [line for line in lines if line.once_mean is not None]
    found = [_quality(lines, metric, axis, remarks)] if lines else []
    if any(line.once_mean != line.mean for line in once):
        found.append(_once(once, metric, axis))
    if differences:
        found.append(_against(differences, metric, against, axis, greater_is_better))
    return found


def mean_text(mean: float | None, std: float | None, num_seeds: int | None = None) -> str:
    """A mean, with standard deviation and number of seeds if these are given.

    Example:
        >>> mean_text(0.5, 0.01, 3), mean_text(0.5, None)
        ('0.500 ± 0.010 (3)', '0.500')
    """
    spread = "" if std is None else f" ± {std:.3f}"
    count = "" if num_seeds is None else f" ({num_seeds})"
    return f"{mean:.3f}{spread}{count}"


def _quality(lines: Sequence[Line], metric: str, axis: str, remarks: Sequence[str]) -> Sheet:
    alike = len({line.num_seeds for line in lines}) == 1

    def write(line: Line) -> str:
        return mean_text(line.mean, line.std, None if alike else line.num_seeds)

    over = f"{lines[0].num_seeds} seeds" if alike else "the seeds, whose number is in brackets"
    single = alike and lines[0].num_seeds == 1
    note = "One seed." if single else f"Mean and standard deviation over {over}."
    amounts = [line.amount for line in lines if line.amount is not None]
    return Sheet(
        title=f"{metric}, by {in_words(axis, amounts)}",
        note=" ".join([f"{note}{_unequal(lines)}", *remarks]),
        **_grid(lines, axis, write),
    )


def _unequal(lines: Sequence[Line]) -> str:
    """A note on the methods whose training was another one than that of the rest."""
    resting = [line for line in lines if line.once_mean is not None]
    if not resting:
        return ""
    decided = dict.fromkeys(line.method for line in resting)
    longer = dict.fromkeys(
        line.method for line in lines if line.method in decided or FINETUNED in line.method
    )
    text = (
        f" These methods start from the fine-tuned dense model, whose training is not counted: "
        f"{', '.join(longer)}."
    )
    if all(line.once_mean == line.mean for line in resting):
        text += f" Not trained after they decided (--recover-epochs): {', '.join(decided)}."
    return text


def _once(lines: Sequence[Line], metric: str, axis: str) -> Sheet:
    return Sheet(
        title=f"{metric} as decided, before the cut model is trained",
        note="For the methods whose weights rest while they decide.",
        **_grid(lines, axis, lambda line: mean_text(line.once_mean, line.once_std)),
    )


def _against(
    differences: Sequence[Difference], metric: str, against: str, axis: str, greater: bool
) -> Sheet:
    usual = {d.resampled for d in differences}
    what = usual.copy().pop() if len(usual) == 1 else "seeds and examples"

    def write(difference: Difference) -> str:
        text = _signed(difference.mean)
        if difference.low is not None and difference.high is not None:
            text += f" [{_signed(difference.low)}, {_signed(difference.high)}]"
        if difference.resampled == what:
            return text
        over = "one seed" if difference.resampled == "nothing" else difference.resampled
        return f"{text} ({over})"

    others = "" if len(usual) == 1 else "; where over something else, it is named"
    interval = f" In brackets: 95% interval, bootstrap over {what}{others}."
    # The ends of a bootstrap interval over so few values are the least and the greatest value.
    few = any(d.resampled == "seeds" and d.num_seeds <= FEW for d in differences)
    ranges = f" Over {FEW} seeds or fewer alone it is no more than their range." if few else ""
    better = f"{'Above' if greater else 'Below'} zero: better than {against}."
    return Sheet(
        title=f"{metric}: difference to {against}, seed by seed",
        note=f"{better}{'' if what == 'nothing' else interval}{ranges}",
        **_grid(differences, axis, write),
    )


def _grid(entries: Sequence[T], axis: str, write: Callable[[T], str]) -> dict[str, Any]:
    """Head and rows of a table with a row for each method and a column for each amount."""
    columns = sorted({entry.amount for entry in entries}, key=lambda k: -_order(k))
    methods = list(dict.fromkeys(entry.method for entry in entries))
    cells = {(entry.method, entry.amount): write(entry) for entry in entries}
    return {
        "head": ("method", *(in_column(axis, k) for k in columns)),
        "rows": tuple((m, *(cells.get((m, k), NONE) for k in columns)) for m in methods),
    }


def _order(amount: float | None) -> float:
    return float("inf") if amount is None else amount


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", MINUS)
