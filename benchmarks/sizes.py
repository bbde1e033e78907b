"""Which numbers of neurons a processor likes: a feed-forward network of MiniLM at many sizes.

    python benchmarks/sizes.py --output benchmarks/results/sizes.json
    python benchmarks/sizes.py --table benchmarks/results/sizes.json

The two projections and the activation (width 384), on 8 x 128 tokens. All sizes take turns; the
numbers are medians of the ratio to the multiple of 32 in the same round.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from headcount.reports import measure

WIDTH, BATCH, LENGTH, WARMUP = 384, 8, 128, 5
FULL = (576, 1024)
BELOW = (31, 24, 16, 15, 8, 7, 1, 0)
"""How many neurons less than a multiple of 32."""


def ratios(full: int, threads: int, rounds: int) -> dict[str, dict[str, float]]:
    """The time of sizes just below a multiple of 32, relative to the multiple's."""
    torch.set_num_threads(threads)
    models = {
        str(full - less): nn.Sequential(
            nn.Linear(WIDTH, full - less), nn.GELU(), nn.Linear(full - less, WIDTH)
        )
        for less in BELOW
    }
    inputs = {"input": torch.randn(BATCH, LENGTH, WIDTH)}
    samples = measure.latency_s(models, inputs, num_runs=rounds, warmup=WARMUP)
    found = {}
    for name, own in samples.items():
        spread = measure.summary([a / b for a, b in zip(own, samples[str(full)], strict=True)])
        found[name] = {"median": spread.median, "low": spread.lower_quartile}
        found[name]["high"] = spread.upper_quartile
    return found


def table(body: Mapping[str, Any]) -> str:
    """The ratios as Markdown: a line for each multiple and number of threads."""
    lines = [
        f"| multiple | threads | {' | '.join(f'{less} less' for less in BELOW if less)} |",
        f"|--:|--:|{'--:|' * (len(BELOW) - 1)}",
    ]
    for row in body["rows"]:
        own = [row["ratios"][str(row["full"] - less)]["median"] for less in BELOW if less]
        cells = " | ".join(f"{value:.2f}" for value in own)
        lines.append(f"| {row['full']:,} | {row['threads']} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    parser.add_argument("--table", type=Path, help="only print the table of these results")
    parser.add_argument("--rounds", type=int, default=400, help="timed passes of each size")
    args = parser.parse_args()
    if args.table:
        print(table(json.loads(args.table.read_text(encoding="utf-8"))))
        return
    torch.manual_seed(0)
    environment, load = measure.environment(), os.getloadavg()
    body = {
        "command": shlex.join(["python", *sys.argv]),
        "environment": environment,
        "setting": {"width": WIDTH, "batch": BATCH, "length": LENGTH, "rounds": args.rounds},
        "load_averages": [load],
        "rows": [
            {"full": full, "threads": threads, "ratios": ratios(full, threads, args.rounds)}
            for threads in (1, environment["num_threads"])
            for full in FULL
        ],
    }
    body["load_averages"].append(os.getloadavg())
    print(table(body))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
