"""The table of a report, for the terminal and in Markdown."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from headcount.reports.markdown import table
from headcount.reports.report import DENSE, Report, Row
from headcount.reports.wording import (
    budget_words,
    duration,
    machine_words,
    one_class,
    per_layer,
    short,
)

MISSING = "n/a"


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of the table: one measured quantity."""

    field: str
    """Name of the field of ``Row``."""
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
        >>> row = Row(name="dense", num_heads=8, heads_per_layer=(4, 4), num_params=1000)
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
    columns = _columns(report)
    shown.add_column(Text("model"), overflow="fold", min_width=6)
    for column in columns:
        shown.add_column(Text(column.title), justify="right", no_wrap=True)
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
        >>> row = Row(name="dense", num_heads=8, heads_per_layer=(4, 4), num_params=1000)
        >>> report = Report(task="sst2", metric="accuracy", budget={"heads": 3},
        ...                 method={"name": "dsp"}, seed=0, num_steps=100, batch_size=8,
        ...                 length=128, attn_implementation="sdpa", rows=(row,), environment={})
        >>> print(markdown(report).splitlines()[0])
        | model | heads | parameters | heads per layer |
    """
    columns = _columns(report)
    head = ["model", *(column.title for column in columns), "heads per layer"]
    rows = (
        [row.name, *(_words(c, row, report.dense) for c in columns), per_layer(row.heads_per_layer)]
        for row in report.rows
    )
    text = table(head, rows, f"l{'r' * len(columns)}l")
    notes = " ".join(_measured(report))
    return f"{text}\n\n{notes}" if notes else text


def _columns(report: Report) -> tuple[Column, ...]:
    every = (
        Column(field="quality", title=report.metric, write=lambda value: f"{value:.4g}"),
        Column(field="num_heads", title="heads", write=str),
        Column(field="num_params", title="parameters", write=short),
        Column(field="num_bytes", title="on disk", write=lambda value: short(value, "B")),
        Column(field="macs", title="MACs", write=short),
        Column(field="latency_s", title="latency", write=duration),
        Column(field="train_s", title="training", write=duration),
    )
    return tuple(
        column
        for column in every
        if any(getattr(row, column.field) is not None for row in report.rows)
    )


def _cell(column: Column, row: Row, dense: Row | None) -> Text:
    value = getattr(row, column.field)
    if value is None:
        return Text(MISSING, style="dim")
    cell, share = Text(column.write(value)), _share(column, row, dense)
    return cell.append(f"\n{share}", style="dim") if share else cell


def _words(column: Column, row: Row, dense: Row | None) -> str:
    value = getattr(row, column.field)
    if value is None:
        return MISSING
    share = _share(column, row, dense)
    return f"{column.write(value)} ({share})" if share else column.write(value)


def _share(column: Column, row: Row, dense: Row | None) -> str | None:
    """A value as a share of the dense row's; None for the dense row itself."""
    base = None if dense is None or row is dense else getattr(dense, column.field)
    return f"{100 * getattr(row, column.field) / base:.1f}%" if base else None


def _notes(report: Report) -> Iterator[str]:
    """The lines below the table in a terminal."""
    yield "heads per layer"
    width = max(len(row.name) for row in report.rows)
    for row in report.rows:
        yield f"  {row.name:<{width}}  {per_layer(row.heads_per_layer)}"
    yield from _measured(report)


def _measured(report: Report) -> Iterator[str]:
    """Sentences on how the numbers in the table were measured."""
    yield from one_class(
        {row.name: row.only_class for row in report.rows if row.quality is not None}, report.metric
    )
    shown = {column.field for column in _columns(report)}
    if report.dense is not None and len(report.rows) > 1:
        yield "Percentages: share of the dense model."
    if shown & {"macs", "latency_s"}:
        yield f"One forward pass: batch of {report.batch_size}, length {report.length}."
    if "macs" in shown:
        yield "MACs counted with eager attention."
    if "latency_s" in shown:
        runs = f" of {report.num_runs} runs" if report.num_runs else ""
        machine = machine_words(report.environment, report.device)
        place = f", {machine}" if machine else ""
        yield f"Latency: median{runs}, {report.attn_implementation} attention{place}."
    spread = [(r.name, *r.latency_quartiles_s) for r in report.rows if r.latency_quartiles_s]
    if spread:
        words = (f"{name} {duration(low)} to {duration(high)}" for name, low, high in spread)
        yield f"Quartiles: {', '.join(words)}."
