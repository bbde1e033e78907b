"""Which methods find the heads that carry the label, in models of which it is known.

    python benchmarks/planted.py --output benchmarks/results/planted.json

Every method of the command line, and variants of some, on two tasks (``tests/reference/planted.py``
makes them), each with several seeds: three of twelve heads are to stay.

1. Essential: three heads carry a bit of the label each, the others are noise.
2. Duplicated: each bit is carried by two heads that are exact copies. Without one of them nothing
   changes; without both, the bit is lost. Scores of the first order may fail here.

A bit is found if a head that carries it is kept. The weights stay as they are: a method that learns
trains its own parameters alone, all others decide at once, from all examples if they look at data.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import headcount as hc
from headcount.cli.methods import METHODS
from headcount.methods.method import Method
from headcount.reports.measure import environment

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from reference.planted import NUM_BITS, NUM_UNITS, choose, planted

TASKS = {"essential": 1, "duplicated": 2}
"""Name of a task -> copies of each head that carries a bit."""
VARIANTS: tuple[Method, ...] = (
    hc.GradientImportance(share=1.0),
    hc.GradientImportance(average="batch"),
    hc.GradientImportance(normalise="none"),
)
"""What is tried beside the methods of the command line."""


def methods() -> dict[str, Method]:
    return METHODS | {method.name: method for method in VARIANTS}


def tried(method: Method, copies: int, seeds: Sequence[int], steps: int) -> dict[str, Any]:
    """One method on one task: for each seed the heads that carry a bit, and those that it kept."""
    runs = []
    for seed in seeds:
        task = planted(seed, copies=copies)
        start = time.perf_counter()
        kept = choose(task, method, steps=steps, seed=seed)
        seconds = time.perf_counter() - start
        bits = {"carriers": task.carriers, "kept": kept, "found": task.found(kept)}
        runs.append({"seed": seed, **bits, "seconds": seconds})
    found = [run["found"] for run in runs]
    return {
        "seeds_with_all_found": sum(number == NUM_BITS for number in found),
        "mean_found": sum(found) / len(found),
        "runs": runs,
    }


def row_of(method: Method, seeds: Sequence[int], steps: int) -> dict[str, Any]:
    tasks = {name: tried(method, copies, seeds, steps) for name, copies in TASKS.items()}
    return {"method": method.describe(), "learns": method.learns, **tasks}


def show(rows: Mapping[str, Mapping[str, Any]], num_seeds: int) -> None:
    table = Table("method", *(f"{name}: {what}" for name in TASKS for what in ("seeds", "mean")))
    for name, row in rows.items():
        cells = [
            cell
            for task in TASKS
            for cell in (
                f"{row[task]['seeds_with_all_found']} of {num_seeds}",
                f"{row[task]['mean_found']:.1f} of {NUM_BITS}",
            )
        ]
        table.add_row(name, *cells)
    Console(width=110).print(table)
    print("seeds: on how many all bits are found; mean: bits found.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--steps", type=int, default=150, help="for methods that learn")
    parser.add_argument("--methods", nargs="+", choices=methods(), default=list(methods()))
    args = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    start, rows = time.perf_counter(), {}
    for name in args.methods:
        rows[name] = row_of(methods()[name], args.seeds, args.steps)
        all_found = [f"{task} {rows[name][task]['seeds_with_all_found']}" for task in TASKS]
        print(f"{name}: {', '.join(all_found)} of {len(args.seeds)} seeds")
    show(rows, len(args.seeds))
    body = {
        "command": shlex.join(["python", *sys.argv]),
        "seeds": args.seeds,
        "steps": args.steps,
        "heads": {"all": NUM_UNITS, "kept": NUM_BITS},
        "environment": environment(),
        "seconds": time.perf_counter() - start,
        "methods": rows,
    }
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
