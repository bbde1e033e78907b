"""What benchmarks share that train models, measure cuts of them and print one table.

Each run has a folder, named after it, and is finished when its ``cuts.json`` is there.
"""

import argparse
import json
import shlex
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import headcount as hc
from headcount.arena.table import mean_text
from headcount.door.atomic import write_text
from headcount.methods.method import Method
from headcount.reports.markdown import table
from headcount.reports.measure import environment

CUTS_FILE = "cuts.json"

Rows = list[dict[str, Any]]
Run = tuple[str, int, int]
"""(name, units it is trained for, seed)."""


def folder_of(work: Path, run: Run) -> Path:
    """Where a run lies."""
    return work / "-".join(map(str, run))


def turns(work: Path, runs: Iterable[Run], worker: str) -> Iterator[tuple[Run, Path]]:
    """The runs that are to be trained, with their folders: not those another worker has begun.

    Alone (``0/1``), a run that was begun goes on from its last checkpoint.
    """
    _, workers = map(int, worker.split("/"))
    for run in runs:
        folder = folder_of(work, run)
        begun = folder.exists() and workers > 1
        if not begun and not (folder / CUTS_FILE).is_file():
            yield run, folder


def write(folder: Path, body: Any) -> None:
    """What a run has found, at once or not at all."""
    write_text(folder / CUTS_FILE, json.dumps(body) + "\n")


def read(folder: Path) -> Any:
    """What a run has found; None if it is not finished."""
    path = folder / CUTS_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def means(rows: Rows, *same: str) -> Rows:
    """Mean and standard deviation of accuracy over the seeds, for rows that are the ``same``."""
    found: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in same), []).append(row["accuracy"])
    return [
        {
            **dict(zip(same, key, strict=True)),
            "seeds": len(values),
            "mean": statistics.mean(values),
            "std": statistics.stdev(values) if len(values) > 1 else None,
        }
        for key, values in found.items()
    ]


def show(titles: Mapping[str, Rows], counts: Sequence[int], unit: str) -> None:
    """A Markdown table: a row for each title, a column for each count of units."""
    rows = []
    for title, lines in titles.items():
        found = {line[unit]: mean_text(line["mean"], line["std"], line["seeds"]) for line in lines}
        rows.append((title, *(found.get(count, "") for count in counts)))
    print(table(("run", *(f"{count} {unit}" for count in counts)), rows))


def save(summary: Path, what: str, methods: Mapping[str, Method], table: Rows, rows: Rows) -> Rows:
    """Write runs and table into one JSON file, with what they were made with; the table again."""
    body = {
        "what": what,
        "command": shlex.join(["python", *sys.argv]),
        "recipe": hc.Recipe().plain(),
        "methods": {name: method.describe() for name, method in methods.items()},
        "environment": environment(),
        "table": table,
        "runs": rows,
    }
    summary.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    return table


def main(
    doc: str,
    train: Callable[[Path, Path, str], None],
    summarise: Callable[[Path, Path], Rows],
    show_lines: Callable[[Rows], None],
) -> None:
    """The command line: train, or summarise and show, or show again."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with nli/sick")
    parser.add_argument("--work", type=Path, help="folder of the runs; resumable")
    parser.add_argument("--worker", default="0/1", help="this worker of so many, such as 0/2")
    parser.add_argument("--summary", type=Path, help="collect into this JSON instead of training")
    parser.add_argument("--tables", type=Path, help="print the table of this JSON")
    args = parser.parse_args()
    if args.tables is not None:
        show_lines(json.loads(args.tables.read_text(encoding="utf-8"))["table"])
    elif args.work is not None and args.summary is not None:
        show_lines(summarise(args.work, args.summary))
    elif args.work is not None and args.data is not None:
        train(args.data, args.work, args.worker)
    else:
        parser.error("give --data and --work to train, --work and --summary, or --tables.")
