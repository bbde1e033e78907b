"""The table of a report, for the terminal and in Markdown."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter, methodcaller

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from headcount.reports.markdown import table
from headcount.reports.report import DENSE, Report, Row
from headcount.reports.wording import (
    budget_words,
    duration,
    latency_words,
    machine_words,
    metric_words,
    one_class,
    per_layer,
    short,
)
from headcount.units.kinds import KIND, counted

MISSING = "n/a"
MOST_KINDS = 2
"""With more kinds of unit, their numbers stand below the table in a terminal of 80 columns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of the table: one measured quantity."""

    value: Callable[[Row], float | None]
    """Takes the value from a row."""
    title: str
    """Heading of the column."""
    write: Callable[[float], str]
    """Turns the value into text."""


def render(report: Report) -> Table:
    """The report as a table for a terminal of 80 columns or more.

    Below each value stands its share of the dense model's value. Quantities that no row has are
    left out. Long names are wrapped, numbers never.

    Args:
        report: the report.

    Returns:
        A table for ``rich.console.Console.print``.

    Example:
        >>> row = Row(name="dense", units={"head": (4, 4)}, num_params=1000)
        >>> report = Report(task="sst2", metric="accuracy", budget={"heads": 3},
        ...                 method={"name": "dsp"}, seed=0, num_steps=100, batch_size=8,
        ...                 length=128, attn_implementation="sdpa", rows=(row,), environment={})
        >>> [str(column.header) for column in render(report).columns]
        ['model', 'heads', 'parameters']
    """
    method = report.method.get("name", "pruned")
    title = Text(f"{report.task}: {method}, {budget_words(report.budget)}", style="bold")
    notes = Text("\n".join(_notes(report)))
    shown = Table(title=title, caption=notes, caption_justify="left", box=SIMPLE_HEAD)
    shown.pad_edge, shown.collapse_padding = False, True
    columns = _columns(report, wide=len(report.kinds) <= MOST_KINDS)
    shown.add_column(Text("model"), overflow="fold", min_width=6)
    for column in columns:
        shown.add_column(
            Text(column.title.replace("key-value ", "key-value\n")), justify="right", no_wrap=True
        )
    for row in report.rows:
        style = "" if row.name == DENSE else "bold"
        cells = (_cell(column, row, report.dense) for column in columns)
        shown.add_row(Text(row.name, style=style), *cells)
    return shown


def markdown(report: Report) -> str:
    """The report as a Markdown table and its notes.

    Args:
        report: the report.

    Returns:
        Text without a newline at the end.

    Example:
        >>> row = Row(name="dense", units={"head": (4, 4)}, num_params=1000)
        >>> report = Report(task="sst2", metric="accuracy", budget={"heads": 3},
        ...                 method={"name": "dsp"}, seed=0, num_steps=100, batch_size=8,
        ...                 length=128, attn_implementation="sdpa", rows=(row,), environment={})
        >>> print(markdown(report).splitlines()[0])
        | model | heads | parameters | heads per layer |
    """
    columns = _columns(report)
    spread = layered(report)
    head = ["model", *(column.title for column in columns)]
    head += [f"{KIND[kind].nouns} per layer" for kind in spread]
    rows = (
        [
            row.name,
            *(_words(c, row, report.dense) for c in columns),
            *(per_layer(row.units.get(kind, ())) for kind in spread),
        ]
        for row in report.rows
    )
    text = table(head, rows, f"l{'r' * len(columns)}{'l' * len(spread)}")
    notes = " ".join(_measured(report))
    return f"{text}\n\n{notes}" if notes else text


def _columns(report: Report, *, wide: bool = True) -> tuple[Column, ...]:
    """The columns that have a value; without those of the kinds of unit if not ``wide``."""
    return tuple(
        column
        for column in _every_column(report, report.kinds if wide else ())
        if any(column.value(row) is not None for row in report.rows)
    )


def _every_column(report: Report, kinds: Iterable[str]) -> Iterator[Column]:
    metric = metric_words(report.metric, greater_is_better=report.greater_is_better)
    yield Column(value=attrgetter("quality"), title=metric, write=lambda v: f"{v:.4g}")
    for kind in kinds:
        yield Column(value=methodcaller("num", kind), title=KIND[kind].nouns, write=str)
    measured = (
        ("num_params", "parameters", short),
        ("num_bytes", "on disk", lambda value: short(value, "B")),
        ("macs", "MACs", short),
        ("latency_s", "latency", duration),
        ("train_s", "training", duration),
    )
    for name, title, write in measured:
        yield Column(value=attrgetter(name), title=title, write=write)


def layered(report: Report) -> tuple[str, ...]:
    """The kinds whose units are counted layer by layer: all that the budget is about but layers."""
    return tuple(kind for kind in report.kinds if kind != "layer")


def _cell(column: Column, row: Row, dense: Row | None) -> Text:
    value = column.value(row)
    if value is None:
        return Text(MISSING, style="dim")
    cell, share = Text(column.write(value)), _share(column, row, dense)
    return cell.append(f"\n{share}", style="dim") if share else cell


def _words(column: Column, row: Row, dense: Row | None) -> str:
    value = column.value(row)
    if value is None:
        return MISSING
    share = _share(column, row, dense)
    return f"{column.write(value)} ({share})" if share else column.write(value)


def _share(column: Column, row: Row, dense: Row | None) -> str | None:
    """A value as a share of the dense row's; None for the dense row itself."""
    base = None if dense is None or row is dense else column.value(dense)
    return f"{100 * (column.value(row) or 0) / base:.1f}%" if base else None


def _notes(report: Report) -> Iterator[str]:
    """The lines below the table in a terminal."""
    width = max(len(row.name) for row in report.rows)
    if len(report.kinds) > MOST_KINDS:
        yield "units"
        for row in report.rows:
            counts = ", ".join(counted(row.num(kind), kind) for kind in report.kinds)
            yield f"  {row.name:<{width}}  {counts}"
    for kind in layered(report):
        yield f"{KIND[kind].nouns} per layer"
        for row in report.rows:
            yield f"  {row.name:<{width}}  {per_layer(row.units.get(kind, ()))}"
    yield from _measured(report)


def _measured(report: Report) -> Iterator[str]:
    """Sentences on how the numbers in the table were measured."""
    yield from one_class(
        {row.name: row.only_class for row in report.rows if row.quality is not None}, report.metric
    )
    shown = {column.title for column in _columns(report)}
    if report.dense is not None and len(report.rows) > 1:
        yield "Percentages: share of the dense model."
    if shown & {"MACs", "latency"}:
        yield f"One forward pass: batch of {report.batch_size}, length {report.length}."
    if "MACs" in shown:
        yield "MACs counted with eager attention."
    if "latency" in shown:
        runs = f" of {report.num_runs} runs" if report.num_runs else ""
        machine = machine_words(report.environment, report.device)
        place = f", {machine}" if machine else ""
        yield f"Latency: median{runs}, {report.attn_implementation} attention{place}."
    if report.cost and report.cost["kind"] == "latency":
        yield latency_words(report.cost)
    spread = [(r.name, *r.latency_quartiles_s) for r in report.rows if r.latency_quartiles_s]
    if spread:
        words = (f"{name} {duration(low)} to {duration(high)}" for name, low, high in spread)
        yield f"Quartiles: {', '.join(words)}."
